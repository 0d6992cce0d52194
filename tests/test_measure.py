"""Clocks, paired ratios, the law of throughput and the count of saved bytes."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from dlcheck.measure.clocks import Clock, calls_a_sample
from dlcheck.measure.memory import SavedBytes, saved_for_backward
from dlcheck.measure.pairs import Ratio, Speed, compare_times, sign_interval
from dlcheck.measure.throughput import BatchTimes, arithmetic_intensity, fit_affine, time_batches

CPU = Clock(torch.device("cpu"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Teams of threads on a busy machine wait for each other a hundred times longer than work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_clock_measures_the_mean_of_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [7.0]

    def work(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert CPU.seconds(work, 0.002, calls=3) == pytest.approx(0.002)


def test_a_sample_lasts_long_enough() -> None:
    def work() -> None:
        sum(range(1000))

    calls = calls_a_sample(CPU, work)
    assert calls > 1
    assert min(CPU.seconds(work, calls=calls) for _ in range(5)) * calls > 1e-4


@pytest.mark.parametrize("n", [10, 50, 237])
def test_the_sign_interval_holds_the_median_as_often_as_it_says(n: int) -> None:
    generator = np.random.default_rng(n)
    values = generator.standard_cauchy((2000, n))  # no moments, and no matter
    held = [low <= 0 <= high for low, high in map(sign_interval, values)]
    low, _ = sign_interval(range(n), 0.95)
    exact = 1 - 2 * stats.binom.cdf(low, n, 0.5)
    assert exact >= 0.95
    assert np.mean(held) == pytest.approx(exact, abs=4 * math.sqrt(0.05 * 0.95 / 2000))


def test_too_few_values_give_no_interval() -> None:
    assert sign_interval([1.0, 2.0, 3.0]) == (-math.inf, math.inf)
    assert sign_interval(range(6)) == (0, 5)  # 2 · 2⁻⁶ ≤ .05 < 2 · 2⁻⁵
    assert sign_interval([]) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("logs", "verdict"),
    [
        ([0.10, 0.11, 0.12] * 10, Speed.SLOWER),
        ([-0.10, -0.11, -0.12] * 10, Speed.FASTER),
        ([-0.01, 0.0, 0.01] * 10, Speed.SAME),
        ([-0.5, 0.0, 0.5] * 10, Speed.UNCLEAR),
        ([0.1] * 3, Speed.UNCLEAR),
    ],
)
def test_the_verdict_follows_from_the_interval(logs: list[float], verdict: Speed) -> None:
    assert Ratio(logs=tuple(logs)).verdict is verdict


def test_twice_the_work_is_slower_by_two() -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    found = compare_times(
        lambda x: [x @ x for _ in range(2)],
        lambda x: [x @ x for _ in range(4)],
        CPU,
        buffers=[(x,), (x.clone(),)],
        most=100,
    )
    low, high = found.interval
    assert found.verdict is Speed.SLOWER
    assert low < found.median < high
    assert found.median == pytest.approx(2, rel=0.3)


def test_the_fit_finds_the_law_behind_noise() -> None:
    generator, sizes = np.random.default_rng(3), (1, 4, 16, 64, 256)
    exact = np.asarray([3e-4 + 5e-6 * size for size in sizes])
    seconds = exact * generator.lognormal(0, 0.05, (40, len(sizes)))
    times = BatchTimes(sizes=sizes, seconds=tuple(map(tuple, seconds)))
    fit = fit_affine(times)
    assert fit.fixed_interval[0] <= 3e-4 <= fit.fixed_interval[1]
    assert fit.knee_interval[0] <= 60 <= fit.knee_interval[1]
    assert fit.knee == pytest.approx(60, rel=0.1)
    assert fit(64) == pytest.approx(3e-4 + 64 * 5e-6, rel=0.05)
    assert times.throughput[0] == pytest.approx(1 / times.medians[0])


def test_a_time_that_does_not_grow_has_no_knee() -> None:
    fit = fit_affine(BatchTimes(sizes=(1, 2, 4), seconds=((0.3, 0.2, 0.1),) * 3))
    assert fit.knee == math.inf
    assert fit.per_row == 0


def test_the_intensity_of_a_linear_layer_approaches_its_limit() -> None:
    assert arithmetic_intensity(1, 64, 64) == pytest.approx(0.48, abs=0.005)
    assert arithmetic_intensity(10**9, 64, 64) == pytest.approx(16)


def test_batches_are_timed_in_rounds() -> None:
    x = torch.ones(256, 256)
    times = time_batches({n: lambda n=n: x[:n] @ x for n in (2, 256)}, CPU, rounds=5)
    assert times.sizes == (2, 256)
    assert len(times.seconds) == 5
    assert times.throughput[1] > times.throughput[0]


def test_saved_bytes_are_those_of_the_formula() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x = torch.ones(7, 6, dtype=torch.float64)
    meter = SavedBytes(model.parameters())
    with meter:
        y = model(x)
        assert meter.now == 8 * (7 * 6 + 7 * 5)  # the input, and tanh's output, shared by two
        y.sum().backward()
    assert (meter.now, meter.peak) == (0, 8 * (7 * 6 + 7 * 5))


def test_a_kept_graph_is_still_held() -> None:
    model, kept = nn.Linear(3, 2), []

    def leak() -> None:
        kept.append(model(torch.ones(4, 3)))

    assert saved_for_backward(model, leak).now == 4 * 4 * 3
    meter = saved_for_backward(model, lambda: model(torch.ones(4, 3)).sum().backward())
    assert (meter.now, meter.peak) == (0, 48)
    kept.clear()
    gc.collect()


def test_a_freed_address_is_counted_again() -> None:
    weight = torch.ones(3, requires_grad=True)
    meter = SavedBytes([weight])
    with meter:
        for _ in range(4):  # the allocator hands out the same block each time
            (weight * torch.full((3,), 2.0)).sum().backward()
    assert (meter.now, meter.peak) == (0, 12)


def test_of_a_view_its_own_part_counts() -> None:
    weight, data = torch.ones(4, requires_grad=True), torch.ones(10, 4)
    meter = SavedBytes([weight])
    with meter:
        first, second = (weight * data[2:5]).sum(), (weight * data[4:6]).sum()
        assert meter.now == 4 * 4 * 4  # rows 2 to 5, row 4 once
        first.backward()
        assert meter.now == 2 * 4 * 4
        second.backward()
    assert (meter.now, meter.peak) == (0, 64)


@pytest.mark.parametrize("confidence", [1.0, 0.0, -1.0, -1e9, math.nan, math.inf])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="a confidence lies between 0 and 1"):
        sign_interval([1.0, 2.0], confidence)
