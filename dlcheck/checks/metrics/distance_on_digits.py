"""Distances between feature sets of real handwritten digits: for FID and KID alike.

Orders only are claimed, with the chance that a distance blind to the difference has of passing.
"""

from __future__ import annotations

import itertools
import math

import torch

from dlcheck.checks.metrics.broken_distances import (
    compares_the_first_set_with_itself,
    is_higher_where_sets_are_closer,
    negates_the_distance,
)
from dlcheck.checks.metrics.digit_features import DigitFeatures, digit_features
from dlcheck.features import CLASSES
from dlcheck.model import Evidence, Figure
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_NOISE = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_DRAWS, _FEW = 9, 50
_SIZES = (_FEW, 100, 200, 400, 800)


@check(
    kind="distribution_metric",
    forbids={"other_distance", "stochastic", "stochastic_in_eval"},
    once=True,
    rejects=[
        compares_the_first_set_with_itself,
        is_higher_where_sets_are_closer,
        negates_the_distance,
    ],
    textbook={
        "id": "M4",
        "says": "The Fréchet distance becomes very high when one kind is produced",
        "verdict": "true",
    },
)
def showing_one_class_raises_the_distance(metric: Implementation, case: Case) -> Evidence:
    """Each kind of digit alone is further from the training digits than any mixed draw as large.

    Ten sets of one kind and nine draws of all kinds, as many rows in each, against 900 rows of 64
    features. A distance blind to kinds orders them at random, and passes with probability
    1/C(19, 9) = 10⁻⁵. The factor between them is measured: 50 to 150 for the Fréchet distance of
    all held-out digits.
    """
    digits = digit_features(metric, case)
    alone = [digits.distance(rows) for rows in digits.of_one_class]
    mixed = digits.draws(len(digits.of_one_class[0]), _DRAWS)
    near, far = [digits.distance(rows) for rows in mixed], min(alone)
    whole = digits.distance(digits.unseen)
    return Evidence(
        error=float(sum(not value < far for value in near)),
        bound=0.0,
        signal=float(_DRAWS),
        unit="draws",
        what="mixed draws that are no nearer than every single kind",
        expected=f"each nearer than {far:.3g}",
        got=f"{min(near):.3g} to {max(near):.3g}; all held-out digits {whole:.3g}",
        values={
            "held-out digits": whole,
            "one kind, lowest": far,
            "one kind, highest": max(alone),
            "one kind over held-out digits": far / whole if whole > 0 else math.inf,
            "chance of a blind distance": 1 / math.comb(CLASSES + _DRAWS, _DRAWS),
        },
        figures=(_over_classes(digits),),
    )


@check(
    kind="distribution_metric",
    forbids={"other_distance", "stochastic", "stochastic_in_eval"},
    once=True,
    rejects=[
        compares_the_first_set_with_itself,
        is_higher_where_sets_are_closer,
        negates_the_distance,
    ],
    textbook={
        "id": "M3",
        "says": "The Fréchet distance is lower the closer two distributions are",
        "verdict": "true",
    },
)
def noise_raises_the_distance(metric: Implementation, case: Case) -> Evidence:
    """The more noise on held-out digits, the further they are from the training digits.

    Noise of six strengths, 0 and ½ to 8 times the range of a pixel, the same field at every
    strength; every step must raise the distance. An eighth of the range is too little: it may
    bring two samples closer together by chance. A blind distance passes with probability 1/6!.
    """
    digits = digit_features(metric, case)
    values = [digits.distance(digits.with_noise(s)) for s in _NOISE]
    return _rising("noise", "standard deviation of the noise (pixels are 0 to 1)", _NOISE, values)


@check(
    kind="distribution_metric",
    forbids={"other_distance", "stochastic", "stochastic_in_eval"},
    once=True,
    rejects=[
        compares_the_first_set_with_itself,
        is_higher_where_sets_are_closer,
        negates_the_distance,
    ],
    textbook={
        "id": "M3",
        "says": "The Fréchet distance is lower the closer two distributions are",
        "verdict": "true",
    },
)
def mixing_in_other_pictures_raises_the_distance(metric: Implementation, case: Case) -> Evidence:
    """The larger the share of noisy pictures among held-out digits, the further they are.

    0, ¼, ½, ¾ and all of the pictures with noise twice the range of a pixel. For a law Q far away
    the distance of (1 − s)P + sQ from P is about s times that of Q: the mean moves by s, squared,
    and the variance between the two is s(1 − s). A blind distance passes with probability 1/5!.
    """
    digits = digit_features(metric, case)
    noisy, total = digits.with_noise(2.0), len(digits.unseen)
    order = torch.randperm(total, generator=case.generator("mixing"))
    values = []
    for share in _SHARES:
        rows = digits.unseen.clone()
        replaced = order[: round(share * total)]
        rows[replaced] = noisy[replaced]
        values.append(digits.distance(rows))
    return _rising("the share of noisy pictures", "share", _SHARES, values)


