"""Folds of whole groups."""

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
    formula="the largest group goes to the fold with the fewest rows, and so on",
    source="Graham, Bounds on Multiprocessing Timing Anomalies, SIAM J. Appl. Math. 17, 1969 (LPT)",
    args={"folds": 3},
    options={"folds": "folds", "grouped": True},
    traits=["validates", "permutation_equivariant"],
)
class GroupFolds:
    """Groups are dealt out by size, the largest first, each to the fold with the fewest rows.

    Raises ValueError for more folds than groups.
    """

    def __init__(self, folds: int = 5) -> None:
        self.folds = folds

    def split(self, rows: Any, labels: Any, groups: Any) -> Iterator[Pair]:
        names, group = np.unique(np.asarray(groups), return_inverse=True)
        if not 2 <= self.folds <= len(names):
            raise ValueError(f"{len(names)} groups cannot make {self.folds} folds")
        sizes, filled = np.bincount(group), np.zeros(self.folds, dtype=np.int64)
        fold_of = np.zeros(len(names), dtype=np.int64)
        for g in np.argsort(sizes, kind="stable")[::-1]:
            fold_of[g] = filled.argmin()
            filled[fold_of[g]] += sizes[g]
        return _pairs(fold_of[group], self.folds)


@reference(
    kind="split",
    formula="test_g = the rows of group g",
    source="Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2nd ed., 7.10.1",
    options={"folds": "groups", "grouped": True, "takes": "n"},
    traits=["validates", "permutation_equivariant"],
)
def leave_one_group_out(n: int, labels: Any, groups: Any) -> Iterator[Pair]:
    """As many folds as groups, in order of their names. Raises ValueError for a single group."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError("one group is the whole table: nothing is left to train on")
    return _pairs(group, len(names))


@reference(
    kind="split",
    formula="a group goes to the fold where the classes' shares then vary least between folds",
    source="Kaggle, jakubwasikowski, Stratified Group k-Fold Cross-Validation, 2019; scikit-learn",
    args={"folds": 3},
    options={"folds": "folds", "grouped": True, "stratified": True},
    traits=["validates"],
)
class StratifiedGroupFolds:
    """Whole groups, the most uneven first, each where the spread of the classes stays least.

    The spread is the mean over classes of the standard deviation over folds of the share of the
    class; ties go to the fold with the fewest rows.
    """

    def __init__(self, folds: int = 5) -> None:
        self.folds = folds

    def split(self, rows: Any, labels: Any, groups: Any) -> Iterator[Pair]:
        k = self.folds
        classes = np.unique(np.asarray(labels), return_inverse=True)[1]
        names, group = np.unique(np.asarray(groups), return_inverse=True)
        if not 2 <= k <= len(names):
            raise ValueError(f"{len(names)} groups cannot make {k} folds")
        counts = np.zeros((len(names), classes.max() + 1))
        np.add.at(counts, (group, classes), 1)
        filled = np.zeros((k, counts.shape[1]))
        fold_of = np.zeros(len(names), dtype=np.int64)
        for g in np.argsort(-np.std(counts, axis=1), kind="mergesort"):
            fold_of[g] = _best_fold(filled, counts[g], counts.sum(0))
            filled[fold_of[g]] += counts[g]
        return _pairs(fold_of[group], k)


def _best_fold(
    filled: NDArray[np.float64], counts: NDArray[np.float64], totals: NDArray[np.float64]
) -> int:
    best, least, fewest = 0, np.inf, np.inf
    for i in range(len(filled)):
        filled[i] += counts
        spread = float(np.mean(np.std(filled / totals, axis=0)))
        rows = float(filled[i].sum())
        filled[i] -= counts
        if spread < least or (np.isclose(spread, least) and rows < fewest):
            best, least, fewest = i, spread, rows
    return best


def _pairs(fold: Indices, k: int) -> Iterator[Pair]:
    """fold [n]: each fold's rows as test, with all others."""
    for i in range(k):
        yield np.flatnonzero(fold != i), np.flatnonzero(fold == i)
