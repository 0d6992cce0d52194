"""Cross-validation, plain, with standardization inside the fold, and nested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlcheck.registry import reference

Rows = tuple[Any, Any]
Folds = Sequence[tuple[Any, Any]]


@reference(
    kind="cross_validation",
    formula="score_i = score of fit(train_i) on test_i",
    source="Stone, Cross-Validatory Choice and Assessment, JRSS B 36, 1974, section 2",
)
def cross_validation(build: Callable[[], Any], rows: Rows, folds: Folds) -> list[float]:
    """A new model for each fold. rows: (x, y); folds: pairs of index arrays."""
    return [scored(build(), rows, train, test) for train, test in folds]


@reference(
    kind="cross_validation",
    formula="Σ |test_i| score_i / Σ |test_i|, with (x − μ_i)/σ_i of train_i",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.10.2",
    options={"returns": "weighted_mean"},
)
def cross_validation_of_scaled_rows(build: Callable[[], Any], rows: Rows, folds: Folds) -> float:
    """Every fold scales by its own train rows; the mean is that of the rows, not of the folds."""
    x, y = rows
    total, count = 0.0, 0
    for train, test in folds:
        mean, deviation = x[train].mean(0), x[train].std(0)
        scaled = (x - mean) / np.where(deviation > 0, deviation, 1.0)
        total += len(test) * scored(build(), (scaled, y), train, test)
        count += len(test)
    return total / count


@reference(
    kind="cross_validation",
    formula="score_i = score of fit(train_i; c_i) on test_i, c_i the best of a cross-validation "
    "of train_i",
    source="Varma & Simon, Bias in Error Estimation When Using Cross-Validation for Model "
    "Selection, BMC Bioinformatics 7:91, 2006",
    options={"candidates": "candidates"},
)
def nested_cross_validation(
    build: Callable[[Any], Any],
    rows: Rows,
    folds: Folds,
    candidates: Sequence[Any],
    inner: int = 3,
) -> list[float]:
    """build(candidate) makes a model. The first of the best candidates is taken."""
    found = []
    for train, test in folds:
        means = [_inner_mean(build, candidate, rows, train, inner) for candidate in candidates]
        chosen = candidates[int(np.argmax(means))]
        found.append(scored(build(chosen), rows, train, test))
    return found


def _inner_mean(
    build: Callable[[Any], Any], candidate: Any, rows: Rows, train: Any, inner: int
) -> float:
    """The mean score of a candidate over folds of the train rows."""
    tests = np.array_split(np.asarray(train), inner)
    scores = [scored(build(candidate), rows, np.setdiff1d(train, test), test) for test in tests]
    return float(np.mean(scores))


def scored(model: Any, rows: Rows, train: Any, test: Any) -> float:
    """The score on test of the model that is fitted to train."""
    x, y = rows
    model.fit(x[train], y[train])
    return float(model.score(x[test], y[test]))
