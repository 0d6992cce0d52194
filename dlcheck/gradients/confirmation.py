"""A contradiction is an alarm if it survives other steps and the noise of the claimed gradient.

Steps may overlook what a point sees: a central difference is a mean of slopes,
(ψ(x + hu) − ψ(x − hu)) / 2h = ½ ∫ ψ′(x + thu) dt over t in [−1, 1]. Where a function has structure
much finer than the steps that its rounding allows (a weight e^(−Δ²) of inputs that lie far from 0),
every usable step agrees on the slope beside it, and the slope at x is another one.
Source: the fundamental theorem of calculus.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from dlcheck.errors import SubjectRaised
from dlcheck.gradients.function import may_be_what_is_left
from dlcheck.gradients.looks import Look
from dlcheck.numerics.differences import FIRST_STEP, Slope, inner, shifted

if TYPE_CHECKING:
    from dlcheck.gradients.judge import Judge

_FINER = (2.0**-10, 2.0**-22)  # of the first step: where an alarm must hold too
_SMALLER = 2.0**-6  # than the step that is in doubt
NUDGES = 2  # gradients at inputs rounded otherwise
NUDGE_SAFETY = 24  # a spread seen in two draws against its size
_BESIDE = (-1.0, -0.83, -0.61, -0.42, 0.42, 0.61, 0.83, 1.0)  # of the step
_AT = (-(2.0**-20), 2.0**-20)  # of the step: still the point itself, for all but a lone wrong value
_AGREES = 0.25  # of the contradiction


def confirmed(judge: Judge, look: Look) -> Look:
    """An alarm if the contradiction survives other steps and the noise of the gradient."""
    if not look.slope.is_suspicious:
        return look
    again = judge.slope(
        look.place, look.direction, look.v, look.gradient,
        first_step=0.77 * FIRST_STEP, exact=True, uncertainty=_noise(judge, look),
        precise=min(judge.precise, look.slope.relative_bound),
    )  # fmt: skip
    if not again.is_suspicious:
        doubt = "" if again.is_resolved else "hidden by the rounding of the gradient itself"
        return replace(look, slope=again, doubt=doubt)
    # Two ladders that disagree measure something else, as x rounded to float32 inside.
    if abs(again.measured - look.slope.measured) > again.bound + look.slope.bound:
        return replace(look, doubt="two series of steps disagree")
    finer = _finer(judge, look, again)
    if finer is not None:
        judge.notes.append(
            "the slope depends on the step: the function has structure finer than its inputs"
        )
        return replace(look, slope=finer)
    if _is_overlooked(judge, look, again):
        return replace(look, doubt="the claimed slope changes within the smallest usable step")
    return replace(look, slope=replace(look.slope, bound=again.bound), is_alarm=True)


def _is_overlooked(judge: Judge, look: Look, again: Slope) -> bool:
    """Do the steps see other slopes than x, as claimed, and can no smaller ones tell?"""
    v, between = judge.function.shaped(look.v), None if look.other is None else look.other.x

    def claim_at(t: float) -> float:
        pairs = zip(look.place.x, look.direction.parts, strict=True)
        moved = [shifted(x, u, t) for x, u in pairs]
        gradient = judge.claim(judge.function.gradient(v, at=moved, between=between))
        return inner(gradient.parts, look.direction.parts)

    try:
        if not _is_mean_of_claims(claim_at, again):
            return False
    except SubjectRaised:
        return False
    finer = judge.slope(
        look.place, look.direction, look.v, look.gradient,
        first_step=_SMALLER * again.step, exact=True,
    )  # fmt: skip
    return not finer.is_suspicious


def _finer(judge: Judge, look: Look, again: Slope) -> Slope | None:
    """A slope from much smaller steps that agrees with the claim, and not with larger ones.

    Large steps average over what oscillates within them. Where nothing moves, or nothing is
    claimed, small steps show nothing.
    """
    if not abs(again.claimed) > again.bound:
        return None
    steps = [FIRST_STEP * smaller for smaller in _FINER]
    if again.size > 0 and 0 < (reach := again.swing / again.size) < FIRST_STEP:
        steps.append(0.5 * reach)  # where the change that is claimed is one that was seen
    for first_step in steps:
        finer = judge.slope(
            look.place, look.direction, look.v, look.gradient,
            first_step=first_step, exact=True,
        )  # fmt: skip
        if not finer.is_resolved or finer.is_suspicious or finer.swing == 0:
            continue
        if abs(finer.measured - again.measured) > finer.bound + again.bound:
            return finer
    return None


def _noise(judge: Judge, look: Look) -> float:
    """What ⟨g, u⟩ may be off by in a right backward.

    Its conditioning: how much it moves when the inputs are rounded otherwise. And what it
    loses where terms as large as v cancel, as in v(p − 1) at a saturated softmax: ε‖v‖‖u‖,
    over the elements that may come from such a difference.
    """
    function, spread = judge.function, 0.0
    v, between = function.shaped(look.v), None if look.other is None else look.other.x
    for _ in range(NUDGES):
        # Only what the direction moves: a label of exactly 1 must stay one.
        nudged = [
            torch.where(u != 0, judge.nudged(x), x)
            for x, u in zip(look.place.x, look.direction.parts, strict=True)
        ]
        nearby = judge.claim(function.gradient(v, at=nudged, between=between))
        ways = [a - b for a, b in zip(nearby.parts, look.gradient.parts, strict=True)]
        change = inner(ways, look.direction.parts)
        spread = max(spread, abs(change)) if math.isfinite(change) else spread
    size = float(torch.linalg.vector_norm(look.v))
    reach = _reach_of_cancellation(look, function.unit * size)
    return NUDGE_SAFETY * spread + 32 * function.unit * size * reach


def _is_mean_of_claims(claim_at: Callable[[float], float], found: Slope) -> bool:
    """Is what was measured the slope that is claimed along the steps, though not at the point?

    claim_at: t → the claimed slope at x + tu. Half of eight points, a step away at most, must claim
    what was measured (others may meet more such structure), and two next to x what x does: where
    a gradient is wrong at a single value (at 0, at a tie), the claim jumps right beside it.
    """
    near = _AGREES * abs(found.residual)
    if not all(abs(claim_at(t * found.step) - found.claimed) <= near for t in _AT):
        return False
    beside = [abs(claim_at(t * found.step) - found.measured) <= near for t in _BESIDE]
    return 2 * sum(beside) >= len(beside)


def _reach_of_cancellation(look: Look, quantum: float) -> float:
    """‖u‖ over the elements whose gradient may be what is left of terms as large as v."""
    sizes = []
    for g, u in zip(look.gradient.parts, look.direction.parts, strict=True):
        left = torch.where(may_be_what_is_left(g, quantum), u, 0.0)
        sizes.append(float(torch.linalg.vector_norm(left)))
    return math.hypot(*sizes)
