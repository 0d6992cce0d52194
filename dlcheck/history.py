"""Recorded runs by name: a path, the beginning of a name, `latest~1`, a named baseline.

A baseline is a file below `.dlcheck/baselines` that holds the name of a record. Loads no torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from dlcheck.errors import UsageError, unknown
from dlcheck.results import Run, read_run

LATEST = "latest"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def runs(root: Path) -> list[Path]:
    """The records below a folder, the newest first."""
    found = (root / ".dlcheck" / "runs").glob("*.jsonl")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def find_run(name: str, root: Path) -> Path:
    """The record that is meant. Raises UsageError where there is none, or several."""
    for path in (Path(name), Path(name) / "run.jsonl"):  # a record, or the folder of a report
        if path.is_file():
            return path
    word, _, back = name.partition("~")
    if word == LATEST and (not back or back.isdigit()):
        return _nth(int(back or 0), runs(root), root)
    if name in baselines(root):
        return _of_baseline(name, root)
    found = [path for path in runs(root) if path.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    folder = _folder(root, "runs")
    if found:
        raise UsageError(f"{len(found)} records in {folder} begin with {name!r}: say more of it")
    known = unknown("baseline", name, baselines(root), see="dlcheck baseline")
    raise UsageError(f"there is no record {name!r}, neither as a file nor in {folder}, and {known}")


def _nth(back: int, found: list[Path], root: Path) -> Path:
    if back < len(found):
        return found[back]
    if not found:
        raise UsageError(
            f"nothing is recorded in {_folder(root, 'runs')} yet; run: dlcheck run or dlcheck bench"
        )
    counted = "there is 1 run" if len(found) == 1 else f"there are {len(found)} runs"
    raise UsageError(f"{counted} in {_folder(root, 'runs')}, so there is no {LATEST}~{back}")


def load_run(name: str, root: Path) -> Run:
    """The run that is meant, read."""
    return read_run(find_run(name, root))


def baselines(root: Path) -> dict[str, str]:
    """The names that were given, each with the record that it stands for."""
    folder = _folder(root, "baselines")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path.read_text("utf-8", errors="replace").strip() for path in found
            if path.is_file() and _NAME.fullmatch(path.name)}  # fmt: skip


def set_baseline(name: str, run: Path, root: Path) -> None:
    """Let the name stand for a record from now on. Raises UsageError."""
    if not _NAME.fullmatch(name) or name == LATEST:
        raise UsageError(
            f"{name!r} cannot name a baseline: letters, digits, '.', '_' and '-', and not {LATEST}"
        )
    read_run(run)  # raises where it is no record
    folder = _folder(root, "baselines")
    folder.mkdir(parents=True, exist_ok=True)
    inside = run.resolve().parent == _folder(root, "runs").resolve()
    (folder / name).write_text(f"{run.name if inside else run.resolve()}\n", "utf-8")


def remove_baseline(name: str, root: Path) -> None:
    """Forget the name; the record stays. Raises UsageError."""
    if name not in baselines(root):
        raise UsageError(unknown("baseline", name, baselines(root), see="dlcheck baseline"))
    (_folder(root, "baselines") / name).unlink()


def _of_baseline(name: str, root: Path) -> Path:
    record = baselines(root)[name]
    path = _folder(root, "runs") / record  # an absolute record stays as it is
    if not path.is_file():
        raise UsageError(
            f"the baseline {name!r} stands for {record}, which is gone; "
            f"name another: dlcheck baseline {name} RUN"
        )
    return path


def _folder(root: Path, name: str) -> Path:
    return root / ".dlcheck" / name
