"""Outcomes, benchmarks and their environment ⇄ JSON lines. Loads no torch.

A record is append-only: one line of metadata, then one for each of them, flushed as it comes, so
that a crash loses nothing. Everything else is rendered from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from dlcheck.benchmark import Benchmark
from dlcheck.environment import environment as environment
from dlcheck.environment import git, utc_now
from dlcheck.errors import UsageError
from dlcheck.model import Evidence, Figure, Outcome, Statement, Verdict

SCHEMA = 2  # 2: benchmarks beside outcomes; a reader of 1 says that it is too old
_NUMBERS = ("error", "bound", "signal", "resolution", "alpha")  # the float fields of Evidence
_TEXTS = ("unit", "what", "expected", "got", "where", "cause")
_NOT_FINITE = ("nan", "inf", "-inf")


def encode(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON-safe data of plain Python types; `decode` gives it back unchanged.

    JSON has no infinities and no NaN: they are the strings "inf", "-inf" and "nan". Where text
    may stand too, in `Evidence.values`, text that reads like one of them is `{"text": "nan"}`.
    """
    data = {f.name: getattr(outcome, f.name) for f in fields(outcome)}
    return {
        **data,
        "verdict": outcome.verdict.value,
        "evidence": [_encode_evidence(piece) for piece in outcome.evidence],
        "seconds": _number(outcome.seconds),
        "tags": list(outcome.tags),
        "textbook": asdict(outcome.textbook) if outcome.textbook else None,
    }


def _encode_evidence(piece: Evidence) -> dict[str, Any]:
    data = {f.name: getattr(piece, f.name) for f in fields(piece)}
    return {
        **data,
        **{name: _number(data[name]) for name in _NUMBERS},
        **{name: str(data[name]) for name in _TEXTS},
        "p_values": [_number(p) for p in piece.p_values],
        "strikes": int(piece.strikes),
        "values": {str(name): _encode_value(value) for name, value in piece.values.items()},
        "figures": [_encode_figure(figure) for figure in piece.figures],
    }


def _encode_figure(figure: Figure) -> dict[str, Any]:
    data = {f.name: getattr(figure, f.name) for f in fields(figure)}
    series = {
        name: [[_number(x), _number(y)] for x, y in points]
        for name, points in figure.series.items()
    }
    return {
        **data,
        "series": series,
        "marks": list(figure.marks),
        "steps": list(figure.steps),
    }


def _number(value: Any) -> float | str:
    """A number as JSON writes it. Zero-dimensional tensors and NumPy scalars become floats."""
    plain = float(value)
    return plain if math.isfinite(plain) else repr(plain)


def _encode_value(value: Any) -> Any:
    match value:
        case bool() | int():
            return value
        case str():
            return {"text": value} if value in _NOT_FINITE else value
    try:
        return _number(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)


def decode(data: Mapping[str, Any]) -> Outcome:
    """The outcome that was encoded."""
    return Outcome(
        **{
            **data,
            "verdict": Verdict(data["verdict"]),
            "evidence": tuple(_decode_evidence(piece) for piece in data["evidence"]),
            "seconds": float(data["seconds"]),
            "tags": tuple(data["tags"]),
            "textbook": Statement(**stated) if (stated := data.get("textbook")) else None,
        }
    )


def _decode_evidence(data: Mapping[str, Any]) -> Evidence:
    return Evidence(
        **{
            **data,
            **{name: float(data[name]) for name in _NUMBERS},
            "p_values": tuple(float(p) for p in data["p_values"]),
            "values": {name: _decode_value(value) for name, value in data["values"].items()},
            "figures": tuple(_decode_figure(figure) for figure in data["figures"]),
        }
    )


def _decode_figure(data: Mapping[str, Any]) -> Figure:
    series = {
        name: tuple((float(x), float(y)) for x, y in points)
        for name, points in data["series"].items()
    }
    drawn = {way: tuple(data.get(way, ())) for way in ("marks", "steps")}  # older records: no steps
    return Figure(**{**data, **drawn, "series": series})


def _decode_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value["text"]
    return float(value) if value in _NOT_FINITE else value


def plain(value: Any) -> Any:
    """Metadata as JSON-safe data: what JSON does not know becomes its text."""
    match value:
        case Mapping():
            return {str(key): plain(part) for key, part in value.items()}
        case tuple() | list() | set() | frozenset():
            return [plain(part) for part in value]
        case None | bool() | int() | str():
            return value
        case float():
            return _number(value)
    return str(value)


# --- records ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Run:
    """A recorded run: its environment, its outcomes and its benchmarks."""

    meta: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    benchmarks: list[Benchmark] = field(default_factory=list)
    path: Path | None = None


def new_run_path(root: Path) -> Path:
    """`root/.dlcheck/runs/<utc>-<commit>.jsonl`, not taken yet."""
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
    """

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._file = _opened(path)
        self._write({"schema": SCHEMA, "meta": plain(meta)})

    def append(self, outcome: Outcome | Benchmark) -> None:
        """An outcome is a table of its fields, a benchmark one below the key "benchmark"."""
        if isinstance(outcome, Benchmark):
            self._write({"benchmark": outcome.to_data()})
        else:
            self._write(encode(outcome))

    def _write(self, data: Mapping[str, Any]) -> None:
        # ASCII only: foreign text may hold half a surrogate pair, or what counts as a line break.
        self._file.write(json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _opened(path: Path) -> tuple[Path, TextIO]:
    for free in _names_from(path):
        try:
            return free, free.open("x", encoding="utf-8")
        except FileExistsError:
            continue
    raise AssertionError("the numbers have ended")


def read_run(path: Path) -> Run:
    """A record. A torn last line is left out, and `meta["note"]` says so.

    Raises UsageError where the file is no record, or is of a newer schema.
    """
    try:
        lines = path.read_text("utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    meta = _meta(path, lines[0])
    run = Run(meta, path=path)
    for number, line in enumerate(lines[1:], 2):
        try:
            _add(run, json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number < len(lines):
                raise UsageError(f"{path}:{number}: this is no outcome: {error}") from None
            meta["note"] = "the last line is torn: the run was cut off"
    return run


def _add(run: Run, data: Mapping[str, Any]) -> None:
    if "benchmark" in data:
        run.benchmarks.append(Benchmark.from_data(data["benchmark"]))
    else:
        run.outcomes.append(decode(data))


def _meta(path: Path, line: str) -> dict[str, Any]:
    try:
        head = json.loads(line)
        schema, meta = int(head["schema"]), dict(head["meta"])
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{path}:1: this is no record of dlcheck") from None
    if schema > SCHEMA:
        raise UsageError(
            f"{path}: schema {schema} is newer than this dlcheck reads ({SCHEMA}); upgrade dlcheck"
        )
    return meta


def latest_run(root: Path) -> Path | None:
    """The newest record below a folder, or None."""
    found = (root / ".dlcheck" / "runs").glob("*.jsonl")
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)
