"""Between one row and all of them lies a batch size that reaches a target soonest."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from dlcheck.checks.training.batches_of_digits import Workload
from dlcheck.checks.training.calling import keywords
from dlcheck.checks.training.memory_grows_with_the_batch import (
    goes_through_rows_one_by_one,
    trains_on_the_first_row_only,
)
from dlcheck.checks.training.noise_floor import PROBLEM
from dlcheck.checks.training.throughput import steps_after_every_row
from dlcheck.checks.training.timed_ratios import Above, Seconds, sampled
from dlcheck.errors import NotApplicable
from dlcheck.measure.clocks import Clock
from dlcheck.measure.critical_batch import StepLaw, fastest_batch, fit_steps, seconds_to_target
from dlcheck.measure.throughput import AffineTime, fit_affine, time_batches
from dlcheck.model import Evidence, Figure, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

TARGET = 0.02 * PROBLEM.loss(0.0, 1, 0)
_RATES = tuple(np.geomspace(1e-3, 1.99, 60))
_GRID = (1, 4, 16, 64, 256, 1024, 4096)
_PATIENCE = 4  # times the steps of the law
_STEPS = 4  # a call that is timed
# T(2B*)/T(B*) = (2 + ½ + c)/(2 + c) is at most this: B* within a factor of two of the best.
_NEAR = math.log(1.25)


LOOP = Subject(
    name="minibatch_training",
    target="dlcheck.references.training.minibatch_training:minibatch_training",
    kind="training",
    inputs={"x": "float n 3", "y": "float n 2"},
    checks=("a_batch_in_between_is_fastest",),
)


class NoisyBowl(nn.Module):
    """Weights [100], all 1 at the start; the answer to x [b, 100] is w − x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(len(PROBLEM.curvatures), dtype=torch.float64))
        curves = torch.tensor(PROBLEM.curvatures, dtype=torch.float64)
        self.register_buffer("curves", curves)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight - x

    def excess(self) -> float:
        """½ Σ λw²: the expected loss above the least one."""
        curves = self.get_buffer("curves")
        return float(0.5 * (curves * self.weight.detach().square()).sum())

    def loss(self, deviation: Tensor, _: Tensor) -> Tensor:
        """½ Σ λ (w − x)², the mean over rows."""
        return 0.5 * (self.get_buffer("curves") * deviation.square()).sum(1).mean()


@functools.cache
def at_the_best_rate(size: int) -> tuple[float, float]:
    """(steps to the target by the law, learning rate): arithmetic, done once a batch size."""
    return PROBLEM.best(TARGET, size, _RATES)


class UntilTheTarget(IterableDataset):  # type: ignore[type-arg]
    """Fresh batches of `size` rows for as long as the model is above the target."""

    def __init__(self, model: NoisyBowl, size: int, most: int, generator: torch.Generator) -> None:
        self.model = model
        self.size = size
        self.most = most
        self.generator = generator
        self.given = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while self.model.excess() > TARGET and self.given < self.most:
            self.given += 1
            yield rows(self.size, self.generator, self.model.weight.device)


