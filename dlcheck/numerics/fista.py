"""Accelerated proximal gradient: minimises f + g from the gradient of f and the prox of g."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def fista(
    gradient: Callable[[Tensor], Tensor],
    prox: Callable[[Tensor, float], Tensor],
    start: Tensor,
    lipschitz: float,
    steps: int,
) -> Tensor:
    """argmin f + g by `steps` proximal gradient steps of size 1/L with momentum and restarts.

    gradient(w) is ∇f(w), with Lipschitz constant L; prox(z, t) = argmin_u ½‖u − z‖² + t·g(u).
    f(w_k) + g(w_k) − min ≤ 2L‖w₀ − w*‖² / (k + 1)². The momentum starts afresh whenever it
    points uphill, which makes the convergence linear near a minimum of a strongly convex f.
    A step that moves w by less than a rounding of it ends the iteration: it is a fixed point.

    Source: Beck & Teboulle, A Fast Iterative Shrinkage-Thresholding Algorithm, SIAM J. Imaging
    Sciences 2(1), 2009, §4 (constant step) and theorem 4.4; the restart by O'Donoghue & Candès,
    Adaptive Restart for Accelerated Gradient Schemes, 2015, §3.2 (gradient scheme).
    """
    step, resolution = 1 / lipschitz, torch.finfo(start.dtype).eps / 2
    weights, ahead, t = start, start, 1.0
    for _ in range(steps):
        moved = prox(ahead - step * gradient(ahead), step)
        # ahead − moved is the generalised gradient times the step.
        if float(torch.dot(ahead - moved, moved - weights)) > 0:
            t, ahead = 1.0, weights
            moved = prox(ahead - step * gradient(ahead), step)
        t_next = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = moved + (t - 1) / t_next * (moved - weights)
        stands = float((moved - weights).norm()) <= resolution * float(moved.norm())
        weights, t = moved, t_next
        if stands:
            break
    return weights
