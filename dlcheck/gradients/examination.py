"""One gradient check from first call to evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from dlcheck.errors import SubjectError, SubjectRaised, Unchecked, UsageError
from dlcheck.gradients.conditions import Difference, differences
from dlcheck.gradients.diagnosis import diagnose
from dlcheck.gradients.directions import Direction, cotangent
from dlcheck.gradients.evidence import GradientEvidence, TensorResult
from dlcheck.gradients.expectations import Expectation, beyond_the_limit
from dlcheck.gradients.function import Function
from dlcheck.gradients.judge import Judge
from dlcheck.gradients.looks import Finding, Place, certificates
from dlcheck.gradients.predicates import tied
from dlcheck.model import Verdict
from dlcheck.numerics.differences import RESOLVED, shifted
from dlcheck.numerics.perturbations import root_mean_square

_SINGLY = 8  # variables that are tried one by one
_LOOSE = 1e-3  # a tensor whose certificate is looser gets directions of its own


@dataclass(frozen=True, slots=True)
class Thoroughness:
    """How much a check may spend."""

    looks: int
    precise: float  # a bound of this share of the slope is worth no further evaluation
    conditions: bool


MODES = {
    "full": Thoroughness(looks=3, precise=1e-9, conditions=True),
    "lite": Thoroughness(looks=2, precise=1e-7, conditions=False),
}


@dataclass(slots=True)
class Examination:
    """The judge's verdict with what surrounds it: kinks, NaN, conditions, loose tensors."""

    judge: Judge
    mode: Thoroughness
    seed: int = 0
    explains: bool = True  # say where and why, at a cost of some hundred evaluations

    @property
    def function(self) -> Function:
        return self.judge.function

    @property
    def expected(self) -> Expectation:
        return self.judge.expected

    def run(self) -> GradientEvidence:
        """The evidence, whatever it is. Raises SubjectRaised where the subject raises."""
        try:
            return self.examine()
        except Unchecked as reason:
            return self.unchecked(str(reason))
        except SubjectRaised:
            raise
        except SubjectError as error:
            return self._broken(str(error))

    def examine(self) -> GradientEvidence:
        """The evidence of a verdict.

        Raises Unchecked where there is nothing to differentiate, and SubjectError where the
        subject breaks a contract or raises at the point itself.
        """
        self.function.meet()
        if self.judge.truth is not None:
            self.judge.truth.meet()
            self._hold_alike(self.judge.truth)
        if self.expected.is_zero:
            return self._zero()
        if math.isfinite(self.expected.clip) and (found := self._clipped()) is not None:
            return found
        try:
            finding = self._decided()
        except SubjectRaised as error:
            if "once_differentiable" in str(error):
                raise Unchecked("declared once_differentiable: it has no second gradient") from None
            raise
        if finding.is_failure and not self.function.eats_incoming:
            return self._failed(finding)
        if (found := self._not_finite()) is not None:
            return found
        if self.function.eats_incoming:
            raise SubjectError(
                "the backward changes its incoming gradient in place: whoever else holds it, as "
                "the other branch of a sum, then gets a wrong one; work on a copy"
            )
        if finding.is_pass and self.mode.conditions:
            certificate = max(look.slope.relative_bound for look in finding.clean)
            for difference in differences(self.judge, certificate):
                return self._dependent(difference)
        return self._passed(finding) if finding.is_pass else self._undecided(finding)

    def _hold_alike(self, truth: Function) -> None:
        """The surrogate must take and give what the function does."""
        if truth.shapes != self.function.shapes:
            ours, theirs = ([list(s) for s in f.shapes] for f in (self.function, truth))
            raise UsageError(f"the surrogate returns {theirs} where the function returns {ours}")

    # --- deciding ------------------------------------------------------------------------------

    def _decided(self) -> Finding:
        """At the point; where that is a kink without the tied elements, then nearby."""
        finding = self.judge.sit(self.mode.looks)
        if finding.is_failure and not self._is_kink(finding):
            return finding
        if finding.is_pass:
            return self._tightened(finding)
        masks = [_special(x) for x in self.function.x]
        still = [mask if mask.any() and not mask.all() else None for mask in masks]
        if any(mask is not None for mask in still):
            self.judge.still = still
            masked = self.judge.sit(2)
            self.judge.still = ()
            if masked.is_pass:
                count = sum(int(mask.sum()) for mask in still if mask is not None)
                self.judge.notes.append(f"{count} elements that are 0 or tied were held still")
                return masked
        if (alone := self._one_by_one()) is not None:
            return alone
        nearby = self.judge.decide_nearby()
        if nearby.is_failure or nearby.is_pass:
            self.judge.notes.append(
                "decided at a point nearby: this one is a kink, or rounding hides its slope"
            )
            return nearby
        return nearby if finding.is_failure else finding

    def _one_by_one(self) -> Finding | None:
        """Each variable by itself, where some stand at a kink or a jump and others do not.

        None where that decides for none, or where there is only one.
        """
        count = len(self.function.variables)
        if not 1 < count <= _SINGLY:
            return None
        own = {}
        for k in range(count):
            finding = self.judge.sit(2, only=[k])
            if finding.is_failure and not self._is_kink(finding, only=[k]):
                return finding
            if finding.is_pass:
                own[k] = finding.looks
        if not own or len(own) == count:
            return None if not own else Finding(tuple(chain(*own.values())), own)
        self.judge.notes.append("each input was moved by itself: some stand at a kink or a jump")
        return Finding(
            tuple(chain(*own.values())), own, undecided=frozenset(range(count)) - set(own)
        )

    def _is_kink(self, finding: Finding, only: Sequence[int] | None = None) -> bool:
        """Did all alarms come from a point where zeros or ties make a kink?

        There a gradient is a choice between one-sided slopes, and no error.
        """
        alarm = finding.worst
        special = any(bool(_special(x).any()) for x in alarm.place.x)
        return special and not self.judge.is_smooth(alarm, only)

    def _tightened(self, finding: Finding) -> Finding:
        """Further looks for the tensors whose share was too small to be judged with the rest."""
        known = certificates(finding.clean, len(self.function.variables))
        loose = [k for k, c in enumerate(known) if math.isfinite(c) and c > _LOOSE]
        if not loose:
            return finding
        further = self.judge.sit(2, only=loose)
        if further.is_failure:
            return further
        return Finding(finding.looks, {k: further.looks for k in loose} if further.is_pass else {})

    # --- evidence ------------------------------------------------------------------------------

    def _passed(self, finding: Finding) -> GradientEvidence:
        known = finding.certificates(len(self.function.variables))
        finite = [c for c in known if math.isfinite(c)]
        look = finding.loosest(known.index(max(finite)) if finite else None)
        worst, signal = look.slope, look.slope.size
        if finite:
            signal = look.direction.shares[known.index(max(finite))]
        elif worst.is_zero:
            signal = worst.level or 1.0  # nothing moved, exactly
            self.judge.notes.append("constant here: a zero gradient is right")
        certificate = max(finite, default=0.0 if worst.is_zero else worst.relative_bound)
        if finding.undecided:
            signal = 0.0  # nothing is known of some inputs: no pass
        tensors = self._results(known)
        open_ = [t.name for t in tensors if t.verdict is Verdict.INCONCLUSIVE]
        return self._evidence(
            error=abs(worst.residual),
            bound=worst.bound,
            signal=signal,
            what="gradient of " + ", ".join(v.name for v in self.function.variables),
            expected=f"{worst.measured:.10g} ± {worst.bound:.1g} along a random direction",
            got=f"{worst.claimed:.10g}",
            certificate=certificate,
            looks=finding.count,
            tensors=tensors,
            reason=f"not decided, or too loosely: {', '.join(open_)}" if open_ else "",
        )

    def _failed(self, finding: Finding) -> GradientEvidence:
        worst = finding.worst
        place = f" at {worst.place.name}" if worst.place.name else ""
        found = self._evidence(
            error=abs(worst.slope.residual),
            bound=worst.slope.bound,
            signal=worst.slope.size,
            what="gradient of " + ", ".join(v.name for v in self.function.variables) + place,
            expected=f"{worst.slope.measured:.10g} ± {worst.slope.bound:.1g} along a direction",
            got=f"{worst.slope.claimed:.10g}",
            certificate=worst.slope.relative_bound,
        )
        if not self.explains:
            return found
        try:
            said = diagnose(self.judge, finding)
        except Exception as error:  # the verdict must not be lost with its explanation
            note = f"the diagnosis failed: {type(error).__name__}: {error}"
            return replace(found, notes=(*found.notes, note[:200]))
        wrong = [tensor.name for tensor in said.tensors if tensor.verdict is Verdict.FAILED]
        return replace(
            found,
            what=f"gradient of {', '.join(wrong)}{place}",
            cause=said.cause,
            tensors=said.tensors,
            element=said.element,
            localisation=said.localisation,
            forwards=self.function.forwards,
            backwards=self.function.backwards,
        )

    def _undecided(self, finding: Finding) -> GradientEvidence:
        if not finding.looks:
            raise Unchecked("nothing can be moved within its domain")
        best = min(finding.looks, key=lambda look: look.slope.relative_bound)
        why = best.doubt or (
            f"the best bound is {best.slope.relative_bound:.1g} of the slope: a kink, noise or "
            "low precision hides the derivative"
        )
        if any(look.slope.steps for look in finding.looks):
            why = (
                "the function is constant over small steps and jumps over larger ones: it rounds "
                "to levels, or computes in low precision; declare a straight-through or surrogate "
                "gradient (expect)"
            )
        if self.function.deviations:
            why = f"not deterministic: repeated calls differ; {why}"
        return self._evidence(
            error=0.0,
            bound=math.inf,
            signal=best.slope.size,
            what="gradient of " + ", ".join(v.name for v in self.function.variables),
            expected="a slope that two independent directions agree on",
            got=f"{best.slope.measured:.6g} ± {best.slope.bound:.1g} for {best.slope.claimed:.6g}",
            reason=why,
        )

    def _not_finite(self) -> GradientEvidence | None:
        """Is a gradient NaN or infinite where the function has a finite slope?"""
        if not self.judge.is_broken:
            return None
        if not self.function.is_whole:
            self.judge.notes.append("the gradient of outputs that are not finite is not finite too")
            return None
        here = self.judge.here()
        v, gradient = self.judge.claimed(here)
        way = _along_broken(self.function.x, gradient.parts)
        elements = sum(int((part != 0).sum()) for part in way.parts)
        still = replace(gradient, parts=tuple(torch.zeros_like(part) for part in gradient.parts))
        found = self.judge.slope(here, way, v, still, exact=True)
        values = (self.judge.truth or self.function).values
        if not elements or not (found.is_resolved or _has_finite_sides(values, here, way, v)):
            self.judge.notes.append("the gradient is not finite where the slope is infinite too")
            return None
        return self._evidence(
            error=math.nan,
            bound=found.bound,
            signal=found.size,
            what="gradient of " + _named(self.function, gradient.broken),
            expected=f"{found.measured:.6g}, the slope along those elements",
            got="NaN or infinite",
            where=f"{elements} elements",
            cause="0 · ∞ in the backward: a division, root or logarithm behind a where or a clamp",
        )

    def _zero(self) -> GradientEvidence:
        """The gradient is declared to be zero: it must be, exactly."""
        for _ in range(self.mode.looks):
            _, gradient = self.judge.claimed(self.judge.here())
            sizes = [float(part.abs().max()) for part in gradient.parts if part.numel()]
            if any(sizes) or any(math.isnan(size) for size in sizes):
                break
        return self._evidence(
            error=max(sizes), bound=0.0, signal=1.0, certificate=0.0, looks=self.mode.looks,
            what="gradient of " + ", ".join(v.name for v in self.function.variables),
            expected="zero, as declared", got=f"up to {max(sizes):.6g}",
        )  # fmt: skip

    def _clipped(self) -> GradientEvidence | None:
        """Evidence where the clipping breaks its law; else the judge looks below the limit."""
        found = beyond_the_limit(
            self.expected, self.function, cotangent(self.function, self.judge.generator)
        )
        if found is None:
            self.judge.notes.append("the gradient vanishes: nothing is clipped")
            return None
        error, bound = found
        if error <= bound:
            return None
        return self._evidence(
            error=error, bound=bound, signal=self.expected.clip,
            what=f"clipped gradient of {', '.join(v.name for v in self.function.variables)}",
            expected=f"the derivative, clipped at {self.expected.clip:g}",
        )  # fmt: skip

    def _dependent(self, found: Difference) -> GradientEvidence:
        return self._evidence(
            error=found.error,
            bound=found.bound,
            signal=found.size,
            what=f"gradient of {found.tensor}",
            expected="the same gradient under every circumstance",
            got=f"one that differs by {found.error:.3g} in norm, of {found.size:.3g}",
            cause=found.cause,
        )

    def unchecked(self, reason: str) -> GradientEvidence:
        return self._evidence(error=0.0, bound=math.inf, signal=0.0, reason=reason)

    def _broken(self, reason: str) -> GradientEvidence:
        return self._evidence(error=math.nan, bound=0.0, signal=0.0, reason=reason)

    def _results(self, known: Sequence[float]) -> tuple[TensorResult, ...]:
        return tuple(
            TensorResult(
                name=variable.name,
                shape=tuple(variable.value.shape),
                verdict=Verdict.PASSED if c <= RESOLVED or c == math.inf else Verdict.INCONCLUSIVE,
                certificate=c,
            )
            for variable, c in zip(self.function.variables, known, strict=True)
        )

    def _evidence(self, **found: object) -> GradientEvidence:
        function = self.function
        return GradientEvidence(
            **found,  # type: ignore[arg-type]
            outputs=max(1, len(function.value)),
            forwards=function.forwards,
            backwards=function.backwards,
            notes=tuple(dict.fromkeys([*function.notes, *self.judge.notes])),
            seed=self.seed,
        )


