"""The published recursions are those of torch.optim, and of their papers where torch has none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dlcheck.errors import DeclarationError
from dlcheck.numerics.recursions import RECURSIONS, recursion
from dlcheck.numerics.recursions.muon import newton_schulz

STEPS = 12

TWINS: list[tuple[str, str, dict[str, Any]]] = [
    ("sgd", "SGD", {"lr": 0.1}),
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "maximize": True}),
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.2}),
    ("asgd", "ASGD", {"lr": 0.1}),
    ("asgd", "ASGD", {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 4, "weight_decay": 0.1}),
    ("rprop", "Rprop", {"lr": 0.1}),
    ("rprop", "Rprop", {"lr": 0.1, "etas": (0.3, 1.7), "step_sizes": (0.05, 0.3)}),
    ("adagrad", "Adagrad", {"lr": 0.1}),
    ("adagrad", "Adagrad", {"lr": 0.1, "lr_decay": 0.3, "weight_decay": 0.1, "eps": 0.1,
                            "initial_accumulator_value": 0.4}),
    ("rmsprop", "RMSprop", {"lr": 0.1}),
    ("rmsprop", "RMSprop", {"lr": 0.1, "alpha": 0.7, "eps": 0.1, "momentum": 0.6,
                            "centered": True, "weight_decay": 0.1}),
    ("adadelta", "Adadelta", {}),
    ("adadelta", "Adadelta", {"lr": 0.5, "rho": 0.6, "eps": 0.1, "weight_decay": 0.1}),
    ("adafactor", "Adafactor", {"lr": 0.1}),
    ("adafactor", "Adafactor", {"lr": 0.1, "beta2_decay": -0.5, "eps": (1e-3, 0.1), "d": 1.2,
                                "weight_decay": 0.2}),
    ("adam", "Adam", {"lr": 0.1}),
    ("adam", "Adam", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.1,
                      "amsgrad": True, "maximize": True}),
    ("adamw", "AdamW", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.3}),
    ("adamw", "AdamW", {"lr": 0.1, "amsgrad": True}),
    ("adamax", "Adamax", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 0.1, "weight_decay": 0.1}),
    ("nadam", "NAdam", {"lr": 0.1, "betas": (0.5, 0.7), "momentum_decay": 0.3}),
    ("nadam", "NAdam", {"lr": 0.1, "eps": 0.1, "weight_decay": 0.2,
                        "decoupled_weight_decay": True}),
    ("radam", "RAdam", {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.1}),
    ("radam", "RAdam", {"lr": 0.1, "betas": (0.5, 0.99), "eps": 0.1, "weight_decay": 0.1,
                        "decoupled_weight_decay": True}),
]  # fmt: skip


@contextmanager
def double() -> Iterator[None]:
    """torch keeps counts and products in the default type; here it keeps them in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def drawn(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(rule: Any, args: dict[str, Any], start: Tensor) -> Tensor:
    parameter, state = start, {}
    for turn in range(STEPS):
        parameter = rule(parameter, drawn(turn + 1, start.shape), state, **args)
    return parameter


@pytest.mark.parametrize(("name", "twin", "args"), TWINS, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (5,)], ids=str)
def test_a_recursion_is_that_of_torch(
    name: str, twin: str, args: dict[str, Any], shape: tuple[int, ...]
) -> None:
    start = drawn(0, shape)
    parameter = nn.Parameter(start.clone())
    with double():
        optimizer = getattr(torch.optim, twin)([parameter], **args)
        for turn in range(STEPS):
            parameter.grad = drawn(turn + 1, shape)
            optimizer.step()
    ours = run(RECURSIONS[name], args, start)
    torch.testing.assert_close(ours, parameter.detach(), rtol=1e-12, atol=1e-12)


def test_muon_is_that_of_torch_in_bfloat16() -> None:
    start = drawn(0, (6, 4))
    parameter = nn.Parameter(start.clone())
    optimizer = torch.optim.Muon([parameter], lr=0.1)
    for turn in range(STEPS):
        parameter.grad = drawn(turn + 1, (6, 4))
        optimizer.step()
    # Five quintic steps in bfloat16 leave a few hundredths of each step's size.
    ours = run(RECURSIONS["muon"], {"lr": 0.1}, start)
    torch.testing.assert_close(ours, parameter.detach(), rtol=0, atol=0.1 * STEPS * 0.03)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)])
