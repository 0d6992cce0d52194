"""A gradient in low precision against the float64 one: what is compared, and put in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.gradients.evidence import GradientEvidence, TensorResult, WrongElement
from dlcheck.gradients.examination import Examination
from dlcheck.gradients.function import Function
from dlcheck.gradients.spread import Narrow, Spread, factor
from dlcheck.gradients.variables import Variable
from dlcheck.model import Verdict

_FACTOR_SAFETY = 4.0
_NAMED = 5  # wrong elements that are listed
_CANCELLED = 1e-10  # of the noise in units of the type: a gradient that is zero but for rounding


@dataclass(frozen=True, slots=True)
class Miss:
    """One of the three comparisons, relative to the gradient, with its words."""

    error: float
    bound: float
    expected: str
    got: str
    where: str = ""

    @property
    def ratio(self) -> float:
        if not self.error <= self.bound and (self.bound == 0 or math.isnan(self.error)):
            return math.inf
        return self.error / self.bound if self.bound else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The gradient of one tensor as claimed, in float64, and how far they may differ."""

    claimed: Tensor
    gradient: Tensor
    tolerance: Tensor
    usable: Tensor  # [bool]
    size: float  # ‖G‖; 0 where it is rounding alone
    error: float  # ‖g − G‖
    bound: float
    factor: float  # α
    factor_bound: float

    @classmethod
    def of(cls, claimed: Tensor, spread: Spread, narrow: Narrow) -> Comparison:
        usable, deviation, unit = spread.usable, spread.deviation, narrow.ulp / 2
        gradient = torch.where(usable, spread.gradient, 0.0)
        widest = torch.where(usable, spread.widest, 0.0)
        change = torch.where(usable & torch.isfinite(claimed), claimed - spread.gradient, 0.0)
        noise, size = _norm(torch.where(usable, deviation, 0.0)), _norm(gradient)
        floor = narrow.smallest * math.sqrt(max(claimed.numel(), 1))
        scattered = torch.maximum(narrow.safety * deviation, widest)
        is_zero = size <= max(_CANCELLED * noise / narrow.ulp, floor)
        return cls(
            claimed=claimed,
            gradient=gradient,
            tolerance=scattered + unit * gradient.abs() + narrow.smallest,
            usable=usable,
            size=0.0 if is_zero else size,
            error=_norm(change),
            bound=max(0.5 * narrow.safety * noise, _norm(widest)) + unit * size + floor,
            factor=0.0 if is_zero else factor(change, gradient),
            factor_bound=_FACTOR_SAFETY * spread.factor_deviation
            + narrow.factor_slack
            + floor / (size or 1.0),
        )

    @property
    def wrong(self) -> Tensor:
        """[bool]: the elements beyond their tolerance, or not finite where they should be."""
        return self.usable & ~((self.claimed - self.gradient).abs() <= self.tolerance)

    @property
    def is_scaled(self) -> bool:
        return abs(self.factor) > self.factor_bound

    @property
    def is_alarm(self) -> bool:
        return self.is_scaled or self.error > self.bound or bool(self.wrong.any())

    @property
    def certificate(self) -> float:
        """The share of the gradient beyond which an error all over the tensor is seen.

        By its norm, or by half of its elements: a few that sit at kinks spoil the norm alone.
        """
        if self.size == 0:
            return math.inf
        moving = self.gradient != 0
        typical = float((self.tolerance / self.gradient.abs())[moving].median())
        return min(self.bound / self.size, typical)

    @property
    def worst(self) -> Miss:
        return max(self._misses(), key=lambda miss: miss.ratio)

    def _misses(self) -> Iterator[Miss]:
        size = self.size or 1.0
        yield Miss(
            self.error / size, self.bound / size,
            f"the float64 gradient to {self.bound / size:.1g} of its norm",
            f"one that is {self.error / size:.2g} of its norm away",
        )  # fmt: skip
        yield Miss(
            abs(self.factor), self.factor_bound,
            f"the float64 gradient, in the mean to {self.factor_bound:.1g}",
            f"{1 + self.factor:.9g} times that in the mean",
        )  # fmt: skip
        for place in self.places()[:1]:
            scale = size / math.sqrt(self.claimed.numel())
            claimed, right, bound = self.element(place)
            yield Miss(
                abs(claimed - right) / scale, bound / scale,
                f"{right:.6g} ± {bound:.1g}, as in float64", f"{claimed:.6g}",
                where=f"element {place} of {self.claimed.numel()}",
            )  # fmt: skip

    def places(self) -> list[int]:
        """Where the wrong elements are, in the flattened tensor: the worst first."""
        wrong = self.wrong
        excess = torch.where(wrong, (self.claimed - self.gradient).abs() / self.tolerance, 0.0)
        excess = torch.nan_to_num(excess, nan=math.inf).reshape(-1)
        found: list[int] = torch.topk(excess, min(_NAMED, int(wrong.sum()))).indices.tolist()
        return found

    def element(self, place: int) -> tuple[float, float, float]:
        """Claimed, right, and the tolerance."""
        parts = (self.claimed, self.gradient, self.tolerance)
        claimed, right, bound = (float(part.reshape(-1)[place]) for part in parts)
        return claimed, right, bound

    @property
    def cause(self) -> str:
        if not bool(torch.isfinite(self.claimed[self.usable]).all()):
            return "NaN or infinite where float64 and its roundings are finite"
        if not self.is_scaled:
            return ""
        rest = (self.claimed / (1 + self.factor) - self.gradient).abs() <= self.tolerance
        if float(rest[self.usable].double().mean()) < 0.99:
            return ""
        digits = max(1, 1 - math.floor(math.log10(self.factor_bound)))
        return f"the gradient is {1 + self.factor:.{digits}g} times the right one"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """All looks at one tensor: it is wrong if its alarm came twice."""

    variable: Variable
    looks: tuple[Comparison, ...]

    @property
    def is_wrong(self) -> bool:
        return sum(look.is_alarm for look in self.looks) >= 2

    @property
    def telling(self) -> Comparison:
        """The worst look at a wrong tensor; the loosest without an alarm at another."""
        if self.is_wrong:
            return max(self.looks, key=lambda look: look.worst.ratio)
        quiet = [look for look in self.looks if not look.is_alarm]
        return max(quiet, key=lambda look: look.certificate if look.size else 0.0)

    def result(self, narrow: Narrow) -> TensorResult:
        look, shape = self.telling, tuple(self.variable.value.shape)
        verdict = Verdict.FAILED if self.is_wrong else Verdict.PASSED
        if not self.is_wrong and narrow.resolution < look.certificate < math.inf:
            verdict = Verdict.INCONCLUSIVE
        cause = look.cause if self.is_wrong else ""
        count = int(look.wrong.sum())
        return TensorResult(
            name=self.variable.name,
            shape=shape,
            verdict=verdict,
            certificate=look.certificate,
            cause=cause,
            elements=tuple(self._elements(look)) if self.is_wrong else (),
            extent=f"{count} of {look.claimed.numel()} elements" if count and not cause else "",
        )

    def _elements(self, look: Comparison) -> Iterator[WrongElement]:
        for place in look.places():
            claimed, right, bound = look.element(place)
            index = tuple(
                int(i) for i in torch.unravel_index(torch.tensor(place), look.claimed.shape)
            )
            yield WrongElement(
                tensor=self.variable.name,
                index=index[:-1] if self.variable.value.is_complex() else index,
                claimed=claimed, numeric=right, bound=bound,
            )  # fmt: skip


