"""Ridge regression in closed form, with the gradient of its solution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.registry import reference


class _Ridge(torch.autograd.Function):
    """w = A⁻¹Xᵀy with A = XᵀX + λI.

    A dw = dXᵀ(y − Xw) + Xᵀdy − XᵀdX w. With g = A⁻¹v for a cotangent v,
    dL/dX = (y − Xw)gᵀ − (Xg)wᵀ and dL/dy = Xg.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, strength: float) -> Tensor:
        root = torch.linalg.cholesky(
            x.mT @ x + strength * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        )
        weights: Tensor = torch.cholesky_solve((x.mT @ y)[:, None], root)[:, 0]
        ctx.save_for_backward(x, y, root, weights)
        return weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y, root, weights = ctx.saved_tensors
        g = torch.cholesky_solve(gradients[0][:, None], root)[:, 0]
        moved = x @ g
        return torch.outer(y - x @ weights, g) - torch.outer(moved, weights), moved, None


@reference(
    kind="op",
    formula="w = (XᵀX + λI)⁻¹ Xᵀy = argmin ‖Xw − y‖² + λ‖w‖²",
    source="Hoerl & Kennard, Ridge Regression, Technometrics 12(1), 1970, eq. 2.1; Hastie, "
    "Tibshirani & Friedman, The Elements of Statistical Learning, 2009, eq. 3.44",
    inputs={"x": "float n d", "y": "float n"},
    args={"strength": 0.5},
    traits=["smooth", "once_differentiable"],
)
def ridge_regression(x: Tensor, y: Tensor, strength: float = 1.0) -> Tensor:
    """(XᵀX + λI)⁻¹Xᵀy: x [n, d], y [n], λ > 0; returns [d].

    Half types are computed in float32. Raises ValueError where λ is not positive: without it the
    solution need not be unique.
    """
    if not strength > 0:
        raise ValueError(f"the strength is {strength}, but it must be above 0")
    wide = torch.promote_types(x.dtype, torch.float32)
    return _Ridge.apply(x.to(wide), y.to(wide), strength).to(x.dtype)  # type: ignore[no-any-return]
