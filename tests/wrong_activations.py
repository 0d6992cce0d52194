"""Activations and initializers that are wrong as people get them wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.model import Subject

WRONG: list[Subject] = []
RECTIFIER = {"left": [0, 0], "right": [1, 0]}


def wrong(kind: str, inputs: str, *traits: str, **options: Any) -> Callable[..., Any]:
    """Declare a function as an honest author would, who does not know of the bug."""

    def enlist(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
        name = "tensor" if kind == "initializer" else "x"
        WRONG.append(
            Subject(
                name=function.__name__,
                target=function,
                kind=kind,
                inputs={name: inputs},
                traits=frozenset(traits),
                options=options,
            )
        )
        return function

    return enlist


GELU = {"values": [[0, 0], [1, 0.8413447460685429]], "asymptotes": RECTIFIER}


@wrong("activation", "float b n", values=[[0, 0], [1, 0.8411919906082768]], asymptotes=RECTIFIER)
def gelu_by_a_wrong_root(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(2 / math.pi * (x + 0.044715 * x**3)))


@wrong("activation", "float b n", values=[[0, 0], [1, 0.8411919906082768]], asymptotes=RECTIFIER)
def gelu_with_a_wrong_cube(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.44715 * x**3)))


@wrong("activation", "float b n", **GELU)
def gelu_without_the_root_of_two(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x))


@wrong("activation", "float b n", monotone=True, asymptotes=RECTIFIER)
def softplus_that_overflows(x: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(x))


@wrong("activation", "float b n", monotone=True, asymptotes=RECTIFIER)
def softplus_with_a_low_threshold(x: Tensor) -> Tensor:
    return torch.where(x > 2, x, torch.log1p(torch.exp(x.clamp(max=2))))


@wrong("activation", "float b n", monotone=True)
def leaky_with_the_wrong_sign(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, -0.01 * x)


@wrong("activation", "float b n", monotone=True)
def elu_without_the_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.exp(x.clamp(max=0)))


@wrong("activation", "float b n")
def elu_with_a_nan_gradient(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.exp(x) - 1)


@wrong("activation", "float b n", bounds=[0, 1])
def hard_sigmoid_that_is_not_cut(x: Tensor) -> Tensor:
    return (x / 6 + 0.5).clamp(min=0)


@wrong("activation", "float b n", bounds=[0, 1], monotone=True)
def sigmoid_that_overflows(x: Tensor) -> Tensor:
    return torch.exp(x) / (1 + torch.exp(x))


@wrong("activation", "float b n")
def swish_of_the_row(x: Tensor) -> Tensor:
    return x * torch.softmax(x, -1)


@wrong("activation", "float b n", "odd")
def tanh_by_exponentials(x: Tensor) -> Tensor:
    return (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x))


@wrong("activation", "float b n", asymptotes={"left": [1, 0.5], "right": [1, -0.5]})
def soft_shrink_of_one_side(x: Tensor) -> Tensor:
    return torch.where(x > 0.5, x - 0.5, torch.where(x < -0.5, x - 0.5, 0 * x))


@wrong("activation", "float b n")
def log_sigmoid_that_underflows(x: Tensor) -> Tensor:
    return torch.log(torch.sigmoid(x))


@torch.no_grad()
def _normal(tensor: Tensor, deviation: float) -> Tensor:
    return tensor.normal_(0, deviation)


@wrong("initializer", "float out in", variance="2 / fan_in")
def kaiming_by_fan_out(tensor: Tensor) -> Tensor:
    return _normal(tensor, math.sqrt(2 / tensor.shape[0]))


@wrong("initializer", "float out in", variance="2 / fan_in")
def kaiming_with_a_variance_for_a_deviation(tensor: Tensor) -> Tensor:
    return _normal(tensor, 2 / tensor.shape[1])


@wrong("initializer", "float out in 3 3", variance="2 / fan_in")
def kaiming_without_the_kernel(tensor: Tensor) -> Tensor:
    return _normal(tensor, math.sqrt(2 / tensor.shape[1]))


@wrong("initializer", "float out in", variance="2 / (fan_in + fan_out)")
def xavier_of_a_wrong_bound(tensor: Tensor) -> Tensor:
    bound = math.sqrt(2 / sum(tensor.shape))
    return nn.init.uniform_(tensor, -bound, bound)


@wrong("initializer", "float out in", variance="2 / (fan_in + fan_out)")
def xavier_without_the_two(tensor: Tensor) -> Tensor:
    return _normal(tensor, sum(tensor.shape) ** -0.5)


@wrong("initializer", "float out in", variance=1.0)
def truncated_at_one_deviation(tensor: Tensor) -> Tensor:
    return nn.init.trunc_normal_(tensor, a=-1.0, b=1.0)


@wrong("initializer", "float out in", variance="1 / (3 * fan_in)")
def uniform_from_zero(tensor: Tensor) -> Tensor:
    with torch.no_grad():
        return tensor.uniform_(0, tensor.shape[1] ** -0.5)


@wrong("initializer", "float out in", variance="1 / fan_in")
def one_row_for_all(tensor: Tensor) -> Tensor:
    with torch.no_grad():
        return tensor.copy_(_normal(tensor[:1].clone(), tensor.shape[1] ** -0.5))


@wrong("initializer", "float out in", "orthogonal", variance="1 / max(out, fan_in)")
def orthogonal_of_the_wrong_factor(tensor: Tensor) -> Tensor:
    with torch.no_grad():
        return tensor.copy_(torch.linalg.svd(torch.randn_like(tensor))[0][:, :1].expand_as(tensor))


@wrong("initializer", "float out in", variance="1 / fan_in")
def keeps_the_diagonal(tensor: Tensor) -> Tensor:
    with torch.no_grad():
        fresh = torch.randn_like(tensor) * tensor.shape[1] ** -0.5
        fresh.diagonal().copy_(tensor.diagonal())
        return tensor.copy_(fresh)


@wrong("initializer", "float out in", variance="1 / fan_in")
def leaves_the_parameter_alone(tensor: Tensor) -> Tensor:
    return torch.randn_like(tensor) * tensor.shape[1] ** -0.5


@wrong("initializer", "float out in", variance="1 / fan_in")
def always_the_same(tensor: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(42)
    with torch.no_grad():
        return tensor.normal_(0, tensor.shape[1] ** -0.5, generator=generator)
