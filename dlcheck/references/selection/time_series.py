"""Splits of rows in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlcheck.registry import reference

Indices = NDArray[np.int64]


@reference(
    kind="split",
    formula="test_i = [n − (k − i)m, n − (k − i − 1)m), train_i = [0, min test_i − gap), "
    "m = ⌊n/(k + 1)⌋",
    source="Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., 5.10",
    args={"folds": 4, "gap": 3},
    options={"folds": "folds", "gap": "gap"},
    traits=["ordered", "validates"],
)
def time_series_folds(
    n: int, labels: Any = None, groups: Any = None, *, folds: int = 5, gap: int = 0
) -> Iterator[tuple[Indices, Indices]]:
    """The last k blocks are tested in turn, each by all that came before it but for the gap.

    Raises ValueError where the first train part would be empty.
    """
    size = n // (folds + 1)
    first = n - folds * size
    if folds < 2 or size < 1 or first - gap < 1:
        raise ValueError(f"{n} rows cannot make {folds} folds with a gap of {gap}")
    return (
        (np.arange(start - gap), np.arange(start, start + size)) for start in range(first, n, size)
    )


@reference(
    kind="split",
    formula="test_i = the i-th block, train_i = all rows that are more than gap away from it",
    source="López de Prado, Advances in Financial Machine Learning, 2018, 7.4",
    args={"folds": 4, "gap": 2},
    options={"folds": "folds", "gap": "gap"},
    traits=["validates"],
)
def purged_folds(
    n: int, labels: Any = None, groups: Any = None, *, folds: int = 5, gap: int = 0
) -> Iterator[tuple[Indices, Indices]]:
    """Blocks of rows, with train on both sides and the gap left out on both."""
    if not 2 <= folds <= n or n - (-(-n // folds)) - 2 * gap < 1:
        raise ValueError(f"{n} rows cannot make {folds} folds with a gap of {gap}")
    rows = np.arange(n)
    return (
        (rows[(rows < test[0] - gap) | (rows > test[-1] + gap)], test)
        for test in np.array_split(rows, folds)
    )
