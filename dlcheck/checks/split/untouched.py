"""A splitter leaves what it is given, and the random streams of the program, as they were."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from dlcheck.checks.split.broken import (
    Call,
    as_folds,
    called,
)
from dlcheck.checks.split.calls import arguments, each_table, split_or_leave
from dlcheck.checks.split.tables import Table
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded


@called
def sorts_the_labels_in_place(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    folds = as_folds(original(first, *more, **named))
    for x in (first, *more, *named.values()):
        if isinstance(x, np.ndarray):
            x[...] = np.sort(x, axis=0)[::-1]
    return folds


@called
def shuffles_the_labels_in_place(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    folds = as_folds(original(first, *more, **named))
    for x in (first, *more, *named.values()):
        if isinstance(x, np.ndarray):
            np.random.default_rng(0).shuffle(x)
    return folds


@called
def counts_labels_from_zero_in_place(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """`labels -= labels.min() - 1`."""
    folds = as_folds(original(first, *more, **named))
    for x in (first, *more, *named.values()):
        if isinstance(x, np.ndarray):
            x -= x.min() - 1
    return folds


@called
def marks_the_rows_it_has_used(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    folds = as_folds(original(first, *more, **named))
    for x in (first, *more, *named.values()):
        if isinstance(x, np.ndarray):
            x[folds[0][-1]] = -1
    return folds


@check(
    kind="split",
    rejects=[
        sorts_the_labels_in_place,
        shuffles_the_labels_in_place,
        counts_labels_from_zero_in_place,
        marks_the_rows_it_has_used,
    ],
    once=True,
)
def splitting_leaves_rows_and_labels(subject: Implementation, case: Case) -> Evidence:
    """Rows, labels and groups that are handed over stay as they were.

    Exact: the bound is 0. A splitter that is given no more than a number has nothing to change.
    """
    changed, seen = 0, 0
    for table, _ in each_table(subject, case, 3):
        (given, named) = arguments(subject, table)
        columns = [x for x in (*given, *named.values()) if x is not None and not isinstance(x, int)]
        before = [str(_plain(x)) for x in columns]
        guarded(lambda given=given, named=named: list(subject(*given, **named)))
        changed += sum(str(_plain(x)) != b for x, b in zip(columns, before, strict=True))
        seen += len(columns)
    if not seen:
        raise NotApplicable("it is given a number of rows, and nothing that it could change")
    return Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(seen),
        unit="inputs",
        what="inputs that the splitter changed",
    )


@called
def seeds_the_global_stream(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """`np.random.seed(0)` makes every other part of the program repeat itself."""
    np.random.seed(0)
    return original(first, *more, **named)


@called
def seeds_torch(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    torch.manual_seed(0)
    return original(first, *more, **named)


@called
def seeds_python(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    random.seed(0)
    return original(first, *more, **named)


@called
def seeds_all_three_streams(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """`seed_everything(seed)` in every split."""
    seed_everything(3)
    return original(first, *more, **named)


@check(
    kind="split",
    rejects=[
        seeds_the_global_stream,
        seeds_torch,
        seeds_python,
        seeds_all_three_streams,
    ],
    once=True,
)
def splitting_seeds_no_global_stream(subject: Implementation, case: Case) -> Evidence:
    """No split puts `random`, NumPy's or torch's global stream into a state of its own.

    From two states of the three, none may be in one and the same state after the same split: that
    would be a seed, and every later draw of the program would repeat. Drawing from them is
    allowed. Exact: the bound is 0.
    """
    table, _ = next(each_table(subject, case))
    first, second = (_streams_after(subject, table, state) for state in (11, 12))
    seeded = [name for name in first if first[name] == second[name]]
    return Evidence(
        error=float(len(seeded)),
        bound=0.0,
        signal=float(len(first)),
        unit="streams",
        what="global random streams that the splitter seeds",
        where=", ".join(seeded),
        cause="every other draw of the program repeats after each split" if seeded else "",
    )


def _plain(x: Any) -> Any:
    return x.tolist() if isinstance(x, (np.ndarray, torch.Tensor)) else x


def _streams_after(subject: Implementation, table: Table, state: int) -> dict[str, str]:
    seed_everything(state)
    split_or_leave(subject, table)
    return {
        "random": str(random.getstate()),
        "numpy.random": str(np.random.get_state(legacy=False)),
        "torch": str(torch.get_rng_state().tolist()),
    }
