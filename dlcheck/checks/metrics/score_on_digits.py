"""The Inception Score of real handwritten digits, by way of a small classifier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.class_probabilities import unsplit
from dlcheck.checks.metrics.score_laws import negates_the_divergence
from dlcheck.checks.metrics.score_values import compares_with_the_uniform_marginal
from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.features import CLASSES, DigitsStudy, digits_study
from dlcheck.model import Evidence, Figure
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_NOISE = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@around
def measures_confidence_alone(original: Any, p: Tensor, **keywords: Any) -> Any:
    """K times the mean of the largest probability: sure of itself, however alike the pictures."""
    return p.shape[1] * p.amax(1).mean()


@around
def forgets_all_but_the_last_batch(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    return original(p[-1:], *rest, **keywords)


@check(
    kind="score_metric",
    once=True,
    rejects=[
        compares_with_the_uniform_marginal,
        forgets_all_but_the_last_batch,
        measures_confidence_alone,
        negates_the_divergence,
    ],
    textbook={
        "id": "M2",
        "says": "The Inception Score cannot see when one kind of object is produced",
        "verdict": "false when",
        "condition": "all else is gone: it falls; it misses a collapse within classes",
    },
)
def showing_one_class_lowers_the_score(score: Implementation, case: Case) -> Evidence:
    """Real digits of all ten kinds score above the digits of any one kind, and within [1, 10].

    897 held-out digits through a classifier with 96 % accuracy: about 9 against 1.0 to 1.6. So
    the score does see a generator that shows one kind only; it hardly sees one that shows one
    picture of each kind (`one picture per class` in the values), and it rises again under strong
    noise (the figure), for it never looks at the real data.
    """
    study, score = digits_study(case.root), unsplit(score)
    _needs_ten_classes(score, case)
    everything = _score(score, case, study, study.unseen)
    alone = [_score(score, case, study, _kept(study, {c})) for c in range(CLASSES)]
    single = torch.cat([_kept(study, {c})[:1] for c in range(CLASSES)])
    as_high = sum(not value < everything for value in alone) + (not 1 <= everything <= CLASSES)
    return Evidence(
        error=float(as_high),
        bound=0.0,
        signal=float(CLASSES),
        unit="classes",
        what="classes that alone score as high as all ten",
        expected=f"each below {everything:.3g}",
        got=", ".join(f"{value:.3g}" for value in alone),
        values={
            "all ten classes": everything,
            "one class, highest": max(alone),
            "one picture per class": _score(score, case, study, single.repeat(20, 1, 1, 1)),
            "accuracy of the classifier": study.accuracy,
        },
        figures=(_over_classes(score, case, study), _over_noise(score, case, study)),
    )


def _needs_ten_classes(score: Implementation, case: Case) -> None:
    last = next(iter(case.specs.values())).dims[-1]
    low, high = size_bounds(score.options, last.name) or (1, CLASSES)
    if not last.name or not low <= CLASSES <= high:
        raise NotApplicable(f"digits have {CLASSES} classes, which this score does not take")


def _score(score: Implementation, case: Case, study: DigitsStudy, pictures: Tensor) -> float:
    p = study.probabilities(pictures)
    return score.number(p.to(device=case.device, dtype=case.dtype))


def _kept(study: DigitsStudy, classes: set[int]) -> Tensor:
    return study.unseen[torch.isin(study.labels, torch.tensor(sorted(classes)))]


def _over_classes(score: Implementation, case: Case, study: DigitsStudy) -> Figure:
    points = [
        (float(n), _score(score, case, study, _kept(study, set(range(n)))))
        for n in range(1, CLASSES + 1)
    ]
    return Figure(
        title="Score against the kinds of digits shown",
        x="kinds of digits",
        y="score",
        series={"held-out digits": points, "as many as kinds": [(1.0, 1.0), (10.0, 10.0)]},
    )


def _over_noise(score: Implementation, case: Case, study: DigitsStudy) -> Figure:
    noise = torch.randn(study.unseen.shape, generator=case.generator("noise"))
    points = [(s, _score(score, case, study, study.unseen + s * noise)) for s in _NOISE]
    return Figure(
        title="Score against noise",
        x="standard deviation of the noise (pixels are 0 to 1)",
        y="score",
        series={"held-out digits": points},
        note="Not monotone: the score rises again where the classifier is surely wrong.",
    )
