"""Gradients that are meant to differ from the derivative, as declared.

`expect` says how: "zero" (nothing flows back), "straight_through" (the gradient of the identity),
"reversed" (−1 times the derivative), a factor, a function whose gradient it is (the surrogate), or
`{"clip": c}` and `{"clip_norm": c}`: the derivative, each element clamped to ±c, or each tensor
scaled down to the norm c. Everything declared is checked as sharply as a derivative.

Source: Bengio, Léonard & Courville, Estimating or propagating gradients through stochastic
neurons, 2013 (straight-through); Ganin & Lempitsky, Unsupervised domain adaptation by
backpropagation, 2015 (reversal).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import UsageError, unknown
from dlcheck.gradients.function import Function, Gradient
from dlcheck.numerics.differences import Point

_WORDS = ("zero", "straight_through", "reversed")
_CLIPS = ("clip", "clip_norm")
_BELOW = 2.0**-6  # of the limit: where a clipped gradient is still the derivative
_BEYOND = 4.0  # of the limit: where it must be clipped
_SMALLEST = 2.0**-900  # of gradients and of scales of v: less is none
_ADDED = 1e-6  # to a norm, by torch.nn.utils.clip_grad_norm_


@dataclass(frozen=True, slots=True)
class Expectation:
    """How a gradient relates to a derivative: g = factor · Jᵀv of the function or a surrogate."""

    factor: float = 1.0
    surrogate: Callable[..., Any] | None = None
    clip: float = math.inf
    by_norm: bool = False

    @property
    def is_zero(self) -> bool:
        return self.factor == 0.0

    @property
    def is_plain(self) -> bool:
        return self == Expectation()

    def claim(self, gradient: Gradient) -> Gradient:
        """The derivative that the gradient amounts to."""
        if self.factor in (0.0, 1.0):
            return gradient
        return replace(gradient, parts=tuple(part / self.factor for part in gradient.parts))


def expectation(expect: Any) -> Expectation:
    """What `expect` says. Raises UsageError where it says nothing known."""
    match expect:
        case None:
            return Expectation()
        case "zero":
            return Expectation(factor=0.0)
        case "reversed":
            return Expectation(factor=-1.0)
        case "straight_through":
            return Expectation(surrogate=_identity)
        case str():
            raise UsageError(unknown("expectation", expect, [*_WORDS, *_CLIPS]))
        case bool():
            raise UsageError("expect is a word, a factor, a function or { clip = limit }")
        case int() | float():
            return Expectation(factor=float(expect))
        case Mapping() if len(expect) == 1:
            ((name, limit),) = expect.items()
            if name in _CLIPS and isinstance(limit, (int, float)) and limit > 0:
                return Expectation(clip=float(limit), by_norm=name == "clip_norm")
    if callable(expect):
        return Expectation(surrogate=expect)
    raise UsageError(
        f"expect = {expect!r} is not one of {', '.join(_WORDS)}, a factor, a function, "
        "{ clip = limit } or { clip_norm = limit }"
    )


def _identity(x: Any, *rest: Any, **keywords: Any) -> Any:
    return x


def beyond_the_limit(
    expected: Expectation, function: Function, v: Tensor
) -> tuple[float, float] | None:
    """What a clipped gradient is off by beyond its limit, at x, and the bound of that.

    The derivative for 2ᵏv is exactly 2ᵏ times that for v, whatever was rounded on the way. None
    where the gradient vanishes, so that nothing is ever clipped.
    """
    v = below_the_limit(expected, function, v, function.x)
    derivative = _gradient(function, v, function.x)
    largest = _size(derivative, by_norm=expected.by_norm)
    if not _SMALLEST < largest < expected.clip:
        return None
    # Norms of 1 and more, beside which the 10⁻⁶ of clip_grad_norm_ is small.
    beyond = max(_BEYOND * expected.clip, 1.0 if expected.by_norm else 0.0)
    factor = 2.0 ** min(1000, math.ceil(math.log2(beyond / largest)))
    pairs = zip(_gradient(function, factor * v, function.x), derivative, strict=True)
    found = [_against_law(a, factor * b, expected, function.unit) for a, b in pairs if b.numel()]
    return max(found, key=lambda pair: math.inf if math.isnan(pair[0]) else pair[0] / pair[1])


def below_the_limit(expected: Expectation, function: Function, v: Tensor, at: Point) -> Tensor:
    """v, so small that the gradient at a point is the derivative still: far below the limit."""
    if math.isinf(expected.clip):
        return v

    def size(scale: float) -> float:
        return _size(_gradient(function, scale * v, at), by_norm=expected.by_norm)

    limit, scale, shrink = _BELOW * expected.clip, 1.0, 2.0**-7
    # A clipped gradient does not tell how far beyond the limit it is.
    while not (found := size(scale)) <= limit and scale > _SMALLEST:
        scale, shrink = scale * shrink, shrink * shrink
    if scale < 1 and 0 < found <= limit:
        scale *= 0.5 * limit / found  # no smaller than need be: it is linear here
    return scale * v


def _gradient(function: Function, v: Tensor, at: Point) -> tuple[Tensor, ...]:
    return function.gradient(function.shaped(v), at=at).parts


def _size(parts: Sequence[Tensor], *, by_norm: bool) -> float:
    order = 2 if by_norm else math.inf
    return max(float(torch.linalg.vector_norm(part, order)) for part in parts if part.numel())


def _against_law(
    clipped: Tensor, derivative: Tensor, expected: Expectation, unit: float
) -> tuple[float, float]:
    """The largest error of an element, and its bound: 32ε√n of the limit, for a sum of n terms.

    torch.nn.utils.clip_grad_norm_ divides by ‖g‖ + 10⁻⁶, so that by its norm a tensor may be
    smaller by that share, too.
    """
    rounding = 32 * unit * math.sqrt(derivative.numel()) * expected.clip
    if not expected.by_norm:
        right = derivative.clamp(-expected.clip, expected.clip)
        return float((clipped - right).abs().max()), rounding
    norm = float(torch.linalg.vector_norm(derivative))
    right = derivative * min(1.0, expected.clip / norm) if norm else derivative
    share = _ADDED / (norm + _ADDED)
    return float((clipped - right).abs().max()), rounding + share * min(norm, expected.clip)
