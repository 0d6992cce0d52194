"""Rows stay rows: as many, in order, the given ones untouched, and the same the next time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from dlcheck.checks.transform.broken import Apply, called, fits_on_test
from dlcheck.checks.transform.calls import (
    answer,
    as_given,
    given_back,
    pairs,
    sameness,
    size_of,
    unequal,
)
from dlcheck.model import Evidence
from dlcheck.mutants import rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@called
def drops_the_last_row(apply: Apply, train: Any, test: Any) -> Any:
    """Windows of two rows."""
    out, other = apply(train, test)
    return out[:-1], other[:-1]


@called
def drops_outliers(apply: Apply, train: Any, test: Any) -> Any:
    """Rows are filtered, their labels are not."""
    out, other = apply(train, test)
    far = np.abs(train).max(tuple(range(1, train.ndim)))
    return out[far < far.max()], other


@called
def gives_test_first(apply: Apply, train: Any, test: Any) -> Any:
    return apply(train, test)[::-1]


@called
def joins_train_and_test(apply: Apply, train: Any, test: Any) -> Any:
    out, other = apply(train, test)
    return np.concatenate([out, other]), other


@check(
    kind="transform",
    rejects=[drops_the_last_row, drops_outliers, gives_test_first, joins_train_and_test],
    once=True,
)
def rows_keep_their_number(subject: Implementation, case: Case) -> Evidence:
    """n rows of train and m of test come back as n and m.

    Labels are not handed over, so that a row that is lost or made shifts all that follow. Exact.
    """
    off, seen, where = 0, 0, ""
    for pair in pairs(subject, case):
        out, other = answer(subject, pair.train, pair.test)
        wrong = abs(len(out) - len(pair.train)) + abs(len(other) - len(pair.test))
        off, seen = off + wrong, seen + len(pair.train) + len(pair.test)
        if wrong and not where:
            where = f"{len(pair.train)} and {len(pair.test)} became {len(out)} and {len(other)}"
    return Evidence(
        error=float(off),
        bound=0.0,
        signal=float(seen),
        unit="rows",
        what="rows lost or made",
        where=where,
    )


def _in_place(change: Any) -> Any:
    """A mutant that changes the rows it is given by `change(train, test)` before it answers."""

    def changed(built: Any) -> Any:
        def call(train: Any, test: Any) -> Any:
            if hasattr(built, "fit"):
                built.fit(train)
                found = built.transform(train), built.transform(test)
            else:
                found = built(train, test)
            change(train, test)
            return found

        return call

    return rebuilt(change.__name__, changed)


@_in_place
def centres_train_in_place(train: Any, test: Any) -> None:
    """`x -= x.mean(0)`."""
    train += 1


@_in_place
def scales_test_in_place(train: Any, test: Any) -> None:
    test *= 2


@_in_place
def fills_the_first_row_in_place(train: Any, test: Any) -> None:
    train[0] = 0 * train[0] - 1


@_in_place
def clips_test_in_place(train: Any, test: Any) -> None:
    test[-1] = test[-1] + 3


@check(
    kind="transform",
    forbids={"in_place"},
    rejects=[
        centres_train_in_place,
        scales_test_in_place,
        fills_the_first_row_in_place,
        clips_test_in_place,
    ],
    once=True,
)
def transforming_leaves_the_rows(subject: Implementation, case: Case) -> Evidence:
    """The rows that are handed over stay as they were.

    In a cross-validation the next fold gets the same table; what is changed in place is changed
    twice. A subject that documents it declares `in_place`. Exact: the bound is 0.
    """
    changed, seen = 0, 0
    for pair in pairs(subject, case):
        given = [as_given(subject, rows) for rows in (pair.train, pair.test)]
        given_back(subject, *given)
        for rows, before in zip(given, (pair.train, pair.test), strict=True):
            changed += int(unequal(np.asarray(rows), before) != 0)
            seen += 1
    return Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(seen),
        unit="inputs",
        what="inputs that the transform changed",
    )


def _remembering(blend: Any) -> Any:
    """A mutant that keeps the first train rows and answers for `blend(first, last, train)`."""

    def change(built: Any) -> Any:
        seen: list[Any] = []

        def call(train: Any, test: Any) -> Any:
            seen.append(train)
            fitted = blend(seen, train)
            if hasattr(built, "fit"):
                built.fit(fitted)
                return built.transform(train), built.transform(test)
            return built(fitted, train)[1], built(fitted, test)[1]

        return call

    return rebuilt(blend.__name__, change)


@_remembering
def fits_once_and_never_again(seen: list[Any], train: Any) -> Any:
    """`if self.mean is None`."""
    return seen[0]


@_remembering
def is_one_fit_late(seen: list[Any], train: Any) -> Any:
    """Statistics are used before they are set."""
    return seen[max(len(seen) - 2, 0)]


@_remembering
def accumulates_over_fits(seen: list[Any], train: Any) -> Any:
    """`partial_fit` where `fit` is meant."""
    return _joined(seen, train)


@_remembering
def keeps_the_row_of_the_first_fit(seen: list[Any], train: Any) -> Any:
    return _joined([seen[0][:1], train], train)


def _joined(tables: list[Any], like: Any) -> Any:
    rows = np.concatenate([np.asarray(table) for table in tables])
    return like.new_tensor(rows) if isinstance(like, Tensor) else rows


@check(
    kind="transform",
    forbids={"stochastic"},
    rejects=[
        fits_once_and_never_again,
        is_one_fit_late,
        accumulates_over_fits,
        keeps_the_row_of_the_first_fit,
    ],
    once=True,
)
def fitting_again_forgets(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Fitted on one table, on another and on the first again, it answers as at first.

    And on the second as a transform that has seen no other. Between the folds of a
    cross-validation nothing may be carried over. The bound is 1e-10 of the largest value.
    """
    first, second, *_ = pairs(subject, case)
    fresh = subject.rebuilt()
    alone = answer(fresh, second.train, second.test)
    once = answer(subject, first.train, first.test)
    other = answer(subject, second.train, second.test)
    again = answer(subject, first.train, first.test)
    for what, got, expected in (
        ("the first table, fitted again", again, once),
        ("the second table, after another", other, alone),
    ):
        off = max(unequal(a, b) for a, b in zip(got, expected, strict=True))
        size = max(size_of(rows) for rows in expected)
        yield sameness(what, off, size, cause="something of an earlier fit is kept")


