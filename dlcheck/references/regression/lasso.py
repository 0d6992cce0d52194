"""The lasso by proximal gradient steps: ISTA, and FISTA with its momentum."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.proximal.soft_threshold import soft_threshold
from dlcheck.registry import reference


@reference(
    kind="op",
    formula="w_{k+1} = S_{λ/L}(w_k − ∇f(w_k)/L),  f(w) = ‖Xw − y‖²/(2n),  w₀ = 0",
    source="Daubechies, Defrise & De Mol, Comm. Pure Appl. Math. 57(11), 2004, eq. 1.9; Beck & "
    "Teboulle, SIAM J. Imaging Sciences 2(1), 2009, §3 and theorem 3.1",
    inputs={"x": "float n d", "y": "float n"},
    args={"strength": 0.1, "steps": 6},
    traits=["nonsmooth"],
)
def ista(x: Tensor, y: Tensor, strength: float = 0.1, steps: int = 100) -> Tensor:
    """The weights after so many steps of ISTA on ‖Xw − y‖²/(2n) + λ‖w‖₁: [d].

    x [n, d], y [n]. L = ‖X‖²/n, the squared Frobenius norm, is at least the curvature. The
    objective is then within L‖w*‖²/(2k) of its minimum.
    """
    weights = torch.zeros_like(x[0])
    for _ in range(steps):
        weights = _step(x, y, strength, weights)
    return weights


@reference(
    kind="op",
    formula="w_k = S_{λ/L}(z_k − ∇f(z_k)/L),  z_{k+1} = w_k + (t_k − 1)/t_{k+1} (w_k − w_{k−1}),  "
    "t_{k+1} = (1 + √(1 + 4t_k²))/2,  t₁ = 1",
    source="Beck & Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm, SIAM J. Imaging "
    "Sciences 2(1), 2009, §4 (constant step) and theorem 4.4",
    inputs={"x": "float n d", "y": "float n"},
    args={"strength": 0.1, "steps": 6},
    traits=["nonsmooth"],
)
def fista(x: Tensor, y: Tensor, strength: float = 0.1, steps: int = 100) -> Tensor:
    """The weights after so many steps of FISTA on ‖Xw − y‖²/(2n) + λ‖w‖₁: [d].

    x [n, d], y [n]. L = ‖X‖²/n. The objective is within 2L‖w*‖²/(k + 1)² of its minimum.
    """
    weights = ahead = torch.zeros_like(x[0])
    t = 1.0
    for _ in range(steps):
        moved = _step(x, y, strength, ahead)
        t_next = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = moved + (t - 1) / t_next * (moved - weights)
        weights, t = moved, t_next
    return weights


def _step(x: Tensor, y: Tensor, strength: float, weights: Tensor) -> Tensor:
    """One proximal gradient step of length 1/L; where X is 0 the weights are too."""
    curvature = x.square().sum() / len(x)
    step = torch.where(curvature > 0, 1 / torch.where(curvature > 0, curvature, 1), 0)
    slope = x.mT @ (x @ weights - y) / len(x)
    return soft_threshold(weights - step * slope, step, strength)
