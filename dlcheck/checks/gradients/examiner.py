"""Judges the gradient of some tensors by looking along random directions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.checks.gradients.diagnosis import factor_between
from dlcheck.checks.gradients.flattening import Flattened, Gradient, Part
from dlcheck.model import Evidence
from dlcheck.numerics.differences import FIRST_STEP, Slope, slope
from dlcheck.strategies import lay_out

_ATTEMPTS = 5  # directions tried before a tensor is given up as undecided
_SAFETY = 8  # a spread seen in two draws against its size
_BETWEEN = 2.0**-4  # how far away the call between forward and backward is


def may_go_without(function: Flattened, part: Part) -> bool:
    """Is it a loss's target, for which no gradient was promised?

    If one is computed all the same, it must be right.
    """
    subject = function.subject
    if subject.kind.name != "loss" or "wrt" in subject.options or part.spec is None:
        return False
    inputs = list(function.case.inputs)
    roles = subject.options.get("roles", {})
    pairwise = subject.options.get("task") in ("contrastive", "triplet")
    targets = [roles["target"]] if "target" in roles else [] if pairwise else inputs[1:2]
    data = roles.get("data", ())
    return part.name in targets or part.name in ([data] if isinstance(data, str) else data)


@dataclass(frozen=True, slots=True)
class _Look:
    """One direction, one incoming gradient, and what the differences say."""

    slope: Slope
    gradient: Gradient
    u: Tensor
    cotangents: tuple[Tensor, ...]
    between: Tensor | None  # the point of the call between forward and backward
    is_finite: bool  # else u moves only where the gradient is not, and the claim counts as 0

    @property
    def is_clean(self) -> bool:
        return self.is_finite and self.slope.is_resolved and not self.slope.is_suspicious


@dataclass(frozen=True, slots=True)
class Examiner:
    """Judges the gradient of some tensors together."""

    function: Flattened
    generator: torch.Generator
    parts: tuple[Part, ...]
    layout: str = ""  # of the incoming gradient; then another forward precedes the backward

    @property
    def what(self) -> str:
        if not self.layout:
            return "gradient of " + ", ".join(part.name for part in self.parts)
        return f"gradient of all tensors, incoming gradient {self.layout}"

    def examine(self) -> Iterator[Evidence]:
        """One piece of evidence; none for a target that needs no gradient and has none."""
        suspects: list[_Look] = []
        looks: list[_Look] = []
        for attempt in range(_ATTEMPTS):
            look = self._look(relative=attempt % 2 == 0)
            if look is None:
                continue
            if self._goes_without(look):
                return
            looks.append(look)
            if self._is_confirmed(look):
                suspects.append(look)
            elif look.is_clean and not suspects:
                yield _evidence(self.what, look.slope)
                return
            if len(suspects) == 2:
                yield self._failure(suspects)
                return
        if looks:
            yield _undecided(self.what, min((look.slope for look in looks), key=_looseness))

    def _look(self, *, relative: bool) -> _Look | None:
        """A fresh direction and a fresh incoming gradient; None if nothing can move."""
        function = self.function
        cotangents = self._cotangents()
        between = self._elsewhere()
        gradient = function.gradient(cotangents, between=between)
        u = function.direction(self.parts, self.generator, relative=relative)
        finite = torch.isfinite(gradient.flat)
        is_finite = bool(finite[u != 0].all())
        if not is_finite:
            u = torch.where(finite, 0.0, u)
        if not bool(u.any()):
            return None
        found = slope(function, function.point, u, _flat(cotangents), gradient.finite)
        return _Look(found, gradient, u, cotangents, between, is_finite)

    def _cotangents(self) -> tuple[Tensor, ...]:
        """Normal numbers with all their bits: rounded ones would hide a float32 backward."""
        made = []
        for shape in self.function.shapes:
            z = torch.randn(shape, generator=self.generator, dtype=torch.float64)
            z = z.to(self.function.case.device)
            if self.layout == "expanded":
                made.append(z[:1].expand(shape) if shape else z)
            else:
                made.append(lay_out(z, self.layout or "contiguous"))
        return tuple(made)

    def _elsewhere(self) -> Tensor | None:
        if not self.layout:
            return None
        function = self.function
        inputs = [part for part in function.parts if part.parameter is None]
        u = function.direction(inputs, self.generator, relative=True)
        return function.point + _BETWEEN * u

    def _goes_without(self, look: _Look) -> bool:
        (part, *others) = self.parts
        if others or part.name not in look.gradient.unreached:
            return False
        return may_go_without(self.function, part)

    def _is_confirmed(self, look: _Look) -> bool:
        """Does the suspicion survive other steps and the noise of the claimed gradient?"""
        if not look.is_finite:
            return look.slope.is_resolved  # it has a derivative, and the gradient is not finite
        if not look.slope.is_suspicious:
            return False
        function = self.function
        again = slope(
            function,
            function.point,
            look.u,
            _flat(look.cotangents),
            look.gradient.finite,
            first_step=0.77 * FIRST_STEP,
            noise=self._noise(look),
        )
        # Two ladders that disagree measure something else, as x rounded to float32 inside.
        disagreement = abs(again.measured - look.slope.measured)
        return again.is_suspicious and disagreement <= again.bound + look.slope.bound

    def _noise(self, look: _Look) -> float:
        """What ⟨g, u⟩ may be off by in a right backward.

        Its conditioning: how much it moves when the inputs are rounded otherwise. And what it
        loses where terms as large as v cancel, as in v(p − 1) at a saturated softmax: ε‖v‖‖u‖.
        """
        function, spread, ε = self.function, 0.0, torch.finfo(torch.float64).eps
        for _ in range(2):
            signs = torch.randn(function.point.shape, generator=self.generator).sign()
            nudged = function.point * (1 + ε * signs.to(function.point))
            nearby = function.gradient(look.cotangents, at=nudged, between=look.between)
            change = float((nearby.finite - look.gradient.finite) @ look.u)
            spread = max(spread, abs(change))
        sizes = torch.linalg.vector_norm(_flat(look.cotangents)) * torch.linalg.vector_norm(look.u)
        return _SAFETY * (3 * spread + 4 * ε * float(sizes))

    def _failure(self, suspects: Sequence[_Look]) -> Evidence:
        first = suspects[0]
        if not first.is_finite:
            return _not_finite(self.what, first)
        return _evidence(self.what, first.slope, cause=self._cause(suspects))

    def _cause(self, suspects: Sequence[_Look]) -> str:
        first, second = suspects
        if all(part.name in first.gradient.unreached for part in self.parts):
            return "no gradient arrives: detached, or left out of the graph"
        if self.layout:
            dense = tuple(v.contiguous() for v in first.cotangents)
            if not self._agrees(self.function.gradient(dense, between=first.between), first):
                return f"the backward ignores the strides of its incoming gradient ({self.layout})"
            if not self._agrees(self.function.gradient(first.cotangents), first):
                return "the backward reads what a later forward has overwritten"
        return factor_between(first.slope, second.slope, self._meaningful_factors())

    @staticmethod
    def _agrees(other: Gradient, look: _Look) -> bool:
        difference = torch.linalg.vector_norm(other.finite - look.gradient.finite)
        return bool(difference <= 1e-6 * torch.linalg.vector_norm(look.gradient.finite))

    def _meaningful_factors(self) -> dict[float, str]:
        factors: dict[float, str] = {}
        for name, tensor in self.function.case.inputs.items():
            rows, numel = (tensor.shape[0] if tensor.dim() else 1), tensor.numel()
            for count, meaning in ((numel, f"elements of {name}"), (rows, f"rows of {name}")):
                if count > 2:
                    factors[float(count)] = f"{meaning} summed instead of averaged"
                    factors[1.0 / count] = f"{meaning} averaged instead of summed"
        return factors


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _looseness(found: Slope) -> float:
    return found.bound / found.size if found.size else math.inf


def _evidence(what: str, found: Slope, cause: str = "") -> Evidence:
    return Evidence(
        error=abs(found.residual),
        bound=found.bound,
        signal=found.level if found.is_zero else found.size,
        what=what,
        expected=f"{found.measured:.10g} ± {found.bound:.1g} along a random direction",
        got=f"{found.claimed:.10g}",
        cause=cause,
    )


def _undecided(what: str, found: Slope) -> Evidence:
    """At a kink, or below rounding: the bound says nothing, and so the evidence."""
    return Evidence(
        error=0.0,
        bound=math.inf,
        signal=found.size,
        what=what,
        expected="a slope that two independent directions agree on",
        got=f"{found.measured:.6g} ± {found.bound:.1g} for {found.claimed:.6g}",
    )


def _not_finite(what: str, look: _Look) -> Evidence:
    elements = int((~torch.isfinite(look.gradient.flat)).sum())
    return Evidence(
        error=math.nan,
        bound=look.slope.bound,
        signal=look.slope.size,
        what=what,
        expected=f"{look.slope.measured:.10g}, the slope along those elements",
        got="NaN or infinite",
        where=f"{elements} elements",
        cause="0 · ∞ in the backward: a division or logarithm behind a where or a clamp",
    )
