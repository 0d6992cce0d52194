"""So many seconds for foreign code, by SIGALRM: acts in the main thread of a POSIX process."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from dlcheck.errors import SubjectError, TrialTimeout

# Seconds until it rings again: `__del__`, callbacks and bad code swallow what it raises.
_AGAIN = 2.0
_EARLY = 0.01  # seconds before it is due that count as due
_GRACE = 2.0  # seconds beyond the limit before the process is ended: a tenth of it, at least these
_LONGEST_GRACE = 30.0

_now = time.monotonic  # before a subject can replace it


class Bell(BaseException):
    """Time is up. No Exception: a subject must not swallow it, nor Hypothesis run it again."""


_LAST_RESORT: list[int] = []
_ARMED: list[bool] = []


@contextlib.contextmanager
def last_resort(file: int) -> Iterator[None]:
    """End the process where a limit has passed and nothing stopped, as in native code.

    file: a descriptor to which is written where it stood. Nothing is lost but the process: for
    those whose runs outlive one.
    """
    _LAST_RESORT.append(file)
    try:
        yield
    finally:
        _LAST_RESORT.pop()


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TrialTimeout after so many seconds. Acts in the main thread of a POSIX process."""
    possible = (
        hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    )
    if not seconds or not possible:
        yield
        return
    started = _now()
    deadline = started + seconds
    sooner: list[float] = []

    def ring(signum: int, frame: FrameType | None) -> None:
        now = _now()
        if deadline - now < _EARLY:
            raise Bell
        if sooner and sooner[0] - now < _EARLY:
            sooner.clear()
            signal.setitimer(signal.ITIMER_REAL, deadline - now, _AGAIN)
            if callable(before):
                before(signum, frame)
            return
        signal.setitimer(signal.ITIMER_REAL, min([deadline, *sooner]) - now, _AGAIN)
        raise SubjectError("it set an alarm that nothing handles; that ends its process")

    ends = bool(_LAST_RESORT) and not _ARMED
    if ends:
        _ARMED.append(True)
        grace = min(max(_GRACE, seconds / 10), _LONGEST_GRACE)
        faulthandler.dump_traceback_later(seconds + grace, exit=True, file=_LAST_RESORT[-1])
    before = signal.signal(signal.SIGALRM, ring)
    outer, again = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    waits = 0 < outer < seconds and callable(before)
    if waits:  # for an outer limit that is due first, as of pytest-timeout
        sooner.append(started + outer)
        signal.setitimer(signal.ITIMER_REAL, outer, _AGAIN)
    try:
        yield
    except Bell:
        if deadline - _now() >= _EARLY:  # it is that of the outer limit
            raise
        raise TrialTimeout(f"ran past its timeout of {seconds:g} s") from None
    finally:
        if ends:
            faulthandler.cancel_dump_traceback_later()
            _ARMED.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if waits and not sooner:  # it has rung
            signal.setitimer(signal.ITIMER_REAL, again, again)
        elif outer:  # a limit within a limit: the outer one runs on
            left = outer - (_now() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3), again)


def no_time_limit() -> None:
    """Let the trial that runs take as long as it likes: a person is looking at it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
