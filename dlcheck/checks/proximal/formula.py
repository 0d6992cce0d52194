"""The proximal operators that have a closed form, and Moreau's identity."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.law import Law, law_of
from dlcheck.checks.proximal.broken import (
    divides_by_the_step,
    forgets_the_step,
    goes_twice_as_far,
    keeps_one_side,
    leaves_dust,
    loses_the_sign,
    moves_away,
    rounds_to_a_grid,
    shrinks_in_proportion,
    steps_twice,
    takes_a_gradient_step,
    takes_half_the_step,
    thresholds_hard,
)
from dlcheck.errors import SubjectError
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import gamma, unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SHARES = (0.1, 0.7, 3.0)  # of the size of x: the threshold tλ₁, or the shrinkage tλ₂
_SMALLEST = torch.finfo(torch.float64).tiny
_ROUNDINGS = 12  # in x, tλ, the difference, the quotient and the sign, twice over


def steps_for(x: Tensor, law: Law) -> list[float]:
    """Steps t that move something and not everything: tλ₁ a share of x's size, tλ₂ a share of 1."""
    size = float(x.detach().double().square().mean().sqrt()) or 1.0
    if law.l1:
        return [share * size / abs(law.l1) for share in _SHARES]
    return [share / abs(law.l2) if law.l2 else share for share in _SHARES]


def proximal_point(subject: Implementation, x: Tensor, step: float) -> Tensor:
    """prox(x, step), of x's shape. Raises SubjectError where it has another."""
    found = subject.tensor(x.detach().clone(), step)
    if found.shape != x.shape:
        raise SubjectError(
            f"{subject.declared.name} returned shape {list(found.shape)} for x of shape "
            f"{list(x.shape)}; a proximal operator keeps the shape"
        )
    return found.detach()


def closed_form(x: Tensor, step: float, law: Law) -> Tensor:
    """sign(x) max(|x| − tλ₁, 0) / (1 + tλ₂)."""
    assert law.l1 is not None
    assert law.l2 is not None
    return x.sign() * (x.abs() - step * law.l1).clamp(min=0) / (1 + step * law.l2)


def declared_or_measured(subject: Implementation, like: Tensor) -> tuple[Law, float]:
    """λ₁ and λ₂ as declared, and how far they may be off: 0, or the rounding of a measurement.

    What is left open comes from one far point and a step of 1: prox(x, 1) = (x − λ₁)/(1 + λ₂).
    The difference is off by 4 roundings of x, the quotient by 4 of itself.
    """
    law = law_of(subject)
    if law.is_known:
        return law, 0.0
    far = 2.0**10
    moved = float(proximal_point(subject, torch.full_like(like, far), 1.0).flatten()[0])
    roundoff = unit_roundoff(like.dtype)
    if law.l1 is None:
        return Law(far - moved, law.l2), 4 * roundoff * far
    ratio = (far - law.l1) / moved if moved else float("inf")
    return Law(law.l1, ratio - 1), 4 * roundoff * ratio


