"""The parts of a study, each measured on its own and kept in the journal."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from dlcheck.benchmarks.batch_size.journal import Journal, tuples
from dlcheck.benchmarks.batch_size.setup import Setup
from dlcheck.errors import SubjectRaised
from dlcheck.measure.clocks import Clock
from dlcheck.measure.convergence import Descent, Tuned, descend, loss_rows, tune
from dlcheck.measure.footprint import Footprint, measure_footprint, ran_out_of_memory
from dlcheck.measure.gradient_noise import GradientNoise, measure_gradient_noise
from dlcheck.measure.scaling_rule import ScalingRule, measure_scaling_rule
from dlcheck.measure.throughput import BatchTimes, time_batches
from dlcheck.measure.workload import Workload

_STILL = 1e-6  # of the learning rate, while steps are timed: weights stay where they are
_LOSS_ROWS = 1024
_PILOT_EPOCHS, _PILOT_STEPS = 8, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much each part may spend."""

    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    seconds: float  # for the whole study, about
    rounds: int  # of timing
    population: int  # rows whose own gradients are taken
    batches: int  # measured beside the law, of every size


@dataclass(slots=True)
class Stages:
    """Measures one part after the other; what is in the journal is not measured again."""

    setup: Setup
    plan: Plan
    journal: Journal
    seed: int
    tell: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    @property
    def workload(self) -> Workload:
        return self.setup.workload

    @property
    def rows(self) -> torch.Tensor:
        return loss_rows(self.workload, _LOSS_ROWS, self.seed)

    def usable(self) -> dict[int, str]:
        """Sizes that the model refuses, with what it says: BatchNorm at one row, for one."""
        return self.journal.part("usable", self._refusals, dict, _by_size)

    def _refusals(self) -> dict[int, str]:
        self.tell("trying every batch size")
        refused: dict[int, str] = {}
        for size in self.plan.sizes:
            try:
                _one_step(self.workload, size, self.seed)
            except SubjectRaised as error:
                if not ran_out_of_memory(error):  # the footprint tells of that
                    refused[size] = str(error)
        return refused

    def footprint(self, sizes: Sequence[int]) -> Footprint:
        def measure() -> Footprint:
            self.tell("counting the bytes of a step")
            return measure_footprint(self.workload, sizes, seed=self.seed)

        return self.journal.part("footprint", measure, asdict, _footprint)

    def times(self, sizes: Sequence[int], name: str = "times") -> BatchTimes:
        def measure() -> BatchTimes:
            self.tell(f"timing a step at {len(sizes)} batch sizes")
            works = {size: _still_step(self.workload, size, self.seed) for size in sizes}
            return time_batches(works, Clock(self.workload.device), rounds=self.plan.rounds)

        return self.journal.part(name, measure, asdict, lambda d: BatchTimes(**tuples(d)))

    def keep_to(self, largest: int) -> None:
        """No batch of more rows from now on, the loss's neither."""
        workload = replace(self.workload, chunk=min(self.workload.chunk, largest))
        self.setup = replace(self.setup, workload=workload)
        sizes = tuple(size for size in self.plan.sizes if size <= largest)
        self.plan = replace(self.plan, sizes=sizes)

    def noise(self, name: str, steps: Descent | None) -> GradientNoise:
        """At the start, or where a run with the tuned rate has reached the target."""

        def measure() -> GradientNoise:
            self.tell(f"measuring the gradient noise, {name}")
            model = self.workload.model(self.seed)
            if steps is not None:
                _walk(self.workload, model, steps)
            return measure_gradient_noise(
                self.workload,
                model,
                self.plan.sizes,
                population=self.plan.population,
                batches=self.plan.batches,
                seconds=0.1 * self.plan.seconds,
                seed=self.seed,
            )

        return self.journal.part(
            f"noise {name}", measure, asdict, lambda d: GradientNoise(**tuples(d))
        )

    def target(self, size: int, most: int) -> tuple[float, float]:
        """The loss that counts as trained, and that of the start.

        Where none is declared: nine tenths of the way from the start to the least loss that a few
        epochs at some learning rates come to.
        """

        def measure() -> tuple[float, float]:
            start = self.workload.loss(self.workload.model(self.seed), self.rows)
            if self.setup.target is not None:
                return self.setup.target, start
            self.tell("looking for a target")
            steps = _PILOT_EPOCHS * max(1, len(self.workload.rows) // size)
            runs = [
                descend(self.workload, size, self.workload.rate * factor, -math.inf, self.rows,
                        most=min(max(most, _PILOT_STEPS), steps), seed=self.seed)
                for factor in (0.25, 1.0, 4.0)
            ]  # fmt: skip
            least = min((loss for run in runs for _, loss in run.losses if loss == loss))
            return least + 0.1 * (start - least), start

        return self.journal.part("target", measure, list, lambda d: tuple(tuples(d)))

    def tuned(self, size: int, rate: float, target: float, most: int) -> Tuned:
        def measure() -> Tuned:
            self.tell(f"batch size {size}: looking for its learning rate")
            return tune(
                self.workload, size, rate, target, self.rows, most=most, seeds=self.plan.seeds
            )

        return self.journal.part(f"tuned {size}", measure, asdict, _tuned)

    def oscillation(self, sizes: Sequence[int], rate: float, from_: Descent) -> dict[int, float]:
        """How far the loss jumps from step to step, at one learning rate, by size.

        The root mean square of the differences of neighbouring losses over √2, of forty steps
        that begin where `from_` reached the target: a slow fall hardly counts.
        """

        def measure() -> dict[int, float]:
            self.tell("measuring how the loss oscillates")
            return {size: self._jumps(size, rate, from_) for size in sizes}

        return self.journal.part("oscillation", measure, dict, _by_size)

    def _jumps(self, size: int, rate: float, from_: Descent) -> float:
        model = self.workload.model(from_.seed)
        _walk(self.workload, model, from_)
        optimizer = self.workload.optimizer(model.parameters(), lr=rate)
        losses = []
        for _, batch in zip(range(40), self.workload.batches(size, self.seed + 1), strict=False):
            self.workload.step(model, optimizer, batch)
            losses.append(self.workload.loss(model, self.rows))
        jumps = [b - a for a, b in itertools.pairwise(losses)]
        return math.sqrt(statistics.fmean(jump * jump for jump in jumps) / 2)

    def scaling(self, rate: float) -> ScalingRule | None:
        """Eight steps against one, at falling rates; None for fewer than sixteen rows."""
        rows = len(self.workload.rows)
        if rows < 16:
            return None

        def measure() -> ScalingRule:
            self.tell("holding eight small steps against a large one")
            rates = [rate / 2**k for k in range(2, 6)]
            size = max(1, min(16, rows // 8, self.workload.chunk // 8))
            return measure_scaling_rule(
                self.workload, size=size, steps=8, rates=rates, seed=self.seed
            )

        return self.journal.part("scaling", measure, asdict, lambda d: ScalingRule(**tuples(d)))


def _one_step(workload: Workload, size: int, seed: int) -> None:
    model = workload.model(seed)
    optimizer = workload.optimizer(model.parameters(), lr=_STILL * workload.rate)
    workload.step(model, optimizer, workload.drawn(size, seed))


def _still_step(workload: Workload, size: int, seed: int) -> Callable[[], None]:
    model, batch = workload.model(seed), workload.drawn(size, seed)
    optimizer = workload.optimizer(model.parameters(), lr=_STILL * workload.rate)
    return lambda: workload.step(model, optimizer, batch)


def _walk(workload: Workload, model: torch.nn.Module, run: Descent) -> None:
    """Go the steps of a run again, from the same seed; `model` is fresh from that seed."""
    optimizer = workload.optimizer(model.parameters(), lr=run.rate)
    steps = math.ceil(run.steps)
    for _, batch in zip(range(steps), workload.batches(run.size, run.seed), strict=False):
        workload.step(model, optimizer, batch)


def _by_size(data: Mapping[Any, Any]) -> dict[int, Any]:
    return {int(size): value for size, value in tuples(data).items()}


def _footprint(data: Mapping[str, Any]) -> Footprint:
    read = tuples(data)
    tables = {name: _by_size(read[name]) for name in ("counted", "allocated")}
    return Footprint(**{**read, **tables})


def _tuned(data: Mapping[str, Any]) -> Tuned:
    read = tuples(data)
    runs = {name: tuple(Descent(**run) for run in read[name]) for name in ("runs", "tried")}
    return Tuned(**{**read, **runs})
