"""A command of dlcheck in fresh processes, by turns in one or two folders: a record for each.

What a process has from its memory layout and its hour is in every one of its samples; only other
processes show how much that is. By turns, so that both sides see the same machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dlcheck.environment import git
from dlcheck.errors import UsageError
from dlcheck.results import RECORD, Run, RunWriter, new_run_path, read_run

MOST = 1000
_SHOWN = 12  # lines of what a process said that recorded nothing

Progress = Callable[[int, int], None]


def in_processes(
    arguments: Sequence[str],
    folders: Sequence[Path],
    processes: int,
    *,
    command: str = "",
    place: Path | None = None,
    progress: Progress | None = None,
) -> list[Run]:
    """Run `dlcheck ARGUMENTS` so often in each folder, by turns; a run for each, in their order.

    place: the file of the record, in place of those below the working folder. Raises UsageError
    where a process records nothing, with what it said.
    """
    found: dict[Path, list[Run]] = {folder: [] for folder in folders}
    token = uuid.uuid4().hex[:12] if len(found) > 1 else ""
    turns = [folder for _ in range(processes) for folder in found]
    with tempfile.TemporaryDirectory(prefix="dlcheck-") as scratch:
        for done, folder in enumerate(turns):
            if progress is not None:
                progress(done, len(turns))
            record = Path(scratch) / f"{done}.jsonl"
            found[folder].append(_one(arguments, folder, record, apart=bool(token)))
    extra = {"command": command, "in turn": token}
    extra = {name: value for name, value in extra.items() if value}
    return [_written(runs, place or new_run_path(Path.cwd()), extra) for runs in found.values()]


def _one(arguments: Sequence[str], folder: Path, record: Path, *, apart: bool) -> Run:
    """The run of one process. apart: the folder's own packages come before those installed."""
    environment = {**os.environ, RECORD: str(record)}
    environment.pop("GITHUB_STEP_SUMMARY", None)
    if apart:
        places = [str(folder), str(folder / "src"), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(place for place in places if place)
    done = subprocess.run(
        [sys.executable, "-m", "dlcheck", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if not record.exists():
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_SHOWN:])
        raise UsageError(
            f"a process in {folder} recorded nothing (exit code {done.returncode}); was there a "
            f"benchmark, and is its dlcheck of today? It said:\n{said}"
        )
    return read_run(record)


def _written(runs: Sequence[Run], place: Path, extra: Mapping[str, str]) -> Run:
    """One record of all: what the first says of the environment, the benchmarks of each."""
    meta = {**runs[0].meta, **extra, "processes": len(runs)}
    with RunWriter(place, meta) as writer:
        for outcome in runs[0].outcomes:
            writer.append(outcome)
        for run in runs:
            for benchmark in run.benchmarks:
                writer.append(benchmark)
    return read_run(writer.path)


@contextmanager
def tree(since: str) -> Iterator[Path]:
    """A folder as it is, or a commit of this repository checked out for the while.

    Raises UsageError for this folder itself, for what is both or neither, and for a commit without
    the working folder.
    """
    root = Path.cwd()
    top, commit = git("rev-parse", "--show-toplevel"), git("rev-parse", f"{since}^{{commit}}")
    if Path(since).is_dir():
        yield _other_folder(since, root, is_commit=bool(commit))
        return
    if not top or not commit:
        where = f"commit of {top}" if top else "commit: there is no git repository here"
        raise UsageError(
            f"--since takes a folder or a commit; {since!r} is no folder and no {where}"
        )
    scratch = Path(tempfile.mkdtemp(prefix="dlcheck-"))
    made = scratch / commit[:12]
    try:
        checkout = ["git", "-C", top, "worktree", "add", "--detach", str(made), commit]
        done = subprocess.run(checkout, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UsageError(f"git cannot check out {since}: {done.stderr.strip()}")
        yield _same_folder(made, root.relative_to(Path(top)), since)
    finally:
        git("worktree", "remove", "--force", str(made))
        shutil.rmtree(scratch, ignore_errors=True)


def _other_folder(since: str, root: Path, *, is_commit: bool) -> Path:
    folder = Path(since).resolve()
    if folder == root.resolve():
        raise UsageError(f"--since {since} is this folder itself: give a commit, or a copy")
    if is_commit:
        raise UsageError(
            f"--since {since} is a folder and a commit too: say ./{since} for the folder, or "
            f"{since}^0 for the commit"
        )
    return folder


def _same_folder(made: Path, inside: Path, since: str) -> Path:
    if not (made / inside).is_dir():
        raise UsageError(f"{since} has no folder {inside}: start in one that it has")
    return made / inside


def refuse_wrong_number(processes: int) -> None:
    if not 1 <= processes <= MOST:
        raise UsageError(f"--processes takes a number from 1 to {MOST}, not {processes}")
