"""A bigger batch processes more rows a second."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.training.batches_of_digits import Workload, workloads
from dlcheck.checks.training.memory_grows_with_the_batch import (
    Loss,
    goes_through_rows_one_by_one,
    looped,
)
from dlcheck.checks.training.timed_ratios import Above, Seconds, sampled
from dlcheck.errors import NotApplicable
from dlcheck.measure.clocks import Clock
from dlcheck.measure.throughput import (
    AffineTime,
    BatchTimes,
    arithmetic_intensity,
    fit_affine,
    time_batches,
)
from dlcheck.model import Evidence, Figure
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SIZES = (1, 4, 16, 64, 256, 512)
_FEW, _MANY = 16, 128
_STEPS = 2  # batches a call
_PASSES = 16  # of one row, in a sample
_LIMIT = math.log(2.0)
_CAP = math.log(1e3)  # where the difference of two times vanishes in their noise


@looped
def steps_after_every_row(
    model: nn.Module, optimizer: Any, loss: Loss, x: Tensor, y: Tensor, kept: list[Tensor]
) -> None:
    for row, target in zip(x.split(1), y.split(1), strict=True):
        optimizer.zero_grad()
        loss(model(row), target).backward()
        optimizer.step()


@check(
    kind="training",
    tags=["benchmark"],
    rejects=[goes_through_rows_one_by_one, steps_after_every_row],
    once=True,
    textbook={
        "id": "B2",
        "says": "A bigger batch uses memory and matrix units better",
        "verdict": "true if",
        "condition": "the device is not saturated yet",
    },
)
def bigger_batches_are_faster(subject: Implementation, case: Case) -> Evidence:
    """A further row of a batch costs less than half of a forward and backward of its own.

    With t(B) = a + bB seconds a step, b = (t(128) − t(16))/112 is free of what a step or a call
    costs by itself. It is held against c, the time of a pass of one row through the same small
    perceptron: rows that go through the layers together have c/b of 30 and more, rows that go
    one by one have 1. Ten to forty interleaved triples (t(16), t(128), c) in random order and the
    sign test's interval of the median log(c/b) at 99.8 %: it passes above log 2, fails below,
    and is inconclusive across it. Figures show t(B), throughput B/t(B) and the knee a/b.
    Source: Williams et al., Roofline, CACM 52(4), 2009; NUMERICS "Timing"; TEXTBOOK B2.
    """
    torch.set_num_threads(1)  # a team of threads on a busy machine times the others
    load, clock = workloads(subject, case)[0], Clock(case.device)
    if load.name == "declared":
        raise NotApplicable("a declared model may fill the device with one row: nothing is claimed")
    found = Above(_log_savings(subject, load, clock, case), _LIMIT)
    times = _curve(subject, load, clock, case.profile.effort) if found.holds else None
    return replace(
        found.evidence(
            what="a pass of one row over a further row of a batch",
            unit="in log(c/b)",
            samples="triples",
        ),
        values={"c/b": math.exp(found.median), **(_values(times) if times else {})},
        figures=_figures(times) if times else (),
    )


def _log_savings(train: Implementation, load: Workload, clock: Clock, case: Case) -> list[float]:
    """log(c/b), triple by triple, until the limit is outside of the interval."""
    works = {size: load.prepared(train, size, _STEPS)[1] for size in (_FEW, _MANY)}
    works[1] = _one_row_passes(load)
    return sampled(works, _log_saving, _LIMIT, clock, case)


def _log_saving(seconds: Seconds) -> float:
    further = (seconds[_MANY] - seconds[_FEW]) / (_STEPS * (_MANY - _FEW))
    own = seconds[1] / _PASSES
    return min(_CAP, math.log(own / further)) if further > 0 else _CAP


def _one_row_passes(load: Workload) -> Callable[[], None]:
    """Forward and backward of one row, sixteen times."""
    model, (x, y) = copy.deepcopy(load.model), load.rows(1)

    def passes() -> None:
        for _ in range(_PASSES):
            model.zero_grad()
            load.loss(model(x), y).backward()

    return passes


def _curve(train: Implementation, load: Workload, clock: Clock, effort: int) -> BatchTimes:
    steps = {size: load.prepared(train, size, _STEPS)[1] for size in _SIZES}
    return time_batches(steps, clock, rounds=8 * effort)


def _values(times: BatchTimes) -> dict[str, float | str]:
    fit = fit_affine(times)
    low, high = fit.knee_interval
    rates = dict(zip(times.sizes, times.throughput, strict=True))
    return {
        "a, seconds a step": fit.fixed / _STEPS,
        "b, seconds a row": fit.per_row / _STEPS,
        "B½ = a/b": fit.knee,
        "B½, 95 %": f"[{low:.3g}, {high:.3g}]",
        "largest misfit of a + bB": fit.misfit,
        "throughput(64) / throughput(1)": rates[64] / rates[1],
    }


def _figures(times: BatchTimes) -> tuple[Figure, ...]:
    fit = fit_affine(times)
    return _time_figure(times, fit), _throughput_figure(times, fit), _intensity_figure()


def _points(xs: Sequence[int], ys: Sequence[float]) -> list[tuple[float, float]]:
    return [(float(x), y) for x, y in zip(xs, ys, strict=True)]


def _time_figure(times: BatchTimes, fit: AffineTime) -> Figure:
    return Figure(
        title="Time of a training step",
        x="batch size B",
        y="seconds",
        series={
            "measured": _points(times.sizes, [t / _STEPS for t in times.medians]),
            "a + bB": _points(times.sizes, [fit(size) / _STEPS for size in times.sizes]),
        },
        log_x=True,
        log_y=True,
        marks=("measured",),
    )


def _throughput_figure(times: BatchTimes, fit: AffineTime) -> Figure:
    fitted = [size / fit(size) * _STEPS for size in times.sizes]
    return Figure(
        title="Throughput of training",
        x="batch size B",
        y="rows a second",
        series={
            "measured": _points(times.sizes, [rate * _STEPS for rate in times.throughput]),
            "B / (a + bB)": _points(times.sizes, fitted),
        },
        log_x=True,
        log_y=True,
        marks=("measured",),
        note=f"half of the limit 1/b is reached at B½ = a/b = {fit.knee:.3g}",
    )


def _intensity_figure() -> Figure:
    every = [2**i for i in range(13)]
    return Figure(
        title="Arithmetic intensity of a 64 × 64 linear layer",
        x="batch size B",
        y="operations a byte, float32",
        series={
            "2BMK / 4(BM + MK + BK)": _points(
                every, [arithmetic_intensity(b, 64, 64) for b in every]
            ),
            "limit": [(1.0, 16.0), (4096.0, 16.0)],
        },
        log_x=True,
        log_y=True,
        note="exact, not measured: why matrix units need batches",
    )
