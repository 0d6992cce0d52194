"""Groups stay whole, and are stratified where whole groups can be."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcheck.checks.split.broken import (
    Call,
    Parts,
    as_folds,
    called,
    complement,
    each_fold,
    folds_changed,
    ignores,
    refolded,
    size_of,
)
from dlcheck.checks.split.calls import Fold, each_table, is_one_fold, split_or_leave
from dlcheck.checks.split.tables import (
    Table,
    folds_of,
    rows_of,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@folds_changed
def ignores_the_groups(folds: list[Parts], rows: int) -> list[Parts]:
    return ignores(folds, rows)


@each_fold
def cuts_through_the_last_group(parts: Parts, rows: int) -> Parts:
    """The cut falls at a number of rows, not at the end of a group."""
    return (np.append(parts[0], parts[-1][: len(parts[-1]) // 2]), *parts[1:-1],
            parts[-1][len(parts[-1]) // 2 :])  # fmt: skip


@each_fold
def moves_one_row_to_train(parts: Parts, rows: int) -> Parts:
    """Folds are made equal after the groups were dealt out."""
    return (np.append(parts[0], parts[-1][0]), *parts[1:-1], parts[-1][1:])


@called
def groups_rows_by_their_position(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """Groups were sorted and rows were not."""
    answer = as_folds(original(first, *more, **named))
    order = np.argsort(np.random.default_rng(3).random(size_of(first)))
    return [tuple(order[part] for part in parts) for parts in answer]


@check(
    kind="split",
    options={"grouped": [True]},
    rejects=[
        ignores_the_groups,
        cuts_through_the_last_group,
        moves_one_row_to_train,
        groups_rows_by_their_position,
    ],
    once=True,
)
def groups_stay_whole(subject: Implementation, case: Case) -> Evidence:
    """All rows of a group are in the same part of a fold.

    Pictures of one patient, or sentences of one speaker, are alike: a model that has seen some
    knows the others. Exact: the bound is 0.
    """
    torn, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        assert table.groups is not None
        for number, fold in enumerate(folds):
            split_groups = torn_groups(table, fold)
            torn, seen = torn + len(split_groups), seen + table.sizes["g"]
            if split_groups and not where:
                where = f"group {split_groups[0]} in several parts of fold {number} ({table})"
    return Evidence(
        error=float(torn),
        bound=0.0,
        signal=float(seen),
        unit="groups",
        what="groups with rows in two parts of a fold",
        where=where,
    )


def torn_groups(table: Table, fold: Fold) -> list[int]:
    """The groups that are in more than one part of a fold."""
    assert table.groups is not None
    held = np.concatenate([np.unique(table.groups[part]) for part in fold.parts])
    names, times = np.unique(held, return_counts=True)
    return [int(name) for name in names[times > 1]]


@folds_changed
def sorts_the_groups(folds: list[Parts], rows: int) -> list[Parts]:
    """Groups are dealt out in blocks, and those of a class stand together."""
    return refolded(np.array_split(np.arange(rows), len(folds)), rows)


@folds_changed
def puts_a_group_too_many_into_the_first_fold(folds: list[Parts], rows: int) -> list[Parts]:
    tests = [np.sort(fold[-1]) for fold in folds]
    moved = [test[:_SIZE] for test in tests[1:3]]
    tests = [np.concatenate([tests[0], *moved]), *(t[_SIZE:] for t in tests[1:3]), *tests[3:]]
    return refolded(tests, rows)


@folds_changed
def exchanges_groups_of_two_classes(folds: list[Parts], rows: int) -> list[Parts]:
    """Groups are balanced in number, whatever their class."""
    tests = [np.sort(fold[-1]) for fold in folds]
    a, b = tests[0], tests[1]
    cut = 2 * _SIZE
    tests[0] = np.concatenate([a[:-cut], b[:cut]])
    tests[1] = np.concatenate([b[cut:], a[-cut:]])
    return refolded(tests, rows)


@folds_changed
def stratifies_the_first_fold_only(folds: list[Parts], rows: int) -> list[Parts]:
    rest = complement(folds[0][-1], rows)
    return refolded([folds[0][-1], *np.array_split(rest, len(folds) - 1)], rows)


_SIZE = 4  # rows of every group of the easy table


@check(
    kind="split",
    options={"grouped": [True], "stratified": [True], "folds": True},
    forbids={"overlapping"},
    rejects=[
        sorts_the_groups,
        puts_a_group_too_many_into_the_first_fold,
        exchanges_groups_of_two_classes,
        stratifies_the_first_fold_only,
    ],
    once=True,
)
def whole_groups_are_stratified_where_they_can_be(subject: Implementation, case: Case) -> Evidence:
    """Of 4k groups of one class and 2k of another, all of four rows, each fold tests 4 and 2.

    With whole groups no count of rows is attained in general, and the best is hard to find; here
    it is plain. A greedy splitter may end a group away: the claim is within one group of each
    class. Sorted by class and mixed.
    """
    k = folds_of(subject)
    if not k or is_one_fold(subject):
        raise NotApplicable("a number of folds is needed")
    off, seen, where = 0.0, 0, ""
    for mixed in (False, True):
        table = _of_pure_groups(case, k, np.random.default_rng(case.recipe.seed) if mixed else None)
        assert table.labels is not None
        for number, fold in enumerate(split_or_leave(subject, table)):
            got = np.bincount(table.labels[fold.test], minlength=2) / _SIZE
            excess = float(np.maximum(np.abs(got - [4, 2]) - 1, 0).sum())
            off, seen = off + excess, seen + 6
            if excess and not where:
                where = f"{got.tolist()} groups of the two classes in fold {number}"
    return Evidence(
        error=off,
        bound=0.0,
        signal=float(seen),
        unit="groups",
        what="groups of a class too many or too few",
        expected="4 and 2, within one",
        where=where,
    )


def _of_pure_groups(case: Case, k: int, rng: np.random.Generator | None) -> Table:
    groups = np.repeat(np.arange(6 * k), _SIZE)
    labels = (groups >= 4 * k).astype(np.int64)
    table = Table(rows_of(case, len(groups)), labels, groups)
    return table if rng is None else table.taken(rng.permutation(len(groups)))