def compared_evidence(
    examination: Examination,
    high: Function,
    narrow: Narrow,
    looks: Sequence[Sequence[Comparison]],
    certified: GradientEvidence,
) -> GradientEvidence:
    """The evidence of all looks, each a comparison per tensor."""
    low = examination.function
    tensors = [
        Verdicts(variable, own)
        for variable, own in zip(low.variables, zip(*looks, strict=True), strict=True)
    ]
    results = [tensor.result(narrow) for tensor in tensors]
    if not any(bool(look.usable.any()) for tensor in tensors for look in tensor.looks):
        return examination.unchecked(
            f"{narrow.name} overflows or underflows here: it cannot hold what float64 gives"
        )
    chosen = max(tensors, key=_gravity)
    miss = chosen.telling.worst
    result = results[tensors.index(chosen)]
    finite = [r.certificate for r in results if math.isfinite(r.certificate)]
    certificate = max(finite, default=0.0)
    reason = ""
    if not chosen.is_wrong:
        look = chosen.telling
        bound = look.certificate if look.size else 0.0
        miss = Miss(
            min(look.error / (look.size or 1.0), bound),
            bound,
            "the float64 gradient, but for rounding",
            "",
        )
        if bound > narrow.resolution:
            reason = (
                f"rounding to {narrow.name} alone may change the gradient of "
                f"{chosen.variable.name} by {bound:.1g} of its size"
            )
    return GradientEvidence(
        error=miss.error, bound=miss.bound, signal=1.0, unit="of the gradient",
        what=f"gradient of {chosen.variable.name} in {narrow.name}",
        expected=miss.expected, got=miss.got, where=miss.where,
        cause=result.cause, resolution=narrow.resolution,
        certificate=certificate + certified.certificate,
        looks=sum(not any(c.is_alarm for c in look) for look in looks),
        tensors=tuple(results), element=result.elements[0] if result.elements else None,
        reason=reason,
        forwards=low.forwards + high.forwards, backwards=low.backwards + high.backwards,
        notes=tuple(dict.fromkeys([*low.notes, *_notes(tensors, narrow, certified)])),
        seed=examination.seed,
    )  # fmt: skip


def _gravity(tensor: Verdicts) -> tuple[bool, float]:
    look = tensor.telling
    return tensor.is_wrong, look.worst.ratio if tensor.is_wrong else look.bound / (
        look.size or math.inf
    )


def _notes(
    tensors: Sequence[Verdicts], narrow: Narrow, certified: GradientEvidence
) -> Iterator[str]:
    quiet = [t.telling for t in tensors if not t.is_wrong and t.telling.size]
    if quiet:
        loosest = max(look.certificate for look in quiet)
        common = max(look.factor_bound for look in quiet)
        yield (
            f"{narrow.name} cannot certify below {loosest:.1g} of the gradient of a tensor, nor a "
            f"common factor below {common:.1g}: rounding hides what is smaller"
        )
    yield f"the formula is certified in float64 to {certified.certificate:.1g}"
    for tensor in tensors:
        if not tensor.is_wrong and any(look.is_alarm for look in tensor.looks):
            yield f"one look of {len(tensor.looks)} at {tensor.variable.name} disagreed, no other"
        lost = max(int((~look.usable).sum()) for look in tensor.looks)
        if lost:
            yield (
                f"{lost} elements of {tensor.variable.name} are not certified: {narrow.name} "
                "overflows or underflows there, or float64 is not finite either"
            )


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))
