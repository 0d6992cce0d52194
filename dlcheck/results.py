"""Outcomes, benchmarks and their environment ⇄ JSON lines. Loads no torch.

A record is append-only: one line of metadata, then one for each of them, flushed as it comes, so
that a crash loses nothing. Everything else is rendered from it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dlcheck.benchmark import Benchmark
from dlcheck.encoding import decode as decode
from dlcheck.encoding import encode as encode
from dlcheck.encoding import plain as plain
from dlcheck.environment import environment as environment
from dlcheck.environment import git, utc_now
from dlcheck.errors import UsageError
from dlcheck.model import Outcome

RECORD = "DLCHECK_RECORD"  # where a process that another has started writes its record
SCHEMA = 2  # 2: benchmarks beside outcomes; a reader of 1 says that it is too old


@dataclass(slots=True)
class Run:
    """A recorded run: its environment, its outcomes and its benchmarks.

    `meta["exit"]` is the exit code of a shard.
    `meta["incomplete"]` says what is missing where the record was cut off or damaged.
    """

    meta: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    benchmarks: list[Benchmark] = field(default_factory=list)
    path: Path | None = None


def new_run_path(root: Path) -> Path:
    """`root/.dlcheck/runs/<utc>-<commit>.jsonl`, not taken yet, or what DLCHECK_RECORD says."""
    if told := os.environ.get(RECORD):
        return Path(told)
    now = utc_now().strftime("%Y%m%dT%H%M%S")
    commit = git("rev-parse", "--short=8", "HEAD", folder=root) or "nogit"
    wanted = root / ".dlcheck" / "runs" / f"{now}-{commit}.jsonl"
    return next(path for path in _names_from(wanted) if not path.exists())


def _names_from(path: Path) -> Iterator[Path]:
    """The path, then the path numbered from 2."""
    yield path
    for again in count(2):
        yield path.with_name(f"{path.stem}-{again}{path.suffix}")


class RunWriter:
    """Writes a record line by line; a context manager.

    Never writes over a record: where the path is taken in the meantime, `path` is the next free.
    A line is on the disk whole or not at all: where there is no space for it, it is taken back,
    `problem` says so, and the run goes on. The last line says that the run ended.
    """

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._file = _opened(path)
        self.written, self.lost, self.problem = 0, 0, ""
        self._write({"schema": SCHEMA, "meta": plain(meta), "ends": True})

    def append(self, outcome: Outcome | Benchmark) -> None:
        """An outcome is a table of its fields, a benchmark one below the key "benchmark".

        Never raises for want of space: see `problem`.
        """
        try:
            self._write(_encoded(outcome))
        except OSError as error:
            self.lost += 1
            self.problem = f"{error.strerror or error}"
        else:
            self.written += 1

    def _write(self, data: Mapping[str, Any]) -> None:
        line = _line(data).encode("ascii")
        whole = self._file.tell()
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(whole)
            self._file.seek(whole)
            raise

    def close(self, *, interrupted: bool = False, exit_code: int | None = None) -> None:
        """Say that the run ended, whether a person ended it, and with which code where given."""
        if self._file.closed:
            return
        end = {"outcomes": self.written, "lost": self.lost, "interrupted": interrupted}
        if exit_code is not None:
            end["exit"] = exit_code
        with contextlib.suppress(OSError):
            self._write({"end": end})
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(interrupted=kind is not None)


def _encoded(each: Outcome | Benchmark) -> dict[str, Any]:
    return {"benchmark": each.to_data()} if isinstance(each, Benchmark) else encode(each)


def _line(data: Mapping[str, Any]) -> str:
    """ASCII only: foreign text may hold half a surrogate pair, or what counts as a line break."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n"


def record_lines(run: Run) -> Iterator[str]:
    """The lines of a record that reads as this run."""
    yield _line({"schema": SCHEMA, "meta": plain(run.meta)})
    yield from (_line(_encoded(each)) for each in run.outcomes)
    yield from (_line(_encoded(each)) for each in run.benchmarks)


