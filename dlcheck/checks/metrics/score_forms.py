"""What the Inception Score may not see: classes that never occur, and the level of logits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.class_probabilities import (
    in_one_or_fixed,
    number_of,
    on_probabilities,
    resolvable,
    softmax_rows,
    taken,
    unsplit,
)
from dlcheck.checks.metrics.score_laws import unchanged
from dlcheck.checks.metrics.score_values import compares_with_the_uniform_marginal
from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@on_probabilities
def smooths_the_probabilities(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    """A thousandth of every row spread over all classes."""
    return original(0.999 * p + 0.001 / p.shape[1], *rest, **keywords)


@on_probabilities
def divides_by_the_class_count(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    return _number(original(p, *rest, **keywords)) / p.shape[1]


@around
def divides_logits_by_their_sum(original: Any, z: Tensor, *rest: Any, **keywords: Any) -> Any:
    """Shifted to be positive and divided by the sum, in place of a softmax."""
    weights = z - z.amin() + 1e-3
    return original((weights / weights.sum(1, keepdim=True)).log(), *rest, **keywords)


@around
def clips_the_logits(original: Any, z: Tensor, *rest: Any, **keywords: Any) -> Any:
    return original(z.clamp(-4, 4), *rest, **keywords)


@around
def normalises_over_the_batch(original: Any, z: Tensor, *rest: Any, **keywords: Any) -> Any:
    """Softmax along the wrong axis: every class sums to 1 over the samples."""
    p = z.softmax(0)
    return original((p / p.sum(1, keepdim=True)).log(), *rest, **keywords)


@around
def exponentiates_before_it_divides(original: Any, z: Tensor, *rest: Any, **keywords: Any) -> Any:
    """exp z / Σ exp z without the largest taken out: ∞ / ∞ for a logit of 1000."""
    p = z.exp() / z.exp().sum(1, keepdim=True)
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1).mean().exp()


@around
def subtracts_the_largest_of_all(original: Any, z: Tensor, *rest: Any, **keywords: Any) -> Any:
    """The largest logit of the batch in place of that of the sample: 0 / 0 for a low sample."""
    p = (z - z.amax()).exp() / (z - z.amax()).exp().sum(1, keepdim=True)
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1).mean().exp()


def _number(answer: Any) -> Any:
    return answer[0] if isinstance(answer, (tuple, list)) else answer


@check(
    kind="score_metric",
    rejects=[
        compares_with_the_uniform_marginal,
        divides_by_the_class_count,
        smooths_the_probabilities,
    ],
    regimes=["normal"],
)
def a_class_that_never_occurs_changes_nothing(score: Implementation, case: Case) -> Evidence:
    """A further class to which no sample gives any probability leaves the score as it was.

    probabilities [n, k] of moderate confidence against [n, k + 1] with a last column of 0: it
    adds 0 log 0 to both sums.
    """
    score, rows = in_one_or_fixed(score), softmax_rows(case, len(case.tensors[0]) + 1, "rows")
    _needs_free_classes(score, case, rows.shape[1] + 1)
    wider = torch.cat([rows, torch.zeros_like(rows[:, :1])], 1)
    return unchanged(score, case, rows, wider, "a class that never occurs")


def _needs_free_classes(score: Implementation, case: Case, classes: int) -> None:
    last = next(iter(case.specs.values())).dims[-1]
    bounds = size_bounds(score.options, last.name)
    if not last.name or (bounds is not None and classes > bounds[1]):
        raise NotApplicable("the number of classes is fixed")


@check(
    kind="score_metric",
    options={"prediction": ["logits"]},
    rejects=[clips_the_logits, divides_logits_by_their_sum, normalises_over_the_batch],
    regimes=["normal"],
)
def shifting_the_logits_of_a_sample_changes_nothing(score: Implementation, case: Case) -> Evidence:
    """Logits say the same when a constant is added to all classes of a sample.

    logits [n, k] of moderate confidence; each row moved by its own constant, up to ±16.
    """
    score, p = in_one_or_fixed(score), softmax_rows(case, len(case.tensors[0]) + 1, "rows")
    logits = taken(score, p, case)
    moves = torch.linspace(-16, 16, len(logits), dtype=logits.dtype, device=logits.device)
    before, after = (number_of(score, z, case) for z in (logits, logits + moves[:, None]))
    return Evidence(
        error=abs(after - before),
        bound=2 * resolvable(score, case, before),
        signal=abs(before),
        what="change of the score for moved logits",
        expected=f"{before:.9g}",
        got=f"{after:.9g}",
    )


@check(
    kind="score_metric",
    options={"prediction": ["logits"]},
    rejects=[
        clips_the_logits,
        exponentiates_before_it_divides,
        subtracts_the_largest_of_all,
    ],
    regimes=["normal"],
)
def a_sure_classifier_has_a_score(score: Implementation, case: Case) -> Evidence:
    """Logits whose exponential is no number score as certainty does: the classes that occur.

    logits [2 k, k] of one-hot rows, every class equally often, the second half of the samples
    lower by twice as much as lies between the classes: log of the largest number, and 1.
    """
    score, classes = unsplit(score), case.tensors[0].shape[1]
    gap = math.log(torch.finfo(case.dtype).max) + 1
    certain = gap * torch.eye(classes, dtype=case.dtype, device=case.device)
    value = number_of(score, torch.cat([certain, certain - 2 * gap]), case)
    return Evidence(
        error=abs(value - classes),
        bound=resolvable(score, case, classes),
        signal=float(classes),
        what="score of a sure classifier",
        expected=f"{classes}",
        got=f"{value:.9g}",
    )
