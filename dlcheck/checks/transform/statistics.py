"""Statistics are fitted on train: nothing of the test rows comes back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dlcheck.checks.transform.broken import (
    centres_both_on_the_mean_of_both,
    fits_on_all_rows,
    fits_on_test,
    fits_test_by_itself,
    scales_train_by_the_largest_test_row,
    smooths_along_the_rows,
    sorts_the_test_rows,
    subtracts_the_mean_of_test,
)
from dlcheck.checks.transform.calls import answer, pairs, sameness, size_of, unequal
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_COUPLED = (
    "test rows are fitted on; if they are meant to hang together (an iteration that stops for all "
    "rows at once), declare the trait batch_coupled"
)


@check(
    kind="transform",
    needs={"fits_on_train"},
    forbids={"stochastic"},
    rejects=[
        fits_on_all_rows,
        fits_on_test,
        scales_train_by_the_largest_test_row,
        centres_both_on_the_mean_of_both,
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
def train_ignores_the_test_rows(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What becomes of train depends on train alone.

    Test is replaced by other rows a thousand times as large, by its first row, and by train. The
    same sums are taken, so that all but their grouping must agree: the bound is 1e-10 of the
    largest value, a leak of a share ε shows as 10³ ε.
    Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.10.2.
    """
    for pair in pairs(subject, case):
        expected, _ = answer(subject, pair.train, pair.test)
        off = max(
            unequal(answer(subject, pair.train, test)[0], expected)
            for test in (pair.others, pair.test[:1], pair.train)
        )
        yield sameness(
            "change of train when test changes",
            off,
            size_of(expected),
            where=f"{len(pair.train)} rows of train, {len(pair.test)} of test",
            cause="statistics are taken over the test rows too",
        )


@check(
    kind="transform",
    needs={"fits_on_train"},
    forbids={"stochastic", "batch_coupled"},
    rejects=[
        fits_test_by_itself,
        smooths_along_the_rows,
        subtracts_the_mean_of_test,
        sorts_the_test_rows,
    ],
    once=True,
)
def test_rows_are_transformed_alone(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Each row of test depends on train and on itself.

    All other rows are replaced by rows a thousand times as large, dropped, and put into reverse
    order; the row must come out the same. The bound is 1e-10 of the largest value: the grouping
    of the same sums.
    """
    for pair in pairs(subject, case):
        _, expected = answer(subject, pair.train, pair.test)
        if len(expected) != len(pair.test):
            yield sameness("rows of test lost or made", float("inf"), 1.0)
            continue
        kept = np.arange(len(pair.test)) % 3 == 1
        kept[-1] |= len(pair.test) < 2
        others = pair.test.copy()
        others[~kept] = pair.others[: len(pair.test)][~kept]
        changed = answer(subject, pair.train, others)[1]
        dropped = answer(subject, pair.train, pair.test[kept])[1]
        reverse = answer(subject, pair.train, pair.test[::-1])[1]
        off = {
            "when the other rows change": unequal(changed[kept], expected[kept]),
            "when the other rows are dropped": unequal(dropped, expected[kept]),
            "when the rows come in reverse": unequal(reverse[::-1], expected),
        }
        worst = max(off, key=lambda how: off[how])
        yield sameness(
            "change of a test row that stays the same",
            off[worst],
            size_of(expected),
            where=worst if off[worst] else "",
            cause=_COUPLED if off[worst] else "",
        )
