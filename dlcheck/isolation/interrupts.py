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
def noticed_interrupts(notes: list[str]) -> Iterator[None]:
    """Note the signals that end a run while their own handlers work as before.

    notes: gets in words which of them got another handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    _TOLD[0] = False
    noting = {number: _noting(each) for number, each in before.items() if callable(each)}
    for number, note in noting.items():
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, note in noting.items():
            if signal.getsignal(number) is not note:
                notes.append(f"changed the handler of {signal.Signals(number).name} (put back)")
            signal.signal(number, before[number])


def _noting(handler: Callable[[int, FrameType | None], Any]) -> Any:
    def note(number: int, frame: FrameType | None) -> Any:
        _TOLD[0] = True
        return handler(number, frame)

    return note
