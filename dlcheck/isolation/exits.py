"""Calls that end or copy the process of their caller: refused while a trial runs.

The functions of `os`, `signal` and `_thread` are replaced for the trial, and only in the process
that runs it: a child that a subject forks ends as it likes. What has been imported by name before
(`from os import _exit`) keeps the original.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any


class WouldEndTheRun(RuntimeError):
    """Raised in the subject in place of what it asked for."""


_RUNS_IN = [0]  # the process whose trial runs
_HARMLESS = {
    getattr(signal, name)
    for name in ("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH", "SIGALRM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
}
_process = os.getpid


def _always(number: Any = None, *more: Any) -> bool:
    return True


def _to_itself(target: Any, number: Any = signal.SIGTERM) -> bool:
    """Does a signal to this process or group end it?"""
    group = os.getpgrp() if hasattr(os, "getpgrp") else 0
    own = target in (0, -1, _process(), -group, group)
    return own and _ends(number)


def _here(target: Any, number: Any = signal.SIGTERM) -> bool:
    """Threads are of this process."""
    return _ends(number)


def _ends(number: Any = signal.SIGINT) -> bool:
    if not number or number in _HARMLESS:
        return False
    with contextlib.suppress(ValueError, TypeError):
        return not _is_its_own(signal.getsignal(number))
    return True


def _is_its_own(handler: object) -> bool:
    """Did the subject set this handler? Those of the engine and of pytest end the run."""
    module = getattr(handler, "__module__", "") or ""
    package = module.partition(".")[0]
    return callable(handler) and package not in ("dlcheck", "_dlcheck_pytest", "_pytest", "_signal",
                                                 "signal")  # fmt: skip


# owner, name, and whether a call with these arguments ends the process
_REFUSED: tuple[tuple[Any, str, Callable[..., bool]], ...] = tuple(
    (owner, name, when)
    for owner, name, when in (
        (os, "_exit", _always),
        (os, "abort", _always),
        (os, "execv", _always),
        (os, "execve", _always),
        (os, "kill", _to_itself),
        (os, "killpg", _to_itself),
        (signal, "raise_signal", _ends),
        (signal, "pthread_kill", _here),
        (_thread, "interrupt_main", _ends),
    )
    if hasattr(owner, name)
)


def _refusing(owner: Any, name: str, when: Callable[..., bool]) -> Callable[..., Any]:
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if _RUNS_IN[0] == _process() and when(*arguments, **keywords):
            said = ", ".join([*map(str, arguments), *(f"{k}={v}" for k, v in keywords.items())])
            raise WouldEndTheRun(f"{owner.__name__}.{name}({said}) ends the process that runs it")
        return original(*arguments, **keywords)

    return call


_ORIGINALS = tuple((owner, name, getattr(owner, name)) for owner, name, _ in _REFUSED)
_REFUSING = tuple((owner, name, _refusing(owner, name, when)) for owner, name, when in _REFUSED)


@contextlib.contextmanager
def refused_exits() -> Iterator[None]:
    """Calls that would end this process raise WouldEndTheRun in whoever makes them."""
    outer = _RUNS_IN[0]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _ORIGINALS]
    _RUNS_IN[0] = _process()
    for owner, name, call in _REFUSING:
        setattr(owner, name, call)
    try:
        yield
    finally:
        _RUNS_IN[0] = outer
        for owner, name, original in before:
            setattr(owner, name, original)