def _rising(over: str, axis: str, at: tuple[float, ...], values: list[float]) -> Evidence:
    steps = [b - a for a, b in itertools.pairwise(values)]
    figure = Figure(
        title=f"Distance against {over}",
        x=axis,
        y="distance",
        series={"held-out digits": list(zip(at, values, strict=True))},
        log_y=min(values) > 0,
    )
    return Evidence(
        error=float(sum(not step > 0 for step in steps)),
        bound=0.0,
        signal=float(len(steps)),
        unit="steps",
        what=f"steps of more {over.removeprefix('the ')} that do not raise the distance",
        expected="rising",
        got=", ".join(f"{value:.3g}" for value in values),
        values={"chance of a blind distance": 1 / math.factorial(len(values))},
        figures=(figure,),
    )


@check(
    kind="distribution_metric",
    forbids={"other_distance", "stochastic", "stochastic_in_eval"},
    options={"estimator": False},
    once=True,
    rejects=[
        compares_the_first_set_with_itself,
        is_higher_where_sets_are_closer,
        negates_the_distance,
    ],
    textbook={
        "id": "M5",
        "says": "The Fréchet distance is more robust to noise than the Inception Score",
        "verdict": "true if",
        "condition": "robust means that it ranks noise by its strength; weak noise moves it far, "
        "and so does a small sample",
    },
)
def weak_noise_and_small_samples_raise_the_distance(
    metric: Implementation, case: Case
) -> tuple[Evidence, ...]:
    """It ranks noise by its strength; but weak noise moves it far, and so does a small sample.

    Law: six strengths in order. Counter-examples, each against all 897 held-out digits: noise of
    half the range of a pixel, and nine draws of 50 digits without any, are all further away. The
    expectation over N rows exceeds that over all by about σ²(2d + d(d + 1)/2)/N. A distance that
    does not see N puts each draw above the whole with probability ½: all nine with 1/512.
    """
    digits = digit_features(metric, case)
    values = [digits.distance(digits.with_noise(s)) for s in _NOISE]
    law = _rising("noise", "standard deviation of the noise (pixels are 0 to 1)", _NOISE, values)
    few = [digits.distance(rows) for rows in digits.draws(_FEW, _DRAWS)]
    return (
        law,
        _above("weak noise", "at half the range of a pixel", [values[1]], values[0]),
        _above("a sample of 50", "nine draws of 50", few, values[0], _over_sizes(digits)),
    )


def _above(cause: str, where: str, values: list[float], least: float, *figures: Figure) -> Evidence:
    mean = sum(values) / len(values)
    return Evidence(
        error=float(sum(not value > least for value in values)),
        bound=0.0,
        signal=float(len(values)),
        what=f"distances that {cause} does not raise",
        expected=f"{least:.3g} if it were insensitive",
        got=f"{mean:.3g}, {mean / least:.3g} times as far" if least > 0 else f"{mean:.3g}",
        where=where,
        figures=figures,
        counterexample=True,
    )


def _over_classes(digits: DigitFeatures) -> Figure:
    points = [
        (float(n), digits.distance(digits.unseen[digits.labels < n])) for n in range(1, CLASSES + 1)
    ]
    return Figure(
        title="Distance against the kinds of digits shown",
        x="kinds of digits",
        y="distance",
        series={"held-out digits": points},
        log_y=min(y for _, y in points) > 0,
    )


def _over_sizes(digits: DigitFeatures) -> Figure:
    points = [(float(n), digits.distance(digits.draws(n, 1)[0])) for n in _SIZES]
    points.append((float(len(digits.unseen)), digits.distance(digits.unseen)))
    return Figure(
        title="Distance against the size of the sample",
        x="held-out digits",
        y="distance",
        series={"held-out digits": points, "∝ 1/N": _inverse(points)},
        log_x=True,
        log_y=True,
        note="Nothing but the number of pictures changes.",
    )


def _inverse(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    at, height = points[0]
    return [(n, height * at / n) for n, _ in points]
