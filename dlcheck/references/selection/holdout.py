"""One cut: train and test, or train, validation and test; and the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlcheck.registry import reference

Indices = NDArray[np.int64]


@reference(
    kind="split",
    formula="π uniform; test = π[: ⌈s n⌉], train = the rest",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.2",
    args={"share": 0.25, "seed": 0},
    options={"folds": 1, "seed": "seed", "shuffle": True, "shares": [0.75, 0.25]},
    traits=["validates"],
)
def holdout(
    n: int, labels: Any = None, groups: Any = None, *, share: float = 0.25, seed: int | None = None
) -> tuple[Indices, Indices]:
    """A share of the rows for the test, rounded up. Raises ValueError where a part is empty."""
    size = math.ceil(share * n)
    if not 0 < size < n:
        raise ValueError(f"a share of {share} of {n} rows leaves a part empty")
    order = np.random.RandomState(seed).permutation(n)
    return order[size:], order[:size]


@reference(
    kind="split",
    formula="π uniform; cuts at ⌊s₁n⌋ and ⌊(s₁ + s₂)n⌋ of n",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.2",
    args={"seed": 0},
    options={"folds": 1, "seed": "seed", "shuffle": True, "shares": [0.5, 0.25, 0.25]},
    traits=["validates"],
)
def three_way_holdout(
    n: int,
    labels: Any = None,
    groups: Any = None,
    *,
    shares: tuple[float, float] = (0.5, 0.25),
    seed: int | None = None,
) -> tuple[Indices, Indices, Indices]:
    """Train, validation and test: shares of the whole table, not of what is left."""
    first, second = math.floor(shares[0] * n), math.floor(sum(shares) * n)
    if not 0 < first < second < n:
        raise ValueError(f"shares of {shares} of {n} rows leave a part empty")
    order = np.random.RandomState(seed).permutation(n)
    return order[:first], order[first:second], order[second:]


@reference(
    kind="split",
    formula="class by class: the first ⌊s n_c + ½⌋ of its shuffled rows are test",
    source="Cochran, Sampling Techniques, 3rd ed., 5.5 (proportional allocation)",
    args={"share": 0.25, "seed": 0},
    options={
        "folds": 1,
        "seed": "seed",
        "stratified": True,
        "shuffle": True,
        "shares": [0.75, 0.25],
    },
)
def stratified_holdout(
    n: int, labels: Any, groups: Any = None, *, share: float = 0.25, seed: int | None = None
) -> tuple[Indices, Indices]:
    """Each class is cut by itself, at its share to the nearest row."""
    rng, test = np.random.RandomState(seed), np.zeros(n, dtype=bool)
    labels = np.asarray(labels)
    for name in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == name))
        test[rows[: math.floor(share * len(rows) + 0.5)]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)


@reference(
    kind="split",
    formula="train = n draws with replacement, test = the rows not drawn",
    source="Efron & Tibshirani, An Introduction to the Bootstrap, 1993, 17.7",
    args={"draws": 10, "seed": 0},
    options={"folds": "draws", "seed": "seed"},
    traits=["with_replacement"],
)
def bootstrap(
    n: int, labels: Any = None, groups: Any = None, *, draws: int = 10, seed: int | None = None
) -> Iterator[tuple[Indices, Indices]]:
    """Samples of n rows, each with the rows that were not drawn: (1 − 1/n)ⁿ of them on average.

    A draw that leaves no row out is drawn again. Raises ValueError for fewer than two rows.
    """
    if n < 2:
        raise ValueError(f"of {n} rows none can be left out")
    rng = np.random.RandomState(seed)
    for _ in range(draws):
        drawn = rng.randint(0, n, size=n)
        while len(np.unique(drawn)) == n:
            drawn = rng.randint(0, n, size=n)
        yield drawn, np.setdiff1d(np.arange(n), drawn)
