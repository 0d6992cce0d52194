"""Where a subject itself is written: the file and line of what its author would mend."""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlcheck.constructors import Remade
from dlcheck.errors import SubjectRaised
from dlcheck.model import Kind, Subject
from dlcheck.registry import catalogue
from dlcheck.sources import is_ours
from dlcheck.targets import load_target

_LONGEST = 200  # characters
_ENGINE = ("search.py", "runner.py", "isolation", "subjects.py", "arrangement.py")


def source_of(subject: Subject) -> str:
    """`mypkg/losses.py:41`, relative to the current folder where it lies inside.

    The method that answers where the subject is a module, an optimizer, an autograd.Function or
    an object of its kind's methods; else the class or function. Empty for what is compiled, built
    in or typed at a prompt.
    """
    try:
        return written_at(_answering(_target(subject), catalogue().kind(subject.kind)))
    except Exception:  # a foreign object may raise at any look, and then has no line
        return ""


def name_of(target: Any) -> str:
    """What a target is called where it is no import path: `package.module.Class`."""
    if isinstance(target, str):
        return target
    if isinstance(target, Remade):
        changed = _inner(target.change)
        how = getattr(changed, "__name__", type(changed).__name__)
        return f"{name_of(target.original.target)}, changed by {how}"
    inner = _inner(target)
    owner = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{owner.__module__}.{owner.__qualname__}"


def source_of_exception(error: Exception) -> str:
    """Where the subject's own code last stood when it raised; empty if that cannot be told."""
    cause = error.__cause__ if isinstance(error, SubjectRaised) else None
    frame = _last_own(cause)
    return _place(frame.filename, frame.lineno or 0) if frame else ""


def raised_at(error: BaseException | None) -> str:
    """The same for an exception itself, with the code: `raised at mypkg/a.py:41: x.view(2, 2)`."""
    frame = _last_own(error)
    if frame is None:
        return ""
    return f"raised at {_place(frame.filename, frame.lineno or 0)}: {frame.line or ''}"[:_LONGEST]


def _last_own(error: BaseException | None) -> traceback.FrameSummary | None:
    frames = traceback.extract_tb(error.__traceback__) if error is not None else ()
    return next((frame for frame in reversed(frames) if _is_own(frame.filename)), None)


def written_at(code: Any) -> str:
    """File and line of a function, a method or a class; empty where there is no source."""
    code = _inner(code)
    try:
        if inspect.isclass(code):
            file, line = _file_and_line(code)  # type: ignore[arg-type]
        else:
            file, line = code.__code__.co_filename, code.__code__.co_firstlineno
    except (TypeError, OSError, AttributeError, IndexError):
        return ""
    return _place(file, line) if file and linecache.getlines(file) else ""


@functools.lru_cache(maxsize=256)  # inspect reads a file again for each question
def _file_and_line(owner: Any) -> tuple[str | None, int]:
    return inspect.getsourcefile(owner), inspect.getsourcelines(owner)[1]


def _target(subject: Subject) -> Any:
    target = load_target(subject.target, near=subject.file)
    return target.change if isinstance(target, Remade) else target


def _answering(target: Any, kind: Kind) -> Any:
    """What of a target is called when a claim about it is checked."""
    target = _inner(target)
    owner = getattr(target, "__self__", None)
    if inspect.isclass(owner) and issubclass(owner, torch.autograd.Function):
        target = owner  # its `apply`
    owner = target if inspect.isclass(target) else type(target)
    if inspect.isroutine(target):
        return target
    for base, name in (
        (torch.autograd.Function, "forward"),
        (nn.Module, "forward"),
        (torch.optim.Optimizer, "step"),
        (object, next(iter(kind.methods), "")),
        (object, "update" if kind.name.endswith("_metric") else ""),
        (object, "__call__"),
    ):
        if issubclass(owner, base) and name in vars(owner):
            return vars(owner)[name]
    return owner


def _inner(code: Any) -> Any:
    """The function within partials, decorators, static and bound methods."""
    for _ in range(100):
        before = code
        if isinstance(code, functools.partial | functools.partialmethod):
            code = code.func
        elif isinstance(code, staticmethod | classmethod | property):
            code = code.fget if isinstance(code, property) else code.__func__
        elif inspect.ismethod(code) and not inspect.isclass(code.__self__):
            code = code.__func__
        elif not inspect.isclass(code) and "__wrapped__" in getattr(code, "__dict__", {}):
            code = code.__wrapped__
        if code is before:
            break
    return code


def _is_own(file: str) -> bool:
    """Is it code of the subject, not of an engine or a library below it?"""
    if is_ours(file):
        inside = os.path.relpath(file, os.path.dirname(__file__))
        return inside.partition(os.sep)[0] not in _ENGINE
    return os.sep + "site-packages" + os.sep not in file and Path(file).is_file()


def _place(file: str, line: int) -> str:
    path = Path(file).resolve()
    try:
        return f"{path.relative_to(Path.cwd()).as_posix()}:{line}"
    except ValueError:
        return f"{path}:{line}"
