"""What a trial leaves in its process and folders that is not put back: named."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dlcheck.isolation.texts import some_of

_LONGEST = 60  # characters of a command line
_LEAKED = 2**20  # bytes of CUDA memory from which on it is named
_KEPT_OPEN = (stat.S_IFREG, stat.S_IFSOCK, stat.S_IFIFO)


class Standing:
    """Threads, children, descriptors, files and CUDA memory when it is made."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._children = _children()
        self._descriptors = _descriptors()
        self._cuda = _cuda_bytes()
        self._folder = _folder_state(".")
        self._drawn = _Drawn.begin()

    def told(self) -> list[str]:
        """What is left, in words. Children that were forked and belong to nobody are ended."""
        return [
            *self._left_threads(),
            *self._left_children(),
            *self._left_descriptors(),
            *self._left_files(),
            *self._left_cuda(),
        ]

    def _left_threads(self) -> Iterator[str]:
        left = [
            repr(thread.name)
            for thread in threading.enumerate()
            if thread not in self._threads and not isinstance(thread, threading._DummyThread)
        ]
        if left:
            yield f"left {_counted(left, 'a thread', 'threads')} running: {some_of(left)}"

    def _left_children(self) -> Iterator[str]:
        if not (new := _children() - self._children):
            return
        gc.collect()  # an iterator of a loader ends its workers when it is collected
        ours = _of_multiprocessing()
        left = []
        for child in sorted(_children() & new):
            if _has_ended(child, reap=child not in ours) or child == _tracker():
                continue
            arguments = _arguments(child)
            name = " ".join(arguments.decode("utf-8", "replace").split("\0")).strip()[:_LONGEST]
            if child not in ours and arguments == _arguments(os.getpid()):
                with contextlib.suppress(OSError):
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                name += ", a fork, which was ended"
            left.append(f"{child} ({name})")
        if left:
            yield f"left {_counted(left, 'a child process', 'child processes')}: {some_of(left)}"

    def _left_descriptors(self) -> Iterator[str]:
        now = _descriptors()
        if gone := {number for number in self._descriptors - now if number > 2}:
            yield f"closed file descriptors of the process: {some_of(sorted(map(str, gone)))}"
        if not now - self._descriptors:
            return
        gc.collect()
        left = [said for number in sorted(_descriptors() - self._descriptors)
                if (said := _opened(number))]  # fmt: skip
        if left:
            yield f"left {_counted(left, 'a file', 'files')} open: {some_of(left)}"

    def _left_files(self) -> Iterator[str]:
        drawn = self._drawn.end()
        before, now = self._folder, _folder_state(".", self._folder)
        if new := sorted(now.names - before.names):
            yield f"left {_counted(new, 'a file', 'files')} in the working folder: {some_of(new)}"
        if drawn:
            place = Path(tempfile.gettempdir())
            with contextlib.suppress(OSError):
                left = [n for n in os.listdir(place) if any(part in n for part in drawn)]
                if left:
                    yield (
                        f"left {_counted(left, 'a file', 'files')} in the temporary folder: "
                        f"{some_of(sorted(left))}"
                    )

    def _left_cuda(self) -> Iterator[str]:
        if _cuda_bytes() - self._cuda < _LEAKED:
            return
        gc.collect()
        if (left := _cuda_bytes() - self._cuda) >= _LEAKED:
            yield f"left {left / 2**20:,.1f} MiB of CUDA memory allocated"


class _FolderState:
    __slots__ = ("changed", "names")

    def __init__(self, changed: int, names: frozenset[str]) -> None:
        self.changed, self.names = changed, names


def _folder_state(path: str, before: _FolderState | None = None) -> _FolderState:
    """What lies in a folder, but for hidden files; read again only where it has changed."""
    try:
        changed = os.stat(path).st_mtime_ns
        if before is not None and before.changed == changed:
            return before
        names = frozenset(n for n in os.listdir(path) if n[0] != "." and n != "__pycache__")
    except OSError:
        return before or _FolderState(0, frozenset())
    return _FolderState(changed, names)


class _Drawn:
    """The random parts of the names of temporary files that are drawn meanwhile."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._names = inner, list[str]()

    @classmethod
    def begin(cls) -> _Drawn:
        drawn = cls(tempfile._get_candidate_names())  # type: ignore[attr-defined]
        tempfile._name_sequence = drawn  # type: ignore[attr-defined]
        return drawn

    def __iter__(self) -> _Drawn:
        return self

    def __next__(self) -> str:
        name = str(next(self._inner))
        self._names.append(name)
        return name

    def end(self) -> list[str]:
        tempfile._name_sequence = self._inner  # type: ignore[attr-defined]
        return self._names


def _children() -> set[int]:
    """The children of the main thread of this process; none where the system does not say."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return set(map(int, file.read().split()))
    except (OSError, ValueError):
        return set()


def _of_multiprocessing() -> set[int | None]:
    module = sys.modules.get("multiprocessing.process")
    children = set(module._children) if module else set()  # not active_children, which reaps
    return {child.pid for child in children}


def _tracker() -> int | None:
    module = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(module._resource_tracker, "_pid", None) if module else None


def _has_ended(child: int, *, reap: bool) -> bool:
    """Is it a zombie? Reaped where it is nobody's."""
    try:
        with open(f"/proc/{child}/stat", "rb") as file:
            ended = file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (OSError, IndexError):
        return True
    if ended and reap:
        with contextlib.suppress(OSError):
            os.waitpid(child, os.WNOHANG)
    return ended


def _arguments(process: int) -> bytes:
    """The command line of a process, as the system keeps it."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/cmdline", "rb") as file:
        return file.read()
    return b""


def _descriptors() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/fd")}
    except (OSError, ValueError):
        return set()


def _opened(number: int) -> str:
    """What is open there, if it is a file, a socket or a pipe of somebody's."""
    with contextlib.suppress(OSError):
        mode = stat.S_IFMT(os.fstat(number).st_mode)
        name = os.readlink(f"/proc/self/fd/{number}")
        if mode in _KEPT_OPEN and not name.startswith(("/dev/", "/proc/", "/memfd:")):
            return name
    return ""


def _cuda_bytes() -> int:
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_initialized() else 0


def _counted(found: list[Any], one: str, several: str) -> str:
    return one if len(found) == 1 else f"{len(found):,} {several}"
