"""Folds: every row is tested once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlcheck.registry import reference

Indices = NDArray[np.int64]
Pair = tuple[Indices, Indices]


@reference(
    kind="split",
    formula="test_i = π[start_i : start_i + size_i], sizes ⌊n/k⌋ + [i < n mod k]",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.10.1",
    args={"folds": 5},
    options={"folds": "folds"},
    traits=["validates"],
)
def k_fold(n: int, labels: Any = None, groups: Any = None, *, folds: int = 5) -> Iterator[Pair]:
    """Consecutive blocks of rows, the first n mod k of them one row longer.

    Raises ValueError for fewer than two folds or more folds than rows.
    """
    _require(2 <= folds <= n, f"{n} rows cannot make {folds} folds")
    return _pairs(np.array_split(np.arange(n), folds), n)


@reference(
    kind="split",
    formula="k_fold of π(0 … n − 1), π uniform, drawn anew for each repeat",
    source="Kohavi, A Study of Cross-Validation and Bootstrap, IJCAI 1995, section 2.2",
    args={"folds": 4, "repeats": 2, "seed": 0},
    options={"folds": "folds", "repeats": "repeats", "seed": "seed", "shuffle": True},
    traits=["validates"],
)
def shuffled_k_fold(
    n: int,
    labels: Any = None,
    groups: Any = None,
    *,
    folds: int = 5,
    repeats: int = 1,
    seed: int | None = None,
) -> Iterator[Pair]:
    """Folds of shuffled rows; each repeat shuffles them anew."""
    _require(2 <= folds <= n, f"{n} rows cannot make {folds} folds")
    rng = np.random.RandomState(seed)
    orders = [rng.permutation(n) for _ in range(repeats)]
    return (pair for order in orders for pair in _pairs(np.array_split(order, folds), n))


@reference(
    kind="split",
    formula="test_i = {i}",
    source="Stone, Cross-Validatory Choice and Assessment, JRSS B 36, 1974, section 2",
    options={"folds": "rows"},
    traits=["validates"],
)
def leave_one_out(n: int, labels: Any = None, groups: Any = None) -> Iterator[Pair]:
    """As many folds as rows."""
    _require(n >= 2, f"of {n} rows none can be left out")
    return _pairs(np.array_split(np.arange(n), n), n)


@reference(
    kind="split",
    formula="fold of the j-th row of a class: the rows sorted by class are dealt out in turn",
    source="Kohavi, A Study of Cross-Validation and Bootstrap, IJCAI 1995, section 2.2",
    args={"folds": 5},
    options={"folds": "folds", "stratified": True, "seed": "seed"},
    traits=["validates"],
)
class StratifiedFolds:
    """Each class has ⌊n_c/k⌋ or ⌈n_c/k⌉ rows in every fold, and folds differ by at most one row.

    The rows sorted by class are dealt out in turn: fold i gets rows i, i + k, …. Which rows of a
    class go where is drawn where there is a seed. Raises ValueError where every class is smaller
    than the folds.
    """

    def __init__(self, folds: int = 5, seed: int | None = None) -> None:
        self.folds = folds
        self.seed = seed

    def split(self, rows: Any, labels: Any, groups: Any = None) -> Iterator[Pair]:
        k, n = self.folds, len(rows)
        _require(2 <= k <= n, f"{n} rows cannot make {k} folds")
        _, first, classes = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
        classes = np.argsort(np.argsort(first))[classes]  # in order of appearance
        counts = np.bincount(classes)
        _require(bool(counts.max() >= k), f"every class has fewer rows than there are {k} folds")
        dealt = np.sort(classes)
        share = np.stack([np.bincount(dealt[i::k], minlength=len(counts)) for i in range(k)])
        rng = np.random.RandomState(self.seed)
        fold = np.empty(n, dtype=np.int64)
        for c in range(len(counts)):
            of_class = np.repeat(np.arange(k), share[:, c])
            if self.seed is not None:
                rng.shuffle(of_class)
            fold[classes == c] = of_class
        return _pairs([np.flatnonzero(fold == i) for i in range(k)], n)


def _pairs(tests: list[Indices], n: int) -> Iterator[Pair]:
    """Each test part, in order of rows, with all other rows."""
    for test in tests:
        yield np.setdiff1d(np.arange(n), test), np.sort(test)


def _require(holds: bool, message: str) -> None:  # noqa: FBT001
    if not holds:
        raise ValueError(message)