@called
def scales_train_by_n_less_one(apply: Apply, train: Any, test: Any) -> Any:
    """ddof = 1 for train and 0 for test."""
    out, other = apply(train, test)
    return out * np.sqrt((len(train) - 1) / len(train)), other


@called
def rounds_train_to_single(apply: Apply, train: Any, test: Any) -> Any:
    out, other = apply(train, test)
    return out.astype(np.float32).astype(out.dtype), other


@called
def leaves_train_as_it_is(apply: Apply, train: Any, test: Any) -> Any:
    """Only test is transformed."""
    out, other = apply(train, test)
    return (train if train.shape == out.shape else np.zeros_like(out)), other


@called
def sorts_the_train_rows(apply: Apply, train: Any, test: Any) -> Any:
    out, other = apply(train, test)
    return np.sort(out, 0), other


@check(
    kind="transform",
    needs={"row_by_row"},
    forbids={"stochastic"},
    rejects=[
        scales_train_by_n_less_one,
        rounds_train_to_single,
        leaves_train_as_it_is,
        sorts_the_train_rows,
        fits_on_test,
    ],
    once=True,
)
def train_rows_go_as_test_rows_do(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Train given as test comes out as train does, row by row and in order.

    A model is fitted on one and asked about the other. The bound is 1e-10 of the largest value.
    """
    for pair in pairs(subject, case):
        expected, _ = answer(subject, pair.train, pair.test)
        _, got = answer(subject, pair.train, pair.train)
        what = "train given as test, from train"
        yield sameness(what, unequal(got, expected), size_of(expected))
