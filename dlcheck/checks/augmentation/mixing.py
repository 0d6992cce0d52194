"""Mixtures: a label weighs what its image covers, measured pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.answers import weights_of
from dlcheck.checks.augmentation.broken import on_images, on_the_rest
from dlcheck.checks.augmentation.inputs import hold_to_repeat
from dlcheck.checks.augmentation.studio import Studio, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Mutant
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_MIXED, _TRIES = 6, 40  # draws in which something is mixed, among so many


@dataclass(frozen=True, slots=True)
class Mixture:
    """One draw: who covers what. `cover` [i, j, h, w] is the weight of image j in answer i."""

    cover: Tensor
    labels: tuple[Tensor, ...]
    given: Tensor

    @property
    def shares(self) -> Tensor:
        """[i, j]: the mean over the pixels."""
        return self.cover.mean((2, 3))

    @property
    def mixes(self) -> bool:
        return bool((self.shares - torch.eye(len(self.shares))).abs().max() > 1e-6)


def mixtures(studio: Studio) -> Iterator[Mixture]:
    """Draws in which something is mixed; NotApplicable where there is none.

    For each j one call in which image j is white and the others are black: pixel by pixel the
    answer is the weight of image j. Black images give what is added whatever they show.
    """
    hold_to_repeat(studio)
    others = studio.others()
    rows, count = studio.rows, 0
    if rows < 2 or studio.signature.labels is None:
        raise NotApplicable("takes no batch of images with labels: nothing is mixed")
    black = torch.zeros(rows, *studio.side, dtype=torch.float64)
    for draw in range(_TRIES):
        base = studio.shoot(black, draw, others)
        lit = []
        for j in range(rows):
            motif = black.clone()
            motif[j] = 1.0
            lit.append(studio.views(studio.shoot(motif, draw, others).images))
        cover = (torch.stack(lit, 1) - studio.views(base.images)[:, None]).mean(2)
        found = Mixture(cover, base.labels, others[studio.signature.labels])
        if found.mixes:
            count += 1
            yield found
        if count == _MIXED:
            return
    if not count:
        raise NotApplicable(f"in {_TRIES} draws nothing was mixed")


@around
def forgets_the_labels(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """Labels as if nothing had been mixed."""
    answer = original(images, *rest)
    if isinstance(answer[1], tuple):
        return answer[0], (answer[1][0], answer[1][0], 1.0)
    k = answer[1].shape[-1]
    return answer[0], torch.nn.functional.one_hot(rest[0], k).to(answer[1].dtype)


@around
def exchanges_the_weights(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """λ where 1 − λ was meant, in the images alone: 2 λ̂ x̄ … reflected about the mean of both."""
    answer = original(images, *rest)
    if isinstance(answer[1], tuple):
        first, second, share = answer[1]
        return answer[0], (first, second, 1 - share)
    k = answer[1].shape[-1]
    own = torch.nn.functional.one_hot(rest[0], k).to(answer[1].dtype)
    weight = (answer[1] * own).sum(-1, keepdim=True)
    partner = answer[1] - weight * own
    total = partner.sum(-1, keepdim=True)
    partner = torch.where(total > 0, partner / total, own)
    return answer[0], (1 - weight) * own + weight * partner


@around
def shifts_labels(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """The partner's label is that of the row before."""
    return on_the_rest(original(images, *rest), lambda y: y.roll(1, 0))


def blurred(share: float) -> Any:
    """Weights that are drawn toward one half, as λ before it is corrected for the border."""

    def call(original: Any, images: Tensor, *rest: Tensor) -> Any:
        answer = original(images, *rest)
        if isinstance(answer[1], tuple):
            first, second, weight = answer[1]
            return answer[0], (first, second, (1 - share) * weight + share / 2)
        k = answer[1].shape[-1]
        return answer[0], (1 - share) * answer[1] + share / k

    call.__name__ = f"weights_off_by_{share:g}".replace(".", "_")
    return around(call)


