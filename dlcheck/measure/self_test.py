"""One operation timed against itself: how often this machine cries wolf, and what it can tell."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dlcheck.measure.clocks import Clock
from dlcheck.measure.pairs import compare_times
from dlcheck.ratio import Ratio, Speed, median

SECONDS = 2.5
_LEAST = 5  # comparisons, however long they take


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Comparisons of identical code."""

    ratios: tuple[Ratio, ...]

    @property
    def verdicts(self) -> dict[Speed, int]:
        found = [ratio.verdict for ratio in self.ratios]
        return {verdict: found.count(verdict) for verdict in Speed if verdict in found}

    @property
    def false_alarms(self) -> int:
        return sum(self.verdicts.get(verdict, 0) for verdict in (Speed.FASTER, Speed.SLOWER))

    @property
    def most_false_alarms(self) -> float:
        """The share of false alarms that so many comparisons cannot exclude with 95 %."""
        return upper_bound(self.false_alarms, len(self.ratios))

    @property
    def noise(self) -> float:
        """The half-width of the interval of a ratio, in the median over the comparisons."""
        return median([ratio.half_width for ratio in self.ratios])

    @property
    def resolution(self) -> float:
        """How much slower code has to be to be called slower in half of the comparisons."""
        return math.expm1(math.log1p(self.ratios[0].margin) + self.noise)

    @property
    def spread(self) -> float:
        """By how much the two times of a pair differ, in the median over all pairs."""
        return median([abs(math.expm1(log)) for ratio in self.ratios for log in ratio.logs])


def self_test(device: torch.device, seconds: float = SECONDS) -> SelfTest:
    """Time a softmax of 64 × 256 against itself, again and again for so long."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 256, generator=generator).to(device)
    clock, found = Clock(device), list[Ratio]()
    gc.freeze()  # each comparison collects garbage first: not through all of torch's objects
    try:
        end = time.perf_counter() + seconds
        while len(found) < _LEAST or time.perf_counter() < end:
            found.append(compare_times(_softmax, _softmax, clock, buffers=[(x,)], seed=len(found)))
    finally:
        gc.unfreeze()
    return SelfTest(tuple(found))


def _softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, -1)


def upper_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """The greatest rate at which so few successes of n have a chance of 1 − confidence.

    Source: Clopper and Pearson 1934, Biometrika 26, by bisection of the binomial distribution.
    """
    if successes >= n:
        return 1.0
    low, high = successes / n, 1.0
    for _ in range(50):
        rate = (low + high) / 2
        below = _at_most(successes, n, rate)
        low, high = (rate, high) if below > 1 - confidence else (low, rate)
    return high


def _at_most(successes: int, n: int, rate: float) -> float:
    terms: Sequence[float] = [
        math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(successes + 1)
    ]
    return sum(terms)
