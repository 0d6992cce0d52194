"""Broken cross-validations: any of them with its models, rows or folds changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcheck.model import Subject
from dlcheck.mutants import around


def all_rows(rows: Any) -> Any:
    return np.arange(len(rows[0]))


@around
def trains_on_all_rows(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    return original(build, rows, [(all_rows(rows), test) for _, test in folds], **more)


@around
def scores_on_train(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    return original(build, rows, [(train, train) for train, _ in folds], **more)


@around
def keeps_one_model(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    """`model = build()` stands before the loop."""
    kept: dict[Any, Any] = {}

    def built(*candidate: Any) -> Any:
        if candidate not in kept:
            kept[candidate] = build(*candidate)
        return kept[candidate]

    return original(built, rows, folds, **more)


@around
def starts_from_a_model_of_all_rows(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    """Pre-trained, on the very table."""

    def built(*candidate: Any) -> Any:
        model = build(*candidate)
        model.fit(*rows)
        return model

    return original(built, rows, folds, **more)


@around
def shifts_the_end_of_train(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    """One row of test is in train."""
    changed = [(np.append(train, test[:1]), test) for train, test in folds]
    return original(build, rows, changed, **more)


@around
def trains_on_half(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    return original(build, rows, [(train[::2], test) for train, test in folds], **more)


@around
def trains_on_the_next_fold(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    """Train and test of different folds are paired."""
    trains = [train for train, _ in folds]
    changed = zip([*trains[1:], trains[0]], [test for _, test in folds], strict=True)
    return original(build, rows, list(changed), **more)


@around
def drops_the_last_fold(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    return original(build, rows, folds[:-1], **more)


@around
def scores_the_first_fold_again(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    return original(build, rows, [*folds[:-1], folds[0]], **more)


@around
def scores_the_folds_backwards(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    found = original(build, rows, folds[::-1], **more)
    return found if np.ndim(found) else float(found) + 1e-3


@around
def rounds_the_scores(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    return np.round(original(build, rows, folds, **more), 2)


@around
def weighs_the_first_fold_double(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    found = np.asarray(original(build, rows, folds, **more))
    return found * (1 + 0.1 * (np.arange(len(found)) == 0)) if found.ndim else float(found) * 1.01


@around
def makes_its_own_folds(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    """Blocks of rows, whatever is given."""
    tests = np.array_split(all_rows(rows), len(folds))
    changed = [(np.setdiff1d(all_rows(rows), test), test) for test in tests]
    return original(build, rows, changed, **more)


@around
def sorts_the_targets(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    return original(build, (rows[0], np.sort(rows[1])), folds, **more)


@around
def trains_on_the_first_rows(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    """As many rows as train has, from the top."""
    changed = [(np.setdiff1d(all_rows(rows)[: len(train)], test), test) for train, test in folds]
    return original(build, rows, changed, **more)


@around
def always_tests_the_last_row(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    last = all_rows(rows)[-1:]
    changed = [(np.setdiff1d(train, last), np.union1d(test, last)) for train, test in folds]
    return original(build, rows, changed, **more)


def _standardizes_before_it_splits(build: Any, rows: Any, folds: Any) -> list[float]:
    """The scaler is fitted where the table is read."""
    x, y = rows
    x = (x - x.mean(0)) / x.std(0)
    return [float(build().fit(x[a], y[a]).score(x[b], y[b])) for a, b in folds]


standardizes_before_it_splits = Subject(
    name="standardizes_before_it_splits",
    target=_standardizes_before_it_splits,
    kind="cross_validation",
)


@around
def squashes_by_the_scale_of_all_rows(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    x, y = rows
    return original(build, (np.tanh((x - x.mean(0)) / x.std(0)), y), folds, **more)


@around
def clips_at_a_quantile_of_all_rows(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    x, y = rows
    return original(build, (np.clip(x, *np.quantile(x, (0.1, 0.9), axis=0)), y), folds, **more)


@around
def ranks_over_all_rows(original: Any, build: Any, rows: Any, folds: Any, **more: Any) -> Any:
    x, y = rows
    return original(build, (x.argsort(0).argsort(0) + 0.0 * x, y), folds, **more)


@around
def orders_columns_by_all_rows(
    original: Any, build: Any, rows: Any, folds: Any, **more: Any
) -> Any:
    """The best features of the whole table come first."""
    x, y = rows
    return original(build, (x[:, np.argsort(x.var(0))[::-1]] * x.var(0), y), folds, **more)
