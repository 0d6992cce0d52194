"""Why a gradient is wrong: each cause is a test of its own, named only where the test agrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dlcheck.errors import DlcheckError
from dlcheck.gradients.directions import Direction
from dlcheck.gradients.evidence import TensorResult, WrongElement
from dlcheck.gradients.function import Gradient
from dlcheck.gradients.hypotheses import explanation
from dlcheck.gradients.judge import Judge
from dlcheck.gradients.localise import Part, Region, hunted, sampled
from dlcheck.gradients.looks import Finding, Look
from dlcheck.gradients.measured import Measured
from dlcheck.gradients.predicates import separating
from dlcheck.model import Verdict

_SINGLY = 8  # tensors that are tried one by one; of more, groups are halved
_DETAILED = 4  # wrong tensors whose elements are looked for
_SHOWN = 3  # wrong elements that are shown of a tensor


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, tensor by tensor, and the likely cause in words."""

    cause: str
    tensors: tuple[TensorResult, ...]
    localisation: int  # forwards that searched for elements

    @property
    def element(self) -> WrongElement | None:
        """The wrong element that is furthest off, of the first tensor that has one."""
        for tensor in self.tensors:
            if tensor.worst is not None:
                return tensor.worst
        return None


def diagnose(judge: Judge, finding: Finding) -> Diagnosis:
    """Say where and why, from the alarms of a finding. Every slope is measured at their point."""
    alarm = finding.worst
    cause = _of_the_whole(judge, finding, alarm)
    wrong = _wrong_variables(judge, alarm)
    results, forwards = [], 0
    for index, variable in enumerate(judge.function.variables):
        part = Part(judge, alarm, index)
        if index not in wrong:
            verdict = Verdict.PASSED
            certificate = alarm.certificates()[index]
            results.append(_result(part, verdict, certificate, "", Region(())))
            continue
        detailed = sum(result.verdict is Verdict.FAILED for result in results) < _DETAILED
        found, region = _of_one(part) if detailed else ("", Region(()))
        forwards += region.forwards
        if variable.name in alarm.gradient.unreached:
            found = "no gradient arrives: detached, or left out of the graph"
        results.append(_result(part, Verdict.FAILED, math.inf, found, region))
    return Diagnosis(cause or _summary(results), tuple(results), forwards)


def _result(
    part: Part, verdict: Verdict, certificate: float, cause: str, region: Region
) -> TensorResult:
    return TensorResult(
        name=part.name,
        shape=tuple(part.judge.function.variables[part.index].value.shape),
        verdict=verdict,
        certificate=certificate,
        cause=cause,
        elements=region.elements[:_SHOWN],
        extent=region.extent,
    )


def _summary(results: Sequence[TensorResult]) -> str:
    wrong = [result for result in results if result.verdict is Verdict.FAILED]
    causes = list(dict.fromkeys(result.cause for result in wrong if result.cause))
    if not causes:
        return ""
    if len(causes) == 1 and len(wrong) == len(results) > 1:
        return f"in every tensor, {causes[0]}"
    first = next(result for result in wrong if result.cause)
    return f"{first.name}: {first.cause}" if len(results) > 1 else first.cause


# --- the whole ----------------------------------------------------------------------------------


def _of_the_whole(judge: Judge, finding: Finding, alarm: Look) -> str:
    """Causes that show in how the gradient depends on the calls, and on what comes in."""
    names = {variable.name for variable in judge.function.variables}
    if alarm.gradient.unreached == names:
        return "no gradient arrives: the output is detached from the graph"
    if all(abs(look.slope.measured) <= look.slope.bound for look in finding.alarms):
        return (
            "the function is constant here, but a gradient is returned: if it is meant as a "
            "straight-through or surrogate gradient, declare it (expect)"
        )
    try:
        return _of_the_calls(judge, finding, alarm) or _of_the_incoming(judge, alarm)
    except DlcheckError:
        return ""  # it raises under these circumstances: another cause then


def _of_the_calls(judge: Judge, finding: Finding, alarm: Look) -> str:
    function, v = judge.function, judge.function.shaped(alarm.v)
    usual = judge.claim(function.gradient(v, at=alarm.place.x))
    if alarm.other is not None and not _agree(usual, alarm.gradient):
        return (
            "the backward reads what a later forward has overwritten: keep it in ctx, not on self"
        )
    right_here = any(not look.place.name and look.decides for look in finding.clean)
    if alarm.place.name and right_here:
        first = judge.claim(function.gradient(v, at=function.x))
        # It is right there for this v too: of a linear function the two gradients are one.
        there = judge.slope(judge.here(), alarm.direction, alarm.v, first, exact=True)
        is_right = there.is_resolved and not there.is_suspicious
        if is_right and _agree(usual, first) and any(bool(part.any()) for part in first.parts):
            return "the backward uses values of the first call: state that is kept between calls"
    return ""


