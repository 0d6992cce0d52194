"""Benchmarks in serial lanes: while one is timed, the other workers of its device wait.

A lane is a lock file that every trial shares and a benchmark has alone. All trials use the
processors, so a benchmark on the CPU has the machine; one on a GPU has the GPU, beside trials on
other devices. The locks are those of POSIX: they end with the process, however it ends, and what
it forked does not keep them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no lanes
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lock files of one run, in a folder that its workers share."""

    folder: Path

    @contextlib.contextmanager
    def held(self, device: str, *, alone: bool) -> Iterator[None]:
        """device: "cpu", or what tells one GPU from another. The CPU first, so none wait in turn
        for each other."""
        with self._lane("cpu", alone=alone and device == "cpu"):
            if device == "cpu":
                yield
            else:
                with self._lane(device, alone=alone):
                    yield

    @contextlib.contextmanager
    def _lane(self, name: str, *, alone: bool) -> Iterator[None]:
        """Whoever waits to be alone stands in the door, so that no more come in before it."""
        place = hashlib.sha256(name.encode()).hexdigest()[:16]
        way = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        with contextlib.ExitStack() as room:
            with self._locked(f"{place}.door", fcntl.LOCK_EX):
                room.enter_context(self._locked(place, way))
            yield

    @contextlib.contextmanager
    def _locked(self, name: str, way: int) -> Iterator[None]:
        file = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(file, way)
            yield
        finally:
            with contextlib.suppress(OSError):  # a subject may have closed all files
                os.close(file)


def lanes_in(folder: str) -> Lanes | None:
    """The lanes of this run; None where the folder is not on this machine, or nothing locks."""
    return Lanes(Path(folder)) if fcntl is not None and Path(folder).is_dir() else None
