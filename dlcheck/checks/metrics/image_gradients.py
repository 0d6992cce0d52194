"""Gradients of a metric of image pairs: the derivative of the value, and 0 at the perfect one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.image_pairs import (
    Pictures,
    answer_with_graph,
    pictures,
    resolvable,
    scores,
)
from dlcheck.checks.metrics.image_quality import divides_by_a_vanishing_norm
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around, on_tensors, scaled_gradient
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_STEPS = (2.0**-22, 2.0**-18, 2.0**-14, 2.0**-10, 2.0**-7)  # of the range, per pixel
_ROOM = 0.2  # of a range of 1, to its ends, for images in its middle half with a little noise
_RESOLVED = 0.01  # share of the slope that the differences must resolve


@around
def detaches_the_left_half(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """Tiles that were computed under no_grad."""
    left, right = x.tensor_split(2, -1)
    return original(torch.cat([left.detach(), right], -1), y, **keywords)


@around
def forgets_a_channel(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    return original(torch.cat([x[:, :1].detach(), x[:, 1:]], 1), y, **keywords)


@around
def takes_the_root(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """√ of the distance from the perfect value, whose slope at 0 is infinite."""
    best = original(y, y, **keywords)
    return best - (best - original(x, y, **keywords)).abs().sqrt()


@around
def adds_the_absolute_difference(original: Any, x: Tensor, y: Tensor, **keywords: Any) -> Any:
    """A kink where the images are equal: |x − y|, with the subgradient 1 at 0."""
    kink = torch.where(x >= y, x - y, y - x).mean()
    return on_tensors(original(x, y, **keywords), lambda value: value + kink)


@check(
    kind="image_metric",
    forbids={"nondifferentiable"},
    dtypes=["float64"],
    once=True,
    rejects=[detaches_the_left_half, forgets_a_channel, scaled_gradient(0.5)],
)
def the_gradient_is_that_of_the_value(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """Along two directions the gradient by the first image is the slope that differences measure.

    x [1, c, h, w] a photograph with a little noise, y a noisy copy; the directions are the gradient
    itself and one at random. Central differences at h, h/4 and h/16, h being 2⁻²² of the range per
    pixel (up to 2⁻⁷ where rounding asks for it): what curvature (h²) and kinks (h) add to the last
    one is at most a third of what they add to the first, so the bound is 8 times the largest
    difference among the three plus the rounding of the value over h/16. A kink nearer than h/16
    moves all three alike: the jump of the slope that the two sides show there is added. Slopes not
    resolved to a hundredth are not judged.
    """
    pair = _in_the_middle(pictures(metric, case), case)
    x, y = pair.values, pair.noisy(0.1, case.generator("noise"))
    gradient = _gradient(metric, x, y)
    noise = torch.randn(x.shape, generator=case.generator("direction"), dtype=x.dtype).to(x.device)
    room = resolvable(metric, case, pair, y)
    judged = 0
    for name, towards in (("its own", gradient), ("a random", noise)):
        step = pair.span * towards / towards.square().mean().sqrt()
        claimed, size = float((gradient * step).sum()), float((gradient * step).norm())
        largest = _ROOM * pair.span / float(step.abs().max())
        scale = Scale(rounding=room, slope=size, largest_step=largest)

        def value(t: float, step: Tensor = step) -> float:
            return float(scores(metric, x + t * step, y).sum())

        with torch.no_grad():
            measured, bound = slope_at_zero(value, scale)
        size = max(size, abs(measured))
        if not bound <= _RESOLVED * size:
            continue
        judged += 1
        yield Evidence(
            error=abs(claimed - measured),
            bound=bound,
            signal=size,
            what=f"slope along {name} direction",
            expected=f"{measured:.9g}",
            got=f"{claimed:.9g}",
        )
    if not judged:
        raise NotApplicable("differences do not resolve the slope: the value has kinks")


def _in_the_middle(pair: Pictures, case: Case) -> Pictures:
    """The first photograph in the middle half of the range, with a little noise.

    So that steps stay in the range, and flat parts do not lie on the kinks of a maximum.
    """
    if not pair.values.is_floating_point():
        raise NotApplicable("bytes have no gradient")
    squeezed = pair.low + pair.span / 4 + (pair.values[:1].double() - pair.low) / 2
    middle = Pictures(squeezed, pair.low, pair.high)
    return Pictures(middle.noisy(0.02, case.generator("little noise")), pair.low, pair.high)


def _gradient(metric: Implementation, x: Tensor, y: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    answer = answer_with_graph(metric, leaf, y.clone())
    (found,) = gradients([answer], [leaf], [torch.ones_like(answer)])
    if found is None or not bool(found.isfinite().all()) or not bool(found.any()):
        raise NotApplicable("there is no gradient, as every_pair_sends_a_finite_gradient tells")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How far values are rounded, how large slopes are at least, and steps at most."""

    rounding: float
    slope: float
    largest_step: float


def slope_at_zero(value: Callable[[float], float], scale: Scale) -> tuple[float, float]:
    """The derivative at 0, and how far off it may be, at steps that resolve it."""
    measured, bound, middle = 0.0, float("inf"), value(0.0)
    for size in _STEPS:
        if size > scale.largest_step:
            break  # would leave the range
        steps = (size, size / 4, size / 16)
        sides = [((value(h) - middle) / h, (middle - value(-h)) / h) for h in steps]
        d = [(right + left) / 2 for right, left in sides]
        spread = max(abs(d[0] - d[1]), abs(d[1] - d[2]), abs(d[0] - d[2]))
        # The sides differ by f″h, which is a quarter at a quarter of the step, and by the jump.
        bends = [right - left for right, left in sides]
        jump = abs(bends[2] - bends[1] / 4) / (1 - 1 / 4)
        measured, bound = d[2], 8 * spread + jump + 16 * scale.rounding / size
        if bound <= _RESOLVED * max(scale.slope, abs(measured)):
            break
    return measured, bound


@check(
    kind="image_metric",
    needs={"flat_at_identity"},
    forbids={"nondifferentiable"},
    dtypes=["float64"],
    once=True,
    rejects=[adds_the_absolute_difference, divides_by_a_vanishing_norm, takes_the_root],
)
def the_gradient_vanishes_where_images_are_equal(metric: Implementation, case: Case) -> Evidence:
    """At x = y the gradient exists and is 0, for the value is the best one there.

    x [b, c, h, w] photographs; the error is the norm of the gradient, the signal the norm for
    noisy copies. √ε of float32, in which
    many compute inside, is left for guards and for what rounds differently in the two images.
    """
    pair = pictures(metric, case)
    if not pair.values.is_floating_point():
        raise NotApplicable("bytes have no gradient")
    noisy = pair.noisy(0.1, case.generator("noise"))
    at_best, away = (_norm(metric, pair.values, y) for y in (pair.values, noisy))
    return Evidence(
        error=at_best,
        bound=torch.finfo(torch.float32).eps ** 0.5 * away,
        signal=away,
        what="norm of the gradient where the images are equal",
        expected="0",
        got=f"{at_best:.3g}, against {away:.3g} for noisy copies",
    )


def _norm(metric: Implementation, x: Tensor, y: Tensor) -> float:
    leaf = x.clone().requires_grad_()
    answer = answer_with_graph(metric, leaf, y.clone())
    (found,) = gradients([answer], [leaf], [torch.ones_like(answer)])
    return 0.0 if found is None else float(found.norm())
