"""A shuffle is fair: each row is as likely in every part."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats as laws
from scipy.optimize import brentq

from dlcheck.checks.split.broken import (
    Parts,
    folds_changed,
    refolded,
)
from dlcheck.checks.split.calls import Fold, is_one_fold, split_or_leave
from dlcheck.checks.split.tables import Indices, Table, folds_of, is_stratified, rows_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, detectable, three_strikes
from dlcheck.stats.finding import ALPHA, MISSED
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BLOCKS, _DRAWS = 6, 24


def _reordered(order: Callable[[int], Indices]) -> Any:
    """A mutant that shuffles by `order(rows)` alone, keeping the sizes of the parts."""

    def change(folds: list[Parts], rows: int) -> list[Parts]:
        rows_in_order = order(rows)
        if len(folds) == 1:
            cuts = np.cumsum([len(part) for part in folds[0]])[:-1]
            return [tuple(np.split(rows_in_order, cuts))]
        cuts = np.cumsum([len(fold[-1]) for fold in folds])
        if cuts[-1] != rows:
            return [_one(rows_in_order, fold) for fold in folds]
        return refolded(np.split(rows_in_order, cuts[:-1]), rows)

    change.__name__ = order.__name__
    return folds_changed(change)


def _one(order: Indices, like: Parts) -> Parts:
    return tuple(np.split(order, np.cumsum([len(part) for part in like])[:-1]))


@_reordered
def starts_somewhere_and_goes_round(rows: int) -> Indices:
    return np.roll(np.arange(rows), np.random.randint(rows))


@_reordered
def shuffles_blocks_of_rows_only(rows: int) -> Indices:
    blocks = np.array_split(np.arange(rows), 6)
    return np.concatenate([blocks[i] for i in np.random.permutation(6)])


@_reordered
def shuffles_near_rows_only(rows: int) -> Indices:
    """A buffer of ten rows."""
    return np.argsort(np.arange(rows) + 10 * np.random.random(rows))


@_reordered
def swaps_each_row_with_one_before(rows: int) -> Indices:
    """Sattolo's algorithm cut short: half of the swaps."""
    order = np.arange(rows)
    for i in range(rows - 1, rows // 2, -1):
        j = np.random.randint(i)
        order[i], order[j] = order[j], order[i]
    return order


@check(
    kind="split",
    options={"shuffle": [True], "grouped": False},
    forbids={"with_replacement", "ordered"},
    tags=["statistical"],
    rejects=[
        starts_somewhere_and_goes_round,
        shuffles_blocks_of_rows_only,
        shuffles_near_rows_only,
        swaps_each_row_with_one_before,
    ],
    once=True,
)
def each_row_is_as_likely_in_every_part(subject: Implementation, case: Case) -> Evidence:
    """A shuffled split puts every row into each part with the same chance, and parts neighbours.

    N rows in G = 6 blocks of r, parts of s_b rows (the test parts of the folds, or the parts of
    a holdout), over n splits. As a permutation matrix has covariance (I − J/N)⊗(I − J/N)/(N − 1),
    the counts O of rows of block a in part b give
    (N − 1)/n · Σ (O − n r s_b/N)²/(r s_b) ~ χ²((G − 1)(K − 1)). Stratified: over the rows of one
    class of two, in which the others are left out. The number X of rows in the part of the next
    row has E X = Σ s_b(s_b − 1)/N; its mean is tested by its own scatter. Bonferroni over the
    two; three strikes. Effects are relative.
    Source: Knuth, TAOCP 2, 3.4.2; STATISTICS.
    """
    k = _parts_of(subject)
    table, units = _shuffled_table(subject, case, k)
    name = subject.options.get("seed")

    def sample(stream: Stream, n: int) -> Finding:
        seeds = stream.numpy.integers(2**31, size=n)
        found = []
        for seed in seeds:
            made = subject.rebuilt(**{name: int(seed)}) if isinstance(name, str) else subject
            found.append(_assignment(split_or_leave(made, table), len(table), subject)[units])
        return fairness(np.asarray(found))

    return three_strikes(
        case.root,
        case.claim,
        _DRAWS * case.profile.effort,
        sample,
        what="chance of a row in a part, or beside its neighbour",
        unit="of uniform",
        resolution=1.0,
    )


def _parts_of(subject: Implementation) -> int:
    if subject.options.get("folds") in ("rows", "groups"):
        raise NotApplicable("folds of one row each have nothing to shuffle")
    return folds_of(subject) or 5


def _shuffled_table(subject: Implementation, case: Case, k: int) -> tuple[Table, Indices]:
    """Rows of one kind in six blocks; stratified: two classes in turn, one looked at."""
    size = _BLOCKS * max(k, 4) * 2
    if not is_stratified(subject):
        return Table(rows_of(case, size)), np.arange(size)
    labels = np.arange(2 * size) % 2
    return Table(rows_of(case, 2 * size), labels), np.flatnonzero(labels == 0)


def _assignment(folds: list[Fold], n: int, subject: Implementation) -> Indices:
    """The part of each row: the fold that tests it, or its part of the first fold; −1 if none."""
    part_of = np.full(n, -1)
    anew = {"overlapping", "partial"} & subject.traits or is_one_fold(subject)
    k = folds_of(subject) or len(folds)
    parts = folds[0].parts if anew else [fold.test for fold in folds[:k]]
    for number, part in enumerate(parts):
        part_of[part] = number
    return part_of


def fairness(parts: Indices) -> Finding:
    """parts [n, N]: the part of each row in n splits, each as likely as its size says."""
    n, rows = parts.shape
    found = [_neighbours(parts)]
    sizes = np.array([(parts == b).sum() / n for b in np.unique(parts)])
    statistic, r = 0.0, rows // _BLOCKS
    for b, s in zip(np.unique(parts), sizes, strict=True):
        counts = (parts == b).sum(0).reshape(_BLOCKS, r).sum(1)
        statistic += float(((counts - n * r * s / rows) ** 2).sum()) / (r * s)
    statistic *= (rows - 1) / n
    freedom = (_BLOCKS - 1) * (len(sizes) - 1)
    excess = max(0.0, statistic - freedom)
    found.append(
        Finding(
            p_value=float(laws.chi2.sf(statistic, freedom)),
            error=math.sqrt(excess / (n * (rows - 1))),
            detectable=math.sqrt(noticed(freedom) / (n * (rows - 1))),
            signal=1.0,
            n=n,
            expected=f"χ² of {freedom} ± {math.sqrt(2 * freedom):.0f}",
            got=f"{statistic:.1f}",
            where="block of rows in a part",
        )
    )
    return bonferroni(found)


def _neighbours(parts: Indices) -> Finding:
    """How many rows are in the part of the next row, against a random split of these sizes."""
    n, rows = parts.shape
    together = (parts[:, 1:] == parts[:, :-1]).sum(1).astype(float)
    pairs = np.array([sum((c := np.bincount(row + 1)) * (c - 1)) / rows for row in parts])
    off = together - pairs
    sigma = float(off.std(ddof=1))
    mean = float(pairs.mean())
    score = abs(float(off.mean())) * math.sqrt(n)
    p = 2 * float(laws.t.sf(score / sigma, n - 1)) if sigma > 0 else float(score == 0)
    return Finding(
        p_value=p,
        error=abs(float(off.mean())) / mean,
        detectable=detectable(sigma, n) / mean,
        signal=1.0,
        n=n,
        expected=f"{mean:.4g} rows in the part of the next row",
        got=f"{together.mean():.4g}",
        where="row beside a row",
    )


def noticed(freedom: int) -> float:
    """The λ of a χ² with which p ≤ 10⁻³ but once in a thousand."""
    critical = float(laws.chi2.isf(ALPHA, freedom))
    return float(brentq(lambda x: laws.ncx2.cdf(critical, freedom, x) - MISSED, 1.0, 1e4))
