"""Rows in order of time: train comes first, and a gap lies between."""

from __future__ import annotations

import numpy as np

from dlcheck.checks.split.broken import Parts, each_fold, folds_changed, trains_on_all_rows
from dlcheck.checks.split.calls import Fold, each_table
from dlcheck.checks.split.tables import gap_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@each_fold
def trains_on_all_other_rows(parts: Parts, rows: int) -> Parts:
    """Plain folds: the future is in train."""
    return (np.setdiff1d(np.arange(rows), parts[-1]), *parts[1:])


@folds_changed
def shuffles_the_rows(folds: list[Parts], rows: int) -> list[Parts]:
    order = np.random.default_rng(0).permutation(rows)
    return [tuple(order[part] for part in parts) for parts in folds]


@each_fold
def trains_on_what_follows(parts: Parts, rows: int) -> Parts:
    """Time runs backwards."""
    return tuple(rows - 1 - part for part in parts)


@check(
    kind="split",
    needs={"ordered"},
    rejects=[
        trains_on_all_rows,
        trains_on_all_other_rows,
        shuffles_the_rows,
        trains_on_what_follows,
    ],
    once=True,
)
def train_comes_before_test(subject: Implementation, case: Case) -> Evidence:
    """Every row of train is before every row of validation, and these before those of test.

    Rows are in order of time; a forecast that has seen the future is none. Exact: the bound is 0.
    Source: Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., 5.10.
    """
    late, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        for number, fold in enumerate(folds):
            off = sum(
                int((first >= second.min()).sum())
                for first, second in zip(fold.parts, fold.parts[1:], strict=False)
                if len(second)
            )
            late, seen = late + off, seen + sum(map(len, fold.parts))
            if off and not where:
                where = f"{off} rows of train are not before test in fold {number} ({table})"
    return Evidence(
        error=float(late),
        bound=0.0,
        signal=float(max(seen, 1)),
        unit="rows",
        what="rows that are not before those they forecast",
        where=where,
    )


@each_fold
def leaves_one_row_too_few(parts: Parts, rows: int) -> Parts:
    """`range(start - gap + 1)`."""
    near = np.concatenate([parts[1] - 1, parts[1] + 1])
    lowest = parts[1].min()
    added = np.asarray([lowest - 1 - _gap_before(parts)])
    beside = near[np.isin(near, np.arange(rows)) & ~np.isin(near, np.concatenate(parts))]
    wrong = added if _gap_before(parts) > 0 else beside[:1]
    return (np.append(parts[0], wrong + (1 if _gap_before(parts) > 0 else 0)), *parts[1:])


def _gap_before(parts: Parts) -> int:
    """Rows between the last row of train before the next part, and that part."""
    lowest = parts[1].min()
    before = parts[0][parts[0] < lowest]
    return int(lowest - before.max() - 1) if len(before) else 0


@each_fold
def forgets_the_gap(parts: Parts, rows: int) -> Parts:
    lowest, highest = parts[-1].min(), parts[-1].max()
    known = np.arange(rows)
    keep = known < lowest if parts[0].max() < lowest else (known < lowest) | (known > highest)
    return (known[keep], *parts[1:])


@each_fold
def leaves_one_row_too_many(parts: Parts, rows: int) -> Parts:
    before = parts[0][parts[0] < parts[1].min()]
    last = before.max() if len(before) else parts[0].min()
    return (parts[0][parts[0] != last], *parts[1:])


@each_fold
def puts_the_gap_into_test(parts: Parts, rows: int) -> Parts:
    """Train is cut, and what was cut is tested."""
    between = np.arange(parts[1].min() - _gap_before(parts), parts[1].min())
    if not len(between):
        between = np.setdiff1d(np.arange(rows), np.concatenate(parts))
    return (*parts[:-1], np.concatenate([between, parts[-1]]))


