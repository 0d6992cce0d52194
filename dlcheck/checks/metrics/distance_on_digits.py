"""Distances between feature sets of real handwritten digits: for FID and KID alike."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from dlcheck.domains import Input, size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.features import CLASSES, FEATURES, DigitsStudy, digits_study
from dlcheck.model import Evidence, Figure
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_NOISE = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@around
def is_higher_where_sets_are_closer(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return 1 / (1 + torch.as_tensor(original(*sets, **keywords)))


@around
def negates_the_distance(original: Any, *sets: Tensor, **keywords: Any) -> Any:
    return -torch.as_tensor(original(*sets, **keywords))


@around
def compares_the_first_set_with_itself(original: Any, a: Tensor, b: Tensor, **keywords: Any) -> Any:
    """The statistics of the real set, cached under the wrong name."""
    return original(a, a, **keywords)


@check(
    kind="distribution_metric",
    forbids={"other_distance"},
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
    """Held-out digits are ten times closer to the training digits than digits of any one kind.

    900 against 897 and about 90 rows of 64 features of a classifier; for the Fréchet distance
    the factor is 50 to 150. The error is the distance of the held-out digits over that of the
    nearest single kind, and at most a tenth.
    """
    study = digits_study(case.root)
    real = _features(metric, case, study, study.known)
    near = metric.number(real, _features(metric, case, study, study.unseen))
    alone = [
        metric.number(real, _features(metric, case, study, study.unseen[study.labels == c]))
        for c in range(CLASSES)
    ]
    least = min(alone)
    return Evidence(
        error=max(near / least, 0.0) if least > 0 else float("inf"),
        bound=0.1,
        signal=1.0,
        resolution=0.1,
        unit="of the distance of one kind of digit",
        what="distance of held-out digits",
        expected=f"at most a tenth of {least:.3g}",
        got=f"{near:.3g}",
        values={"held-out digits": near, "one class, lowest": least, "highest": max(alone)},
        figures=(_over_classes(metric, case, study, real),),
    )


@check(
    kind="distribution_metric",
    forbids={"other_distance"},
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

    Noise of seven strengths, 0 and ¼ to 8 times the range of a pixel, the same field at every
    strength; every step must raise the distance. An eighth of the range is too little: it may
    bring two samples closer together by chance.
    """
    study = digits_study(case.root)
    real = _features(metric, case, study, study.known)
    noise = torch.randn(study.unseen.shape, generator=case.generator("noise"))
    values = [
        metric.number(real, _features(metric, case, study, study.unseen + s * noise))
        for s in _NOISE
    ]
    steps = [b - a for a, b in itertools.pairwise(values)]
    figure = Figure(
        title="Distance against noise",
        x="standard deviation of the noise (pixels are 0 to 1)",
        y="distance",
        series={"held-out digits": list(zip(_NOISE, values, strict=True))},
        log_y=min(values) > 0,
    )
    return Evidence(
        error=float(sum(not step > 0 for step in steps)),
        bound=0.0,
        signal=float(len(steps)),
        unit="steps",
        what="steps of more noise that do not raise the distance",
        expected="rising",
        got=", ".join(f"{value:.3g}" for value in values),
        figures=(figure,),
    )


def _features(metric: Implementation, case: Case, study: DigitsStudy, pictures: Tensor) -> Tensor:
    """Features [n, 64]; fewer where the declaration bounds their number, the first ones."""
    spec: Input = next(iter(case.specs.values()))
    width = spec.dims[-1]
    low, high = size_bounds(metric.options, width.name) or (1, FEATURES)
    if not width.name:
        low = high = width.times
    if low > FEATURES:
        raise NotApplicable(f"there are {FEATURES} features, and this distance takes {low}")
    features = study.features(pictures)[:, : min(high, FEATURES)]
    return features.to(device=case.device, dtype=case.dtype)


def _over_classes(metric: Implementation, case: Case, study: DigitsStudy, real: Tensor) -> Figure:
    points = []
    for n in range(1, CLASSES + 1):
        shown = study.unseen[study.labels < n]
        points.append((float(n), metric.number(real, _features(metric, case, study, shown))))
    return Figure(
        title="Distance against the kinds of digits shown",
        x="kinds of digits",
        y="distance",
        series={"held-out digits": points},
        log_y=min(y for _, y in points) > 0,
    )