def _of_the_incoming(judge: Judge, alarm: Look) -> str:
    """A backward is linear in what comes in."""
    function = judge.function
    between = None if alarm.other is None else alarm.other.x

    def gradient(scale: float) -> Gradient:
        v = function.shaped(scale * alarm.v)
        return judge.claim(function.gradient(v, at=alarm.place.x, between=between))

    doubled = gradient(2.0)
    if _agree(doubled, alarm.gradient):
        if _agree(gradient(-1.0), alarm.gradient):
            return "the incoming gradient is ignored (taken for 1)"
        return "the size of the incoming gradient is ignored: normalised, or clipped to a norm"
    twice = Gradient(tuple(2 * p for p in alarm.gradient.parts), frozenset(), doubled.value)
    if _agree(doubled, twice):
        return ""
    for part, more in zip(alarm.gradient.parts, doubled.parts, strict=True):
        largest = part.abs().max() if part.numel() else torch.zeros(())
        if float(largest) > 0 and float(largest) == float(more.abs().max()):
            return f"the gradient is clamped to ±{float(largest):.6g}"
    return (
        "the backward is not linear in the incoming gradient: clipped, normalised, or a constant "
        "added"
    )


def _agree(first: Gradient, second: Gradient) -> bool:
    return all(
        float(torch.linalg.vector_norm(a - b)) <= 1e-6 * float(torch.linalg.vector_norm(b))
        for a, b in zip(first.parts, second.parts, strict=True)
    )


# --- one tensor ---------------------------------------------------------------------------------


def _wrong_variables(judge: Judge, alarm: Look) -> set[int]:
    """The variables whose own slope contradicts the claim."""
    indices = [k for k, x in enumerate(alarm.place.x) if x.numel()]
    if len(indices) <= _SINGLY:
        found = {k for k in indices if Part(judge, alarm, k).wrong_slope() is not None}
    else:
        found = set(_halved(judge, alarm, indices))
    return found or {max(indices, key=lambda k: alarm.direction.shares[k])}


def _halved(judge: Judge, alarm: Look, indices: Sequence[int]) -> list[int]:
    parts = tuple(
        u if k in indices else torch.zeros_like(u) for k, u in enumerate(alarm.direction.parts)
    )
    way = Direction(parts, alarm.direction.shares)
    found = judge.slope(alarm.place, way, alarm.v, alarm.gradient, exact=True)
    if not found.is_suspicious:
        return []
    if len(indices) == 1:
        return list(indices)
    middle = len(indices) // 2
    left = _halved(judge, alarm, indices[:middle])
    return [*left, *_halved(judge, alarm, indices[middle:])]


def _of_one(part: Part) -> tuple[str, Region]:
    """The cause in one variable, and its wrong elements."""
    wrong = part.wrong_slope()
    if wrong is None or not part.is_free:
        measured = Measured.of(part)
        return (explanation(measured) if measured is not None else ""), Region(())
    u, found = wrong
    relative = abs(found.residual) / found.size
    if (rounded := _rounded(part, relative)) is not None:
        return rounded, Region(())
    region = hunted(part, u, found)
    if region.is_complete and part.x.numel() > 3:
        return _of_few(region), region
    measured = Measured.of(part)
    if measured is not None and (cause := explanation(measured)):
        return cause, region
    region = sampled(part, u, region)
    rule = separating(part, region)
    relation = _relation(region.elements)
    if rule:
        return f"wrong only at {rule}" + (f": {relation}" if relation else ""), region
    if not relation and relative < 1e-6:
        return f"off by a relative {relative:.1g}: float32 arithmetic or constants", region
    return relation, region


def _rounded(part: Part, relative: float) -> str | None:
    """Are all elements numbers of a lower precision? Then that is what they were rounded to."""
    g = part.gradient[part.gradient != 0]
    for dtype, name, unit in (
        (torch.bfloat16, "bfloat16", 2.0**-8),
        (torch.float16, "float16", 2.0**-11),
        (torch.float32, "float32", 2.0**-24),
    ):
        is_rounded = g.numel() and bool((g.to(dtype).double() == g).all())
        trivial = bool((g.abs().log2().frac() == 0).all())  # powers of 2 are so in any precision
        if relative <= 4 * unit and is_rounded and not trivial:
            return f"rounded to {name} on its way"
    return None


def _of_few(region: Region) -> str:
    few = ", ".join(str(list(element.index)) for element in region.elements)
    one = len(region.elements) == 1
    said = f"only element{'' if one else 's'} {few} {'is' if one else 'are'} wrong"
    relation = _relation(region.elements)
    return f"{said}: {relation}" if relation else said


def _relation(elements: Sequence[WrongElement]) -> str:
    """What the claimed values of the wrong elements have in common."""
    if not elements:
        return ""
    if all(element.claimed == 0 for element in elements):
        return "it is zero there: dropped, or never written"
    factors = [e.claimed / e.numeric if e.numeric else math.inf for e in elements]
    middle = sorted(factors)[len(factors) // 2]
    if math.isfinite(middle) and all(math.isclose(f, middle, rel_tol=1e-6) for f in factors):
        if math.isclose(middle, -1, rel_tol=1e-6):
            return "the sign is flipped there"
        return f"{middle:.8g} times the right value there"
    return ""
