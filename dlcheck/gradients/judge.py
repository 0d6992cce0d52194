"""The verdict: random directions, of which two that are independent must agree on an error.

One look is a point, a direction u, a cotangent v and the slope that differences measure. A look
that contradicts the claim is repeated on other steps with the noise of the claimed gradient added
to its bound; what stays is an alarm. Two alarms are a failure; one alone calls up to four more
directions. Half of the looks are taken at a second point nearby, where a gradient that was kept
from an earlier call is wrong. Where no direction can decide (a kink), a generic point nearby does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dlcheck.gradients.confirmation import confirmed
from dlcheck.gradients.directions import (
    Direction,
    all_finite,
    balanced,
    cotangent,
    finite_parts,
)
from dlcheck.gradients.expectations import Expectation, below_the_limit
from dlcheck.gradients.function import Function, Gradient
from dlcheck.gradients.looks import FURTHER, Finding, Look, Place
from dlcheck.numerics.differences import (
    FIRST_STEP,
    Line,
    Point,
    Slope,
    norm_of_product,
    shifted,
    slope,
)
from dlcheck.numerics.perturbations import tiled_direction

_SHARP = 16
_SECOND_POINT = 0.05  # its distance, relative to each element
_NEARBY = 2.0**-7  # the distance of the point that decides for a kink, relative to each tensor


@dataclass(slots=True)
class Judge:
    """Looks along random directions until the verdict is clear."""

    function: Function
    generator: torch.Generator
    precise: float = 1e-9
    expected: Expectation = field(default_factory=Expectation)
    truth: Function | None = None  # whose values count, where the gradient is a surrogate's
    still: Sequence[Tensor | None] = ()
    notes: list[str] = field(default_factory=list)
    is_broken: bool = False  # was any gradient at the point not finite?

    # --- looks ---------------------------------------------------------------------------------

    def look(
        self,
        place: Place,
        *,
        relative: bool,
        only: Collection[int] | None = None,
        v: Tensor | None = None,
        gradient: Gradient | None = None,
        other: Place | None = None,
    ) -> Look | None:
        """A look along a fresh direction; None if nothing can move.

        v, gradient: a cotangent with its gradient, instead of fresh ones. other: where f is
        called between forward and backward.
        """
        if v is None or gradient is None:
            v, gradient = self.claimed(place, other=other)
        direction = balanced(
            self.function, place.x, gradient.parts, self.generator,
            relative=relative, only=only, still=self.still,
        )  # fmt: skip
        gradient = self._cleaned(gradient, place)
        if direction is None:
            return None
        found = self.slope(place, direction, v, gradient)
        return confirmed(self, Look(place, direction, v, gradient, found, other))

    def claimed(self, place: Place, *, other: Place | None = None) -> tuple[Tensor, Gradient]:
        """A fresh cotangent and the gradient that is claimed for it."""
        function = self.function
        v = cotangent(function, self.generator)
        v = below_the_limit(self.expected, function, v, place.x)
        between = None if other is None else other.x
        return v, self.claim(function.gradient(function.shaped(v), at=place.x, between=between))

    def claim(self, gradient: Gradient) -> Gradient:
        """The derivative that a gradient amounts to, as declared."""
        return self.expected.claim(gradient)

    def _cleaned(self, gradient: Gradient, place: Place) -> Gradient:
        """0 in place of what is not finite, which is judged by itself."""
        if all_finite(gradient.parts):
            return gradient
        self.is_broken = self.is_broken or not place.name
        return replace(gradient, parts=finite_parts(gradient.parts))

    def slope(
        self,
        place: Place,
        direction: Direction,
        v: Tensor,
        gradient: Gradient,
        *,
        first_step: float = FIRST_STEP,
        exact: bool = False,
        uncertainty: float = 0.0,
        precise: float | None = None,
    ) -> Slope:
        """The slope along a direction, as differences measure it, beside the claimed one."""
        function = self.truth or self.function
        reach = direction.reach
        if not exact and reach is None:
            reach = norm_of_product(finite_parts(place.x), gradient.parts)
        line = Line(
            function=function.values,
            x=place.x,
            u=direction.parts,
            value=place.value,
            v=v,
            g=gradient.parts,
            unit=max(function.unit, self.function.unit),
            noise=function.noise(v),
            size=math.hypot(*direction.shares) if any(direction.shares) else None,
            reach=reach,
        )
        # Where rounding x costs more than rounding f, the points that were evaluated count.
        exact = exact or (reach or 0.0) > _SHARP * line.level
        exact = exact or any(x.dtype != torch.float64 for x in place.x)
        return slope(
            line,
            precise=self.precise if precise is None else precise,
            first_step=first_step,
            exact=exact,
            uncertainty=uncertainty,
        )

    def nudged(self, x: Tensor) -> Tensor:
        signs = torch.randn(x.shape, generator=self.generator, device=self.generator.device).sign()
        return x * (1 + torch.finfo(x.dtype).eps * signs.to(x))

    def is_smooth(self, look: Look, only: Collection[int] | None = None) -> bool:
        """Is f differentiable at the place, as far as directions that move everything tell?

        Differentiable functions have slopes that add: D(u) + D(w) = D(u + w). At ties a median is
        smooth along every line, and still has a kink.
        """
        ways = [
            balanced(
                self.function,
                look.place.x,
                look.gradient.parts,
                self.generator,
                relative=False,
                only=only,
            )
            for _ in range(2)
        ]
        first, second = ways
        if first is None or second is None:
            return True
        both = tuple(a + b for a, b in zip(first.parts, second.parts, strict=True))
        slopes = [
            self.slope(look.place, way, look.v, look.gradient, exact=True)
            for way in (first, second, Direction(both, (0.0,) * len(both)))
        ]
        if not all(found.is_resolved for found in slopes):
            return False
        one, other, sum_ = slopes
        gap = abs(one.measured + other.measured - sum_.measured)
        return gap <= sum(found.bound for found in slopes)

    # --- places --------------------------------------------------------------------------------

    def here(self) -> Place:
        truth = self.truth or self.function
        return Place(self.function.x, truth.value)

    def second_point(self, only: Collection[int] | None = None) -> Place | None:
        return self.elsewhere(_SECOND_POINT, relative=True, name="a second point", only=only)

    def elsewhere(
        self, distance: float, *, relative: bool, name: str, only: Collection[int] | None = None
    ) -> Place | None:
        """A point some way along a random direction; None where the function is not finite.

        only: the variables that differ there.
        """
        pairs = zip(self.function.x, self.function.variables, strict=True)
        way = [
            tiled_direction(x, variable.spec, self.generator, relative=relative)
            if only is None or k in only
            else torch.zeros_like(x, dtype=torch.float64)
            for k, (x, variable) in enumerate(pairs)
        ]
        for share in (distance, distance / 16):
            place = self.shifted(way, share, name)
            if place is not None:
                return place
        return None

    def shifted(self, way: Point, share: float, name: str) -> Place | None:
        moved = [shifted(x, u, share) for x, u in zip(self.function.x, way, strict=True)]
        value = (self.truth or self.function).values(moved)
        if value is None or not all_finite([value]):
            return None
        return Place(moved, value, name)

    # --- the verdict ---------------------------------------------------------------------------

    def sit(self, looks: int, *, only: Collection[int] | None = None) -> Finding:
        """Judge at the point, and half of the looks at a second one.

        From the second look on, another call at the other point precedes the backward: a
        gradient that reads what the last call has left is wrong there.
        """
        here = self.here()
        there = self.second_point(only)
        taken: list[Look] = []
        for index in range(looks):
            place, other = (there, here) if index % 2 and there is not None else (here, there)
            taken += self._settled(place, first=index, only=only, other=other if index else None)
        for index in range(looks, looks + 2):
            if any(look.is_alarm for look in taken) or sum(look.decides for look in taken) >= 2:
                break
            taken += self._settled(here, first=index, only=only)
        return self._weighed(taken, only)

    def _settled(
        self,
        place: Place,
        *,
        first: int = 0,
        only: Collection[int] | None = None,
        other: Place | None = None,
    ) -> list[Look]:
        """The first look that decides, moving relatively or absolutely, else the tightest."""
        tightest: list[Look] = []
        for relative in (first % 2 == 0, first % 2 == 1):
            look = self.look(place, relative=relative, only=only, other=other)
            if look is None:
                continue
            if look.is_alarm:
                return [look]
            look = look.without_tensors()
            if look.decides:
                return [look]
            if not tightest or look.slope.bound < tightest[0].slope.bound:
                tightest = [look]
        return tightest

    def _weighed(self, looks: list[Look], only: Collection[int] | None = None) -> Finding:
        """Call further directions where one alarm stands alone; else the verdict."""
        for _ in range(FURTHER):
            alarms = [look for look in looks if look.is_alarm]
            if len(alarms) != 1:
                break
            (lone,) = alarms
            looks += self._settled(lone.place, first=len(looks), only=only, other=lone.other)
        alarms = [look for look in looks if look.is_alarm]
        if len(alarms) == 1:
            count = sum(look.decides for look in looks)
            self.notes.append(f"one of {count} directions disagreed, and no other confirmed it")
        return Finding(tuple(looks))

    def decide_nearby(self) -> Finding:
        """Judge at a generic point nearby: for kinks, and for slopes below the rounding."""
        looks: list[Look] = []
        for index in range(2):
            place = self.elsewhere(_NEARBY, relative=False, name="a point nearby")
            if place is not None:
                looks += self._settled(place, first=index)
        return self._weighed(looks)
