"""Dropout on the inputs of a linear regression is a ridge penalty, in expectation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.dropout.broken import broken, follows_another_convention
from dlcheck.checks.dropout.draws import MOST_ELEMENTS, answer, is_free
from dlcheck.checks.dropout.law import Law, law_of, where_it_shows
from dlcheck.checks.dropout.moments import averages_two_masks, draws_more_without_rescaling
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, mean, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

N = 3_000  # losses


@check(
    kind="dropout",
    options={"p": True, "rescale": ["train", "eval", "none"], "block": False},
    rejects=[
        broken(follows_another_convention),
        broken(averages_two_masks),
        broken(draws_more_without_rescaling),
    ],
    tags=["statistical"],
    once=True,
)
def acts_as_a_ridge_penalty(subject: Implementation, case: Case) -> Evidence:
    """The mean squared loss of a linear model on dropped inputs is the ridge objective.

    With m the factors of mean μ and variance v, g the groups of features that share one:
    E Σᵢ (tᵢ − Σⱼ wⱼ mᵢⱼ xᵢⱼ)² = Σᵢ (tᵢ − μ Σⱼ wⱼ xᵢⱼ)² + v Σᵢ Σ_g (Σ_{j∈g} wⱼ xᵢⱼ)². With
    elements of their own and μ = 1 this is ‖t − Xw‖² + p/(1 − p) Σⱼ wⱼ² Σᵢ xᵢⱼ². A t test of 3,000
    losses for each of two targets, by three strikes; deviations are in units of the penalty.
    Source: Wager, Wang & Liang, Dropout Training as Adaptive Regularization, NeurIPS 2013, §2;
    Srivastava et al., Dropout, JMLR 15, 2014, §9.1.
    """
    subject = where_it_shows(subject)
    law = law_of(subject)
    x = case.tensors[list(case.inputs).index(case.floating[0])]
    generator = case.generator("regression")
    weight = _normal(x.shape[1:], generator, x)
    fitted = _per_row(weight * x).sum(1)
    penalties = law.variance * _squared_groups(weight * x, law)
    penalty = float(penalties.sum())
    # Residuals of the size of the noise, ± √penaltyᵢ, so that a wrong mean shows to first order at
    # every p; with both signs, as a wrong variance may cancel it in one of them. Each objective is
    # then Σ residual² + penalty = 2 penalties.
    residual = torch.copysign(penalties.sqrt(), fitted)
    targets = torch.stack([law.mean * fitted + residual, law.mean * fitted - residual])

    def test(stream: Stream, n: int) -> Finding:
        losses = torch.cat(list(_losses(subject, case, law, x, weight, targets, n)))[:n]
        return bonferroni([mean(losses[:, i] / penalty, 2.0, signal=1.0) for i in (0, 1)])

    what = "mean loss, in units of the penalty"
    return three_strikes(case.root, case.claim, N * case.profile.effort, test, what=what)


def _losses(
    subject: Implementation,
    case: Case,
    law: Law,
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    n: int,
) -> Iterator[Tensor]:
    """At least n independent losses ‖t − (m ⊙ X)w‖² for both targets: [·, 2] in each piece.

    Many copies of X in a call where that is allowed.
    """
    copies = 1
    if is_free(subject, case, 0) and 0 not in law.shared(x):
        copies = max(1, min(n, MOST_ELEMENTS // x.numel()))
    many = x.repeat(copies, *[1] * (x.dim() - 1))
    for _ in range(0, n, copies):
        y = answer(subject, case, many, "train")
        predicted = _per_row(weight * y).sum(1).reshape(copies, -1)
        yield torch.stack([(target - predicted).square().sum(1) for target in targets], 1)


def _squared_groups(products: Tensor, law: Law) -> Tensor:
    """Σ_g (Σ_{j∈g} wⱼ xᵢⱼ)² for each row i: products [b, …], summed over the axes that share.

    A mask that the rows share too leaves the expectation of each row's loss as it is.
    """
    shared = [axis for axis in law.shared(products) if axis != 0]
    grouped = products.sum(shared) if shared else products
    return _per_row(grouped).square().sum(1)


def _per_row(x: Tensor) -> Tensor:
    return torch.flatten(x, 1) if x.dim() > 1 else x[:, None]


def _normal(shape: torch.Size, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(like)
