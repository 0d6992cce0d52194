"""The soft orthogonality penalty: how far the rows or columns of weights are from orthonormal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.penalties.parameters import penalised
from dlcheck.registry import reference


class _DistanceFromOrthonormal(torch.autograd.Function):
    """‖WᵀW − I‖² for a tall W [n, m], n ≥ m.

    With E = WᵀW − I, d‖E‖² = 2⟨E, dWᵀW + WᵀdW⟩ = 4⟨WE, dW⟩, since E is symmetric.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        excess = (weight.mT @ weight).to(weight.dtype)  # autocast multiplies in a half type
        excess.diagonal().sub_(1)
        ctx.save_for_backward(weight, excess)
        return excess.square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        weight, excess = ctx.saved_tensors
        slope: Tensor = 4 * gradients[0] * (weight @ excess)
        return slope


@reference(
    kind="penalty",
    formula="λ Σ_W ‖WᵀW − I‖²,  or ‖WWᵀ − I‖² where W has more columns than rows",
    source="Bansal, Chen & Wang, Can We Gain More from Orthogonality Regularizations in Training "
    "Deep CNNs?, NeurIPS 2018, eq. 1; Brock et al., Neural Photo Editing with Introspective "
    "Adversarial Networks, ICLR 2017, §3.2",
    inputs={"weight": "float n m", "kernel": "float k n 3"},
    traits=["nonnegative", "nonconvex", "even", "smooth", "once_differentiable"],
    options={"strength": "strength"},
)
def orthogonality_penalty(parameters: Tensor | Iterable[Tensor], strength: float = 0.1) -> Tensor:
    """λ Σ ‖WᵀW − I‖² over weights [n, …], the further axes taken as one; returns [].

    0 exactly where the shorter side is orthonormal; the gradient is 4λW(WᵀW − I).
    """
    return penalised(parameters, strength, _cost)


def _cost(weights: Tensor) -> Tensor:
    matrix = weights.reshape(len(weights), -1)
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    return _DistanceFromOrthonormal.apply(tall)  # type: ignore[no-any-return]
