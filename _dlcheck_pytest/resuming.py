"""`--resume`: what an earlier run recorded stands, unless its files were edited since."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from _dlcheck_pytest.state import STALE, State, state_of

if TYPE_CHECKING:
    from dlcheck.benchmark import Benchmark
    from dlcheck.model import BenchmarkTrial, Outcome, Trial
    from dlcheck.results import Run


def recorded_outcome(trial: Trial, node: pytest.Item) -> Outcome | None:
    """What the trial came to in the run that goes on here."""
    state = state_of(node.config)
    if state.earlier is None:
        return None
    if not state.known:
        state.known.update({outcome.id: outcome for outcome in state.earlier.outcomes})
    found = state.known.get(trial.id)
    return None if found is None or _is_stale(trial, node, state.earlier) else found


def recorded_benchmark(trial: BenchmarkTrial, node: pytest.Item) -> Benchmark | None:
    """What was measured in the run that goes on here."""
    earlier = state_of(node.config).earlier
    if earlier is None:
        return None
    wanted = f"{trial.suite}::{trial.plan.name}[{trial.point}]"
    found = next((each for each in earlier.benchmarks if each.id == wanted), None)
    return None if found is None or _is_stale(trial, node, earlier) else found


def _is_stale(trial: Trial | BenchmarkTrial, node: pytest.Item, earlier: Run) -> bool:
    """Was the target or the suite edited since? An import of theirs is not looked at."""
    try:
        began = int(datetime.fromisoformat(str(earlier.meta["time"])).timestamp())
    except (KeyError, ValueError):
        return False
    node.stash[STALE] = any(_changed(path) > began for path in _files_of(trial, node))
    return node.stash[STALE]


def _files_of(trial: Trial | BenchmarkTrial, node: pytest.Item) -> set[Path]:
    from dlcheck.errors import TargetError
    from dlcheck.targets import source_of, split_target

    found = {node.path}
    for target in (trial.subject.target, trial.subject.reference):
        if isinstance(target, str) and ":" in target:
            try:
                source = source_of(split_target(target)[0], target, trial.subject.file)
            except TargetError:  # a formula, or told where it is loaded
                continue
            found |= {source} if source is not None else set()
    return found


def _changed(path: Path) -> int:
    """Whole seconds, as records have; 0 for what is no file."""
    try:
        return int(path.stat().st_mtime) if path.is_file() else 0
    except OSError:
        return 0


def note_stale(state: State) -> None:
    """Say that not all that is recorded was taken over."""
    if state.stale:
        what = "trial that was" if state.stale == 1 else "trials that were"
        state.notes.append(f"{state.stale:,} {what} recorded ran again: edited since")
