"""What a run of many trials takes on many workers: Graham's bounds, Amdahl's law, one controller.

A run of N trials with seconds t on k workers takes

    T(N, k) ≤ F + W/k + (1 − 1/k) t_max                      (Graham 1969, list scheduling)
    T(N, k) ≥ F + max(W/k, t_max, N (d + k e))               (operational analysis)

with W = Σ (t + h). F = s + c N is what every run pays once: the start and the imports, s, and the
collection by every worker, c for each trial. h is what a trial costs a worker besides its own
seconds; d what it costs the one controller, which hands it out and records it; e what it costs the
controller that each worker names it once. For a fixed N this is Amdahl's law with the serial share
F / (F + W). With growing N (Gustafson 1988) the share falls to c / (c + W/N), and a controller
keeps k* workers busy, where W/(N k*) = d + k* e.

Sources: Amdahl, AFIPS 30, 1967; Graham, Bounds on Multiprocessing Timing Anomalies, SIAM J. Appl.
Math. 17(2), 1969, thm. 1; Denning & Buzen, The Operational Analysis of Queueing Network Models,
ACM Computing Surveys 10(3), 1978, §6; Gustafson, CACM 31(5), 1988.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds: s of a run, c and h of a trial in a worker, d and e of a trial in the controller."""

    start: float
    collected: float
    trial: float
    controller: float
    named: float

    def fixed(self, collected: int) -> float:
        """F of a run that collects so many trials, few of which it may run."""
        return self.start + self.collected * collected


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds between which a run ends, and how long a greedy schedule of its trials takes."""

    least: float
    expected: float
    most: float


def bounds(seconds: Sequence[float], workers: int, costs: Costs, collected: int = 0) -> Bounds:
    """Of one run of these trials, in this order, on workers that each have their own device.

    collected: how many trials the run collects, if they are more than it runs.
    """
    loads = [t + costs.trial for t in seconds]
    share, longest = sum(loads) / workers, max(loads)
    busy = len(loads) * (costs.controller + workers * costs.named)
    fixed = costs.fixed(max(collected, len(loads)))
    return Bounds(
        fixed + max(share, longest, busy),
        fixed + max(makespan(loads, workers), busy),
        fixed + max(share + (1 - 1 / workers) * longest, busy),
    )


def makespan(loads: Iterable[float], workers: int) -> float:
    """When the last worker is done, if each takes the next trial as soon as it is free."""
    free = [0.0] * workers
    for load in loads:
        heapq.heapreplace(free, free[0] + load)
    return max(free)


def serial_share(seconds: Sequence[float], costs: Costs, collected: int) -> float:
    """Amdahl's: the part of a run on one worker that more workers do not shorten."""
    fixed = costs.fixed(collected)
    return fixed / (fixed + sum(seconds) + len(seconds) * costs.trial)


def saturation(seconds: Sequence[float], costs: Costs) -> float:
    """k*: how many workers one controller keeps busy, the root of e k² + d k = W/N."""
    work, d, e = fmean(seconds) + costs.trial, costs.controller, costs.named
    root: float = (d * d + 4 * e * work) ** 0.5
    return 2 * work / (d + root)


def resampled(
    trials: Mapping[str, Sequence[float]], count: int, generator: random.Random
) -> list[float]:
    """`count` seconds, as if other subjects of the same kind had been measured.

    trials: the seconds of each subject's trials. As many subjects are drawn with replacement,
    whole, for the trials of one are alike; and `count` trials of theirs.
    """
    measured = [trials[name] for name in generator.choices(list(trials), k=len(trials))]
    return generator.choices([seconds for each in measured for seconds in each], k=count)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and where 95 % of the resampled ones lie."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float, apart: float = 0.0) -> Interval:
        """In another unit, and wider by the relative error of the model itself."""
        low, high = self.low * (1 - apart), self.high * (1 + apart)
        return Interval(self.value * factor, low * factor, high * factor)


def interval(values: Sequence[float]) -> Interval:
    ends = quantiles(values, n=40)
    return Interval(fmean(values), ends[0], ends[-1])


def predicted(
    trials: Mapping[str, Sequence[float]],
    count: int,
    workers: int,
    costs: Costs,
    parts: int = 1,
    draws: int = 50,
    seed: int = 0,
) -> Interval:
    """Seconds of a run of `count` trials like these; each draw takes other subjects.

    parts: shards of that run at a time, each with a controller and its share of the workers, and
    each collecting all trials; the longest ends last.
    """
    generator = random.Random(seed)
    found = []
    for _ in range(draws):
        drawn = resampled(trials, count, generator)
        shards = (drawn[part::parts] for part in range(parts))
        ends = [bounds(each, workers // parts, costs, count).expected for each in shards]
        found.append(max(ends))
    return interval(found)


def by_subject(pairs: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for name, seconds in pairs:
        found[name].append(seconds)
    return dict(found)


def efficiencies(times: Mapping[int, float]) -> Iterator[tuple[int, float, float]]:
    """(workers, speed-up over one, the serial share σ that Amdahl's law finds in it)."""
    for workers, seconds in sorted(times.items()):
        speedup = times[1] / seconds
        share = (workers / speedup - 1) / (workers - 1) if workers > 1 else 0.0
        yield workers, speedup, share
