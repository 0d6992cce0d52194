"""How many steps of a batch size bring the loss to a target, at the learning rate that is best.

The loss is that of one fixed set of rows in evaluation mode, looked at more and more seldom
(every twentieth of the steps so far); between two looks the crossing is interpolated in log loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dlcheck.measure.workload import Workload

_LOOK = 0.05  # of the steps so far
_DIVERGED = 4.0  # times the loss at the start
_WORSE = 1.25  # times the best so far: no learning rate that needs more is followed further


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """One training run: the steps to the target, or why there are none."""

    size: int
    rate: float
    seed: int
    steps: float  # to the target; of a run that did not reach it, how many it had
    end: str  # reached, diverged, or censored: it was cut off
    losses: tuple[tuple[int, float], ...] = ()  # (step, loss) at every look

    @property
    def reached(self) -> bool:
        return self.end == "reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A batch size at its best learning rate: a run for each seed, and what was tried."""

    size: int
    rate: float
    runs: tuple[Descent, ...]
    tried: tuple[Descent, ...]

    @property
    def steps(self) -> tuple[float, ...]:
        """Of the runs that reached the target."""
        return tuple(run.steps for run in self.runs if run.reached)

    @property
    def reached(self) -> bool:
        """Did most of the runs reach the target?"""
        return 2 * len(self.steps) > len(self.runs)

    @property
    def diverged_from(self) -> float | None:
        """The smallest learning rate that diverged."""
        return min((run.rate for run in self.tried if run.end == "diverged"), default=None)


def descend(
    workload: Workload, size: int, rate: float, target: float, rows: Tensor, *, most: int, seed: int
) -> Descent:
    """Train from a fresh model until the loss over `rows` is at most the target.

    most: steps after which the run is cut off. It ends too where the loss is not finite or four
    times that of the start.
    """
    model = workload.model(seed)
    optimizer = workload.optimizer(model.parameters(), lr=rate)
    start = workload.loss(model, rows)
    losses, found = [(0, start)], replace(_NONE, size=size, rate=rate, seed=seed)
    if start <= target:
        return replace(found, end="reached", losses=tuple(losses))
    looks = _looks(most)
    look = next(looks)
    for step, batch in enumerate(workload.batches(size, seed), 1):
        workload.step(model, optimizer, batch)
        if step < look:
            continue
        losses.append((step, workload.loss(model, rows)))
        end = _end(losses, start, target, most)
        if end:
            steps = _crossing(losses[-2], losses[-1], target) if end == "reached" else float(step)
            return replace(found, steps=steps, end=end, losses=tuple(losses))
        look = next(looks)
    raise AssertionError("batches do not end")


_NONE = Descent(size=0, rate=0.0, seed=0, steps=0.0, end="")


def _looks(most: int) -> Iterator[int]:
    """1, 2, …, then a twentieth further each time, and `most`."""
    step = 0
    while True:
        step = min(max(step + 1, math.ceil(step * (1 + _LOOK))), most)
        yield step


def _end(losses: Sequence[tuple[int, float]], start: float, target: float, most: int) -> str:
    step, loss = losses[-1]
    if not math.isfinite(loss) or loss > _DIVERGED * abs(start):
        return "diverged"
    if loss <= target:
        return "reached"
    return "censored" if step >= most else ""


def _crossing(before: tuple[int, float], after: tuple[int, float], target: float) -> float:
    """Where the line through two looks meets the target; in log loss where all are positive."""
    (s0, l0), (s1, l1) = before, after
    if min(l0, l1, target) > 0:
        l0, l1, target = math.log(l0), math.log(l1), math.log(target)
    share = (l0 - target) / (l0 - l1) if l0 > l1 else 1.0
    return s0 + max(0.0, min(1.0, share)) * (s1 - s0)


def tune(
    workload: Workload,
    size: int,
    rate: float,
    target: float,
    rows: Tensor,
    *,
    most: int,
    seeds: Sequence[int],
    factor: float = 2.0,
    tell: Callable[[Descent], None] = lambda run: None,
) -> Tuned:
    """Climb the ladder of learning rates rate·factorᵏ from `rate` to the fewest steps.

    Up while it gets better, else down; a rate that needs a quarter more steps than the best so far
    is cut off. The search uses the first seed; the best rate then runs with all of them.
    """
    tried: dict[int, Descent] = {}

    def steps(rung: int) -> float:
        if rung not in tried:
            best = min((run.steps for run in tried.values() if run.reached), default=math.inf)
            limit = min(most, math.ceil(_WORSE * best)) if math.isfinite(best) else most
            run = descend(
                workload, size, rate * factor**rung, target, rows, most=limit, seed=seeds[0]
            )
            tried[rung] = run
            tell(run)
        return tried[rung].steps if tried[rung].reached else math.inf

    rung = _best_rung(steps, tried)
    best = tried[rung]
    runs = [best]
    for seed in seeds[1:]:
        limit = most if not best.reached else min(most, math.ceil(8 * best.steps))
        runs.append(descend(workload, size, best.rate, target, rows, most=limit, seed=seed))
        tell(runs[-1])
    return Tuned(size=size, rate=best.rate, runs=tuple(runs), tried=tuple(tried.values()))


_RUNGS = 10  # so far the ladder is climbed, up and down


def _best_rung(steps: Callable[[int], float], tried: dict[int, Descent]) -> int:
    at = 0
    steps(0)
    for direction in (1, -1):
        moved = False
        while abs(at + direction) <= _RUNGS and _is_better(steps, tried, at, at + direction):
            at, moved = at + direction, True
        if moved and direction == 1:
            break
    return at


def _is_better(
    steps: Callable[[int], float], tried: dict[int, Descent], here: int, there: int
) -> bool:
    """Fewer steps; where neither arrives, away from what diverged, and up from what is too slow."""
    now, then = steps(here), steps(there)
    if math.isinf(now) and math.isinf(then):
        diverges = tried[here].end == "diverged"
        return diverges if there < here else not diverges and tried[there].end != "diverged"
    return then < now


def loss_rows(workload: Workload, most: int, seed: int) -> Tensor:
    """The numbers of the rows over which the loss is judged: a fixed sample."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(len(workload.rows), generator=generator)[:most]
