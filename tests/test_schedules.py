"""The closed forms of learning rates are those of torch.optim.lr_scheduler, past the end too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from dlcheck.numerics import schedules

BASE = 0.16
STEPS = 60
# A recursion that multiplies once per step rounds a few times per step.
ROUNDING = 8 * STEPS * 2.0**-52


def decay(t: int) -> float:
    return 1 / (1 + 0.3 * t)


TWINS: list[tuple[Callable[..., float], str, dict[str, Any]]] = [
    (schedules.step, "StepLR", {"step_size": 7, "gamma": 0.4}),
    (schedules.multistep, "MultiStepLR", {"milestones": [20, 3, 9, 9], "gamma": 0.5}),
    (schedules.constant, "ConstantLR", {}),
    (schedules.constant, "ConstantLR", {"factor": 0.2, "total_iters": 9}),
    (schedules.linear, "LinearLR", {}),
    (schedules.linear, "LinearLR", {"start_factor": 0.9, "end_factor": 0.2, "total_iters": 11}),
    (schedules.exponential, "ExponentialLR", {"gamma": 0.93}),
    (schedules.polynomial, "PolynomialLR", {}),
    (schedules.polynomial, "PolynomialLR", {"total_iters": 23, "power": 2.5}),
    (schedules.scaled, "LambdaLR", {"lr_lambda": decay}),
    (schedules.multiplied, "MultiplicativeLR", {"lr_lambda": lambda t: 1 - 1 / (t + 2)}),
    (schedules.cosine, "CosineAnnealingLR", {"T_max": 13}),
    (schedules.cosine, "CosineAnnealingLR", {"T_max": 20, "eta_min": 0.03}),
    (schedules.cosine_warm_restarts, "CosineAnnealingWarmRestarts", {"T_0": 7, "eta_min": 0.01}),
    (schedules.cosine_warm_restarts, "CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2}),
    (schedules.cosine_warm_restarts, "CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}),
    (schedules.cyclic, "CyclicLR", {"max_lr": 0.5, "step_size_up": 5}),
    (schedules.cyclic, "CyclicLR",
     {"max_lr": 0.5, "step_size_up": 4, "step_size_down": 7, "mode": "triangular2"}),
    (schedules.cyclic, "CyclicLR",
     {"max_lr": 0.5, "step_size_up": 6, "step_size_down": 3, "mode": "exp_range", "gamma": 0.95}),
    (schedules.inverse_square_root, "LambdaLR", {"warmup": 6}),
]  # fmt: skip


def optimizer_of(rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=rate, momentum=0.9)


def rates_of(build: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    optimizer = optimizer_of(BASE)
    scheduler = build(optimizer)
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("form", "twin", "args"), TWINS)
def test_a_closed_form_is_that_of_torch(
    form: Callable[..., float], twin: str, args: dict[str, Any]
) -> None:
    given = dict(args)
    if twin == "CyclicLR":
        given["base_lr"] = BASE
    if form is schedules.inverse_square_root:
        given = {"lr_lambda": lambda t: min((t + 1) ** -0.5, (t + 1) * 6**-1.5) * 6**0.5}
    found = rates_of(lambda optimizer: getattr(lr_scheduler, twin)(optimizer, **given), STEPS)
    wanted = [form(t, BASE, **args) for t in range(STEPS)]
    assert found == pytest.approx(wanted, rel=0, abs=ROUNDING)


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
@pytest.mark.parametrize(("total_steps", "pct_start"), [(40, 0.3), (31, 0.45), (60, 0.11)])
def test_one_cycle_is_that_of_torch(
    total_steps: int, pct_start: float, anneal_strategy: str, *, three_phase: bool
) -> None:
    args: dict[str, Any] = {
        "max_lr": 0.4, "total_steps": total_steps, "pct_start": pct_start, "div_factor": 10.0,
        "anneal_strategy": anneal_strategy, "final_div_factor": 50.0, "three_phase": three_phase,
    }  # fmt: skip
    optimizer = optimizer_of(BASE)
    scheduler = lr_scheduler.OneCycleLR(optimizer, **args)
    for t in range(total_steps):
        used = float(optimizer.param_groups[0]["lr"])
        assert used == pytest.approx(schedules.one_cycle(t, **args), rel=0, abs=ROUNDING)
        optimizer.step()
        if t < total_steps - 1:
            scheduler.step()
    with pytest.raises(ValueError, match=f"no rate at t = {total_steps}"):
        schedules.one_cycle(total_steps, **args)


@pytest.mark.parametrize(
    "args",
    [
        {"patience": 2},
        {"patience": 0, "factor": 0.5, "cooldown": 3, "min_lr": 0.02},
        {"patience": 1, "mode": "max", "threshold": 0.1},
        {"patience": 1, "mode": "max", "threshold_mode": "abs", "threshold": 0.2, "factor": 0.7},
        {"patience": 1, "threshold_mode": "abs", "threshold": 0.2, "cooldown": 1, "eps": 1e-3},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_is_that_of_torch(args: dict[str, Any], seed: int) -> None:
    drawn = torch.randn(80, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    metrics = [*(drawn.cumsum(0) / 5).tolist(), math.nan, 0.0]
    optimizer = optimizer_of(BASE)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **args)
    found = []
    for metric in metrics:
        optimizer.step()
        scheduler.step(metric)
        found.append(float(optimizer.param_groups[0]["lr"]))
    assert found == pytest.approx(schedules.plateau(metrics, BASE, **args), rel=ROUNDING)
    assert min(found) < BASE


def test_a_warm_up_ends_at_the_peak() -> None:
    """By hand: W = 4, so that the rates are ¼, ½, ¾, 1, then √(4/5), … of the peak."""
    rates = [schedules.inverse_square_root(t, 2.0, warmup=4) for t in range(5)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0 * math.sqrt(0.8)], rel=1e-15)


def test_a_restart_begins_at_the_peak() -> None:
    """T₀ = 3, k = 2: cycles begin at 0, 3, 9, 21."""
    peaks = [
        t for t in range(40)
        if schedules.cosine_warm_restarts(t, 1.0, T_0=3, T_mult=2, eta_min=0.1) == 1.0
    ]  # fmt: skip
    assert peaks == [0, 3, 9, 21]
