"""The three streams of the process: kept open for the trial, and put back after it."""

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

_FCNTL: Any = importlib.import_module("fcntl") if find_spec("fcntl") else None  # POSIX
_LEAST = 64  # no number of a stream, where a copy is kept
_LOUD = 2**20  # bytes of output that a report keeps of one trial


class Streams:
    """Copies of descriptors 0 to 2, and Python's streams, which cannot be closed meanwhile."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[int, tuple[int, int], int]] = {}
        for number in (0, 1, 2) if _FCNTL is not None else ():
            with contextlib.suppress(OSError):
                found = os.fstat(number)
                copy = _FCNTL.fcntl(number, _FCNTL.F_DUPFD_CLOEXEC, _LEAST)
                self._copies[number] = copy, (found.st_dev, found.st_ino), found.st_size
        self._closed: list[str] = []
        self._kept: list[Any] = []
        for name in ("stdin", "stdout", "stderr"):
            self._keep_open(getattr(sys, name), name)

    def _keep_open(self, stream: Any, name: str) -> None:
        def close() -> None:
            if name not in self._closed:
                self._closed.append(name)

        def detach() -> Any:
            close()
            raise ValueError(f"sys.{name} belongs to the process: it stays attached")

        held: tuple[Any, ...] = (stream, getattr(stream, "buffer", None))
        for each in held:
            with contextlib.suppress(AttributeError, TypeError, ValueError):
                each.close = close
                self._kept.append(each)
                each.detach = detach

    def restore(self) -> list[str]:
        """Put them back; what was closed or replaced, and how much was said, in words."""
        for each in self._kept:
            for name in ("close", "detach"):
                with contextlib.suppress(AttributeError):
                    delattr(each, name)
        for name in ("stdout", "stderr"):
            with contextlib.suppress(Exception):
                getattr(sys, name).flush()
        found = [f"closed sys.{name} (kept open)" for name in self._closed]
        for number, (copy, identity, size) in self._copies.items():
            found += self._put_back(number, copy, identity)
            found += _cut(number, size)
            with contextlib.suppress(OSError):  # it closed the copy too
                os.close(copy)
        return found

    @staticmethod
    def _put_back(number: int, copy: int, identity: tuple[int, int]) -> Iterator[str]:
        try:
            now = os.fstat(number)
            if (now.st_dev, now.st_ino) == identity:
                return
            said = "replaced"
        except OSError:
            said = "closed"
        with contextlib.suppress(OSError):
            os.dup2(copy, number, inheritable=True)
            yield f"{said} file descriptor {number} (put back)"


def _cut(number: int, before: int) -> Iterator[str]:
    """Of what pytest captures in a file of its own: the first bytes, and how many there were."""
    if number == 0:
        return
    with contextlib.suppress(OSError):
        now = os.fstat(number)
        said = now.st_size - before
        if said > _LOUD and stat.S_ISREG(now.st_mode) and now.st_nlink == 0:
            os.ftruncate(number, before + _LOUD)
            os.lseek(number, 0, os.SEEK_END)
            os.write(number, f"\n… {said - _LOUD:,} bytes left out\n".encode())
            yield f"wrote {said / 2**20:,.0f} MiB to descriptor {number}"
