"""Beyond some size a bigger batch hardly changes the direction of the gradient."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats as laws
from torch import Tensor
from torch.utils.data import TensorDataset

from dlcheck.checks.loader.altered import reordered
from dlcheck.checks.loader.epochs import iterate_epochs, keeps_all
from dlcheck.checks.loader.gradient_noise import (
    gradient,
    keeps_neighbours_together,
    population,
    refuse_other_columns,
)
from dlcheck.checks.loader.uniform_shuffle import shuffles_whole_batches_only
from dlcheck.datasets import digits
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, detectable, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@reordered
def keeps_the_order_of_the_classes(rows: int, epoch: int, size: int) -> Sequence[int]:
    return range(rows)


@reordered
def draws_within_a_class(rows: int, epoch: int, size: int) -> Sequence[int]:
    # Whole tenths of the sorted rows, in a random order of the tenths.
    tenths = torch.randperm(10).tolist()
    return [i for t in tenths for i in range(t * rows // 10, (t + 1) * rows // 10)]


_SIZE_OF_SCALE = 10  # times B_n
_LEAST = 0.95
_PASSES = 3  # epochs of the first strike


@functools.cache
def _batch() -> int:
    """Ten times B_n of all digits at the start of training, in rows."""
    return math.ceil(_SIZE_OF_SCALE * population(len(digits().x), 0).noise_scale)


@check(
    kind="loader",
    forbids={"with_replacement", "endless", "repacks", "stochastic"},
    options={"shuffle": [True]},
    tags=["statistical"],
    rejects=[
        keeps_neighbours_together,
        shuffles_whole_batches_only,
        keeps_the_order_of_the_classes,
        draws_within_a_class,
    ],
    once=True,
    textbook={
        "id": "B7",
        "says": "Beyond some size a bigger batch hardly changes the direction",
        "verdict": "true if",
        "condition": "it is ten times the noise scale B_n = tr Σ/‖G‖², which grows in training",
    },
)
def ten_noise_scales_settle_the_direction(subject: Implementation, case: Case) -> Evidence:
    """A batch of ten times the noise scale has a cosine of at least 0.95 with the full gradient.

    From E‖g_B − G‖² ≤ ‖G‖²/10 follows cos ≈ 1/√1.1 = 0.953, and more by the factor of a finite
    population. Softmax regression on all 1797 digits, sorted by class, at the start of training;
    the mean cosine of each epoch's full batches, epochs being independent: a one-sided test
    against 0.95, three strikes.
    Source: McCandlish et al., An Empirical Model of Large-Batch Training, 2018, §2.2.
    """
    torch.set_num_threads(1)  # small products gain nothing from more
    law, size = population(len(digits().x), 0), _batch()
    refuse_other_columns(case)
    dataset = TensorDataset(law.x.to(case.dtype), law.y.clone())
    given, name = keeps_all(subject), subject.options.get("seed")

    def sample(stream: Stream, n: int) -> Finding:
        seed = {name: stream.seed % 2**31} if isinstance(name, str) else {}
        passes = iterate_epochs(subject, dataset, size, n, {**given, **seed})
        return _at_least([_cosine(epoch.batches, size) for epoch in passes], size)

    return three_strikes(
        case.root,
        case.claim,
        _PASSES * case.profile.effort,
        sample,
        what="mean cosine of a batch's gradient with the full gradient",
        cause="batches are no uniform samples",
        values={"B_n": law.noise_scale, "B": float(size), "law": law.cosine(size)},
    )


def _cosine(batches: Sequence[tuple[Tensor, ...]], size: int) -> float:
    law = population(len(digits().x), 0)
    full = [batch for batch in batches if len(batch[0]) == size]
    if not full:
        return math.nan
    x, y = (torch.stack(column).cpu() for column in zip(*full, strict=True))
    g = gradient(law.weights, x.to(law.x), y.long())
    return float(torch.cosine_similarity(g.flatten(1), law.full.flatten()[None], dim=1).mean())


def _at_least(cosines: Sequence[float], size: int) -> Finding:
    """The mean is at least 0.95: one-sided, with the spread that uniform batches have."""
    n, found = len(cosines), float(np.mean(cosines))
    score = (found - _LEAST) / (_spread() / math.sqrt(n))
    return Finding(
        p_value=float(laws.norm.cdf(score)) if math.isfinite(found) else math.nan,
        error=max(0.0, _LEAST - found) if math.isfinite(found) else math.nan,
        detectable=detectable(_spread(), n),
        signal=1.0,
        n=n,
        expected=f"at least {_LEAST} at B = {size}",
        got=f"{found:.4f}",
    )


@functools.cache
def _spread() -> float:
    """Standard deviation of an epoch's mean cosine, under our own permutations."""
    law, size = population(len(digits().x), 0), _batch()
    generator, rows = torch.Generator().manual_seed(0), len(law.x)
    means = []
    for _ in range(30):
        order = torch.randperm(rows, generator=generator)[: rows // size * size].view(-1, size)
        g = gradient(law.weights, law.x[order], law.y[order])
        cosines = torch.cosine_similarity(g.flatten(1), law.full.flatten()[None], dim=1)
        means.append(float(cosines.mean()))
    return float(np.std(means, ddof=1))