@check(
    kind="split",
    options={"gap": True},
    rejects=[
        leaves_one_row_too_few,
        forgets_the_gap,
        leaves_one_row_too_many,
        puts_the_gap_into_test,
    ],
    once=True,
)
def gap_is_left_out(subject: Implementation, case: Case) -> Evidence:
    """Exactly the declared number of rows lies between train and test.

    Neighbours in time share a window or a label that is not known yet. Where train comes before
    test (`ordered`), the first row after train is gap + 1 rows after its last; where train is on
    both sides, no row of train is within `gap` of a test row, and all others are in train.
    Exact: the bound is 0. Source: López de Prado, Advances in Financial Machine Learning,
    7.4 (purging and embargo).
    """
    off, seen, where = 0, 0, ""
    before, after = gap_of(subject)
    if not before + after:
        raise NotApplicable("the gap is 0")
    for table, folds in each_table(subject, case):
        for number, fold in enumerate(folds):
            if not all(len(part) for part in fold.parts):
                continue
            wrong, words = _misfit(subject, fold, len(table))
            off, seen = off + wrong, seen + max(before + after, 1)
            if wrong and not where:
                where = f"{words} in fold {number} ({table})"
    return Evidence(
        error=float(off),
        bound=0.0,
        signal=float(max(seen, 1)),
        unit="rows",
        what="rows by which the gap is wrong",
        expected=f"{before} rows left out" + (f" before, {after} after" if after else ""),
        where=where,
    )


def _misfit(subject: Implementation, fold: Fold, rows: int) -> tuple[int, str]:
    before, after = gap_of(subject)
    if "ordered" in subject.traits:
        found = int(fold.parts[1].min() - fold.train.max() - 1)
        return abs(found - before), f"{found} rows"
    distance = fold.test[None] - fold.train[:, None]  # above 0 where train comes first
    near = ((distance > 0) & (distance <= before)) | ((distance < 0) & (-distance <= after))
    inside = int(near.any(1).sum())
    if "partial" in subject.traits:
        return inside, f"{inside} rows of train within the gap"
    around = fold.test[:, None] + np.arange(-before, after + 1)[None]
    known = np.concatenate([*fold.parts, around.ravel()])
    missing = len(np.setdiff1d(np.arange(rows), known))
    return inside + missing, f"{inside} rows of train within the gap, {missing} missing outside"


@folds_changed
def repeats_the_last_fold(folds: list[Parts], rows: int) -> list[Parts]:
    return [*folds[:-1], folds[0]]


@each_fold
def tests_all_that_follows(parts: Parts, rows: int) -> Parts:
    """`x[start:]` without an end."""
    return (*parts[:-1], np.arange(parts[-1].min(), rows))


@each_fold
def tests_one_row_of_the_next_fold(parts: Parts, rows: int) -> Parts:
    return (*parts[:-1], np.append(parts[-1], min(parts[-1].max() + 1, rows - 1)))


@folds_changed
def always_tests_the_end(folds: list[Parts], rows: int) -> list[Parts]:
    return [(*fold[:-1], folds[-1][-1]) for fold in folds]


@check(
    kind="split",
    needs={"ordered"},
    options={"folds": True},
    forbids={"overlapping"},
    rejects=[
        repeats_the_last_fold,
        tests_all_that_follows,
        tests_one_row_of_the_next_fold,
        always_tests_the_end,
    ],
    once=True,
)
def no_row_is_tested_twice(subject: Implementation, case: Case) -> Evidence:
    """In order of time each row is in at most one test part of the folds.

    The first rows have no past and are in none. Windows that overlap declare `overlapping`. Exact.
    """
    wrong, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        if not folds:
            continue
        times = np.bincount(np.concatenate([np.unique(fold.test) for fold in folds]))
        wrong, seen = wrong + int(np.maximum(times - 1, 0).sum()), seen + len(table)
        if times.max() > 1 and not where:
            where = f"row {times.argmax()} in {times.max()} test parts ({table})"
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(max(seen, 1)),
        unit="rows",
        what="tests too many",
        where=where,
    )
