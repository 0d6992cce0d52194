"""Steps that overlook what a point sees: a central difference is a mean of slopes.

(ψ(x + hu) − ψ(x − hu)) / 2h = ½ ∫ ψ′(x + thu) dt over t in [−1, 1]. Where a function has structure
much finer than the steps that its rounding allows (a weight e^(−Δ²) of inputs that lie far from 0),
every usable step agrees on the slope beside it, and the slope at x is another one.
Source: the fundamental theorem of calculus.
"""

from __future__ import annotations

from collections.abc import Callable

from dlcheck.numerics.differences import Slope

_BESIDE = (-1.0, -0.83, -0.61, -0.42, 0.42, 0.61, 0.83, 1.0)  # of the step
_AT = (-(2.0**-20), 2.0**-20)  # of the step: still the point itself, for all but a lone wrong value
_AGREES = 0.25  # of the contradiction


def is_mean_of_claims(claim_at: Callable[[float], float], found: Slope) -> bool:
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
