"""Where the rows go: no leak between parts, none lost, each tested once, folds of equal size."""

from __future__ import annotations

import numpy as np

from dlcheck.checks.split.broken import (
    Parts,
    complement,
    drops_the_last_fold,
    each_fold,
    leaves_the_remainder_untested,
    loses_a_row,
    repeats_the_first_fold,
    slices_include_their_end,
    tests_on_a_row_of_train,
    tests_rows_twice,
    trains_on_all_rows,
)
from dlcheck.checks.split.calls import Fold, each_table, is_one_fold
from dlcheck.checks.split.tables import Indices, folds_of, gap_of, repeats_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@each_fold
def validates_on_rows_of_train(parts: Parts, rows: int) -> Parts:
    """The first part after train was cut from what was already in train."""
    return (parts[0], np.append(parts[1], parts[0][:1]), *parts[2:])


@check(
    kind="split",
    rejects=[
        trains_on_all_rows,
        slices_include_their_end,
        tests_on_a_row_of_train,
        validates_on_rows_of_train,
    ],
    once=True,
    textbook={
        "id": "R10",
        "says": "Model selection by cross-validation",
        "verdict": "true if",
        "condition": "folds are disjoint and covering, and everything that is fitted, features and "
        "scales too, is fitted inside the fold",
    },
)
def parts_are_disjoint(subject: Implementation, case: Case) -> Evidence:
    """No row is in two parts of a fold: what is tested was neither trained nor tuned on.

    Train and test, and validation where there is one; of a bootstrap too, whose test is what was
    not drawn. Exact: the bound is 0.
    Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.10.1.
    """
    shared, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        for number, fold in enumerate(folds):
            parts = [np.unique(part) for part in fold.parts]
            rows = np.concatenate(parts)
            twice = len(rows) - len(np.unique(rows))
            shared, seen = shared + twice, seen + len(rows)
            if twice and not where:
                where = f"{twice} of {len(rows)} rows in fold {number} ({table})"
    return Evidence(
        error=float(shared),
        bound=0.0,
        signal=float(max(seen, 1)),
        unit="rows",
        what="rows that are in two parts of a fold",
        where=where,
        cause="a model that is scored on rows it was fitted to looks better than it is"
        if shared
        else "",
    )


@each_fold
def loses_the_last_rows(parts: Parts, rows: int) -> Parts:
    """`drop_last` where it has no place."""
    keep = rows - max(1, rows % 5)
    return tuple(part[part < keep] for part in parts)


@each_fold
def trains_on_half(parts: Parts, rows: int) -> Parts:
    """Every second row of train was meant for another fold."""
    return (parts[0][::2], *parts[1:])


@each_fold
def starts_at_the_second_row(parts: Parts, rows: int) -> Parts:
    return tuple(part[part > 0] for part in parts)


@check(
    kind="split",
    forbids={"ordered", "partial"},
    rejects=[loses_a_row, loses_the_last_rows, trains_on_half, starts_at_the_second_row],
    once=True,
)
def no_row_is_lost(subject: Implementation, case: Case) -> Evidence:
    """Every row is in some part of every fold, but for the rows of a declared gap.

    Exact: the bound is 0. A splitter that leaves rows out on purpose declares `partial`.
    """
    lost, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        for number, fold in enumerate(folds):
            left = len(complement(np.concatenate([*fold.parts, near(fold, subject)]), len(table)))
            lost, seen = lost + left, seen + len(table)
            if left and not where:
                where = f"{left} in no part of fold {number} ({table})"
    return Evidence(
        error=float(lost),
        bound=0.0,
        signal=float(seen),
        unit="rows",
        what="rows that are in no part of a fold",
        where=where,
    )


def near(fold: Fold, subject: Implementation) -> Indices:
    """The rows within the declared gap of a test row."""
    before, after = gap_of(subject)
    return np.unique(fold.test[:, None] + np.arange(-before, after + 1)[None])


@check(
    kind="split",
    options={"folds": True},
    forbids={"overlapping", "with_replacement", "ordered"},
    rejects=[
        drops_the_last_fold,
        repeats_the_first_fold,
        tests_rows_twice,
        leaves_the_remainder_untested,
    ],
    once=True,
    textbook={
        "id": "R10",
        "says": "Model selection by cross-validation",
        "verdict": "true if",
        "condition": "folds are disjoint and covering, and everything that is fitted, features and "
        "scales too, is fitted inside the fold",
    },
)
def each_row_is_tested_once(subject: Implementation, case: Case) -> Evidence:
    """Over the folds of one repeat each row is in exactly one test part.

    A holdout (folds = 1) has no such claim, nor have folds that are drawn anew (`overlapping`);
    where train comes before test the first rows have no past. Exact: the bound is 0.
    Source: Stone, Cross-Validatory Choice and Assessment of Statistical Predictions, JRSS B 36,
    1974, section 2.
    """
    if is_one_fold(subject):
        raise NotApplicable("a holdout tests some rows only")
    wrong, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        size = folds_of(subject) or len(folds) // repeats_of(subject) or 1
        for start in range(0, len(folds), size):
            tests = [np.unique(fold.test) for fold in folds[start : start + size]]
            times = np.bincount(np.concatenate(tests), minlength=len(table))
            off = np.abs(times - 1)
            wrong, seen = wrong + int(off.sum()), seen + len(table)
            if off.any() and not where:
                where = f"row {off.argmax()} in {times[off.argmax()]} test parts ({table})"
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(seen),
        unit="rows",
        what="tests too many or too few",
        expected="each row in one test part",
        where=where,
    )