def rows(size: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """x [b, 100] normal with the variances of the problem, and a target that is not used."""
    deviation = torch.tensor(PROBLEM.variances, dtype=torch.float64).sqrt()
    x = deviation * torch.randn(size, len(deviation), generator=generator, dtype=torch.float64)
    return x.to(device), torch.zeros(size, device=device)


@dataclass(frozen=True, slots=True)
class Race:
    """One training loop on the quadratic: how many steps a batch size takes, and how long each."""

    train: Implementation
    case: Case
    clock: Clock

    def steps(self, size: int) -> float:
        """Steps of the loop to the target at the best learning rate of that batch size.

        More than `_PATIENCE` times those of the law where that many do not suffice.
        """
        law, rate = at_the_best_rate(size)
        model, most = NoisyBowl().to(self.case.device), _PATIENCE * int(law) + 1
        batches = UntilTheTarget(model, size, most, self.case.generator(f"rows {size}"))
        loader: DataLoader[Any] = DataLoader(batches, batch_size=None)
        optimizer = torch.optim.SGD(model.parameters(), lr=float(rate))
        self.train(model, loader, optimizer, model.loss, **keywords(self.train))
        return float(batches.given)

    def work(self, size: int) -> Callable[[], Any]:
        """A call of a few steps on batches of that size."""
        model = NoisyBowl().to(self.case.device)

        def given(count: int) -> tuple[Tensor, Tensor]:
            return rows(count, self.case.generator("timed rows"), self.case.device)

        load = Workload("noisy quadratic", model, model.loss, given)
        return load.prepared(self.train, size, _STEPS)[1]


@check(
    kind="training",
    forbids={
        "freezes",
        "replaces_head",
        "returns_average",
        "restores_best",
        "perturbed_gradient",
        "reduced_precision",
        "plain_sequential",
        "micro_batches",
    },
    dtypes=["float64"],
    tags=["benchmark", "experiment"],
    rejects=[goes_through_rows_one_by_one, steps_after_every_row, trains_on_the_first_row_only],
    once=True,
    accepts=[LOOP],
    textbook={
        "id": "B8",
        "says": "There is a best batch size",
        "verdict": "true",
    },
)
def a_batch_in_between_is_fastest(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """√(B½ B_c) rows a step reach a target sooner than one row, and about as soon as any number.

    A noisy quadratic of 100 weights, trained by the subject at the best learning rate of every
    batch size, which is known in closed form: the loop's own batches end once the expected loss
    is at 2 %, after S(B) steps, at most four times the law's. With t(B) seconds a step,
    T(B) = t(B) S(B). First 64 rows must be more than twice as fast as one; then t = a + bB and
    S = S_min (1 + B_c/B) are fitted over seven sizes, and T at √(B½ B_c), measured, is held
    against the least of all. Where the two laws fit within factors of 1 ± m and 1 ± s, the
    least of the fit costs at most (1 + m)²(1 + s)² of the least, and a factor of two in B at
    most 5/4. Interleaved pairs in random order, the sign test's interval of the median ratio at
    99.8 %: inconclusive where it holds the limit.
    Source: McCandlish et al., An Empirical Model of Large-Batch Training, 2018, equation 2.11.
    """
    if "model" in subject.options or "loss" in subject.options:
        raise NotApplicable("trains a model of its own, which is no quadratic")
    torch.set_num_threads(1)  # a team of threads on a busy machine times the others
    race = Race(subject, case, Clock(case.device))
    steps = {size: race.steps(size) for size in (1, 64)}
    arrived = [_arrives(size, count) for size, count in steps.items()]
    yield from arrived
    if any(one.error > one.bound for one in arrived):
        return
    first = _sooner(race, steps, 1, 64, math.log(2))
    yield first
    if not first.error:
        yield from _predicted(race, steps)


def _arrives(size: int, steps: float) -> Evidence:
    """From twice the steps of the law on, the expected loss is at most 0.82 of the target.

    A single look then lies above with a probability below ½ (a sum of χ² has its median below
    its mean), and the mode of curvature 1, which has most of the variance, is forgotten in
    1/(ηλ) steps, 31 for one row and 1 for 64: that all of more than 180 such spans before four
    times the law's steps lie above is about 2⁻¹⁸⁰.
    """
    law, rate = at_the_best_rate(size)
    return Evidence(
        error=steps / law,
        bound=float(_PATIENCE),
        signal=float(_PATIENCE),
        resolution=2.0,
        unit="of the steps of the law",
        what=f"steps of {size} rows to 2 % of the loss at the start, learning rate {rate:.3g}",
        expected=f"about {law:.0f}",
        got=f"{steps:.0f}" if steps <= _PATIENCE * law else f"not in {steps:.0f}",
    )


def _sooner(
    race: Race, steps: Mapping[int, float], other: int, size: int, limit: float
) -> Evidence:
    """T(other)/T(size) in log, held above the limit."""
    saved = math.log(steps[other] / steps[size])

    def log_ratio(seconds: Seconds) -> float:
        return saved + math.log(seconds[other] / seconds[size])

    works = {each: race.work(each) for each in (other, size)}
    found = Above(sampled(works, log_ratio, limit, race.clock, race.case), limit)
    return found.evidence(
        what=f"time to the target with {other} rows a step over that with {size}",
        unit="in log T",
        samples="pairs",
    )


def _predicted(race: Race, known: Mapping[int, float]) -> Iterator[Evidence]:
    """The batch size that the two laws predict, against the fastest of the grid."""
    steps = {size: known.get(size) or race.steps(size) for size in _GRID}
    times = time_batches({size: race.work(size) for size in _GRID}, race.clock, rounds=9)
    time, law = fit_affine(times), fit_steps({size: [count] for size, count in steps.items()})
    measured = {
        size: seconds / _STEPS * steps[size]
        for size, seconds in zip(times.sizes, times.medians, strict=True)
    }
    best = min(_GRID[-1], max(1, round(fastest_batch(time, law))))
    least = min(measured, key=measured.__getitem__)
    steps[best] = steps.get(best) or race.steps(best)
    slack = 2 * math.log1p(time.misfit) + 2 * _largest_residual(law, steps)
    evidence = _sooner(race, steps, least, best, -_NEAR - slack)
    yield _with_figures(evidence, measured, time, law, best)


def _largest_residual(law: StepLaw, steps: Mapping[int, float]) -> float:
    return max(abs(math.log(count / law(size))) for size, count in steps.items())


def _with_figures(
    evidence: Evidence, measured: Mapping[int, float], time: AffineTime, law: StepLaw, best: int
) -> Evidence:
    fitted = {size: seconds_to_target(time, law, size) / _STEPS for size in measured}
    return replace(
        evidence,
        values={
            "B½ = a/b": time.knee,
            "S_min": law.least,
            "B_c": law.critical,
            "B* = √(B½ B_c)": float(best),
            "fastest of the sizes tried": float(min(measured, key=measured.__getitem__)),
        },
        figures=(
            Figure(
                title="Time to a target",
                x="batch size B",
                y="seconds",
                series={
                    "measured": [(float(b), s) for b, s in measured.items()],
                    "(a + bB) S_min (1 + B_c/B)": [(float(b), s) for b, s in fitted.items()],
                },
                log_x=True,
                log_y=True,
                marks=("measured",),
                note=f"least at B* = √(B½ B_c) = {best}",
            ),
        ),
    )
