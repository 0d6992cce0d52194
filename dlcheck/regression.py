"""Did it get slower between two runs? The replicate is the process, the test exact.

Within a process samples share its memory layout, its caches and its hour, so that a thousand of
them say no more about the next process than one does. One number a process, then, and a test that
asks nothing of their distribution. Standard library only.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dlcheck.ratio import median

FLOOR = 0.10  # what is less than so much slower is no regression, however sure
ALPHA = 0.05  # of a false regression anywhere among the benchmarks of a comparison


class Trend(enum.Enum):
    """What a benchmark came to between two runs."""

    SLOWER = "slower"  # a regression
    FASTER = "faster"
    SAME = "same"  # no regression, and one of twice the floor is excluded
    UNCLEAR = "unclear"
    NO_VERDICT = "no verdict"  # the runs do not say; the reason is with it


@dataclass(frozen=True, slots=True)
class Shift:
    """Log times of the processes of two runs; a positive shift is a longer time."""

    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def differences(self) -> list[float]:
        return sorted(b - a for b in self.after for a in self.before)

    @property
    def ratio(self) -> float:
        """How many times as long: the median over all pairs of processes (Hodges–Lehmann)."""
        return math.exp(median(self.differences))

    @property
    def interval(self) -> tuple[float, float]:
        """Holds the ratio with 95 % for noise of any distribution, the same in both runs.

        The k-th smallest and largest difference, 2 P(U < k) ≤ 5 %; unbounded where there are too
        few processes. Source: Conover, Practical Nonparametric Statistics, section 5.4.
        """
        found = self.differences
        ways = _ways(len(self.before), len(self.after))
        k, below = 0, ways[0]
        while 2 * below <= ALPHA * sum(ways):
            k += 1
            below += ways[k]
        return (math.exp(found[k - 1]), math.exp(found[-k])) if k else (0.0, math.inf)

    @property
    def chance_slower(self) -> float:
        """P(as many pairs with the later one longer), were both runs the same: Mann–Whitney."""
        return self._chance(sum(b > a for b in self.after for a in self.before))

    @property
    def chance_faster(self) -> float:
        return self._chance(sum(b < a for b in self.after for a in self.before))

    @property
    def least_chance(self) -> float:
        """The smallest that so few processes can have."""
        return 1 / sum(_ways(len(self.before), len(self.after)))

    def _chance(self, pairs: int) -> float:
        ways = _ways(len(self.before), len(self.after))
        return sum(ways[pairs:]) / sum(ways)

    def trend(self, *, slower: float, faster: float, floor: float = FLOOR) -> Trend:
        """The verdict, from the chances as adjusted for the number of benchmarks."""
        if slower <= ALPHA and self.ratio >= 1 + floor:
            return Trend.SLOWER
        if faster <= ALPHA and self.ratio <= 1 / (1 + floor):
            return Trend.FASTER
        return Trend.SAME if self.interval[1] < (1 + floor) ** 2 else Trend.UNCLEAR


@functools.lru_cache(maxsize=256)
def _ways(n: int, m: int) -> tuple[int, ...]:
    """In how many orders of n + m values exactly u of the n m pairs are the other way round.

    The coefficients of the Gaussian binomial: Π (1 − q^(m+i)) / (1 − q^i), i = 1 … n.
    """
    found = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for u in range(n * m, m + i - 1, -1):
            found[u] -= found[u - m - i]
        for u in range(i, n * m + 1):
            found[u] += found[u - i]
    return tuple(found)


def holm(chances: Sequence[float]) -> list[float]:
    """Adjusted, so that what is at most α is a false alarm anywhere with at most α.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, section 2.
    """
    order = sorted(range(len(chances)), key=lambda i: chances[i])
    adjusted, greatest = [1.0] * len(chances), 0.0
    for rank, i in enumerate(order):
        greatest = max(greatest, (len(chances) - rank) * chances[i])
        adjusted[i] = min(1.0, greatest)
    return adjusted


def processes_needed(benchmarks: int) -> int:
    """A side, so that a regression of the least chance can be seen among so many benchmarks."""
    n = 2
    while benchmarks / math.comb(2 * n, n) > ALPHA:
        n += 1
    return n
