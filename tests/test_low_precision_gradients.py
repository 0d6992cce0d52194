"""Gradients in float32, bfloat16 and float16: right ones pass, wrong ones fail, limits are said."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from gradient_cases import Claim, Draw, claiming, only
from torch import Tensor, nn
from torch.nn import functional

from dlcheck import check_gradient
from dlcheck.errors import GradientWarning
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.model import Verdict
from dlcheck.numerics.stochastic_rounding import StochasticRounding, stochastically_rounded

TYPES = (torch.float32, torch.bfloat16, torch.float16)
HALF = TYPES[1:]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is not decided is asserted on, not warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientWarning)
        yield


def checked(
    f: Callable[..., Any], inputs: list[Tensor], dtype: torch.dtype, **how: Any
) -> GradientEvidence:
    module = f.to(dtype) if isinstance(f, nn.Module) else f
    given = [x.to(dtype).requires_grad_() for x in inputs]
    return check_gradient(module, given, raises=False, **how)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v


def root_mean_square_norm(x: Tensor, weight: Tensor) -> Tensor:
    """As language models have it: float32 inside, whatever the type."""
    h = x.to(torch.float32)
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)
    return weight * h.to(x.dtype)


def relu_network(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return functional.cross_entropy(torch.relu(x @ a.T) @ b.T, torch.arange(16) % 5)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], weight, bias)


def lstm(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.LSTM(5, 6, batch_first=True)


RIGHT: dict[str, Callable[[Draw], tuple[Callable[..., Any], list[Tensor]]]] = {
    "softmax": lambda d: (lambda x: torch.softmax(x, -1), [d(8, 50)]),
    "layer norm": lambda d: (layer_norm, [d(16, 64), 1 + d(64, scale=0.1), d(64)]),
    "long product": lambda d: (lambda x, w: x @ w.T, [d(4, 2048), d(4, 2048)]),
    "cross entropy": lambda d: (
        lambda x: functional.cross_entropy(x, torch.arange(32) % 10),
        [d(32, 10)],
    ),
    "convolution": lambda d: (
        lambda x, w: functional.conv2d(x, w, padding=1),
        [d(2, 4, 8, 8), d(6, 4, 3, 3, scale=0.2)],
    ),
    "attention": lambda d: (attention, [d(2, 8, 16), d(2, 8, 16), d(2, 8, 16)]),
    "cumulative sum": lambda d: (lambda x: x.cumsum(0), [d(300)]),
    "norm": lambda d: (lambda x: x.norm(dim=-1), [d(10, 40)]),
    "gelu": lambda d: (functional.gelu, [d(300)]),
    "root mean square norm": lambda d: (root_mean_square_norm, [d(8, 32), 1 + d(32, scale=0.1)]),
    "relu network": lambda d: (relu_network, [d(16, 20), d(30, 20, scale=0.2), d(5, 30)]),
    "equal rows": lambda d: (
        lambda x, w: torch.tanh(x @ w),
        [d(1, 32).repeat(64, 1), d(32, 8, scale=0.2)],
    ),
    "dropout": lambda d: (lambda x: functional.dropout(x * x, 0.3), [d(100)]),
    "batch norm": lambda d: (nn.BatchNorm1d(8), [d(24, 8)]),
    "ties": lambda d: (lambda x: torch.relu(x).amax(-1), [(2 * d(20, 6)).round() / 2]),
}


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_does_not_fail(name: str, dtype: torch.dtype) -> None:
    found = checked(*RIGHT[name](Draw(len(name))), dtype, seed=len(name))
    assert found.passed, str(found)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_recurrent_module_passes(dtype: torch.dtype) -> None:
    found = checked(lstm(0), [Draw(0)(2, 4, 5)], dtype, mode="lite")
    assert found.passed, str(found)
    assert {tensor.name for tensor in found.tensors} >= {"input", "weight_ih_l0", "bias_hh_l0"}


def only_low(claim: Claim) -> Claim:
    """The wrong claim, but the right one in float64: a bug of the narrow kernel."""
    return lambda g, x, v: g if x[0].dtype == torch.float64 else claim(g, x, v)


def times(factor: float, place: int | None = None) -> Claim:
    def scaled(g: Tensor, _: Any, __: Any) -> Tensor:
        if place is None:
            return factor * g
        g = g.clone()
        g.view(-1)[place] *= factor
        return g

    return only(0, scaled)


def affine(x: Tensor, w: Tensor) -> Tensor:
    return torch.tanh(x @ w)


WRONG_IN_FLOAT32 = {
    "1 % too large": times(1.01),
    "0.1 % too large": times(1.001),
    "a millionth too large": times(1 + 2e-6),
    "one sign": times(-1, 7),
    "one element 10 % too large": times(1.1, 7),
    "rounded to bfloat16": only(0, lambda g, _, __: g.bfloat16().to(g.dtype)),
    "transposed weight": only(1, lambda g, _, __: g.T.contiguous()),
    "NaN": times(float("nan"), 3),
}
WRONG_IN_HALF = ("one sign", "transposed weight", "NaN")


@pytest.mark.parametrize("name", WRONG_IN_FLOAT32)
def test_a_wrong_gradient_of_float32_alone_fails(name: str) -> None:
    d = Draw(3)
    f = claiming(affine, only_low(WRONG_IN_FLOAT32[name]))
    found = checked(f, [d(12, 16), d(16, 16, scale=0.25)], torch.float32)
    assert found.verdict is Verdict.FAILED, str(found)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", [*WRONG_IN_HALF, "5 % too large"])
def test_a_wrong_gradient_of_a_half_type_alone_fails(name: str, dtype: torch.dtype) -> None:
    d = Draw(3)
    f = claiming(affine, only_low(WRONG_IN_FLOAT32.get(name, times(1.05))))
    found = checked(f, [d(12, 16), d(16, 16, scale=0.25)], dtype)
    assert found.verdict is Verdict.FAILED, str(found)


class LayerNormWithoutMeanTerm(torch.autograd.Function):
    """(x − mean) / std, whose backward forgets one of its two projections."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return functional.layer_norm(x, x.shape[-1:])

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (v - v.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, unbiased=False)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_missing_term_fails_in_float64_already(dtype: torch.dtype) -> None:
    found = checked(LayerNormWithoutMeanTerm.apply, [Draw(0)(8, 12)], dtype)
    assert found.verdict is Verdict.FAILED
    assert "float64 already" in str(found)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_missing_term_fails_against_a_reference(dtype: torch.dtype) -> None:
    def reference(x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:])

    d = Draw(0)
    wrong = checked(LayerNormWithoutMeanTerm.apply, [d(8, 12)], dtype, reference=reference)
    right = checked(layer_norm_by_hand, [d(8, 12)], dtype, reference=reference)
    assert wrong.verdict is Verdict.FAILED
    assert right.passed, str(right)


