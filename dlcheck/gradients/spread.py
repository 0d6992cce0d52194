"""How far a gradient scatters when everything is rounded otherwise, in a type with less bits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlcheck.gradients.function import Function
from dlcheck.numerics.perturbations import root_mean_square
from dlcheck.numerics.stochastic_rounding import smallest, uniform

_HALF = 2.0**-16  # the unit of a half type is above it


@dataclass(frozen=True, slots=True)
class Narrow:
    """A type with less than float64, and what may be expected of arithmetic in it."""

    dtype: torch.dtype

    @classmethod
    def of(cls, function: Function) -> Narrow:
        """The coarsest type among the tensors and outputs of a function that was met."""
        known = (torch.float32, torch.float16, torch.bfloat16)
        by_unit = {torch.finfo(dtype).eps: dtype for dtype in known}
        return cls(by_unit.get(function.unit, torch.bfloat16))

    @property
    def name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def ulp(self) -> float:
        return torch.finfo(self.dtype).eps

    @property
    def is_half(self) -> bool:
        return self.ulp > _HALF

    @property
    def safety(self) -> float:
        """κ: an element's error against its spread."""
        return 8.0 if self.is_half else 32.0

    @property
    def factor_slack(self) -> float:
        """What constants rounded to the type, in a kernel also some in a row, put into a factor."""
        return self.ulp / 2 if self.is_half else 2 * self.ulp

    @property
    def longest(self) -> float:
        """How many terms a kernel adds in a row in this type."""
        return 4.0 if self.is_half else 1024.0

    @property
    def coarsenesses(self) -> list[int]:
        """By how much coarser to round when an alarm is looked into, up to κ."""
        return [1, 2, 4, 8] if self.is_half else [1, 4, 16, 32]

    @property
    def resolution(self) -> float:
        """Above this share of the gradient a bound says nothing."""
        return 0.5 if self.is_half else 1e-2

    @property
    def smallest(self) -> float:
        """What may be flushed to 0: nothing in float16, subnormal numbers elsewhere."""
        return smallest(self.dtype) if self.dtype == torch.float16 else torch.finfo(self.dtype).tiny


def moved(x: Tensor, narrow: Narrow, seed: int, *, coarser: int = 1) -> Tensor:
    """x, float64, with ±½ ulp of noise, or `coarser` times that.

    Equal numbers move alike, as they are rounded alike; when coarser than 1 each for itself, and
    zeros on the scale of the tensor, so that ties and kinks at 0 come apart.
    """
    if coarser == 1:
        return x * (1 + narrow.ulp * (uniform(x, seed) - 0.5))
    places = torch.arange(x.numel(), device=x.device, dtype=torch.float64).view(x.shape)
    room = torch.where(x == 0, root_mean_square(x) if x.numel() else 0.0, x.abs())
    return x + coarser * narrow.ulp * room * (uniform(places, seed) - 0.5)


@dataclass(slots=True)
class Spread:
    """The gradient of one tensor in float64, and draws of it, rounded otherwise."""

    gradient: Tensor  # float64
    squares: Tensor  # of the changes, per coarseness
    widest: Tensor  # the largest change in the coarsest draws
    factors: list[float] = field(default_factory=list)  # ⟨change, G⟩ / ⟨G, G⟩

    @classmethod
    def around(cls, gradient: Tensor) -> Spread:
        return cls(gradient, torch.zeros_like(gradient), torch.zeros_like(gradient))

    def is_finite(self, drawn: Tensor) -> bool:
        """Is the draw finite where the gradient is?"""
        return bool((torch.isfinite(drawn) | ~torch.isfinite(self.gradient)).all())

    def add(self, drawn: Tensor, coarser: int, *, is_widest: bool) -> None:
        change = drawn - self.gradient
        self.squares += (change / coarser).square()
        if is_widest:
            self.widest = torch.maximum(self.widest, change.abs())
        self.factors.append(factor(change, self.gradient) / coarser)

    def allow(self, computed: Tensor) -> None:
        """Allow for twice the change of a gradient that was computed in rounded arithmetic."""
        change = (computed - self.gradient).abs()
        self.squares += 0.0 * change  # NaN where it is not finite
        self.widest = torch.maximum(self.widest, 2 * change)

    def leave_out(self, elements: Tensor) -> None:
        """Call elements [bool] unusable."""
        self.squares = torch.where(elements, torch.nan, self.squares)

    @property
    def usable(self) -> Tensor:
        """[bool]: finite, however it is rounded."""
        return torch.isfinite(self.gradient) & torch.isfinite(self.squares)

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of each element, at least half the median: few draws scatter."""
        square = torch.where(self.usable, self.squares, 0.0) / max(len(self.factors), 1)
        return torch.maximum(square, 0.25 * median_of_nonzero(square)).sqrt()

    @property
    def factor_deviation(self) -> float:
        count = max(len(self.factors), 1)
        return math.hypot(*self.factors) / math.sqrt(count)


def median_of_nonzero(values: Tensor) -> Tensor:
    """The median without the zeros, which say nothing of the scale; 0 if there is none else."""
    kept = values[values != 0]
    return kept.median() if kept.numel() else values.new_zeros(())


def factor(change: Tensor, gradient: Tensor) -> float:
    """α = ⟨change, G⟩ / ⟨G, G⟩ over the elements that are finite; 0 for a zero gradient."""
    finite = torch.isfinite(change) & torch.isfinite(gradient)
    change, gradient = torch.where(finite, change, 0.0), torch.where(finite, gradient, 0.0)
    size = float(torch.linalg.vector_norm(gradient))
    return float(((change / size) * (gradient / size)).sum()) if size > 0 else 0.0
