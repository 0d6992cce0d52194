"""Correct gradients of complex numbers, nested trees, and functions declared to differ."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from gradient_cases import Call, Draw, Right, registered
from torch import Tensor

STRUCTURES: dict[str, Right] = {}
right = registered(STRUCTURES, Right)


@right()
def complex_spectrum(draw: Draw) -> Call:
    return torch.fft.fft, [draw.leaf(3, 8)]


@right()
def spectrum_there_and_back(draw: Draw) -> Call:
    def filtered(x: Tensor, response: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x) * response, n=9)

    response = torch.complex(draw(5), draw(5)).requires_grad_()
    return filtered, [draw.leaf(2, 9), response]


@right()
def modulus_of_complex_numbers(draw: Draw) -> Call:
    z = torch.complex(draw(12), draw(12)).requires_grad_()
    return lambda z: (z.abs(), torch.angle(z), z * z.conj()), [z]


@right()
def complex_product_with_a_real_factor(draw: Draw) -> Call:
    z = torch.complex(draw(6, 4), draw(6, 4)).requires_grad_()
    return lambda z, w: torch.tanh(z @ w.to(z.dtype)), [z, draw.leaf(4, 3)]


@right()
def in_place_steps_on_a_private_copy(draw: Draw) -> Call:
    def stepped(x: Tensor) -> Tensor:
        y = x.clone()
        y[1:] += x[:-1] ** 2
        y[::2].mul_(3)
        return y

    return stepped, [draw.leaf(9)]


@right()
def nested_inputs_and_outputs(draw: Draw) -> Call:
    def step(batch: dict[str, Any], weights: list[Tensor]) -> dict[str, Any]:
        hidden = torch.tanh(batch["x"] @ weights[0])
        return {"loss": (hidden @ weights[1]).square().mean(), "parts": [hidden, {"n": 5}]}

    batch = {"x": draw.leaf(5, 4), "mask": torch.ones(5, dtype=torch.bool)}
    return step, [batch, [draw.leaf(4, 3), draw.leaf(3, 2)]]


@right()
def integer_output_beside_a_float(draw: Draw) -> Call:
    return lambda x: (x.argmax(-1), x.max(-1).values, x.shape[0]), [draw.leaf(4, 5)]


@right()
def input_without_influence(draw: Draw) -> Call:
    return lambda used, unused: torch.sin(used), [draw.leaf(5), draw.leaf(3)]


@right()
def output_detached_on_purpose(draw: Draw) -> Call:
    return lambda x: (torch.sin(x), x.detach() ** 2), [draw.leaf(6)]


@right()
def float32_matrix_in_a_float64_function(draw: Draw) -> Call:
    return lambda x, w: torch.tanh(x @ w.double()), [draw.leaf(4, 3), draw(3, 2).float()]


@right()
def inputs_by_keyword(draw: Draw) -> Call:
    names = {"input": draw.leaf(5, 4), "weight": draw.leaf(3, 4), "bias": draw.leaf(3)}
    return F.linear, names


@right()
def scalar_input(draw: Draw) -> Call:
    return lambda temperature: torch.exp(-(temperature**2)), draw(1)[0].requires_grad_()


@right()
def element_beside_a_huge_one(draw: Draw) -> Call:
    x = draw(8)
    x[0] = 1e12
    return lambda x: x**2 + torch.sin(x / x.abs().clamp_min(1)), [x.requires_grad_()]


@right()
def zero_inputs_everywhere(draw: Draw) -> Call:
    return lambda x: torch.sin(x) + x**3, [torch.zeros(7, dtype=torch.float64, requires_grad=True)]


class RoundedThrough(torch.autograd.Function):
    """round(x), which lets the gradient through as if it were x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        return v


@right(expect="straight_through")
def straight_through_rounding(draw: Draw) -> Call:
    return RoundedThrough.apply, [draw.leaf(12)]


class Reversed(torch.autograd.Function):
    """x, with the gradient reversed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> Tensor:
        return -v


@right(expect="reversed")
def gradient_reversal(draw: Draw) -> Call:
    return Reversed.apply, [draw.leaf(12)]


@right(expect=-0.25)
def weighted_gradient_reversal(draw: Draw) -> Call:
    return lambda x: Reversed.apply(x) * 0.25 + 0.75 * x.detach(), [draw.leaf(12)]


@right(expect="zero")
def stopped_gradient(draw: Draw) -> Call:
    return lambda x: torch.sin(x.detach()) + 0 * x, [draw.leaf(12)]


@right()
def input_of_stride_zero(draw: Draw) -> Call:
    rows = torch.arange(4, dtype=torch.float64)[:, None]
    return lambda x: torch.sin(x) * rows, [draw(5).expand(4, 5).requires_grad_()]


@right()
def strided_view_as_an_input(draw: Draw) -> Call:
    return torch.sin, [draw(6, 5)[::2, 1:].requires_grad_()]


@right()
def one_tensor_passed_twice(draw: Draw) -> Call:
    x = draw.leaf(5)
    return lambda a, b: torch.sin(a) * b, [x, x]


@right()
def input_with_a_history(draw: Draw) -> Call:
    return torch.sin, [2 * draw.leaf(5)]


@right()
def output_that_is_the_input(draw: Draw) -> Call:
    return lambda x: x, [draw.leaf(5)]


@right()
def output_of_stride_zero(draw: Draw) -> Call:
    return lambda x: torch.sin(x).expand(3, 5), [draw.leaf(5)]


@right()
def sparse_matrix_product(draw: Draw) -> Call:
    places = torch.tensor([[0, 1, 1], [2, 0, 2]])
    matrix = torch.sparse_coo_tensor(places, draw(3), (2, 3), check_invariants=True)
    return torch.sparse.mm, [matrix.coalesce().requires_grad_(), draw.leaf(3, 4)]


@right()
def length_that_depends_on_the_values(draw: Draw) -> Call:
    return lambda x: x[x > 0] ** 2, [draw.leaf(12)]


@right()
def noise_by_reparametrisation(draw: Draw) -> Call:
    return lambda mean, log: mean + torch.exp(log) * torch.randn_like(mean), [
        draw.leaf(5),
        draw.leaf(5),
    ]


@right()
def inner_gradient_step(draw: Draw) -> Call:
    """Model-agnostic meta-learning: a loss behind a gradient step on another."""

    def adapted(weight: Tensor, x: Tensor) -> Tensor:
        inner = torch.tanh(x @ weight).square().sum()
        (slope,) = torch.autograd.grad(inner, weight, create_graph=True)
        return torch.tanh(x @ (weight - 0.1 * slope)).square().sum()

    return adapted, [draw.leaf(4, 3), draw(5, 4)]
