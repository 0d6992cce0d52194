"""Reference optimizers, averages, schedules and clipping against torch's, and by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dlcheck.numerics import schedules
from dlcheck.references.clipping import norms, separate
from dlcheck.references.optimizers import published
from dlcheck.references.optimizers.averaging import (
    ExponentialMovingAverage,
    StochasticWeightAveraging,
)
from dlcheck.references.optimizers.recursive import RecursiveOptimizer
from dlcheck.references.schedulers import composed, warmup

STEPS = 12
OPTIMIZERS: list[tuple[type[RecursiveOptimizer], dict[str, Any]]] = [
    (published.Lion, {"lr": 0.1, "weight_decay": 0.1}),
    (published.LAMB, {"lr": 0.1, "weight_decay": 0.1}),
    (published.LARS, {"lr": 0.3, "trust_coefficient": 0.1, "weight_decay": 0.1}),
    (published.Signum, {"lr": 0.1, "weight_decay": 0.1}),
    (published.HeavyBall, {"lr": 0.1, "nesterov": True, "weight_decay": 0.1}),
    (published.PublishedAdam, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
]
each_optimizer = pytest.mark.parametrize(("build", "args"), OPTIMIZERS)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(drawn(1, 3, 4)), nn.Parameter(drawn(2, 5))]


def take_steps(
    optimizer: torch.optim.Optimizer, of: Iterable[Tensor], first: int = 0, last: int = STEPS
) -> None:
    held = list(of)
    for turn in range(first, last):
        for place, p in enumerate(held):
            p.grad = drawn(100 * turn + place, *p.shape)
        optimizer.step()


@each_optimizer
def test_groups_have_their_own_options(
    build: type[RecursiveOptimizer], args: dict[str, Any]
) -> None:
    """Each group moves as the recursion does alone, with its own step size and decay."""
    held = parameters()
    options = [{}, {"lr": 0.03, "weight_decay": 0.4}]
    groups = [{"params": [p], **own} for p, own in zip(held, options, strict=True)]
    take_steps(build(groups, **args), held)
    for place, (start, own) in enumerate(zip(parameters(), options, strict=True)):
        state: dict[str, Any] = {}
        expected = start.detach()
        merged = {**build([start], **args).defaults, **own}
        for turn in range(STEPS):
            gradient = drawn(100 * turn + place, *start.shape)
            expected = build.recursion(expected, gradient, state, **merged)
        torch.testing.assert_close(held[place].detach(), expected, rtol=0, atol=0)


@each_optimizer
def test_a_parameter_without_a_gradient_stays(
    build: type[RecursiveOptimizer], args: dict[str, Any]
) -> None:
    held = parameters()
    optimizer = build(held, **args)
    held[1].grad = torch.ones_like(held[1])
    optimizer.step()
    assert torch.equal(held[0], parameters()[0])
    assert held[0] not in optimizer.state
    assert not torch.equal(held[1], parameters()[1])


@each_optimizer
def test_a_saved_optimizer_goes_on(build: type[RecursiveOptimizer], args: dict[str, Any]) -> None:
    whole, halved = parameters(), parameters()
    take_steps(build(whole, **args), whole)
    first = build(halved, **args)
    take_steps(first, halved, last=5)
    resumed = build(halved, lr=7.0)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    take_steps(resumed, halved, first=5)
    for a, b in zip(whole, halved, strict=True):
        assert torch.equal(a, b)


@each_optimizer
def test_maximizing_is_descent_on_the_negative(
    build: type[RecursiveOptimizer], args: dict[str, Any]
) -> None:
    up, down = parameters(), parameters()
    climber, other = build(up, **args, maximize=True), build(down, **args)
    for turn in range(3):
        for a, b in zip(up, down, strict=True):
            a.grad, b.grad = drawn(turn, *a.shape), -drawn(turn, *a.shape)
        climber.step()
        other.step()
    for a, b in zip(up, down, strict=True):
        assert torch.equal(a, b)


def test_a_closure_is_called_once_with_gradients() -> None:
    (parameter,) = held = [nn.Parameter(torch.tensor([3.0]))]
    optimizer = published.HeavyBall(held, lr=0.5)
    calls = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (parameter**2).sum() / 2
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 4.5
    assert calls == [True]
    assert float(parameter.detach()) == 1.5


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = published.PublishedAdam(table.parameters())
    table(torch.tensor([1, 1])).sum().backward()
    with pytest.raises(TypeError, match="PublishedAdam takes dense gradients"):
        optimizer.step()


def test_a_negative_step_size_is_refused() -> None:
    with pytest.raises(ValueError, match="lr = -1"):
        published.Lion(parameters(), lr=-1)


# --- averages ------------------------------------------------------------------------------------


def wander(module: nn.Module, turn: int) -> None:
    with torch.no_grad():
        for place, p in enumerate(module.parameters()):
            p.copy_(drawn(100 * turn + place, *p.shape))


def test_a_moving_average_is_that_of_torch() -> None:
    module = nn.Linear(3, 2).double()
    wander(module, 0)
    ours = ExponentialMovingAverage(module.parameters(), decay=0.8)
    theirs = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    theirs.update_parameters(module)  # torch takes the first as it is
    for turn in range(1, STEPS):
        wander(module, turn)
        ours.update()
        theirs.update_parameters(module)
    for a, b in zip(ours.values(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-13, atol=1e-13)


def test_stochastic_weight_averaging_is_that_of_torch_and_the_mean() -> None:
    module = nn.Linear(3, 2).double()
    ours, theirs = StochasticWeightAveraging(module), AveragedModel(module)
    for turn in range(STEPS):
        wander(module, turn)
        ours.update()
        theirs.update_parameters(module)
    for place, (a, b) in enumerate(zip(ours.values(), theirs.module.parameters(), strict=True)):
        mean = torch.stack([drawn(100 * t + place, *a.shape) for t in range(STEPS)]).mean(0)
        torch.testing.assert_close(a, b.detach(), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(a, mean, rtol=1e-13, atol=1e-13)


def test_a_debiased_average_of_what_stays_is_that() -> None:
    held = parameters()
    average = ExponentialMovingAverage(held, decay=0.9, debiased=True)
    for _ in range(3):
        average.update()
        for a, p in zip(average.values(), held, strict=True):
            torch.testing.assert_close(a, p.detach(), rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="decay lies in"):
        ExponentialMovingAverage(held, decay=1.0)


# --- schedules -----------------------------------------------------------------------------------


def warmed(t: int, base: float) -> float:
    """Goyal's warm-up of 5 steps, then the cosine of 20, which stays at its end."""
    if t < 5:
        return base * (t + 1) / 5
    return schedules.cosine(min(t - 5, 20), base, T_max=20, eta_min=0.01)


