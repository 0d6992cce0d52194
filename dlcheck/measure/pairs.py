"""Which of two is faster: interleaved pairs and an exact interval for the median ratio.

On a machine that others use too, what is timed first and what is timed later differ by more than
most real differences. Paired samples share the disturbance, the order within a pair is drawn, and
the sign test needs no distribution: whatever the noise, the interval holds.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from dlcheck.measure.clocks import Clock, Work, calls_a_sample


class Speed(enum.Enum):
    """What a comparison comes to, for the second of the two."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"  # within the margin, and known to be
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Time of the second over time of the first: `logs` holds log(t₂ / t₁) of every pair."""

    logs: tuple[float, ...]
    margin: float = 0.02
    confidence: float = 0.95

    @property
    def median(self) -> float:
        return math.exp(_median(self.logs))

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


def compare_times(
    first: Work,
    second: Work,
    clock: Clock,
    *,
    buffers: Sequence[tuple[Any, ...]] = ((),),
    margin: float = 0.02,
    precision: float = 0.01,
    block: int = 50,
    most: int = 600,
    seed: int = 0,
) -> Ratio:
    """Time `first` and `second` in pairs, block by block, until the ratio is known.

    buffers: argument tuples; both sides of pair i are called with the same one, for identical
    code on buffers of its own differs by ten percent. precision: the half-width of the interval
    of the log-ratio at which to stop; most: pairs at which to give up. It stops on the width
    alone, never on the sign, so that the interval keeps its meaning.
    """
    order = random.Random(seed)
    calls = [calls_a_sample(clock, work, *buffers[0]) for work in (first, second)]
    logs: list[float] = []
    while len(logs) < most:
        for i in range(len(logs), len(logs) + block):
            shared = buffers[i % len(buffers)]
            logs.append(_one_pair(first, second, clock, shared, calls, order.random() < 0.5))
        if Ratio(logs=tuple(logs)).half_width <= precision:
            break
    return Ratio(logs=tuple(logs), margin=margin)


def _one_pair(
    first: Work,
    second: Work,
    clock: Clock,
    inputs: tuple[Any, ...],
    calls: Sequence[int],
    swapped: bool,  # noqa: FBT001
) -> float:
    if swapped:
        later = clock.seconds(second, *inputs, calls=calls[1])
        return math.log(later / clock.seconds(first, *inputs, calls=calls[0]))
    earlier = clock.seconds(first, *inputs, calls=calls[0])
    return math.log(clock.seconds(second, *inputs, calls=calls[1]) / earlier)


def sign_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval that holds the median of the values' distribution, from the sign test.

    The k-th smallest and largest of n, k the greatest number with
    2 P(Binomial(n, ½) < k) ≤ 1 − confidence; unbounded where n is too small for any k.
    Source: Conover, Practical Nonparametric Statistics, section 3.2.
    """
    n, ordered = len(values), sorted(values)
    k = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5)) if n else 0
    if 2 * stats.binom.cdf(k, n, 0.5) <= 1 - confidence:  # equality: ppf is one too low
        k += 1
    if k < 1:
        return -math.inf, math.inf
    return ordered[k - 1], ordered[n - k]


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
