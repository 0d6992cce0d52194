"""Who interrupts: the person at the terminal, or a subject that raises KeyboardInterrupt too."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_TOLD = [False]


def was_interrupted() -> bool:
    """Has a signal asked this trial to end?"""
    return _TOLD[0]


@contextlib.contextmanager
def noticed_interrupts() -> Iterator[None]:
    """Note the signals that end a run while their own handlers work as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    _TOLD[0] = False
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, _noting(handler))
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)


def _noting(handler: Callable[[int, FrameType | None], Any]) -> Any:
    def note(number: int, frame: FrameType | None) -> Any:
        _TOLD[0] = True
        return handler(number, frame)

    return note
