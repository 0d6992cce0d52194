"""One look at a gradient, and what several looks come to.

An error e of the gradient that is r times the bound, ‖e∘s‖ = r·bound on the scale s of the moves,
escapes one look with q(r) = P(|z| ≤ 1/r), z standard normal, or a product of two where one output
alone is wrong: `miss_probability` composes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dlcheck.gradients.directions import Direction
from dlcheck.gradients.function import Gradient
from dlcheck.numerics.differences import ZERO, Point, Slope

FURTHER = 4  # directions that may confirm a single alarm


@dataclass(frozen=True, slots=True)
class Place:
    """A point at which the gradient is judged."""

    x: Point
    value: Tensor  # [m]
    name: str = ""  # empty: the point that was given


@dataclass(frozen=True, slots=True)
class Look:
    """One direction, one cotangent, and what the differences say."""

    place: Place
    direction: Direction
    v: Tensor  # [m]
    gradient: Gradient  # as claimed
    slope: Slope
    other: Place | None = None  # where f was called between forward and backward
    is_alarm: bool = False
    doubt: str = ""  # why it decides nothing

    @property
    def decides(self) -> bool:
        return self.slope.is_resolved and not self.doubt

    def without_tensors(self) -> Look:
        """What is needed of a look that raises no alarm: K looks must not hold K gradients."""
        none = torch.empty(0)
        return replace(
            self,
            place=Place((), none, self.place.name),
            direction=Direction((), self.direction.shares),
            v=none,
            gradient=Gradient((), frozenset(), none),
            other=None,
        )

    def certificates(self) -> list[float]:
        """The bound against each tensor's share of the slope; infinite for a zero gradient."""
        least = ZERO * self.slope.level  # below which a slope is rounding
        return [
            self.slope.bound / share if share > least else math.inf
            for share in self.direction.shares
        ]


@dataclass(frozen=True, slots=True)
class Finding:
    """The looks that were taken, and what they come to."""

    looks: tuple[Look, ...]
    own: Mapping[int, tuple[Look, ...]] = field(default_factory=dict)  # of single variables
    undecided: frozenset[int] = frozenset()  # variables for which no look decides

    @property
    def alarms(self) -> list[Look]:
        return [look for look in self.looks if look.is_alarm]

    @property
    def clean(self) -> list[Look]:
        return [look for look in self.looks if look.decides and not look.is_alarm]

    @property
    def is_failure(self) -> bool:
        return len(self.alarms) >= 2

    @property
    def is_pass(self) -> bool:
        return not self.is_failure and len(self.clean) >= 2

    @property
    def count(self) -> int:
        """How many independent looks agree on each variable, at least."""
        own = [sum(look.decides for look in looks) for looks in self.own.values()]
        return min([len(self.clean), *own])

    def certificates(self, count: int) -> list[float]:
        """Per variable, the loosest bound relative to its share; infinite for a zero gradient."""
        found = certificates(self.clean, count)
        for k, looks in self.own.items():
            found[k] = certificates(looks, count)[k]
        for k in self.undecided:
            found[k] = math.nan
        return found

    def loosest(self, variable: int | None) -> Look:
        """The look with the loosest bound, on one variable or on all."""
        if variable is None:
            return self.worst
        looks = self.own.get(variable, tuple(self.clean))
        known = [(certificates([look], variable + 1)[variable], look) for look in looks]
        finite = [pair for pair in known if math.isfinite(pair[0])]
        return max(finite, key=lambda pair: pair[0])[1]

    @property
    def worst(self) -> Look:
        """The strongest alarm of a failure; else the loosest of the looks that decide."""
        if self.is_failure:
            return max(self.alarms, key=lambda look: abs(look.slope.residual) / look.slope.bound)
        return max(self.clean or self.looks, key=lambda look: look.slope.relative_bound)


def certificates(looks: Sequence[Look], count: int) -> list[float]:
    """Per variable, the loosest bound relative to its share, of the looks that moved it."""
    found = [math.inf] * count
    for look in looks:
        for k, own in enumerate(look.certificates()[:count]):
            if look.decides and math.isfinite(own):
                found[k] = own if math.isinf(found[k]) else max(found[k], own)
    return found


def miss_probability(r: float, looks: int, outputs: int = 1) -> float:
    """P(a gradient error of r bounds escapes the rule), for so many looks at independent u and v.

    It escapes if no look sees it, or if one does and none of the four further ones.
    """
    if r <= 0 or looks < 1:
        return 1.0
    q = _hidden(1 / r, outputs)
    return float(q**looks + looks * (1 - q) * q ** (looks - 1 + FURTHER))


def _hidden(a: float, outputs: int) -> float:
    """P(one look does not see an error), a being its bound relative to the error.

    ⟨e, u⟩ is normal for a given error e of Jᵀv. Of several outputs the error may be in one alone,
    and then its component of v may hide it as well: P(|z₁z₂| ≤ a) = (2/π) ∫₀ᵃ K₀(t) dt, K₀ being
    the modified Bessel function. Source: Craig, On the frequency function of xy, Annals of
    Mathematical Statistics 7(1), 1936.
    """
    if outputs == 1:
        return math.erf(a / math.sqrt(2))
    from scipy.special import iti0k0

    return min(1.0, 2 / math.pi * float(iti0k0(a)[1]))
