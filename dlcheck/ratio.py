"""The ratio of two times with its exact interval, and the verdict that follows from it.

Standard library only, so that a record is judged again without torch.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass


class Speed(enum.Enum):
    """What a comparison comes to, for the second of the two."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"  # within the margin, and known to be
    UNCLEAR = "unclear"
    REFUSED = "refused"  # the times say nothing about speed; the reason is with it

    @property
    def is_measured(self) -> bool:
        """Does it answer the question?"""
        return self not in (Speed.UNCLEAR, Speed.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Time of the second over time of the first: `logs` holds log(t₂ / t₁) of every pair."""

    logs: tuple[float, ...]
    margin: float = 0.02
    confidence: float = 0.95

    @property
    def median(self) -> float:
        return math.exp(median(self.logs)) if self.logs else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the median ratio with at least `confidence`, whatever the distribution."""
        low, high = sign_interval(self.logs, self.confidence)
        return math.exp(low), math.exp(high) if high < math.inf else math.inf

    @property
    def half_width(self) -> float:
        low, high = sign_interval(self.logs, self.confidence)
        return (high - low) / 2

    @property
    def verdict(self) -> Speed:
        (low, high), edge = sign_interval(self.logs, self.confidence), math.log1p(self.margin)
        if low > edge:
            return Speed.SLOWER
        if high < -edge:
            return Speed.FASTER
        return Speed.SAME if -edge <= low and high <= edge else Speed.UNCLEAR


def sign_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval that holds the median of the values' distribution, from the sign test.

    The k-th smallest and largest of n, k the greatest number with
    2 P(Binomial(n, ½) < k) ≤ 1 − confidence; unbounded where n is too small for any k.
    Raises ValueError for a confidence that is not above 0 and below 1.
    Source: Conover, Practical Nonparametric Statistics, section 3.2.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")
    n, ordered = len(values), sorted(values)
    k = _rank(n, confidence)
    return (ordered[k - 1], ordered[n - k]) if k else (-math.inf, math.inf)


@functools.lru_cache(maxsize=1024)
def _rank(n: int, confidence: float) -> int:
    """The greatest k with 2 P(Binomial(n, ½) < k) ≤ 1 − confidence, in whole numbers."""
    below, term, k = 0, 1, 0  # term = C(n, k)
    while 2 * (below + term) / 2**n <= 1 - confidence:
        below += term
        term = term * (n - k) // (k + 1)
        k += 1
    return k


def median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