def _along_broken(x: Sequence[Tensor], gradient: Sequence[Tensor]) -> Direction:
    """A direction along the elements whose gradient is not finite, and x is."""
    parts = [
        torch.where(~torch.isfinite(g) & torch.isfinite(p), p.abs() + root_mean_square(p), 0.0)
        for p, g in zip(x, gradient, strict=True)
    ]
    return Direction(tuple(part.double() for part in parts), (0.0,) * len(parts))


def _has_finite_sides(
    values: Callable[[Sequence[Tensor]], Tensor | None], place: Place, way: Direction, v: Tensor
) -> bool:
    """Do both one-sided slopes stay bounded as the step shrinks by 2¹⁰?"""
    for side in (1, -1):
        slopes = []
        for h in (side * 2.0**-10, side * 2.0**-20):
            point = [shifted(x, u, h) for x, u in zip(place.x, way.parts, strict=True)]
            value = values(point)
            slopes.append(math.inf if value is None else abs(float(v @ (value - place.value)) / h))
        if not slopes[1] <= 2 * slopes[0] < math.inf:
            return False
    return True


def _named(function: Function, broken: Sequence[int]) -> str:
    pairs = zip(function.variables, broken, strict=True)
    return ", ".join(variable.name for variable, count in pairs if count)


def _special(x: Tensor) -> Tensor:
    """The elements [bool] where kinks sit: those that are 0, or equal to another one."""
    return (x == 0) | tied(x) if x.numel() <= 10**6 else x == 0
