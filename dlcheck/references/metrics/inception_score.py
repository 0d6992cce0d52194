"""The Inception Score of class probabilities."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from dlcheck.registry import reference


class InceptionScore(NamedTuple):
    """Mean and standard deviation over the splits, and the score of all samples together."""

    mean: Tensor
    deviation: Tensor
    whole: Tensor


@reference(
    kind="score_metric",
    formula="exp( E_x KL( p(y|x) ‖ p(y) ) )",
    source="Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016, §4",
    inputs={"probabilities": "probability n k"},
    args={"splits": 1},
    options={"splits": "splits", "range": [1, "k"], "better": "higher"},
)
def inception_score(probabilities: Tensor, splits: int = 1, seed: int = 0) -> InceptionScore:
    """exp of the mean divergence of p(y|x) [n, k] from its mean p(y), natural logarithm.

    In float64. A total collapse scores exactly 1, not NaN, since 0 log 0 = 0. With more than one
    split the samples are shuffled with `seed` and split at i·n // splits, n ≥ splits.
    """
    p = probabilities.double()
    whole = _divergence(p).exp()
    if splits == 1:
        return InceptionScore(whole, torch.zeros_like(whole), whole)
    order = torch.randperm(len(p), generator=torch.Generator().manual_seed(seed))
    p = p[order.to(p.device)]
    ends = [i * len(p) // splits for i in range(splits + 1)]
    scores = torch.stack([_divergence(p[a:b]).exp() for a, b in itertools.pairwise(ends)])
    return InceptionScore(scores.mean(), scores.std(correction=0), whole)


def inception_score_from_logits(logits: Tensor) -> Tensor:
    """The same from logits [n, k], for probabilities too small to be numbers; returns []."""
    log_p = logits.double().log_softmax(-1)
    log_marginal = log_p.logsumexp(0) - math.log(len(log_p))
    return (log_p.exp() * (log_p - log_marginal)).sum(-1).mean().exp()


def _divergence(p: Tensor) -> Tensor:
    """E_x KL(p(y|x) ‖ p(y)) = Σ p log p − Σ p log m, with 0 log 0 = 0 in both."""
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(-1).mean()
