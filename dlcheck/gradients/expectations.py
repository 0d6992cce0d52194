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

_WORDS = ("zero", "straight_through", "reversed")
_CLIPS = ("clip", "clip_norm")
_BELOW = 2.0**-6  # of the limit: where a clipped gradient is still the derivative
_BEYOND = 4.0  # of the limit: where it must be clipped


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


@dataclass(frozen=True, slots=True)
class Clipping:
    """How a clipped gradient behaves: the scale of v below which it is the derivative."""

    scale: float
    error: float  # of the clipped gradient against its law
    bound: float
    limit: float


def clipping(
    expected: Expectation, function: Function, cotangents: Sequence[Tensor]
) -> Clipping | None:
    """Find where the clipping begins, and hold what lies beyond against its law.

    None where the gradient vanishes, so that nothing is ever clipped.
    """

    def gradient(scale: float) -> tuple[Tensor, ...]:
        return function.gradient([scale * v for v in cotangents]).parts

    scale = 1.0
    while (largest := _size(gradient(scale), by_norm=expected.by_norm)) > _BELOW * expected.clip:
        scale *= 0.5 * _BELOW * expected.clip / largest if math.isfinite(largest) else 2.0**-20
        if scale < 2.0**-300:
            return None
    if largest == 0:
        return None
    beyond = _BEYOND * expected.clip / largest * scale
    derivative = [part * (beyond / scale) for part in gradient(scale)]
    error = max(
        float((a - _clipped(b, expected)).abs().max())
        for a, b in zip(gradient(beyond), derivative, strict=True)
        if b.numel()
    )
    # Clipping by norm divides by ‖g‖ + 10⁻⁶ in torch.nn.utils.clip_grad_norm_.
    slack = 2e-6 if expected.by_norm else 1e3 * function.unit
    return Clipping(scale, error, slack * _BEYOND * max(expected.clip, 1.0), expected.clip)


def _size(parts: Sequence[Tensor], *, by_norm: bool) -> float:
    order = 2 if by_norm else math.inf
    return max(float(torch.linalg.vector_norm(part, order)) for part in parts if part.numel())


def _clipped(part: Tensor, expected: Expectation) -> Tensor:
    if not expected.by_norm:
        return part.clamp(-expected.clip, expected.clip)
    norm = float(torch.linalg.vector_norm(part))
    return part * min(1.0, expected.clip / norm) if norm else part
