"""The Inception Score of sets for which it is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.class_probabilities import (
    drawn,
    in_one_or_fixed,
    on_probabilities,
    resolvable,
    score_of,
    unsplit,
)
from dlcheck.checks.metrics.score_causes import likely_cause
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_MOST = 512  # rows in all


def _divergences(p: Tensor, marginal: Tensor) -> Tensor:
    """KL(p ‖ marginal) of every row."""
    return (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1)


@on_probabilities
def forgets_the_exponential(original: Any, p: Tensor, **keywords: Any) -> Any:
    return _divergences(p, p.mean(0)).mean()


@on_probabilities
def averages_the_exponentials(original: Any, p: Tensor, **keywords: Any) -> Any:
    return _divergences(p, p.mean(0)).exp().mean()


@on_probabilities
def takes_logarithms_to_base_two(original: Any, p: Tensor, **keywords: Any) -> Any:
    """Base 2 inside and e outside."""
    return (_divergences(p, p.mean(0)).mean() / math.log(2)).exp()


@on_probabilities
def takes_zero_times_infinity(original: Any, p: Tensor, **keywords: Any) -> Any:
    """p log p by the letter: NaN where p is 0."""
    return (p * (p.log() - p.mean(0).log())).sum(1).mean().exp()


@on_probabilities
def exchanges_the_arguments_of_the_divergence(original: Any, p: Tensor, **keywords: Any) -> Any:
    """KL(p(y) ‖ p(y|x)), with a guard against 0."""
    marginal = p.mean(0)
    return (marginal * ((marginal + 1e-12) / (p + 1e-12)).log()).sum(1).mean().exp()


@on_probabilities
def compares_with_the_uniform_marginal(original: Any, p: Tensor, **keywords: Any) -> Any:
    return _divergences(p, torch.full_like(p[0], 1 / p.shape[1])).mean().exp()


@on_probabilities
def measures_the_marginal_alone(original: Any, p: Tensor, **keywords: Any) -> Any:
    """exp of the entropy of p(y): diversity without confidence."""
    marginal = p.mean(0)
    return (-torch.xlogy(marginal, marginal)).sum().exp()


@on_probabilities
def averages_over_classes_too(original: Any, p: Tensor, **keywords: Any) -> Any:
    """mean() where sum over the classes is meant."""
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).mean().exp()


@on_probabilities
def takes_the_softmax_again(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    return original(torch.softmax(p, 1), *rest, **keywords)


@check(
    kind="score_metric",
    rejects=[
        averages_the_exponentials,
        averages_over_classes_too,
        compares_with_the_uniform_marginal,
        exchanges_the_arguments_of_the_divergence,
        forgets_the_exponential,
        measures_the_marginal_alone,
        takes_logarithms_to_base_two,
        takes_the_softmax_again,
    ],
    regimes=["normal"],
)
def two_known_rows_score_what_they_should(score: Implementation, case: Case) -> Evidence:
    """Two rows p and q score exp(½ KL(p ‖ m) + ½ KL(q ‖ m)), m their mean, computed by hand.

    probabilities [2, k]: 0.8 on the first class and 0.6 on the last, the rest spread evenly, so
    that the marginal is not uniform.
    Source: Salimans et al., NeurIPS 2016, §4.
    """
    classes = case.tensors[0].shape[1]
    if classes < 2:
        raise NotApplicable("there is one class, and nothing to tell apart")
    p, q = _row(0.8, 0, classes), _row(0.6, classes - 1, classes)
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    divergence = sum(_term(a, c) + _term(b, c) for a, b, c in zip(p, q, m, strict=True)) / 2
    rows = torch.tensor([p, q], dtype=case.dtype, device=case.device)
    return _known(unsplit(score), case, rows, math.exp(divergence), "score of two known rows")


def _row(top: float, at: int, classes: int) -> list[float]:
    rest = (1 - top) / (classes - 1)
    return [top if k == at else rest for k in range(classes)]


def _term(p: float, m: float) -> float:
    return p * math.log(p / m)


@check(
    kind="score_metric",
    rejects=[
        compares_with_the_uniform_marginal,
        forgets_the_exponential,
        measures_the_marginal_alone,
        takes_zero_times_infinity,
    ],
)
def identical_predictions_score_one(score: Implementation, case: Case) -> Iterator[Evidence]:
    """A generator that always shows the same thing scores 1, however sure the classifier is.

    probabilities [n, k], all rows equal to the first drawn one, and all rows one-hot: a total
    collapse, where 0 log 0 is 0 and not NaN.
    """
    score, rows = in_one_or_fixed(score), drawn(score, case)
    certain = torch.zeros_like(rows)
    certain[:, -1] = 1
    for what, p in (("equal rows", rows[:1].expand_as(rows).clone()), ("one class", certain)):
        yield _known(score, case, p, 1.0, f"score of {what}")


@check(
    kind="score_metric",
    rejects=[
        averages_over_classes_too,
        forgets_the_exponential,
        takes_logarithms_to_base_two,
        takes_the_softmax_again,
        takes_zero_times_infinity,
    ],
)
def certain_and_even_predictions_score_the_class_count(
    score: Implementation, case: Case
) -> Evidence:
    """A sure classifier that sees every one of K classes equally often scores K, the most.

    probabilities [n k, k]: n one-hot rows of each class, fewer where there are many classes.
    """
    rows, classes = case.tensors[0].shape
    rows = max(min(rows, _MOST // classes), 1)
    certain = torch.eye(classes, dtype=case.dtype, device=case.device).repeat(rows, 1)
    return _known(unsplit(score), case, certain, float(classes), "score of certain, even classes")


def _known(score: Implementation, case: Case, p: Tensor, expected: float, what: str) -> Evidence:
    value, bound = score_of(score, p, case), resolvable(score, case, expected)
    right = abs(value - expected) <= bound
    return Evidence(
        error=abs(value - expected),
        bound=bound,
        signal=expected,
        what=what,
        expected=f"{expected:.9g}",
        got=f"{value:.9g}",
        cause="" if right else likely_cause(p, value),
    )