@pytest.mark.parametrize(
    ("build", "args", "form"),
    [
        (warmup.linear_warmup_cosine, {"warmup": 5, "total": 25, "least": 0.01}, warmed),
        (warmup.inverse_square_root, {"warmup": 6},
         lambda t, base: schedules.inverse_square_root(t, base, warmup=6)),
        (composed.polynomial_decay, {"total": 18, "power": 0.9},
         lambda t, base: schedules.polynomial(t, base, total_iters=18, power=0.9)),
        (composed.multiplied, {"gamma": 0.9},
         lambda t, base: schedules.exponential(t, base, gamma=0.9)),
    ],
)  # fmt: skip
def test_a_reference_schedule_is_its_closed_form(
    build: Callable[..., Any], args: dict[str, Any], form: Callable[[int, float], float]
) -> None:
    bases = [0.16, 0.02]
    groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters(), bases, strict=True)]
    optimizer = torch.optim.SGD(groups)
    scheduler = build(optimizer, **args)
    for t in range(30):
        used = [group["lr"] for group in optimizer.param_groups]
        assert used == pytest.approx([form(t, base) for base in bases], rel=1e-13, abs=1e-16)
        optimizer.step()
        scheduler.step()


def test_a_schedule_built_on_a_resumed_optimizer_ends_at_the_same_rate() -> None:
    """A second run starts from the base rate, not from where the first one ended."""
    optimizer = torch.optim.SGD(parameters(), lr=0.16)
    ends = []
    for _ in range(2):
        scheduler = warmup.linear_warmup_cosine(optimizer, warmup=5, total=25, least=0.01)
        for _ in range(25):
            optimizer.step()
            scheduler.step()
        ends.append(optimizer.param_groups[0]["lr"])
    assert ends == pytest.approx([0.01, 0.01], rel=1e-13)


