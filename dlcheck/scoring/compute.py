"""A metric by its name, of folders or files."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from dlcheck.errors import TargetError, UsageError, unknown
from dlcheck.scoring.pairs import of_pairs
from dlcheck.scoring.request import Request, Tell
from dlcheck.scoring.score import Score
from dlcheck.scoring.sets import of_sets
from dlcheck.scoring.table import TABLE, TAKEN, Entry
from dlcheck.targets import load_target


def compute(request: Request, tell: Tell = lambda done, total, what: None) -> Score:
    """The score of a request. Raises UsageError for anything that is wrong with it."""
    started = time.perf_counter()
    if request.metric not in TABLE:
        raise UsageError(unknown("metric", request.metric, TABLE, see="dlcheck metric --list"))
    entry = TABLE[request.metric]
    wanted = 1 if entry.takes == "classes" else 2
    if len(request.inputs) != wanted:
        raise UsageError(
            f"{request.metric} takes {TAKEN[entry.takes]}, and {len(request.inputs)} were given"
        )
    reference = _reference(request.metric, entry)
    if entry.takes == "pairs":
        score = of_pairs(request, entry, reference, tell)
    else:
        score = of_sets(request, entry, reference, tell)
    return replace(score, seconds=time.perf_counter() - started)


def _reference(name: str, entry: Entry) -> Any:
    try:
        return load_target(entry.target)
    except TargetError:
        raise UsageError(f"{name} is not in this installation of dlcheck") from None
