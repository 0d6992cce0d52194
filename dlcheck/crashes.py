"""Which trial a process runs now, on the disk; and what that trial came to where the process ended.

A crash leaves no time to write: so a process writes down what it is about to run, in place, before
each trial (some 50 µs), and who outlives it reads the file. Loads no torch.
"""

from __future__ import annotations

import contextlib
import json
import linecache
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dlcheck.encoding import decode, encode
from dlcheck.model import Outcome, Verdict
from dlcheck.sources import is_ours

FOLDER = Path(".dlcheck") / "running"
_FRAMES = 6  # of the subject, the last ones
_SUSPECTS = 3  # trials of the same process that left something running, the last ones

_SIGNALS = {
    "SIGSEGV": "a segmentation fault",
    "SIGBUS": "a bus error",
    "SIGABRT": "an abort",
    "SIGFPE": "an arithmetic fault",
    "SIGILL": "an illegal instruction",
    "SIGKILL": "killed: by the system for want of memory, or by a program",
    "SIGTERM": "asked to end",
}


@dataclass(slots=True)
class _Open:
    """A file that stays open, and is opened anew where a subject closed or took its descriptor."""

    path: Path
    _number: int = -1
    _identity: tuple[int, int] = (0, 0)

    @property
    def is_open(self) -> bool:
        return self._number >= 0 and _identity_of(self._number) == self._identity

    @property
    def number(self) -> int:
        """Its descriptor. Raises OSError where it cannot be opened."""
        if not self.is_open:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._number = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            self._identity = _identity_of(self._number) or (0, 0)
        return self._number

    def close(self) -> None:
        if self.is_open:
            with contextlib.suppress(OSError):
                os.close(self._number)
        self._number = -1


def _identity_of(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


@dataclass(slots=True)
class Running:
    """The file of one process: `begin` before a trial, `end` after it, `close` at the end.

    `stack` is the file to which `faulthandler` writes where the process stood.
    """

    path: Path
    record: str = ""  # where the outcomes of this run are written
    suspects: list[str] = field(default_factory=list)
    _file: _Open = field(init=False)
    _stack: _Open = field(init=False)

    def __post_init__(self) -> None:
        self._file, self._stack = _Open(self.path), _Open(_stack_of(self.path))

    @property
    def stack(self) -> int:
        """A descriptor of the stack file, opened when it is first asked for."""
        return self._stack.number

    def begin(self, node: str, outcome: Outcome, *, timeout: float | None, expected: str) -> None:
        """Say that this trial starts. outcome: what it would be, had it failed saying nothing."""
        told = {
            "node": node,
            "pid": os.getpid(),
            "since": time.time(),
            "timeout": timeout,
            "expected": expected,
            "record": self.record,
            "suspects": self.suspects[-_SUSPECTS:],
            "outcome": encode(outcome),
        }
        line = json.dumps(told, allow_nan=False).encode("ascii") + b"\n"
        file = self._file.number
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, line)
        os.ftruncate(file, len(line))

    def end(self) -> None:
        """Say that nothing runs."""
        if self._file.is_open:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.number, 0)

    def close(self) -> None:
        """Leave nothing on the disk: the process ends as it should."""
        self._file.close()
        self._stack.close()
        forget(self.path)


def forget(path: Path) -> None:
    """Remove the files of a process that has ended, and their folder with the last of them."""
    for file in (path, _stack_of(path)):
        with contextlib.suppress(OSError):
            file.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _stack_of(path: Path) -> Path:
    return path.with_suffix(".stack")


def running_at_the_end(root: Path, record: Path) -> Iterator[tuple[Path, str]]:
    """(file, node) of what dead processes of a recorded run were running when they ended."""
    for path in sorted((root / FOLDER).glob("*.json")):
        crash = read_crash(path)
        mine = crash is not None and crash.record and (root / crash.record).resolve() == record
        if crash is not None and mine and not _is_alive(crash.pid):
            yield path, crash.node


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there os.kill ends it
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """A trial during which its process ended."""

    node: str
    outcome: Outcome  # the failure, with its message
    record: str
    pid: int


def read_crash(path: Path, status: int | None = None) -> Crash | None:
    """What a process ran when it ended; None where it ran nothing.

    status: the exit status of the process as `subprocess` gives it, where that is known.
    """
    try:
        told = json.loads(path.read_bytes())
        blank, node, pid = decode(told["outcome"]), str(told["node"]), int(told["pid"])
        seconds, timeout = max(time.time() - float(told["since"]), 0.0), told["timeout"]
        expected, suspects = str(told["expected"]), [str(each) for each in told["suspects"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    stack = _read(_stack_of(path))
    message = "\n".join(_message(stack, status, timeout))
    outcome = replace(
        blank,
        verdict=Verdict.EXPECTED if expected else Verdict.FAILED,
        message=f"{expected}\n{message}" if expected else message,
        seconds=seconds,
        notes=tuple(f"earlier in this process, {each}" for each in suspects),
    )
    return Crash(node=node, outcome=outcome, record=str(told.get("record", "")), pid=pid)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _message(stack: str, status: int | None, timeout: Any) -> Iterator[str]:
    frames = frames_of(stack)
    if "Timeout (" in stack:
        allowed = f" of {timeout:g} s" if isinstance(timeout, (int, float)) else ""
        yield (
            f"ran past its timeout{allowed} and did not stop when told to (native code, or code "
            "that catches everything): its process was ended"
        )
    else:
        yield f"the process ended while it ran: {_how_it_ended(stack, status)}"
    yield from _shown(frames)
    yield "(another process went on with the run)"


def _how_it_ended(stack: str, status: int | None) -> str:
    if status is not None and status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"{name}, {_SIGNALS[name]}" if name in _SIGNALS else name
    if fatal := re.search(r"^Fatal Python error: (.+)$", stack, re.MULTILINE):
        return fatal[1]
    if status is None:
        return "how is not known"
    return f"exit status {status}, as by os._exit or exit() in native code"


Frame = tuple[str, int, str]


def frames_of(stack: str) -> list[Frame]:
    """The subject's frames (file, line, function) in what `faulthandler` wrote, innermost last.

    Of the thread that the engine runs in, from where the subject was called.
    """
    for thread in re.split(r"^(?:Current thread|Thread) 0x", stack, flags=re.MULTILINE)[1:]:
        found = re.findall(r'^  File "(.*)", line (\d+) in (.*)$', thread, re.MULTILINE)
        frames = [(file, int(line), name) for file, line, name in found]
        inside = next((k for k, (file, _, _) in enumerate(frames) if is_ours(file)), None)
        if inside is not None:
            return (frames[:inside] or frames[:1])[::-1]
    return []


def _shown(frames: Sequence[Frame]) -> Iterator[str]:
    for file, line, name in frames[-_FRAMES:]:
        yield f'  File "{file}", line {line}, in {name}'
        if code := linecache.getline(file, line).strip():
            yield f"    {code}"