def test_newton_schulz_makes_singular_values_alike(shape: tuple[int, int]) -> None:
    matrix = drawn(0, shape)
    s = torch.linalg.svdvals(newton_schulz(matrix))
    assert s.min() > 0.6
    assert s.max() < 1.3
    u0, _, v0 = torch.linalg.svd(matrix, full_matrices=False)
    projected = u0.mT @ newton_schulz(matrix) @ v0.mT
    torch.testing.assert_close(projected, torch.diag(projected.diagonal()), rtol=0, atol=1e-12)


def test_lion_steps_by_the_sign() -> None:
    """By hand: m₁ = 0.01 g₁; the second update mixes 0.9·m₁ and 0.1·g₂."""
    start, g1, g2 = torch.zeros(2).double(), torch.tensor([1.0, -2.0]), torch.tensor([-0.05, 3.0])
    state: dict[str, Any] = {}
    one = RECURSIONS["lion"](start, g1.double(), state, lr=0.1)
    torch.testing.assert_close(one, torch.tensor([-0.1, 0.1]).double())
    two = RECURSIONS["lion"](one, g2.double(), state, lr=0.1, weight_decay=0.5)
    # 0.9·0.01 − 0.1·0.05 > 0 and −0.9·0.02 + 0.1·3 > 0
    torch.testing.assert_close(two, 0.95 * one - 0.1)


def test_lamb_moves_by_a_share_of_the_norm() -> None:
    start, g = drawn(0, (3, 2)), drawn(1, (3, 2))
    new = RECURSIONS["lamb"](start, g, {}, lr=0.2)
    assert float((new - start).norm()) == pytest.approx(0.2 * float(start.norm()), rel=1e-12)


def test_lars_moves_by_a_share_of_the_norm() -> None:
    start, g = drawn(0, (3, 2)), drawn(1, (3, 2))
    new = RECURSIONS["lars"](start, g, {}, lr=0.2, trust_coefficient=0.1)
    assert float((new - start).norm()) == pytest.approx(0.02 * float(start.norm()), rel=1e-12)


def test_signum_is_sign_sgd_on_a_mean() -> None:
    start = drawn(0, (4,))
    new = RECURSIONS["sign_sgd"](start, drawn(1, (4,)), {}, lr=0.1, momentum=0.9)
    torch.testing.assert_close((new - start).abs(), torch.full((4,), 0.1).double())


@pytest.mark.parametrize(
    ("variant", "expected"),
    [("inside", 1 / math.sqrt(4 + 0.5)), ("outside", 1 / 2.5),
     ("uncorrected", 1 / (2 + 0.5 / math.sqrt(1 - 0.999)))],
)  # fmt: skip
def test_variants_put_epsilon_where_they_say(variant: str, expected: float) -> None:
    rule = recursion(f"adam(eps='{variant}')")
    new = rule(torch.zeros(1).double(), torch.full((1,), 2.0).double(), {}, lr=1.0, eps=0.5)
    assert float(-new) == pytest.approx(2 * expected, rel=1e-12)


def test_a_variant_may_be_written_by_either_name() -> None:
    short = recursion("adam(eps='inside', amsgrad='corrected')")
    long = recursion("adam(eps_place='inside', amsgrad_of='corrected')")
    args, start = {"lr": 0.1, "eps": 0.1, "amsgrad": True}, drawn(0, (3, 4))
    assert torch.equal(run(short, args, start), run(long, args, start))
    assert not torch.equal(run(short, args, start), run(RECURSIONS["adam"], args, start))


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("adan", "Did you mean 'adam'"),
        ("adam(epsilon='inside')", "epsilon"),
        ("adam(eps='within')", "outside, inside"),
        ("adam(eps_place='within')", "outside, inside"),
        ("rmsprop(amsgrad='raw')", "no keyword named 'amsgrad'"),
        ("adam(1)", "is no rule"),
        ("__import__('os')", "is no rule"),
    ],
)
def test_an_unknown_rule_says_what_is_known(named: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        recursion(named)


@pytest.mark.parametrize("name", RECURSIONS)
def test_a_recursion_leaves_its_inputs(name: str) -> None:
    parameter, gradient = drawn(0, (3, 2)), drawn(1, (3, 2))
    kept, slope = parameter.clone(), gradient.clone()
    RECURSIONS[name](parameter, gradient, {})
    assert torch.equal(parameter, kept)
    assert torch.equal(gradient, slope)
