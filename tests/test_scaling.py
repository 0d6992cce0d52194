"""The model behind docs/scaling.md against cases that can be worked out by hand."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from scaling_model import (
    Costs,
    bounds,
    efficiencies,
    makespan,
    predicted,
    resampled,
    saturation,
    serial_share,
)

FREE = Costs(start=0.0, collected=0.0, trial=0.0, controller=0.0, named=0.0)


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_grahams_bound_is_reached_where_the_longest_trial_comes_last(workers: int) -> None:
    """k (k − 1) trials of 1 s, then one of k s: 2k − 1 s, where k would do."""
    loads = [1.0] * (workers * (workers - 1)) + [float(workers)]
    found = bounds(loads, workers, FREE)
    assert found.expected == pytest.approx(found.most) == 2 * workers - 1
    assert found.least == workers


def test_a_schedule_lies_between_its_bounds() -> None:
    generator = random.Random(0)
    for _ in range(200):
        loads = [generator.expovariate(1) for _ in range(generator.randint(1, 40))]
        found = bounds(loads, generator.randint(1, 12), FREE)
        assert found.least <= found.expected * (1 + 1e-12)
        assert found.expected <= found.most * (1 + 1e-12)


def test_one_worker_does_all_in_turn() -> None:
    costs = Costs(start=3.0, collected=0.5, trial=0.25, controller=0.1, named=0.0)
    assert bounds([1.0, 2.0], 1, costs).expected == 3 + 0.5 * 2 + 3 + 2 * 0.25
    assert bounds([1.0, 2.0], 1, costs, collected=10).expected == 3 + 0.5 * 10 + 3.5
    assert makespan([1.0, 2.0], 1) == 3


def test_a_busy_controller_sets_the_pace() -> None:
    costs = Costs(start=0.0, collected=0.0, trial=0.0, controller=0.2, named=0.01)
    assert bounds([1.0] * 100, 50, costs).expected == pytest.approx(100 * (0.2 + 50 * 0.01))
    most = saturation([1.0] * 100, costs)
    assert 0.01 * most**2 + 0.2 * most == pytest.approx(1.0)


def test_amdahls_share_is_found_again() -> None:
    share = 0.2
    times = {k: share + (1 - share) / k for k in (1, 2, 4)}
    for workers, speedup, found in efficiencies(times):
        assert speedup == pytest.approx(1 / times[workers])
        assert found == pytest.approx(share if workers > 1 else 0.0)
    costs = Costs(start=1.0, collected=0.1, trial=0.0, controller=0.0, named=0.0)
    assert serial_share([1.0] * 8, costs, collected=10) == pytest.approx(2 / 10)


def test_equal_trials_leave_nothing_unsure() -> None:
    found = predicted({"a": [1.0], "b": [1.0, 1.0]}, 640, 64, FREE, draws=5)
    assert found.value == found.low == found.high == 10
    in_parts = predicted({"a": [1.0]}, 640, 64, FREE, parts=8, draws=5)
    assert in_parts.value == 10
    cost = found.scaled(64 / 3600, apart=0.5)
    assert (cost.low, cost.high) == pytest.approx((0.5 * 640 / 3600, 1.5 * 640 / 3600))


def test_few_subjects_leave_the_mean_unsure() -> None:
    """Of 20 subjects, a quarter of them slow: the share of slow ones is known to √(¼ ¾ / 20)."""
    trials = {str(k): [1.0 + 4.0 * (k < 5)] * 3 for k in range(20)}
    generator = random.Random(0)
    means = [sum(resampled(trials, 3000, generator)) / 3000 for _ in range(400)]
    assert sum(means) / 400 == pytest.approx(2.0, abs=0.1)
    spread = (sum((mean - 2.0) ** 2 for mean in means) / 400) ** 0.5
    assert spread == pytest.approx(4 * (0.25 * 0.75 / 20) ** 0.5, rel=0.1)