@check(
    kind="augmentation",
    options={"labels": ["mixed"], "label_format": [None, "onehot", "pair"], "target": False},
    rejects=[
        forgets_the_labels,
        exchanges_the_weights,
        shifts_labels,
        blurred(0.2),
        blurred(0.001),
    ],
    once=True,
)
def labels_weigh_what_pixels_cover(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The weight of a class is the share of the pixels that its images cover.

    Σⱼ sᵢⱼ yⱼ, with sᵢⱼ the mean over the pixels of the weight of image j in answer i, measured by
    one call per image: for mixup λ, for CutMix the area after clipping at the border. With
    `smoothing` ε the labels are (1 − ε) y + ε / k. The bound is γ₁₆ of the label's type and, for
    images, one level of a byte or γ₁₆ of their type. Six draws in which something is mixed.
    Source: Zhang et al., mixup, ICLR 2018, equation 1; Yun et al., CutMix, ICCV 2019, equation 1.
    """
    studio = open_studio(subject, case)
    epsilon = float(subject.argument("smoothing", 0.0))
    worst: tuple[float, float, str, str] = (-1.0, 0.0, "", "")
    for mixture in mixtures(studio):
        k = studio.classes
        got = weights_of(mixture.labels, k)
        expected = mixture.shares @ weights_of((mixture.given,), k)
        expected = (1 - epsilon) * expected + epsilon / k
        if got.shape != expected.shape:
            yield _other_shape(expected, got)
            return
        off = (got - expected).abs().amax(1)
        row = int(off.argmax())
        if float(off[row]) > worst[0]:
            bound = _rounding(studio, mixture)
            worst = (float(off[row]), bound, _row(expected[row]), _row(got[row]))
    yield Evidence(
        error=worst[0],
        bound=worst[1],
        signal=1.0,
        what="weight of a class, against the share of the pixels",
        expected=worst[2],
        got=worst[3],
    )


def _other_shape(expected: Tensor, got: Tensor) -> Evidence:
    return Evidence(
        error=float("inf"),
        bound=0.0,
        signal=1.0,
        what="shape of the labels' weights",
        expected=str(tuple(expected.shape)),
        got=str(tuple(got.shape)),
    )


def _row(weights: Tensor) -> str:
    shown = [f"{float(w):.4g} of class {c}" for c, w in enumerate(weights) if float(w) > 1e-9]
    return " + ".join(shown[:4])


def _rounding(studio: Studio, mixture: Mixture) -> float:
    """What the types of labels and images may round a weight by."""
    label = mixture.labels[-1] if len(mixture.labels) == 3 else mixture.labels[0]
    total = gamma(16, label.dtype if label.is_floating_point() else torch.float32)
    spec = studio.signature.specs[studio.signature.images]
    if not spec.is_floating:
        return total + 1 / 255
    inside = torch.float32 if studio.case.dtype == torch.float64 else studio.case.dtype
    return total + gamma(16, inside)


@around
def brightens_the_mixture(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """Weights of 0.6 and 0.6: λ twice where λ and 1 − λ were meant."""
    return on_images(original(images, *rest), lambda x: 1.2 * x)


@around
def leaves_a_seam(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """The last row of the window belongs to nobody."""

    def cut(x: Tensor) -> Tensor:
        x = x.clone()
        x[..., -1, :] = 0
        return x

    return on_images(original(images, *rest), cut)


@around
def adds_where_it_should_replace(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x + 0.1 * images.roll(1, 0))


@around
def mixes_with_a_negative_weight(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """λ outside [0, 1]."""
    return on_images(original(images, *rest), lambda x: 1.3 * x - 0.3 * x.roll(1, 0))


@check(
    kind="augmentation",
    options={"labels": ["mixed"], "target": False},
    rejects=[
        brightens_the_mixture,
        leaves_a_seam,
        adds_where_it_should_replace,
        mixes_with_a_negative_weight,
    ],
    once=True,
)
def each_pixel_is_a_mixture(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """In every pixel the weights of the images are at least 0 and sum to 1.

    Weights by one call per image, as in `labels_weigh_what_pixels_cover`; the bound is γ₁₆ of
    float32 or of the images' type times the number of images, one level each for bytes.
    Source: Zhang et al., mixup, ICLR 2018, equation 1; Yun et al., CutMix, ICCV 2019, equation 1.
    """
    studio = open_studio(subject, case)
    total, least = 0.0, 0.0
    bound = 0.0
    for mixture in mixtures(studio):
        total = max(total, float((mixture.cover.sum(1) - 1).abs().max()))
        least = max(least, float(-mixture.cover.min()))
        bound = max(bound, studio.rows * _rounding(studio, mixture))
    yield Evidence(
        error=total, bound=bound, signal=1.0, resolution=0.05, what="sum of weights in a pixel − 1"
    )
    yield Evidence(
        error=least, bound=bound, signal=1.0, resolution=0.05, what="weight of an image below 0"
    )


def on_weights(name: str, change: Callable[[Tensor], Tensor]) -> Mutant:
    """Labels whose weights are changed; of a pair, λ."""

    def call(original: Any, images: Tensor, *rest: Tensor) -> Any:
        answer = original(images, *rest)
        if isinstance(answer[1], tuple):
            first, second, share = answer[1]
            return answer[0], (first, second, change(torch.as_tensor(share)))
        return answer[0], change(answer[1])

    call.__name__ = name
    return around(call)


@check(
    kind="augmentation",
    options={"labels": ["mixed"], "label_format": [None, "onehot", "pair"], "target": False},
    rejects=[
        on_weights("doubles_the_weights", lambda y: 2 * y + 0.1),
        on_weights("loses_a_hundredth", lambda y: 0.99 * y - 0.01),
        on_weights("goes_below_zero", lambda y: 1.5 * y - 0.6),
        on_weights("gives_no_weight_at_all", lambda y: y * float("nan")),
    ],
    once=True,
)
def label_weights_are_a_distribution(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Every label stays a distribution: weights of at least 0 that sum to 1; a λ lies in [0, 1].

    Forty draws; the bound is γ₁₆ of the label's type. What cross-entropy takes for a target.
    Source: Zhang et al., mixup, ICLR 2018, equation 1: a convex combination.
    """
    studio = open_studio(subject, case)
    total, outside, bound = 0.0, 0.0, 0.0
    for draw in range(_TRIES):
        labels = studio.shoot(studio.noise(), draw).labels
        weights = weights_of(labels, studio.classes)
        shares = labels[2].double() if len(labels) == 3 else weights
        beyond = torch.maximum(-shares, shares - 1).max().clamp(min=0)
        total = _larger(total, float((weights.sum(1) - 1).abs().max()))
        outside = _larger(outside, float(beyond))
        own = labels[-1].dtype
        bound = gamma(16, own if own.is_floating_point else torch.float32)
    yield Evidence(error=total, bound=bound, signal=1.0, what="sum of a label's weights − 1")
    yield Evidence(error=outside, bound=bound, signal=1.0, what="a weight beyond [0, 1]")


def _larger(first: float, second: float) -> float:
    """The larger one; NaN if either is, and it stays."""
    return first if first != first or first > second else second
