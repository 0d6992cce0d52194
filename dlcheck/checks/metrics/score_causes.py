"""Which mistake gives the score that was found: the formulas that people write by accident."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_FOUND = 1e-4  # relative: two mistakes give values much further apart


def _divergences(p: Tensor, marginal: Tensor) -> Tensor:
    return (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1)


def _score(p: Tensor) -> Tensor:
    return _divergences(p, p.mean(0)).mean().exp()


def _exchanged(p: Tensor) -> Tensor:
    m = p.mean(0).expand_as(p)
    return _divergences(m, p).mean().exp()


_CAUSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "it takes the softmax of what it is given: declare prediction = \"logits\", or leave it out":
        lambda p: _score(p.softmax(1)),
    "it takes the exponential of what it is given: declare prediction = \"log_probabilities\"":
        lambda p: _score(p.exp()),
    "the exponential is missing": lambda p: _score(p).log(),
    "the logarithm has base 2 and the power base e":
        lambda p: (_score(p).log() / math.log(2)).exp(),
    "the logarithm has base e and the power base 2": lambda p: 2 ** _score(p).log(),
    "the arguments of the divergence are exchanged": _exchanged,
    "the exponential is taken for every sample, before the mean":
        lambda p: _divergences(p, p.mean(0)).exp().mean(),
    "a mean over the classes stands where their sum is meant":
        lambda p: (_score(p).log() / p.shape[1]).exp(),
    "a sum over the samples, or over their count less 1, stands where their mean is meant":
        lambda p: (_score(p).log() * len(p)).exp(),
    "the marginal is uniform, as it is where the mean goes over the classes, not the samples":
        lambda p: _divergences(p, torch.full_like(p, 1 / p.shape[1])).mean().exp(),
    "only the entropy of the marginal counts":
        lambda p: torch.special.entr(p.mean(0)).sum().exp(),
    "the likeliest class counts, not the probabilities":
        lambda p: _score(torch.zeros_like(p).scatter_(1, p.argmax(1, keepdim=True), 1.0)),
}  # fmt: skip

_NO_NUMBER = (
    "0 log 0 by the letter, where 0 is meant; or splits without samples: declare the option splits "
    "if it cuts the samples, the trait positive_only if it is documented for p > 0"
)


def _tells(p: Tensor) -> bool:
    """Do mistakes differ on these rows? Not on equal rows, nor on certain ones."""
    return bool((p > 0).all()) and not bool((p == p[:1]).all())


def likely_cause(p: Tensor, value: float) -> str:
    """What would give this score of probabilities p [n, k]; empty where nothing known does."""
    if math.isnan(value):
        return _NO_NUMBER
    if not _tells(p):
        return ""
    rows = p.double().cpu()
    for cause, formula in _CAUSES.items():
        told = float(formula(rows))
        if abs(told - value) <= _FOUND * abs(value):
            return cause
    return ""
