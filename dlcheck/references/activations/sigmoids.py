"""Activations that saturate on both sides: the logistic sigmoid and the hyperbolic tangent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.precision import wide
from dlcheck.registry import reference


class _Sigmoid(torch.autograd.Function):
    """σ(x) = 1/(1 + e^{−x}) = q/(1 + e^{−|x|}), q = 1 for x ≥ 0 and e^{−|x|} for x < 0.

    dσ/dx = e^{−x}/(1 + e^{−x})² = σ(x) σ(−x): unlike σ (1 − σ) this keeps its digits where σ
    rounds to 1. σ(−x) is the same function again, so that every further derivative is right too.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        falling = (-x.abs()).exp()  # in (0, 1]: never overflows
        return torch.where(x >= 0, 1.0, falling) / (1 + falling)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * sigmoid(x) * sigmoid(-x)


@reference(
    kind="activation",
    formula="y = 1/(1 + e^{−x})",
    source="Rumelhart, Hinton & Williams, Learning Representations by Back-Propagating Errors, "
    "Nature 323, 1986, eq. 2",
    inputs={"x": "float b n"},
    traits=["elementwise", "smooth", "twice_differentiable", "monotone", "nonnegative"],
    options={
        "bounds": [0.0, 1.0],
        "monotone": True,
        "values": [[0, 0.5]],
        "asymptotes": {"left": [0, 0], "right": [0, 1]},
    },
)
def sigmoid(x: Tensor) -> Tensor:
    """1/(1 + e^{−x}): x of any shape, y like x."""
    y: Tensor = _Sigmoid.apply(wide(x))
    return y.to(x.dtype)


class _Tanh(torch.autograd.Function):
    """tanh |x| = −e/(2 + e) with e = e^{−2|x|} − 1, and the sign of x.

    dy/dx = 1 − tanh² x = 4 e^{−2|x|}/(1 + e^{−2|x|})² = 4 σ(2x) σ(−2x).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        fall = torch.expm1(-2 * x.abs())  # keeps the digits of a small x, never overflows
        return torch.copysign(-fall / (2 + fall), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * 4 * sigmoid(2 * x) * sigmoid(-2 * x)


@reference(
    kind="activation",
    formula="y = (eˣ − e^{−x})/(eˣ + e^{−x})",
    source="LeCun et al., Efficient BackProp, 1998, §4.4",
    inputs={"x": "float b n"},
    traits=["elementwise", "smooth", "twice_differentiable", "monotone", "odd"],
    options={
        "bounds": [-1.0, 1.0],
        "monotone": True,
        "values": [[0, 0]],
        "asymptotes": {"left": [0, -1], "right": [0, 1]},
    },
)
def tanh(x: Tensor) -> Tensor:
    """tanh x: x of any shape, y like x."""
    y: Tensor = _Tanh.apply(wide(x))
    return y.to(x.dtype)
