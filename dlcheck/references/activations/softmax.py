"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.precision import wide
from dlcheck.registry import reference


class _Softmax(torch.autograd.Function):
    """pᵢ = e^{xᵢ − max x} / Σⱼ e^{xⱼ − max x}.

    dpᵢ = pᵢ (dxᵢ − Σⱼ pⱼ dxⱼ), a symmetric matrix, so dL/dx = p ⊙ (v − Σⱼ vⱼ pⱼ).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        powers = (x - x.amax(dim, keepdim=True)).exp()
        return powers / powers.sum(dim, keepdim=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        (v,) = gradients
        return p * (v - (v * p).sum(ctx.dim, keepdim=True)), None


@reference(
    kind="op",
    formula="pᵢ = e^{xᵢ} / Σⱼ e^{xⱼ}",
    source="Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs, "
    "1990, §2; shifted by the maximum as in Blanchard, Higham & Higham, IMA J. Numer. Anal. 41, "
    "2021, §3",
    inputs={"x": "float b k"},
    traits=["smooth", "twice_differentiable", "shift_invariant", "nonnegative"],
    options={"output": "probability b k", "bounds": [0.0, 1.0], "sizes": {"k": [2, 17]}},
)
def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """e^{xᵢ}/Σⱼ e^{xⱼ} along dim: x of any shape, p like x. A row of −inf only gives NaN."""
    p: Tensor = _Softmax.apply(wide(x), dim)
    return p.to(x.dtype)


class _LogSoftmax(torch.autograd.Function):
    """yᵢ = xᵢ − m − log Σⱼ e^{xⱼ − m}, m = max x.

    dyᵢ = dxᵢ − Σⱼ pⱼ dxⱼ with p = e^y, so dL/dx = v − p Σᵢ vᵢ.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        shifted = x - x.amax(dim, keepdim=True)
        return shifted - shifted.exp().sum(dim, keepdim=True).log()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dim = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        (v,) = gradients
        return v - y.exp() * v.sum(ctx.dim, keepdim=True), None


@reference(
    kind="op",
    formula="yᵢ = xᵢ − log Σⱼ e^{xⱼ}",
    source="Blanchard, Higham & Higham, Accurately Computing the Log-Sum-Exp and Softmax "
    "Functions, IMA J. Numer. Anal. 41, 2021, §3",
    inputs={"x": "float b k"},
    traits=["smooth", "twice_differentiable", "shift_invariant"],
    options={"bounds": ["-inf", 0.0], "sizes": {"k": [2, 17]}},
)
def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """xᵢ − log Σⱼ e^{xⱼ} along dim: x of any shape, y like x."""
    y: Tensor = _LogSoftmax.apply(wide(x), dim)
    return y.to(x.dtype)
