"""The spectral-norm penalty: half the squared largest singular value of each weight matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.penalties.parameters import penalised
from dlcheck.registry import reference


class _LargestSingularValue(torch.autograd.Function):
    """σ₁(W) = max uᵀWv over unit u and v, [n, m] → [].

    By the envelope theorem dσ₁ = u₁ᵀ dW v₁ at the maximisers, so the gradient is u₁v₁ᵀ, and at
    W = 0, where every u and v maximise, the subgradient 0.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        ctx.save_for_backward(u[:, 0], vh[0], s[0])
        largest: Tensor = s[0].clone()
        return largest

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        u, v, s = ctx.saved_tensors
        slope: Tensor = gradients[0] * (s > 0) * torch.outer(u, v)
        return slope


def largest_singular_value(weight: Tensor) -> Tensor:
    """σ₁ of a weight [n, …], the further axes taken as one: []."""
    return _LargestSingularValue.apply(weight.reshape(len(weight), -1))  # type: ignore[no-any-return]


@reference(
    kind="penalty",
    formula="(λ/2) Σ_W σ₁(W)²",
    source="Yoshida & Miyato, Spectral Norm Regularization for Improving the Generalizability of "
    "Deep Learning, arXiv 1705.10941, 2017, eq. 4",
    inputs={"weight": "float n m", "kernel": "float k n 3"},
    traits=["nonnegative", "convex", "even", "nonsmooth", "once_differentiable"],
    options={"strength": "strength", "homogeneity": 2},
)
def spectral_norm_penalty(parameters: Tensor | Iterable[Tensor], strength: float = 0.1) -> Tensor:
    """(λ/2) Σ σ₁(W)² over weights [n, …], one or several; returns [].

    The gradient is λσ₁u₁v₁ᵀ. A vector is a matrix of one column, whose σ₁ is its norm. Where σ₁
    is not simple the gradient is one subgradient of many.
    """
    return penalised(parameters, 0.5 * strength, lambda w: largest_singular_value(w).square())
