"""What the Inception Score cannot know, since it never sees the real data: realism and noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dlcheck.checks.metrics.class_probabilities import in_one_or_fixed, unsplit
from dlcheck.checks.metrics.score_laws import (
    negates_the_divergence,
    sums_over_the_samples,
)
from dlcheck.checks.metrics.score_on_digits import (
    digits_score,
    forgets_all_but_the_last_batch,
    measures_confidence_alone,
    needs_ten_classes,
)
from dlcheck.features import DigitsStudy, digits_study
from dlcheck.model import Evidence, Figure
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_NOISE = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_FEW, _DRAWS, _ENOUGH = 50, 8, 300


@check(
    kind="score_metric",
    once=True,
    rejects=[
        forgets_all_but_the_last_batch,
        measures_confidence_alone,
        negates_the_divergence,
    ],
    textbook={
        "id": "M1",
        "says": "The Inception Score measures quality and diversity, and higher is better",
        "verdict": "true if",
        "condition": "pictures stay within what the classifier knows: it never sees the real data",
    },
)
def blur_and_fewer_kinds_lower_the_score(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Fewer kinds of digits and blurred digits score lower; pictures three times too bright, above.

    897 held-out digits: the score falls with every kind that is left out (diversity) and where
    pictures are averaged over 3 × 3 pixels (quality, 9 to 3 … 5). Pixels times 3 lie far outside
    of the real data, at a thousand times the Fréchet distance, and score higher than the real
    ones, for the classifier is only surer of them.
    """
    study, score = digits_study(case.root), in_one_or_fixed(score)
    needs_ten_classes(score, case)

    def of(pictures: Tensor) -> float:
        return digits_score(score, case, study, pictures)

    real = of(study.unseen)
    fewer = [of(study.kinds(n)) for n in (2, 4, 6, 8)] + [real]
    blurred = of(torch.nn.functional.avg_pool2d(study.unseen, 3, 1, 1))
    wrong = sum(not b > a for a, b in itertools.pairwise(fewer)) + (not blurred < real)
    yield Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(len(fewer)),
        unit="comparisons",
        what="sets with fewer kinds, or blurred, that score as high",
        expected="2, 4, 6, 8, 10 kinds rising; blurred below all",
        got=f"{', '.join(f'{value:.3g}' for value in fewer)}; blurred {blurred:.3g}",
    )
    bright, near = of(3 * study.unseen), study.distance(study.unseen)
    yield Evidence(
        error=bright if bright != bright else max(real - bright, 0.0),
        bound=0.0,
        signal=real,
        what="loss of score by pixels three times too bright",
        expected=f"none: at least {real:.3g}",
        got=f"{bright:.3g}, at {study.distance(3 * study.unseen) / near:.3g} times the Fréchet "
        "distance",
        counterexample=True,
        figures=(_over_brightness(study, of),),
    )


def _over_brightness(study: DigitsStudy, of: Callable[[Tensor], float]) -> Figure:
    factors, pictures = (0.25, 0.5, 1.0, 2.0, 3.0), study.unseen[:_ENOUGH]
    near = study.distance(pictures)
    return Figure(
        title="Score and distance against brightness",
        x="factor of the pixels",
        y="score; Fréchet distance over that of real digits",
        series={
            "score": [(f, of(f * pictures)) for f in factors],
            "distance": [(f, study.distance(f * pictures) / near) for f in factors],
        },
        log_y=True,
        note="Higher score, and further from the real digits.",
    )


@check(
    kind="score_metric",
    once=True,
    rejects=[
        forgets_all_but_the_last_batch,
        negates_the_divergence,
        sums_over_the_samples,
    ],
    textbook={
        "id": "M5",
        "says": "The Fréchet distance is more robust to noise than the Inception Score",
        "verdict": "true if",
        "condition": "robust means that it ranks noise by its strength; weak noise moves it far, "
        "and so does a small sample",
    },
)
def noise_is_not_ranked_by_the_score(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Pure noise scores above real digits of two kinds, and with 50 samples the score is near.

    Noise of 16 times the range of a pixel leaves nothing to see; it scores 3.6 to 7.5, as the
    classifier is sure of something, and two real kinds score 2.0 to 2.6. The Fréchet distance
    puts it 10⁵ times further away than the held-out digits. Of 50 digits the score is 5 to 10 %
    too low, the distance 5 to 15 times too high.
    """
    study, score = digits_study(case.root), unsplit(score)
    needs_ten_classes(score, case)
    pictures = study.unseen[:_ENOUGH]
    noise = torch.randn(pictures.shape, generator=case.generator("noise"))

    def of(pictures: Tensor) -> float:
        return digits_score(score, case, study, pictures)

    values = [of(pictures + s * noise) for s in _NOISE]
    distances = [study.distance(pictures + s * noise) for s in _NOISE]
    two = of(study.kinds(2))
    yield Evidence(
        error=float(not values[-1] > two) + float(not values[-1] < values[0]),
        bound=0.0,
        signal=2.0,
        unit="comparisons",
        what="score of noise alone",
        expected=f"between {two:.3g} of two real kinds and {values[0]:.3g} of all",
        got=f"{values[-1]:.3g}, at {distances[-1] / distances[0]:.3g} times the Fréchet distance",
        figures=(_over_noise(values, distances),),
    )
    yield _of_few_samples(score, case, study)


def _of_few_samples(score: Implementation, case: Case, study: DigitsStudy) -> Evidence:
    everything = digits_score(score, case, study, study.unseen)
    generator = case.generator("few")
    sets = [
        study.unseen[torch.randperm(len(study.unseen), generator=generator)[:_FEW]]
        for _ in range(_DRAWS)
    ]
    value = sum(digits_score(score, case, study, pictures) for pictures in sets) / _DRAWS
    distance = sum(study.distance(pictures) for pictures in sets) / _DRAWS
    return Evidence(
        error=abs(value / everything - 1) if everything else float("nan"),
        bound=0.25,
        signal=1.0,
        resolution=0.25,
        unit="of the score",
        what=f"change of the score for {_FEW} samples",
        expected="less than a quarter",
        got=f"{value:.3g} in place of {everything:.3g}; the Fréchet distance is "
        f"{distance / study.distance(study.unseen):.3g} times too high",
        counterexample=True,
    )


def _over_noise(values: list[float], distances: list[float]) -> Figure:
    far = [distance / distances[0] for distance in distances]
    return Figure(
        title="Score and distance against noise",
        x="standard deviation of the noise (pixels are 0 to 1)",
        y="score; Fréchet distance over that of real digits",
        series={
            "score": list(zip(_NOISE, values, strict=True)),
            "distance": list(zip(_NOISE, far, strict=True)),
        },
        log_y=True,
        note="The score falls, and then stays or rises where the classifier is surely wrong.",
    )