@check(
    kind="proximal",
    options={"norm": [1, 2, [1, 2], [2, 1]]},
    rejects=[
        thresholds_hard,
        forgets_the_step,
        takes_half_the_step,
        divides_by_the_step,
        keeps_one_side,
        loses_the_sign,
        goes_twice_as_far,
        moves_away,
        steps_twice,
        shrinks_in_proportion,
        rounds_to_a_grid,
    ],
)
def equals_its_closed_form(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Of L1 it is the soft threshold, of L2 a shrinkage, of the elastic net one after the other.

    prox(x, t) = sign(x) max(|x| − tλ₁, 0) / (1 + tλ₂), elementwise, at three steps, with
    λ₂ = 2λ for λ‖u‖² and λ for (λ/2)‖u‖². The bound: each element is off by the rounding of
    |x| + tλ₁, relative to the largest. A strength or convention that is not declared is measured
    at one far point, and must hold everywhere else.
    Source: Parikh & Boyd, Proximal Algorithms, 2014, §6.5.2, §6.5.3 and §6.1.1.
    """
    x = case.tensors[0]
    law, doubt = declared_or_measured(subject, x)
    for step in steps_for(x, law):
        wide, got = x.double(), proximal_point(subject, x, step).double()
        expected = closed_form(wide, step, law)
        tolerance = gamma(_ROUNDINGS, case.dtype) * (wide.abs() + step * abs(law.l1 or 0.0))
        tolerance += doubt * step * (1 + wide.abs())  # d prox / dλ is at most t, or t|x|
        error = (got - expected).abs().nan_to_num(nan=torch.inf)
        at = int((error / tolerance.clamp(min=_SMALLEST)).flatten().argmax())
        yield Evidence(
            error=float(error.flatten()[at]),
            bound=float(tolerance.flatten()[at]),
            signal=float(wide.abs().max()),
            what="proximal point",
            expected=f"{float(expected.flatten()[at]):.9g} for x = {float(wide.flatten()[at]):.6g}",
            got=f"{float(got.flatten()[at]):.9g}",
            where=f"element {at}, step {step:.4g}",
        )


@check(
    kind="proximal",
    options={"norm": [1, [1, 2], [2, 1]]},
    rejects=[
        leaves_dust,
        takes_a_gradient_step,
        forgets_the_step,
        takes_half_the_step,
        shrinks_in_proportion,
        moves_away,
    ],
)
def small_values_become_exactly_zero(subject: Implementation, case: Case) -> Evidence:
    """Whatever lies within the threshold of 0 becomes exactly 0, and what lies beyond does not.

    |x| < tλ₁ gives 0 to the last bit and |x| > tλ₁ does not, but for values that rounding puts on
    either side (within 8u of tλ₁). The error counts elements, the bound is 0. ε instead of 0
    keeps every weight in memory and in every product. Source: Parikh & Boyd, 2014, §6.5.2.
    """
    x = case.tensors[0]
    law, doubt = declared_or_measured(subject, x)
    wrong, judged, got = 0, 0, ""
    for step in steps_for(x, law):
        threshold = step * (law.l1 or 0.0)
        margin = 8 * unit_roundoff(case.dtype) * threshold + step * doubt
        size, found = x.double().abs(), proximal_point(subject, x, step)
        inside, beyond = size < threshold - margin, size > threshold + margin
        off = (inside & (found != 0)) | (beyond & (found == 0)) | found.isnan()
        wrong, judged = wrong + int(off.sum()), judged + int(inside.sum())
        if bool(off.any()):
            at = int(off.flatten().long().argmax())
            value, point = float(found.flatten()[at]), float(x.flatten()[at])
            got = f"{value:.9g} for x = {point:.6g} and tλ = {threshold:.6g}"
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(judged),
        unit="elements",
        what="elements on the wrong side of exact zero",
        got=got,
    )


@check(
    kind="proximal",
    options={"norm": [1, 2]},
    rejects=[
        thresholds_hard,
        takes_half_the_step,
        forgets_the_step,
        goes_twice_as_far,
        moves_away,
        loses_the_sign,
        shrinks_in_proportion,
    ],
)
def what_it_takes_away_is_the_dual_part(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Moreau's identity: x = prox of tP at x + t · prox of P*/t at x/t, P* the convex conjugate.

    P = λ‖·‖₁: P* is 0 on |y| ≤ λ and ∞ beyond, so what is taken away is x clamped to ±tλ.
    P = (λ₂/2)‖·‖²: P* = ‖·‖²/(2λ₂), so what is taken away is x · tλ₂/(1 + tλ₂).
    Elementwise; the bound is the rounding of x and of its two parts.
    Source: Moreau, Bull. SMF 93, 1965; Parikh & Boyd, Proximal Algorithms, 2014, §2.5.
    """
    x = case.tensors[0]
    law, doubt = declared_or_measured(subject, x)
    for step in steps_for(x, law):
        wide = x.double()
        taken = wide - proximal_point(subject, x, step).double()
        if law.l1:
            dual = wide.clamp(-step * law.l1, step * law.l1)
        else:
            shrinkage = step * (law.l2 or 0.0)
            dual = wide * (shrinkage / (1 + shrinkage))
        error = (taken - dual).abs().nan_to_num(nan=torch.inf)
        at = int(error.flatten().argmax())
        largest = float(wide.abs().max())
        bound = gamma(_ROUNDINGS, case.dtype) * (largest + step * abs(law.l1 or 0.0))
        yield Evidence(
            error=float(error.flatten()[at]),
            bound=bound + doubt * step * (1 + largest),
            signal=float(dual.abs().max()),
            what="x − prox(x) against the conjugate's part",
            expected=f"{float(dual.flatten()[at]):.9g}",
            got=f"{float(taken.flatten()[at]):.9g}",
            where=f"element {at} (x = {float(wide.flatten()[at]):.6g}), step {step:.4g}",
        )
