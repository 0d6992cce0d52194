"""What one sample says: a p-value, the deviation seen, and the least one it would have shown."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.optimize import brentq
from scipy.stats import norm

ALPHA = 1e-3  # of one strike
STRIKES = 3
GROWTH = 4  # each strike has four times the sample of the one before
MISSED = 1e-3  # probability with which an effect of the detectable size may be missed


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one test on one sample.

    `p_value` is that of "the implementation is right"; `error` the observed deviation;
    `detectable` the smallest deviation that three strikes from this sample size would miss with
    probability at most 10⁻³; `signal` the size of the claimed quantity: all three share a unit.
    """

    p_value: float
    error: float
    detectable: float
    signal: float
    n: int
    expected: str = ""
    got: str = ""
    where: str = ""


@functools.cache
def detectable_effect(alpha: float = ALPHA) -> float:
    """δ√n/σ, where three strikes miss a shift δ of a normal mean with probability 10⁻³.

    Strike k sees n·4ᵏ numbers, in which the shift is 2ᵏ standard errors d. It alarms if all
    three do: Π Φ(2ᵏd − z) = 1 − 10⁻³ with z the upper α/2 quantile. For α = 10⁻³: d = 6.38.
    """
    z = norm.isf(alpha / 2)

    def missed(d: float) -> float:
        logs = (norm.logcdf(math.sqrt(GROWTH) ** k * d - z) for k in range(STRIKES))
        return float(-math.expm1(sum(logs)) - MISSED)

    return float(brentq(missed, 0.0, z + 20.0))


def detectable(sigma: float, n: int, *, coordinates: int = 1) -> float:
    """The smallest effect on a mean of n numbers of standard deviation sigma: 6.38 σ/√n.

    With several coordinates each is tested at α/m, and the factor grows: 6.99 for ten.
    """
    return detectable_effect(ALPHA / coordinates) * sigma / math.sqrt(n)


def bonferroni(findings: Sequence[Finding]) -> Finding:
    """Several coordinates of one claim as one finding: m times the least p-value.

    P(min pᵢ ≤ α/m) ≤ Σ P(pᵢ ≤ α/m) ≤ α, however the coordinates depend on each other. The
    deviation shown is that of the least p-value; its detectable effect is that at α/m.
    """
    decides = min(findings, key=lambda found: (not math.isnan(found.p_value), found.p_value))
    p_value = len(findings) * decides.p_value
    wider = detectable_effect(ALPHA / len(findings)) / detectable_effect()
    return replace(
        decides,
        p_value=p_value if math.isnan(p_value) else min(1.0, p_value),
        detectable=wider * decides.detectable,
    )
