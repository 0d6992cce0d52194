"""The Inception Score of real handwritten digits: which lack of diversity it sees."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.class_probabilities import (
    in_one_or_fixed,
    on_probabilities,
    score_of,
    unsplit,
)
from dlcheck.checks.metrics.score_laws import negates_the_divergence
from dlcheck.checks.metrics.score_values import compares_with_the_uniform_marginal
from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.features import CLASSES, DigitsStudy, digits_study
from dlcheck.model import Evidence, Figure
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@on_probabilities
def measures_confidence_alone(original: Any, p: Tensor, **keywords: Any) -> Any:
    """K times the mean of the largest probability: sure of itself, however alike the pictures."""
    return p.shape[1] * p.amax(1).mean()


@on_probabilities
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
def showing_one_class_lowers_the_score(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Digits of any one kind score below all ten kinds; one picture of each kind scores above.

    897 held-out digits through a classifier with 96 % accuracy: about 9, against 1.0 to 1.7 for
    one kind. So the score does see a generator that shows one kind only. It does not see one that
    shows a single picture of each kind, the surest, which scores 10, while the Fréchet distance
    from the training digits grows ten- to thirtyfold.
    """
    study, score = digits_study(case.root), in_one_or_fixed(score)
    needs_ten_classes(score, case)
    everything = digits_score(score, case, study, study.unseen)
    alone = [digits_score(score, case, study, _kind(study, c)) for c in range(CLASSES)]
    as_high = sum(not value < everything for value in alone) + (not 1 <= everything <= CLASSES)
    yield Evidence(
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
            "accuracy of the classifier": study.accuracy,
        },
        figures=(_over_classes(score, case, study),),
        counterexample=True,
    )
    yield _collapse_within_classes(score, case, study, everything)


def _collapse_within_classes(
    score: Implementation, case: Case, study: DigitsStudy, everything: float
) -> Evidence:
    """A picture of each kind over and over: rank of its score, and its distance."""
    surest = study.unseen[study.probabilities(study.unseen).argmax(0)].repeat(20, 1, 1, 1)
    collapsed = digits_score(score, case, study, surest)
    near, far = study.distance(study.unseen), study.distance(surest)
    return Evidence(
        error=collapsed if collapsed != collapsed else max(everything - collapsed, 0.0),
        bound=0.0,
        signal=everything,
        what="loss of score by one picture of each kind in place of all digits",
        expected=f"none: at least {everything:.3g}",
        got=f"{collapsed:.3g}, at {far / near:.3g} times the Fréchet distance",
        values={"distance of held-out digits": near, "distance of ten pictures": far},
    )


def needs_ten_classes(score: Implementation, case: Case) -> None:
    """Raise NotApplicable for a score of another number of classes."""
    last = next(iter(case.specs.values())).dims[-1]
    low, high = size_bounds(score.options, last.name) or (1, CLASSES)
    if not last.name or not low <= CLASSES <= high:
        raise NotApplicable(f"digits have {CLASSES} classes, which this score does not take")


def digits_score(score: Implementation, case: Case, study: DigitsStudy, pictures: Tensor) -> float:
    """The score of pictures, as the study's classifier sees them."""
    return score_of(score, study.probabilities(pictures), case)


def _kind(study: DigitsStudy, digit: int) -> Tensor:
    return study.unseen[study.labels == digit]


def _over_classes(score: Implementation, case: Case, study: DigitsStudy) -> Figure:
    points = [
        (float(n), digits_score(score, case, study, study.kinds(n))) for n in range(1, CLASSES + 1)
    ]
    return Figure(
        title="Score against the kinds of digits shown",
        x="kinds of digits",
        y="score",
        series={"held-out digits": points, "as many as kinds": [(1.0, 1.0), (10.0, 10.0)]},
    )


@check(
    kind="score_metric",
    once=True,
    rejects=[
        forgets_all_but_the_last_batch,
        measures_confidence_alone,
        negates_the_divergence,
    ],
)
def mixing_in_more_kinds_raises_the_score(score: Implementation, case: Case) -> Evidence:
    """The more of the sure digits of one kind are replaced by those of others, the higher it is.

    50 pictures of which none, a fifth, … all are of ten kinds in equal parts, each kind being
    shown by its surest pictures. With certain predictions the score is exp of the
    entropy of the classes, which rises with the share.
    """
    study, score = digits_study(case.root), unsplit(score)
    needs_ten_classes(score, case)
    p = study.probabilities(study.unseen)
    surest = p.topk(5, 0).indices  # [5, 10]
    one = surest[:, :1].repeat(10, 1).flatten()  # 50 rows of the first kind
    values = []
    for count in range(6):  # fifths
        rows = torch.cat([surest[:count].flatten(), one[: 50 - 10 * count]])
        values.append(score_of(score, p[rows], case))
    steps = [b - a for a, b in itertools.pairwise(values)]
    return Evidence(
        error=float(sum(not step > 0 for step in steps)),
        bound=0.0,
        signal=float(len(steps)),
        unit="steps",
        what="steps towards an even mixture that do not raise the score",
        expected="rising",
        got=", ".join(f"{value:.3g}" for value in values),
        figures=(
            Figure(
                title="Score against the share of ten kinds in a set of one kind",
                x="share of pictures of all kinds",
                y="score",
                series={"surest digits": [(i / 5, v) for i, v in enumerate(values)]},
            ),
        ),
    )
