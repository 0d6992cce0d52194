"""The affine map of a fully connected layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.references.precision import wide, wide_or_none
from dlcheck.registry import reference


class _Affine(torch.autograd.Function):
    """y = x Wᵀ + b for x […, m], W [n, m], b [n] or None.

    dL = ⟨v, dx Wᵀ + x dWᵀ + db⟩ over all leading axes, so with rows flattened to one axis
    dL/dx = v W,  dL/dW = vᵀ x,  dL/db = Σ_rows v.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = x @ weight.mT if bias is None else x @ weight.mT + bias
        return y.to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias = inputs
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (v,) = gradients
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = v.reshape(-1, v.shape[-1])
        return (
            v @ weight if needs_x else None,
            rows.mT @ x.reshape(-1, x.shape[-1]) if needs_weight else None,
            rows.sum(0) if ctx.has_bias and needs_bias else None,
        )


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: x […, m], weight [n, m], bias [n]; returns […, n] in the dtype of x."""
    y: Tensor = _Affine.apply(wide(x), wide(weight), wide_or_none(bias))
    return y.to(x.dtype)


@reference(
    kind="layer",
    formula="y = x Wᵀ + b",
    source="Goodfellow, Bengio & Courville, Deep Learning, MIT Press 2016, §6.5.6 (backward)",
    inputs={"x": "float b m"},
    args={"in_features": {"dim": "m"}, "out_features": 3},
    traits=["smooth", "twice_differentiable"],
    options={"variance": {"weight": "1 / (3 * fan_in)"}},
)
class Linear(nn.Module):
    """y = x Wᵀ + b: x […, in_features]; y […, out_features].

    weight and bias begin uniform in ±1/√in_features.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:  # noqa: FBT001, FBT002
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        fill_by_fan_in(self, in_features)

    def forward(self, x: Tensor) -> Tensor:
        return affine(x, self.weight, self.bias)


def fill_by_fan_in(module: nn.Module, fan_in: int) -> None:
    """Every parameter uniform in ±1/√fan_in, of variance 1/(3 fan_in).

    Source: LeCun et al., Efficient BackProp, 1998, §4.6, with the constant that torch.nn uses.
    """
    bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -bound, bound)
