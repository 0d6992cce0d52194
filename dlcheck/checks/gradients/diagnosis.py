"""What is likely wrong with a gradient, where the numbers point to one thing."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dlcheck.numerics.differences import Slope


def factor_between(first: Slope, second: Slope, known: Mapping[float, str]) -> str:
    """The factor claimed / measured in words, if two independent directions agree on one.

    known: factors with a meaning here (batch size, number of elements). Empty without agreement:
    an error that is not a factor changes from direction to direction.
    """
    if not first.measured or not second.measured:
        return ""
    one, two = first.claimed / first.measured, second.claimed / second.measured
    spread = abs(one - two) + sum(slope.bound / abs(slope.measured) for slope in (first, second))
    if not spread <= 0.02 * abs(one - 1):
        return ""
    for factor, meaning in {**_FACTORS, **known}.items():
        if math.isclose(one, factor, rel_tol=1e-4, abs_tol=1e-6):
            return f"the gradient is {_written(factor)} times the right one: {meaning}"
    return f"the gradient is {one:.6g} times the right one"


_FACTORS = {
    -1.0: "the sign is flipped",
    2.0: "a factor 2 too many",
    0.5: "a factor 2 is missing",
    0.0: "it is zero: detached, or never written",
}


def _written(factor: float) -> str:
    whole = round(1 / factor) if factor else 0
    return f"1/{whole}" if 0 < factor < 1 and abs(1 / factor - whole) < 1e-9 else f"{factor:g}"
