"""A trial of foreign code in this process: what it changes is put back, what it leaves is named."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from dlcheck.isolation.calls import leave_if_forked
from dlcheck.isolation.exits import refused_exits
from dlcheck.isolation.interrupts import noticed_interrupts
from dlcheck.isolation.left_behind import Standing
from dlcheck.isolation.memory_limit import file_limit
from dlcheck.isolation.process_state import ProcessState
from dlcheck.isolation.streams import Streams
from dlcheck.isolation.texts import text_of
from dlcheck.isolation.torch_state import restored_state

_MOST = 12  # notes of one trial


@contextlib.contextmanager
def contained(target: object = None) -> Iterator[list[str]]:
    """Run a trial inside; gives the list of notes, which is full when it ends.

    A note says what the subject changed or left behind; it is no failure.
    """
    notes: list[str] = []
    process = os.getpid()
    standing, state, streams = Standing(), ProcessState.now(), Streams()
    try:
        with (
            noticed_interrupts(notes),
            refused_exits(),
            file_limit(),
            _heard(notes),
            restored_state(target, notes),
        ):
            try:
                yield notes
            finally:
                notes += state.restore_names()
    finally:
        leave_if_forked(process)
        with contextlib.ExitStack() as each:  # whatever one of them meets, the others follow
            for restore in (standing.told, state.restore, streams.restore):
                each.callback(_told_of, restore, notes)
        notes[:] = dict.fromkeys(notes)
        if len(notes) > _MOST:
            notes[_MOST - 1 :] = [f"and {len(notes) - _MOST + 1:,} more"]


def _told_of(restore: Callable[[], list[str]], notes: list[str]) -> None:
    notes += restore()


@contextlib.contextmanager
def _heard(notes: list[str]) -> Iterator[None]:
    """Note what is raised where nobody can catch it: in threads and in `__del__`."""
    hooks: tuple[tuple[Any, str, Callable[..., None]], ...] = (
        (threading, "excepthook", _of_threads(notes)),
        (sys, "unraisablehook", _of_unraisable(notes)),
    )
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in hooks]
    for owner, name, hook in hooks:
        setattr(owner, name, hook)
    try:
        yield
    finally:
        for (owner, name, hook), (_, _, old) in zip(hooks, before, strict=True):
            if getattr(owner, name) is not hook:
                notes.append(f"changed {owner.__name__}.{name} (put back)")
            setattr(owner, name, old)


def _of_threads(notes: list[str]) -> Callable[..., None]:
    def hear(raised: Any) -> None:
        name = getattr(raised.thread, "name", "a thread")
        notes.append(f"{_said(raised.exc_type, raised.exc_value)} ended thread {name!r}"
                     + _place(raised.exc_traceback))  # fmt: skip

    return hear


def _of_unraisable(notes: list[str]) -> Callable[..., None]:
    def hear(raised: Any) -> None:
        name = getattr(raised.object, "__qualname__", type(raised.object).__name__)
        notes.append(f"{_said(raised.exc_type, raised.exc_value)} in {name}, which Python ignores"
                     + _place(raised.exc_traceback))  # fmt: skip

    return hear


def _said(kind: type[BaseException], value: BaseException | None) -> str:
    return f"{kind.__name__}: {text_of(value)}" if value is not None else kind.__name__


def _place(trace: TracebackType | None) -> str:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace else ""
