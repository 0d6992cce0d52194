"""What Python code can change in its process: read before a trial, put back and named after it.

Some 250 µs together. Additions that imports make (finders, modules, folders of sys.path with new
modules from them) stay: modules are imported once, and need what they added.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # its getsignal makes no enum
import contextlib
import gc
import locale
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import is_
from typing import Any, cast

import numpy as np

from dlcheck.isolation.builtin_names import (
    held_builtins,
    put_builtins_back,
    told_of_builtins,
)
from dlcheck.isolation.texts import some_of

Read = Callable[[], Any]
Write = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Value:
    """Something global, its name in words, and how it is read and written."""

    name: str
    read: Read
    write: Write


def _attribute(owner: Any, name: str, said: str = "") -> Value:
    return Value(
        said or f"{owner.__name__}.{name}",
        lambda: getattr(owner, name, None),
        lambda value: setattr(owner, name, value),
    )


def _members(said: str, held: list[Any]) -> Value:
    def write(value: Any) -> None:
        held[:] = value

    return Value(said, lambda: tuple(held), write)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _is_collecting(wanted: bool) -> None:  # noqa: FBT001
    (gc.enable if wanted else gc.disable)()


def _affinity(cores: set[int]) -> None:
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cores)


def _values() -> Iterator[Value]:
    for name in ("excepthook", "unraisablehook", "displayhook", "breakpointhook"):
        yield _attribute(sys, name)
    for name in ("stdin", "stdout", "stderr", "__stdout__", "__stderr__", "dont_write_bytecode"):
        yield _attribute(sys, name)
    yield _attribute(threading, "excepthook")
    yield Value("the trace function", sys.gettrace, sys.settrace)
    yield Value("the profile function", sys.getprofile, sys.setprofile)
    yield Value("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit)
    yield Value("the switch interval", sys.getswitchinterval, sys.setswitchinterval)
    yield _members("sys.argv", sys.argv)
    yield Value("garbage collection", gc.isenabled, _is_collecting)
    yield Value(
        "the thresholds of garbage collection", gc.get_threshold, lambda t: gc.set_threshold(*t)
    )
    yield Value(
        "what garbage collection leaves alone", gc.get_freeze_count, lambda _: gc.unfreeze()
    )
    yield Value("the file mode mask", _umask, os.umask)
    yield Value(
        "the locale",
        lambda: locale.setlocale(locale.LC_ALL, None),
        lambda value: locale.setlocale(locale.LC_ALL, value),
    )
    if hasattr(os, "sched_getaffinity"):
        yield Value("the cores that it may use", lambda: os.sched_getaffinity(0), _affinity)
    yield _attribute(warnings, "showwarning")
    yield _attribute(warnings, "formatwarning")
    root = logging.getLogger()
    yield _attribute(root, "level", "the level of logging")
    yield _attribute(root, "disabled", "logging, which it disabled")
    yield _attribute(root.manager, "disable", "the level below which logging is disabled")
    yield _members("the handlers of logging", cast("list[Any]", root.handlers))
    yield _members("the filters of logging", cast("list[Any]", root.filters))
    yield Value("NumPy's error handling", np.geterr, lambda value: np.seterr(**value))
    yield Value(
        "NumPy's print options",
        lambda: {k: v for k, v in np.get_printoptions().items() if k != "override_repr"},
        lambda value: np.set_printoptions(**value),
    )


_VALUES = tuple(_values())
_PLAIN = (int, float, str, bool, tuple, dict, set, type(None))
_NUMBERS = tuple(
    number
    for number in (signal.valid_signals() if hasattr(signal, "valid_signals") else ())
    if number not in {getattr(signal, name, 0) for name in ("SIGALRM", "SIGKILL", "SIGSTOP")}
)
_TIMERS = tuple(
    getattr(signal, name) for name in ("ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, name)
)


def _same(now: Any, before: Any) -> bool:
    """Identity, or of plain values equality: foreign objects may lie about theirs."""
    return now is before or (type(now) is type(before) and type(now) in _PLAIN and now == before)


def put_back(before: list[Any]) -> Iterator[str]:
    """Write what has changed; what it was, in words."""
    for value, old in zip(_VALUES, before, strict=True):
        if not _same(value.read(), old):
            value.write(old)
            yield value.name


@dataclass(slots=True)
class ProcessState:
    """How the process stands when it is made; `restore` brings it back there."""

    values: list[Any]
    handlers: list[Any]
    modules: dict[str, Any]
    builtin: dict[str, Any]
    path: list[str]
    finders: tuple[list[Any], list[Any]]
    environment: dict[Any, Any]
    folder: str
    is_main: bool

    @classmethod
    def now(cls) -> ProcessState:
        """Read everything."""
        return cls(
            values=[value.read() for value in _VALUES],
            handlers=[_signal.getsignal(number) for number in _NUMBERS],
            modules=dict(sys.modules),
            builtin=held_builtins(),
            path=list(sys.path),
            finders=(list(sys.meta_path), list(sys.path_hooks)),
            environment=_environment(),
            folder=_folder(),
            is_main=threading.current_thread() is threading.main_thread(),
        )

    def restore_names(self) -> list[str]:
        """Put modules and builtins back, which all that follows needs; what had changed."""
        put_builtins_back(self.builtin)
        return [f"changed {name} (put back)" for name in (*self._modules(), *told_of_builtins())]

    def restore(self) -> list[str]:
        """Put the rest back; what had changed, in words."""
        changed = [
            *put_back(self.values),
            *self._finders(),
            *(self._signals() if self.is_main else ()),
            *self._environment(),
        ]
        return [f"changed {name} (put back)" for name in changed]

    def _modules(self) -> Iterator[str]:
        modules, before = sys.modules, self.modules
        # New ones come last: where the first are the same, in this order, none was replaced.
        if not isinstance(modules, dict) or not (
            len(modules) >= len(before) and all(map(is_, modules.values(), before.values()))
        ):
            wrong = [name for name, module in before.items() if modules.get(name) is not module]
            modules.update({name: before[name] for name in wrong})
            if wrong or not isinstance(modules, dict):
                yield f"sys.modules: {some_of(wrong)}"

    def _finders(self) -> Iterator[str]:
        """What finds modules: what is missing comes back, what was added stays if it was used."""
        imported = len(sys.modules) > len(self.modules)
        held: tuple[tuple[str, list[Any], list[Any]], ...] = (
            ("sys.path", sys.path, list(self.path)),
            ("sys.meta_path", sys.meta_path, self.finders[0]),
            ("sys.path_hooks", sys.path_hooks, self.finders[1]),
        )
        for name, now, before in held:
            if len(now) == len(before) and all(map(is_, now, before)):
                continue
            added = [each for each in now if not any(each is old for old in before)]
            kept_order = [each for each in now if any(each is old for old in before)]
            if imported and added and len(kept_order) == len(before):
                continue
            now[:] = before
            yield name

    def _signals(self) -> Iterator[str]:
        for number, handler in zip(_NUMBERS, self.handlers, strict=True):
            now = _signal.getsignal(number)
            if now is handler or now == handler or handler is None:
                continue
            if (getattr(now, "__module__", "") or "").startswith("torch"):
                continue  # the loader watches its workers from the first on
            signal.signal(number, handler)
            yield f"the handler of {signal.Signals(number).name}"
        for timer in _TIMERS:
            if signal.getitimer(timer)[0]:
                signal.setitimer(timer, 0)
                yield "a timer"

    def _environment(self) -> Iterator[str]:
        now = _environment()
        if now != self.environment:
            names = [n for n in {*now, *self.environment} if now.get(n) != self.environment.get(n)]
            for name in names:
                if name in self.environment:
                    os.putenv(name, self.environment[name])
                else:
                    os.unsetenv(name)
            os.environ._data.clear()  # type: ignore[attr-defined]
            os.environ._data.update(self.environment)  # type: ignore[attr-defined]
            told = sorted(map(os.fsdecode, {*names} - _SET_BY_US))
            if told and len(sys.modules) == len(self.modules):  # what an import sets is no news
                yield f"the environment: {some_of(told)}"
        if self.folder and _folder() != self.folder:
            yield "the working folder" if _returned(self.folder) else "the working folder, removed"


_SET_BY_US = {b"TRITON_INTERPRET"}  # by a trial's lane


def _environment() -> dict[Any, Any]:
    """As the system holds it: a copy of `os.environ` itself decodes every name."""
    return dict(os.environ._data)  # type: ignore[attr-defined]


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _returned(folder: str) -> bool:
    """Go back, into an empty folder of that name where it has been removed."""
    there = os.path.isdir(folder)
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        os.chdir(folder)
    return there
