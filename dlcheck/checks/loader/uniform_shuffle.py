"""A shuffle prefers no row, no place and no neighbour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats as laws
from scipy.optimize import brentq

from dlcheck.checks.loader.altered import reordered
from dlcheck.checks.loader.epochs import data_set, iterate_epochs, joint_keys, keeps_all
from dlcheck.checks.loader.order import two_orders_take_turns
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, detectable, three_strikes
from dlcheck.stats.finding import ALPHA, MISSED
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_MANY, _BLOCKS, _PASSES = 128, 8, 60  # rows, blocks of rows and of places, epochs
_UNEVEN = 20  # rows a batch: no divisor of the rows or of a block


@reordered
def shuffles_whole_batches_only(rows: int, epoch: int, size: int) -> Sequence[int]:
    starts = [s * size for s in torch.randperm(-(-rows // size)).tolist()]
    return [i for start in starts for i in range(start, min(start + size, rows))]


@reordered
def shuffles_inside_batches_only(rows: int, epoch: int, size: int) -> Sequence[int]:
    starts = range(0, rows, size)
    return [s + i for s in starts for i in torch.randperm(min(size, rows - s)).tolist()]


@reordered
def starts_somewhere_and_goes_round(rows: int, epoch: int, size: int) -> Sequence[int]:
    start = int(torch.randint(rows, ()))
    return [(start + i) % rows for i in range(rows)]


@check(
    kind="loader",
    forbids={"endless", "repacks", "stochastic", "with_replacement"},
    options={"shuffle": [True]},
    tags=["statistical"],
    rejects=[
        shuffles_whole_batches_only,
        shuffles_inside_batches_only,
        starts_somewhere_and_goes_round,
        two_orders_take_turns,
    ],
    once=True,
)
def shuffle_is_uniform(subject: Implementation, case: Case) -> Evidence:
    """A row is as likely at every place of an epoch, and as likely after every other row.

    N = 128 rows over n = 60 epochs, rows and places in G = 8 blocks of m = 16. A permutation
    matrix has covariance (I − J/N)⊗(I − J/N)/(N − 1), so the counts O of rows of block a at
    places of block b have m²/(N − 1) · (I − J/G)⊗(I − J/G), and
    (N − 1)/(n m²) · Σ(O − nm/G)² ~ χ²((G − 1)²). The number X of rows directly before the next
    row has E X = (N − 1)/N and E X(X − 1) = (N − 2)/N, as two such pairs glue N rows to N − 2.
    Bonferroni over the two; three strikes. The effect is relative to the uniform chance.
    Source: Knuth, TAOCP 2, 3.4.2; STATISTICS.
    """
    dataset = data_set(subject, case, _MANY)
    places = {key: i for i, key in enumerate(joint_keys(dataset.tensors))}
    if len(places) < _MANY:
        raise NotApplicable("rows of the declared inputs are alike: their places cannot be told")
    given, name = keeps_all(subject), subject.options.get("seed")

    def sample(stream: Stream, n: int) -> Finding:
        seed = {name: stream.seed % 2**31} if isinstance(name, str) else {}
        passes = iterate_epochs(subject, dataset, _UNEVEN, n, {**given, **seed})
        orders = [[places.get(key, -1) for key in epoch.rows] for epoch in passes]
        if any(sorted(order) != list(range(_MANY)) for order in orders):
            raise NotApplicable("an epoch is no permutation; see epoch_is_a_permutation")
        found = np.asarray(orders)
        return bonferroni([places_are_uniform(found, _BLOCKS), successors_are_uniform(found)])

    return three_strikes(
        case.root,
        case.claim,
        _PASSES * case.profile.effort,
        sample,
        what="chance of a row at a place, or after another",
        unit="of uniform",
        resolution=1.0,  # clumps and rounds multiply chances
    )


def places_are_uniform(orders: np.ndarray, blocks: int) -> Finding:
    """orders [n, N] are uniform permutations: χ² of block of rows × block of places.

    The effect is w, the root mean square of the relative deviation of the chances. It adds
    λ = n(N − 1)w² to the χ².
    """
    n, rows = orders.shape
    size = rows // blocks
    counts = np.stack(
        [(orders // size == a).reshape(n, blocks, size).sum(axis=(0, 2)) for a in range(blocks)]
    )
    statistic = (rows - 1) / (n * size**2) * float(((counts - n * size / blocks) ** 2).sum())
    freedom = (blocks - 1) ** 2
    excess = max(0.0, statistic - freedom)
    return Finding(
        p_value=float(laws.chi2.sf(statistic, freedom)),
        error=math.sqrt(excess / (n * (rows - 1))),
        detectable=math.sqrt(_noticed(freedom) / (n * (rows - 1))),
        signal=1.0,
        n=n,
        expected=f"χ² of {freedom} ± {math.sqrt(2 * freedom):.0f}",
        got=f"{statistic:.1f}",
        where="block of rows at a block of places",
    )


def successors_are_uniform(orders: np.ndarray) -> Finding:
    """orders [n, N] are uniform permutations: how often i + 1 comes directly after i."""
    n, rows = orders.shape
    follows = (np.diff(orders, axis=1) == 1).sum(axis=1)
    mean = (rows - 1) / rows
    sigma = math.sqrt((rows - 2) / rows + mean - mean**2)
    found = float(follows.mean())
    return Finding(
        p_value=2 * float(laws.norm.sf(abs(found - mean) / (sigma / math.sqrt(n)))),
        error=abs(found / mean - 1),
        detectable=detectable(sigma / mean, n),
        signal=1.0,
        n=n,
        expected=f"{mean:.4g} rows an epoch directly before the next row of the data set",
        got=f"{found:.4g}",
        where="row after a row",
    )


def _noticed(freedom: int) -> float:
    """The λ of a χ² with which p ≤ 10⁻³ but once in a thousand."""
    critical = float(laws.chi2.isf(ALPHA, freedom))
    return float(brentq(lambda x: laws.ncx2.cdf(critical, freedom, x) - MISSED, 1.0, 1e4))
