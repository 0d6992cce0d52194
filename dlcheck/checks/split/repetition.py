"""A split repeats with its seed and changes with it; permuted rows are split alike."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from dlcheck.checks.split.broken import (
    Call,
    Parts,
    as_folds,
    called,
    each_fold,
    folds_changed,
    refolded,
)
from dlcheck.checks.split.calls import Fold, each_table, split_or_leave
from dlcheck.checks.split.tables import Indices, Table, tables
from dlcheck.errors import UsageError
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SEEDS = (0, 1, 2, 41)  # of which two in a hundred splits would be equal by chance at most


@called
def ignores_the_seed(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """`np.random.shuffle` in the place of the generator that was given."""
    return _mixed(as_folds(original(first, *more, **named)), np.random.permutation)


@called
def draws_from_pythons_stream(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    def permutation(n: int) -> Indices:
        return np.asarray(random.sample(range(n), n))

    return _mixed(as_folds(original(first, *more, **named)), permutation)


@called
def draws_from_torchs_stream(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """`torch.randperm(n)` without its generator."""
    folds = as_folds(original(first, *more, **named))
    return _mixed(folds, lambda n: torch.randperm(n).numpy())


def _mixed(folds: list[Parts], permutation: Any) -> list[Parts]:
    order = permutation(1 + max(int(part.max()) for part in folds[0]))
    return [tuple(order[part % len(order)] for part in parts) for parts in folds]


@folds_changed
def has_a_seed_of_its_own(folds: list[Parts], rows: int) -> list[Parts]:
    """`RandomState(42)`, whatever is asked for."""
    order = np.random.RandomState(42).permutation(rows)
    cuts = np.cumsum([len(part) for part in folds[0]])[:-1]
    if len(folds) == 1:
        return [tuple(np.split(order, cuts))]
    return refolded(np.array_split(order, len(folds)), rows)


@check(
    kind="split",
    options={"seed": True},
    rejects=[
        ignores_the_seed,
        draws_from_pythons_stream,
        draws_from_torchs_stream,
        has_a_seed_of_its_own,
    ],
    once=True,
)
def seed_decides_the_split(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The same seed gives the same split, whatever the global streams hold; other seeds others.

    Two splitters with the same seed, made between different states of `random`, NumPy and torch;
    four seeds, of which no two splits of the largest of three tables may all be equal. Exact.
    """
    name = _seed_of(subject)
    changed, seen, other, where = 0, 0, 0, ""
    largest = max(tables(subject, case, 3), key=len)
    for table in (*tables(subject, case, 2), largest):
        splits = [_split_with(subject, table, {name: seed}, seed) for seed in _SEEDS]
        again = [_split_with(subject, table, {name: seed}, seed + 77) for seed in _SEEDS]
        off = sum(a != b for a, b in zip(splits, again, strict=True))
        changed, seen = changed + off, seen + len(_SEEDS)
        where = where or (str(table) if off else "")
        other = max(other, len(set(map(str, splits))))
    yield Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(seen),
        unit="splits",
        what="splits that differ though the seed is the same",
        where=where,
        cause="it draws from a global stream" if changed else "",
    )
    yield Evidence(
        error=float(other == 1),
        bound=0.0,
        signal=1.0,
        unit="splits",
        what="all seeds give one split",
        expected=f"{len(_SEEDS)} seeds, several splits",
        got=f"{other} different",
    )


def _seed_of(subject: Implementation) -> str:
    name = subject.options["seed"]
    if not isinstance(name, str):
        raise UsageError(f"seed is the name of an argument, not {name!r}")
    return name


def _split_with(
    subject: Implementation, table: Table, given: Mapping[str, Any], state: int
) -> list[list[list[int]]]:
    """The folds of a splitter made anew with these arguments, in this global random state."""
    made = subject.rebuilt(**given)
    seed_everything(state)
    return listed(split_or_leave(made, table))


def listed(folds: list[Fold]) -> list[list[list[int]]]:
    return [[part.tolist() for part in fold.parts] for fold in folds]


@each_fold
def cuts_by_position(parts: Parts, rows: int) -> Parts:
    """Blocks of rows, whatever the groups."""
    cuts = np.cumsum([len(part) for part in parts])[:-1]
    return tuple(np.split(np.arange(sum(map(len, parts))), cuts))


@folds_changed
def moves_the_first_row(folds: list[Parts], rows: int) -> list[Parts]:
    return refolded([np.union1d(f[-1], [0]) if i == 0 else np.setdiff1d(f[-1], [0])
                     for i, f in enumerate(folds)], rows)  # fmt: skip


@folds_changed
def tests_the_last_row_first(folds: list[Parts], rows: int) -> list[Parts]:
    last = [rows - 1]
    return refolded([np.union1d(f[-1], last) if i == 0 else np.setdiff1d(f[-1], last)
                     for i, f in enumerate(folds)], rows)  # fmt: skip


@folds_changed
def deals_rows_out_in_turn(folds: list[Parts], rows: int) -> list[Parts]:
    k = max(len(folds), 2)
    return refolded([np.arange(i, rows, k) for i in range(k)], rows)


@check(
    kind="split",
    needs={"permutation_equivariant"},
    rejects=[
        cuts_by_position,
        moves_the_first_row,
        tests_the_last_row_first,
        deals_rows_out_in_turn,
    ],
    once=True,
)
def permuting_the_rows_permutes_the_split(subject: Implementation, case: Case) -> Evidence:
    """Rows in another order, with labels and groups, go to the same parts.

    Compared as sets of sets: folds and rows of a part may come in another order. Exact.
    """
    rng = np.random.default_rng(case.recipe.seed)
    changed, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        order = rng.permutation(len(table))
        moved = split_or_leave(subject, table.taken(order))
        there = {tuple(frozenset(order[part].tolist()) for part in f.parts) for f in moved}
        here = {tuple(frozenset(part.tolist()) for part in fold.parts) for fold in folds}
        changed, seen = changed + len(here - there), seen + len(here)
        if here - there and not where:
            where = str(table)
    return Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(seen),
        unit="folds",
        what="folds that differ after the rows were permuted",
        where=where,
    )
