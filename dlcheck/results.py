"""Outcomes and their environment ⇄ JSON lines. Loads no torch.

A record is append-only: one line of metadata, then one line per outcome, flushed as it comes, so
that a crash loses nothing. Everything else is rendered from it.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from dlcheck.errors import UsageError
from dlcheck.model import Evidence, Figure, Outcome, Verdict

SCHEMA = 1
_PACKAGES = (
    *("dlcheck", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "scikit-image"),
    *("lpips", "hypothesis", "pytest", "pytest-benchmark", "pytest-xdist"),
)


def encode(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON-safe data; `decode` gives it back unchanged."""
    data = {f.name: _encode(getattr(outcome, f.name)) for f in fields(outcome)}
    data["evidence"] = [
        {f.name: _encode(getattr(piece, f.name)) for f in fields(piece)}
        for piece in outcome.evidence
    ]
    return data


def _encode(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return {"float": repr(value)}  # JSON has no inf and no nan
        case Verdict():
            return value.value
        case Figure():
            return {f.name: _encode(getattr(value, f.name)) for f in fields(value)}
        case Mapping():
            return {str(key): _encode(part) for key, part in value.items()}
        case tuple() | list():
            return [_encode(part) for part in value]
    return value


def decode(data: Mapping[str, Any]) -> Outcome:
    """The outcome that was encoded."""
    plain = {key: _decode(value) for key, value in data.items()}
    plain["verdict"] = Verdict(plain["verdict"])
    plain["tags"] = tuple(plain["tags"])
    plain["evidence"] = tuple(_evidence(piece) for piece in plain["evidence"])
    return Outcome(**plain)


def _evidence(data: dict[str, Any]) -> Evidence:
    data["p_values"] = tuple(data["p_values"])
    data["figures"] = tuple(_figure(figure) for figure in data["figures"])
    return Evidence(**data)


def _figure(data: dict[str, Any]) -> Figure:
    data["marks"] = tuple(data["marks"])
    data["series"] = {
        name: tuple((x, y) for x, y in points) for name, points in data["series"].items()
    }
    return Figure(**data)


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"float"} and isinstance(value["float"], str):
            return float(value["float"])
        return {key: _decode(part) for key, part in value.items()}
    return [_decode(part) for part in value] if isinstance(value, list) else value


# --- records ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Run:
    """A recorded run: its environment and its outcomes."""

    meta: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    path: Path | None = None


def new_run_path(root: Path) -> Path:
    """`root/.dlcheck/runs/<utc>-<commit>.jsonl`, not taken yet."""
    folder = root / ".dlcheck" / "runs"
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    commit = _git("rev-parse", "--short=8", "HEAD") or "nogit"
    path, again = folder / f"{now}-{commit}.jsonl", 1
    while path.exists():
        again += 1
        path = folder / f"{now}-{commit}-{again}.jsonl"
    return path


class RunWriter:
    """Writes a record line by line; a context manager."""

    def __init__(self, path: Path, meta: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("x", encoding="utf-8")
        self._write({"schema": SCHEMA, "meta": _encode(meta)})

    def append(self, outcome: Outcome) -> None:
        self._write(encode(outcome))

    def _write(self, data: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
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


def read_run(path: Path) -> Run:
    """A record. A torn last line is left out, and `meta["note"]` says so.

    Raises UsageError where the file is no record, or is of a newer schema.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    meta = _meta(path, lines)
    run = Run(meta, path=path)
    for number, line in enumerate(lines[1:], 2):
        try:
            run.outcomes.append(decode(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number < len(lines):
                raise UsageError(f"{path}:{number}: this is no outcome: {error}") from None
            meta["note"] = "the last line is torn: the run was cut off"
    return run


def _meta(path: Path, lines: list[str]) -> dict[str, Any]:
    try:
        head = json.loads(lines[0])
        schema, meta = int(head["schema"]), dict(_decode(head["meta"]))
    except (IndexError, ValueError, TypeError, KeyError):
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


# --- environment ------------------------------------------------------------------------------


def environment(**more: Any) -> dict[str, Any]:
    """What a result depends on. Devices and switches only where torch is loaded already.

    more: command, seed, profile, as they were given.
    """
    found: dict[str, Any] = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **more,
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count() or 0},
    }
    if memory := _memory():
        found["memory GiB"] = memory
    if commit := _git("rev-parse", "--short=12", "HEAD"):
        dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
        found["git"] = {"commit": commit, "dirty": dirty}
    if "torch" in sys.modules:
        found |= _torch(sys.modules["torch"])
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return 0.0


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _torch(torch: Any) -> dict[str, Any]:
    devices = {"cpu": {"threads": torch.get_num_threads()}}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            seen = torch.cuda.get_device_properties(index)
            devices[f"cuda:{index}"] = {
                "name": seen.name,
                "memory GiB": round(seen.total_memory / 2**30, 1),
                "capability": f"{seen.major}.{seen.minor}",
            }
    return {
        "devices": devices,
        "switches": {
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "float32 matmul": torch.get_float32_matmul_precision(),
            "cudnn benchmark": bool(torch.backends.cudnn.benchmark),
        },
    }
