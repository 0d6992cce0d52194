"""A ratio of times held against a limit: interleaved samples until the sign test decides."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dlcheck.measure.clocks import Clock, Work
from dlcheck.measure.pairs import sign_interval
from dlcheck.model import Evidence
from dlcheck.strategies import Case

_SAMPLES, _MOST = 10, 40  # a round, and all of them for each unit of effort
_CONFIDENCE = 0.998  # of ten samples the sign test leaves the least and the greatest

Seconds = Mapping[int, float]  # of every work


def sampled(
    works: Mapping[int, Work],
    log_ratio: Callable[[Seconds], float],
    limit: float,
    clock: Clock,
    case: Case,
) -> list[float]:
    """log_ratio of the seconds of all works, in random order, until the limit is outside of the
    interval. Each work is called once before: the first call pays for imports and plans.
    """
    for work in works.values():
        work()
    order, logs = random.Random(case.recipe.seed), list[float]()
    while len(logs) < _MOST * case.profile.effort:
        for _ in range(_SAMPLES):
            names = order.sample(sorted(works), len(works))
            logs.append(log_ratio({name: clock.seconds(works[name]) for name in names}))
        low, high = sign_interval(logs, _CONFIDENCE)
        if low > limit or high < limit:
            break
    return logs


@dataclass(frozen=True, slots=True)
class Above:
    """Is the median log ratio above the limit? Inconclusive where its interval holds the limit."""

    logs: Sequence[float]
    limit: float

    @property
    def median(self) -> float:
        return sorted(self.logs)[len(self.logs) // 2]

    @property
    def holds(self) -> bool:
        return self.median >= self.limit

    def evidence(self, *, what: str, unit: str, samples: str) -> Evidence:
        """Passed iff low ≥ limit, failed iff high < limit.

        The part of the interval on the side of the limit is the bound, and the distance from the
        limit the signal, or the error.
        """
        median, (low, high) = self.median, sign_interval(self.logs, _CONFIDENCE)
        return Evidence(
            error=0.0 if self.holds else self.limit - median,
            bound=max(0.0, median - low) if self.holds else max(0.0, high - median),
            signal=median - self.limit if self.holds else 0.0,
            resolution=1.0,
            unit=unit,
            what=what,
            expected=f"more than {math.exp(self.limit):.3g}",
            got=f"{math.exp(median):.3g} in [{math.exp(low):.3g}, {math.exp(high):.3g}], "
            f"{len(self.logs)} {samples}",
        )
