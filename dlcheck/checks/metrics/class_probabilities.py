"""Class probabilities for scores of them, and how well such a score can be computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.precision import precision
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Mutant, Subject
from dlcheck.mutants import around
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_LEAST = 1e-30  # stands for 0 where a subject takes logarithms; a number in float32 too
_GUARD = 2.0**-20  # 10⁻⁶: the largest guard against log 0 that is in use


def unsplit(score: Implementation) -> Implementation:
    """The subject with one split, for only then does the score belong to the whole set.

    `options.splits` names the argument, or states a number. Raises NotApplicable for a fixed
    number above 1.
    """
    splits = score.options.get("splits", 1)
    if isinstance(splits, str):
        return score.rebuilt(**{splits: 1})
    if splits != 1:
        raise NotApplicable(f"the score is fixed to {splits} splits")
    return score


def in_one_or_fixed(score: Implementation) -> Implementation:
    """The subject with one split, or with the number that it is fixed to.

    For what holds in every split alike; `taken` then gives each split at least two samples.
    """
    splits = score.options.get("splits", 1)
    return score.rebuilt(**{splits: 1}) if isinstance(splits, str) else score


def form_of(score: Implementation | Subject) -> str:
    """What it takes: probabilities, log_probabilities or logits."""
    return str(score.options.get("prediction", "probabilities"))


def drawn(score: Implementation, case: Case) -> Tensor:
    """The probabilities [n, k] that the case drew, from whatever the subject takes."""
    return in_probabilities(case.fresh()[0], form_of(score))


def in_probabilities(given: Tensor, form: str) -> Tensor:
    """Probabilities [n, k] of predictions in a form."""
    if form == "logits":
        return given.softmax(1)
    return given.exp() if form == "log_probabilities" else given


def in_form(p: Tensor, form: str, *, positive: bool = False) -> Tensor:
    """Probabilities [n, k] as predictions in a form; a finite logarithm stands for that of 0.

    positive: no probability is exactly 0, as the trait `positive_only` asks.
    """
    if form == "probabilities":
        return p.clamp_min(_LEAST) if positive else p
    return p.clamp_min(_LEAST).log()


def score_of(score: Implementation, p: Tensor, case: Case) -> float:
    """The score of probabilities [n, k], given to the subject as it takes them.

    With the same random stream at every call, for subjects that shuffle.
    """
    return number_of(score, taken(score, p, case), case)


def number_of(score: Implementation, given: Tensor, case: Case) -> float:
    """The score of what the subject takes, with the same random stream at every call."""
    return score.as_number(answer_of(score, given, case))


def answer_of(score: Implementation, given: Tensor, case: Case) -> Any:
    """The same as the subject answers it; given an array where it declares arrays = "numpy"."""
    seed_everything(case.recipe.seed)
    if score.options.get("arrays") == "numpy":
        return score(given.cpu().numpy())
    return score(given)


def taken(score: Implementation, p: Tensor, case: Case) -> Tensor:
    """Probabilities [n, k] in the subject's form, on the case's device, in its dtype.

    Repeated where a fixed number of splits would get fewer than two samples each.
    """
    p = p.to(device=case.device, dtype=case.dtype)
    fixed = score.options.get("splits", 1)
    if isinstance(fixed, int) and fixed > 1 and len(p) < 2 * fixed:
        p = p.repeat(math.ceil(2 * fixed / len(p)), 1)
    return in_form(p, form_of(score), positive="positive_only" in score.traits)


def softmax_rows(case: Case, rows: int, salt: str) -> Tensor:
    """Probabilities [rows, k] of moderate confidence, with the case's k."""
    classes = case.tensors[0].shape[1]
    z = torch.randn(rows, classes, generator=case.generator(salt), dtype=torch.float64)
    return torch.softmax(2 * z, 1).to(device=case.device, dtype=case.dtype)


def resolvable(score: Implementation, case: Case, value: float) -> float:
    """The error that a right score of that value may have.

    Most implementations guard the logarithm, log(p + g). With g ≤ max(√ε, 2⁻²⁰), and
    p |log(p + g) − log p| ≤ g, a guard moves Σ p log p and Σ p log m by at most K g each, so the
    divergence by 2 K g and the score by 2 K g of its value. Rounding is below that, also of one
    that computes in float32 whatever it is given.
    """
    classes = case.tensors[0].shape[1]
    guard = max(torch.finfo(precision(score, case)).eps ** 0.5, _GUARD)
    return float(2 * classes * guard * max(abs(value), 1.0))


def on_probabilities(call: Callable[..., Any]) -> Mutant:
    """A mutant `call(original, p, …)` of probabilities, for a subject of any form."""

    def mutate(subject: Subject) -> Subject:
        form = form_of(subject)

        def converted(original: Any, given: Tensor, *rest: Any, **keywords: Any) -> Any:
            def score(p: Tensor, *more: Any, **named: Any) -> Any:
                return original(in_form(p, form), *more, **named)

            p = in_probabilities(given, form)
            return call(score, torch.where(p > 2 * _LEAST, p, 0), *rest, **keywords)

        converted.__name__ = call.__name__
        return around(converted)(subject)

    mutate.__name__ = call.__name__
    return mutate
