"""Subjects that are wrong in one place, for what is said of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def negative_only(x: Tensor) -> Tensor:
    """The identity, but for a factor where x < 0."""
    return torch.where(x < 0, 3 * x, x)


def identity(x: Tensor) -> Tensor:
    return x.clone()


def summed(x: Tensor) -> Tensor:
    return x.sum(-1)


def averaged(x: Tensor) -> Tensor:
    return x.mean(-1)


def long_rows_only(x: Tensor) -> Tensor:
    """Wrong from the fifth column on."""
    y = x.clone()
    y[..., 4:] += 0.5
    return y


def raises_deep_inside(x: Tensor) -> Tensor:
    return _inner(x)


def _inner(x: Tensor) -> Tensor:
    raise ValueError("out of paper")  # the line that is told


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*inputs: Any) -> Any:
        return function(*inputs)

    return wrapper


@logged
def decorated(x: Tensor) -> Tensor:
    return x


fixed = functools.partial(negative_only)
anonymous = lambda x: x  # noqa: E731
built_in = torch.sin


class Layer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Inherits(Layer):
    """Its forward is another class's."""


class Halves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] / 2


class Descent(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class Metric:
    def bound(self, x: Tensor) -> Tensor:
        return x


bound = Metric().bound