def _opened(path: Path) -> tuple[Path, FileIO]:
    for free in _names_from(path):
        try:
            return free, FileIO(free, "x")  # unbuffered: what is not written is known at once
        except FileExistsError:
            continue
    raise AssertionError("the numbers have ended")


def read_run(path: Path) -> Run:
    """A record. Lines that cannot be read are left out, and `meta["incomplete"]` counts them.

    Raises UsageError where the file is no record, or is of another schema.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def _read(path: Path, file: Iterable[bytes]) -> Run:
    lines = iter(file)
    head = _head(path, next(lines, b""))
    run, losses = Run(dict(head["meta"]), path=path), Losses(ended=not head.get("ends"))
    for number, line in enumerate(lines, 2):
        try:
            data = json.loads(line)
            if "end" in data:
                losses.close(data["end"])
                if "exit" in data["end"]:
                    run.meta["exit"] = int(data["end"]["exit"])
            else:
                _add(run, data)
        except _DAMAGED as error:
            losses.damaged(number, line, error)
    if told := losses.told(path):
        run.meta["incomplete"] = told
    return run


def _add(run: Run, data: Mapping[str, Any]) -> None:
    if "benchmark" not in data:
        run.outcomes.append(decode(data))
        return
    benchmark = Benchmark.from_data(data["benchmark"])
    _ = benchmark.verdict  # raises where its samples are no times or do not pair
    run.benchmarks.append(benchmark)


# What reading foreign data as ours may raise.
_DAMAGED = (
    *(ValueError, TypeError, KeyError, AttributeError, IndexError, ArithmeticError),
    RecursionError,
)


@dataclass(slots=True)
class Losses:
    """What of a record is missing, and how that is said."""

    ended: bool  # the last line was seen, or is not to be expected
    torn: bool = False
    lines: int = 0
    first: str = ""
    lost: int = 0
    interrupted: bool = False

    def close(self, end: Mapping[str, Any]) -> None:
        self.ended = True
        self.lost, self.interrupted = int(end.get("lost", 0)), bool(end.get("interrupted"))

    def damaged(self, number: int, line: bytes, error: Exception) -> None:
        if not line.strip():
            return
        if not line.endswith(b"\n"):
            self.torn = True
            return
        self.lines += 1
        said = " ".join(f"{type(error).__name__}: {error}".split())
        self.first = self.first or f"line {number}: {said[:120]}"

    def told(self, path: Path) -> str:
        """In words; empty where nothing is missing."""
        told = "; ".join(self._parts())
        return f"the record {path.name} is not whole: {told}" if told else ""

    def _parts(self) -> Iterator[str]:
        if self.lines:
            lines = "1 line is" if self.lines == 1 else f"{self.lines:,} lines are"
            yield f"{lines} damaged and left out (the first: {self.first})"
        if self.torn:
            yield "the last line is torn, the run was cut off"
        elif not self.ended:
            yield "it has no end, the run was cut off or still goes on"
        if self.lost:
            outcomes = "1 outcome" if self.lost == 1 else f"{self.lost:,} outcomes"
            yield f"{outcomes} could not be written"
        if self.interrupted:
            yield "the run was interrupted"


def _head(path: Path, line: bytes) -> dict[str, Any]:
    if not line.strip():
        raise UsageError(f"{path} is empty: no run is recorded in it")
    try:
        head = dict(json.loads(line))
        schema, _ = int(head["schema"]), dict(head["meta"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(
            f"{path}:1: this is no record of dlcheck; dlcheck run and dlcheck validate write them "
            "to .dlcheck/runs"
        ) from None
    if schema > SCHEMA:
        raise UsageError(
            f"{path}: schema {schema} is newer than this dlcheck reads ({SCHEMA}); upgrade dlcheck"
        )
    if schema < 1:
        raise UsageError(f"{path}: there is no schema {schema}; this dlcheck reads 1 to {SCHEMA}")
    return head