# --- clipping ------------------------------------------------------------------------------------


def with_gradients() -> list[nn.Parameter]:
    held = [*parameters(), nn.Parameter(drawn(3, 2))]
    for place, p in enumerate(held[:2]):
        p.grad = 3 * drawn(10 + place, *p.shape)
    return held  # the last has none


def gradients(of: Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in of if p.grad is not None]


@pytest.mark.parametrize("limit", [0.5, 4.0, 1000.0])
def test_clipping_by_the_global_norm_is_that_of_torch(limit: float) -> None:
    ours, theirs = with_gradients(), with_gradients()
    norm = norms.clip_by_global_norm(iter(ours), limit)
    expected = nn.utils.clip_grad_norm_(theirs, limit)
    assert float(norm) == pytest.approx(float(expected), rel=1e-14)
    # torch adds 1e-6 to the norm that it divides by.
    ratio = 1 if limit > expected else float(expected) / (float(expected) + 1e-6)
    for a, b in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(a * ratio, b, rtol=1e-13, atol=0)


@pytest.mark.parametrize("limit", [0.5, 1000.0])
def test_clipping_each_norm_is_that_of_torch_one_by_one(limit: float) -> None:
    ours, theirs = with_gradients(), with_gradients()
    separate.clip_by_norm(iter(ours), limit)
    for a, p in zip(gradients(ours), theirs[:2], strict=True):
        expected = nn.utils.clip_grad_norm_(p, limit)
        ratio = 1 if limit > expected else float(expected) / (float(expected) + 1e-6)
        torch.testing.assert_close(a * ratio, p.grad, rtol=1e-13, atol=0)


def test_clipping_by_value_is_that_of_torch() -> None:
    ours, theirs = with_gradients(), with_gradients()
    separate.clip_by_value(iter(ours), 0.7)
    nn.utils.clip_grad_value_(theirs, 0.7)
    for a, b in zip(gradients(ours), gradients(theirs), strict=True):
        assert torch.equal(a, b)


def test_the_norm_of_each_unit_is_held_as_torch_renorm_does() -> None:
    (weight,) = held = [nn.Parameter(drawn(4, 6, 3))]
    before = weight.detach().clone()
    norms.max_norm(held, 1.2)
    # torch.renorm adds 1e-7 to the norm that it divides by.
    torch.testing.assert_close(weight.detach(), torch.renorm(before, 2, 0, 1.2), rtol=1e-6, atol=0)
    assert float(weight.detach().norm(dim=1).max()) == pytest.approx(1.2, rel=1e-14)


def test_adaptive_clipping_by_hand() -> None:
    """λ = 0.1, rows of norm 5, 0 and 1: their gradients may have 0.5, 10⁻⁴ and 0.1."""
    weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.6, 0.8]]))
    weight.grad = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.03, 0.04]])
    norms.adaptive_gradient_clipping([weight], 0.1)
    expected = torch.tensor([[0.3, 0.4], [0.0, 1e-4], [0.03, 0.04]])
    torch.testing.assert_close(weight.grad, expected, rtol=1e-6, atol=0)


def test_half_types_are_clipped_beyond_their_own_squares() -> None:
    """In float16 300² is infinite; the norm of four is 600."""
    weight = nn.Parameter(torch.zeros(4, dtype=torch.float16))
    weight.grad = torch.full((4,), 300.0, dtype=torch.float16)
    separate.clip_by_norm([weight], 6.0)
    assert weight.grad.tolist() == [3.0] * 4
    assert math.isfinite(float(weight.grad.norm()))
