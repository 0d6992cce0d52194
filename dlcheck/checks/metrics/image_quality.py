"""What a metric of image pairs is for: it gets worse as images get worse, and can be trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.image_distortions import UNITS, USUAL, distortions
from dlcheck.checks.metrics.image_pairs import (
    Pictures,
    answer_with_graph,
    judged,
    pictures,
    sign_of,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure
from dlcheck.mutants import around, on_tensors, through_backward
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients


@around
def negates_the_value(original: Any, *images: Tensor, **keywords: Any) -> Any:
    return on_tensors(original(*images, **keywords), torch.neg)


@around
def compares_an_image_with_itself(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    return original(x, x, **keywords)


@around
def ignores_small_differences(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """A tolerance before the comparison: what differs by less than a fifth is the same."""
    near = (x.double() - y.double()).abs() < 0.2 * x.double().abs().max()
    return original(x, torch.where(near, x, y), **keywords)


@around
def rounds_to_whole_numbers(original: Any, *images: Tensor, **keywords: Any) -> Any:
    """Cast to bytes before it was scaled by 255."""
    return original(*(x.round() for x in images), **keywords)


@around
def cuts_off_the_darker_half(original: Any, *images: Tensor, **keywords: Any) -> Any:
    """An image in [−1, 1] taken for one in [0, 1]; in [0, 1], for one in [½, 1]."""
    least = min(float(x.min()) for x in images)
    middle = 0.0 if least < 0 else 0.5
    return original(*(x.clamp_min(middle) for x in images), **keywords)


@around
def divides_by_a_vanishing_norm(original: Any, *images: Tensor, **keywords: Any) -> Any:
    """The right value with the gradient of √0."""
    answer = original(*images, **keywords)
    return on_tensors(answer, lambda y: through_backward(y, lambda g: g * float("nan")))


@around
def trains_on_the_first_pair_only(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """The other pairs are detached."""
    return original(torch.cat([x[:1], x[1:].detach()]), y, **keywords)


@around
def stops_the_gradient(original: Any, *images: Tensor, **keywords: Any) -> Any:
    answer = original(*images, **keywords)
    return on_tensors(answer, lambda y: through_backward(y, torch.zeros_like))


@check(
    kind="image_metric",
    options={"better": ["higher", "lower"]},
    once=True,
    rejects=[compares_an_image_with_itself, ignores_small_differences, negates_the_value],
)
def distortion_worsens_the_value(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """The worse a photograph is distorted, the worse its value, for every one.

    From none to noise of 0.01 to 0.4 of the range, the same field at every strength; to blur of
    0.5 to 4 pixels; to JPEG of quality 95 to 5; to a twentieth of the contrast. Every step of
    those that `options.distortions` names: PSNR, SSIM, MS-SSIM, FSIM and LPIPS were so on ten
    photographs, in all four. Where nothing is named, from none to medium to strong, and not in
    contrast: a good metric may count a trace of noise as contrast (VIF), saturate under blur
    (MDSI), or be a correlation. Shifts are left out: there even good metrics are not monotone.
    """
    x, sign = pictures(metric, case), sign_of(metric)
    undistorted = judged(metric, x.values, x.values)
    declared = metric.options.get("distortions")
    for name, found in distortions(x, case, declared or USUAL).items():
        levels = found if declared else _medium_and_strong(found)
        values = torch.stack([undistorted, *(judged(metric, x.values, y) for y in levels.values())])
        steps = sign * values.diff(dim=0)  # negative where the image got worse
        yield Evidence(
            error=float((~(steps < 0)).sum()),
            bound=0.0,
            signal=float(steps.numel()),
            unit="steps",
            what=f"steps of more {name} that do not worsen the value",
            expected="rising" if sign < 0 else "falling",
            got=", ".join(f"{float(value):.4g}" for value in values.mean(1)),
            figures=(_figure(name, list(levels), values[1:]),),
        )


def _medium_and_strong(levels: Mapping[float, Tensor]) -> dict[float, Tensor]:
    strengths = list(levels)
    return {s: levels[s] for s in (strengths[len(strengths) // 2], strengths[-1])}


def _figure(name: str, strengths: list[float], values: Tensor) -> Figure:
    series = {
        f"photograph {i + 1}": list(zip(strengths, values[:, i].tolist(), strict=True))
        for i in range(values.shape[1])
    }
    return Figure(
        title=f"Value against {name}", x=UNITS[name], y="value", series=series, log_x=True
    )


@check(
    kind="image_metric",
    options={"better": ["higher", "lower"]},
    once=True,
    rejects=[
        compares_an_image_with_itself,
        cuts_off_the_darker_half,
        rounds_to_whole_numbers,
    ],
)
def the_whole_interval_counts(metric: Implementation, case: Case) -> Evidence:
    """A difference is seen in the darkest and in the brightest fifth of the declared interval.

    Photographs squeezed into a fifth of the interval against blurred copies: the value must be
    worse than that of the image with itself. A metric fed images in another interval than it
    takes ([0, 1] for [−1, 1], or before the factor 255) cuts one end off.
    """
    x, sign = pictures(metric, case), sign_of(metric)
    if not x.values.is_floating_point():
        raise NotApplicable("bytes have no interval to mistake")
    unseen = 0
    for start in (x.low, x.high - 0.2 * x.span):
        part = _squeezed(x, x.values, start)
        other = _squeezed(x, x.blurred(2.0), start)
        worse = sign * (judged(metric, part, other) - judged(metric, part, part))
        unseen += int((~(worse < 0)).sum())
    return Evidence(
        error=float(unseen),
        bound=0.0,
        signal=2.0 * len(x.values),
        unit="pairs",
        what="pairs whose difference is not seen",
        expected="0",
        got=f"{unseen}",
    )


def _squeezed(pictures: Pictures, images: Tensor, start: float) -> Tensor:
    """Into a fifth of the interval, from `start` on."""
    return start + 0.2 * (images - pictures.low)


@check(
    kind="image_metric",
    forbids={"nondifferentiable"},
    once=True,
    rejects=[divides_by_a_vanishing_norm, stops_the_gradient, trains_on_the_first_pair_only],
)
def every_pair_sends_a_finite_gradient(metric: Implementation, case: Case) -> Evidence:
    """The gradient of the sum of the values is finite, and not 0 for any of the pairs.

    x [b, c, h, w] a leaf, y its noisy copies. An answer without a graph (NumPy, no_grad) is no
    metric to train on, and not judged here.
    """
    pair = pictures(metric, case, at_least=2)
    if not pair.values.is_floating_point():
        raise NotApplicable("bytes have no gradient")
    x = pair.values.clone().requires_grad_()
    noisy = pair.noisy(0.1, case.generator("noise"))
    answer = answer_with_graph(metric, x, noisy)
    (found,) = gradients([answer], [x], [torch.ones_like(answer)])
    found = torch.zeros_like(x) if found is None else found
    broken = (~found.isfinite()).flatten(1).any(1) | (found == 0).flatten(1).all(1)
    return Evidence(
        error=float(broken.sum()),
        bound=0.0,
        signal=float(len(x)),
        unit="pairs",
        what="pairs without a finite gradient",
        expected="0",
        got=f"largest element {float(found.abs().max()):.3g}",
        cause=""
        if bool(found.any())
        else "it rounds or detaches: if that is meant, declare the trait nondifferentiable",
    )