def layer_norm_by_hand(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)


class SumInHalf(torch.autograd.Function):
    """x·w summed over rows, whose backward for w adds up in float16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        total = (v * x).half().cumsum(0)[-1]
        exact = (v * x).sum(0)
        return v * w, exact if x.dtype == torch.float64 else total.to(w.dtype)


def test_a_long_sum_in_half_precision_fails_in_float32() -> None:
    d = Draw(1)
    found = checked(SumInHalf.apply, [d(600, 3), d(3)], torch.float32)
    assert found.verdict is Verdict.FAILED
    assert found.element is not None
    assert found.element.tensor == "input 1"


def test_the_wrong_element_and_the_factor_are_named() -> None:
    d = Draw(3)
    inputs = [d(12, 16), d(16, 16, scale=0.25)]
    sign = checked(claiming(affine, only_low(times(-1, 7))), inputs, torch.bfloat16)
    assert sign.element is not None
    assert (sign.element.tensor, sign.element.index) == ("input 0", (0, 7))
    scale = checked(claiming(affine, only_low(times(1.5))), inputs, torch.float32)
    assert "1.5 times" in scale.cause


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_what_a_type_cannot_certify_is_measured_and_said(dtype: torch.dtype) -> None:
    found = checked(functional.silu, [Draw(0)(100)], dtype)
    name, unit = str(dtype).removeprefix("torch."), torch.finfo(dtype).eps
    assert any(f"{name} cannot certify below" in note for note in found.notes)
    assert 0.5 * unit < found.certificate < 100 * unit


# --- where float64 is no help ----------------------------------------------------------------


def float32_only(x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError("expected float32")
    return torch.sin(x)


def test_a_kernel_of_float32_alone_is_judged_by_differences() -> None:
    found = checked(float32_only, [Draw(0)(30)], torch.float32)
    assert found.passed
    assert 1e-6 < found.certificate < 1e-2
    assert any("judged by differences in float32" in note for note in found.notes)


def half_only(x: Tensor) -> Tensor:
    if x.dtype == torch.float64:
        raise TypeError("no float64")
    return torch.sin(x)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_kernel_of_a_half_type_alone_is_not_decided(dtype: torch.dtype) -> None:
    found = checked(half_only, [Draw(0)(30)], dtype)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "pass reference=" in found.reason
    with_reference = checked(half_only, [Draw(0)(30)], dtype, reference=torch.sin)
    assert with_reference.passed


def test_hidden_float32_constants_are_widened() -> None:
    weight = Draw(0)(6, 6).float()
    found = checked(lambda x: torch.tanh(x @ weight), [Draw(1)(5, 6)], torch.float32)
    assert found.passed
    assert found.certificate < 1e-4


def test_overflow_is_said_and_is_no_failure() -> None:
    def normalised(x: Tensor) -> Tensor:
        return x / (x * x).sum(-1, keepdim=True).sqrt()

    x = torch.tensor([[1.0], [1.0], [300.0], [1.0]], dtype=torch.float64) * Draw(0)(4, 8)
    found = checked(normalised, [x], torch.float16)
    assert found.passed, str(found)
    assert any("float16 overflows on the way" in note for note in found.notes)
    assert checked(normalised, [x], torch.bfloat16).passed


def test_a_second_gradient_is_held_against_float64_too() -> None:
    found = checked(lambda x, w: torch.tanh(x @ w), [Draw(0)(4, 5), Draw(1)(5, 3)],
                    torch.float32, order=2)  # fmt: skip
    assert found.passed, str(found)


def test_complex64_has_a_complex128_twin() -> None:
    z = torch.complex(Draw(0)(20), Draw(1)(20)).to(torch.complex64).requires_grad_()
    found = check_gradient(lambda z: (z * z).abs(), z, raises=False)
    assert found.passed, str(found)


# --- the rounding itself ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_stochastic_rounding_takes_a_neighbour_and_keeps_the_mean(dtype: torch.dtype) -> None:
    x = Draw(0)(50)
    draws = torch.stack([stochastically_rounded(x, dtype, seed) for seed in range(400)])
    assert torch.equal(draws.to(dtype).double(), draws)
    unit = torch.finfo(dtype).eps * x.abs()
    assert bool(((draws - x).abs() <= unit).all())
    assert bool(((draws.mean(0) - x).abs() <= unit * 0.5 / 400**0.5 * 5).all())
    held = x.to(dtype).double()
    assert torch.equal(stochastically_rounded(held, dtype, 1), held)


def test_stochastic_rounding_overflows_and_underflows_as_the_type_does() -> None:
    x = torch.tensor([1e5, -1e5, 0.0, 1e-30], dtype=torch.float64)
    assert stochastically_rounded(x, torch.float16, 0).tolist() == [
        float("inf"), float("-inf"), 0.0, 0.0,
    ]  # fmt: skip


def test_moving_numbers_costs_nothing() -> None:
    x = Draw(0)(6, 6).half().double()
    with StochasticRounding(torch.float16, 3, longest=16):
        moved = torch.cat([x.T, x])[torch.tensor([3, 1, 4])].clone().amax(-1)
    assert torch.equal(moved, torch.cat([x.T, x])[[3, 1, 4]].amax(-1))
