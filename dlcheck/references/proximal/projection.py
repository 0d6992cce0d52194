"""Projections: the proximal operators of "inside the ball, or at infinite cost"."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.registry import reference


@reference(
    kind="proximal",
    formula="x min(1, c/‖x_g‖) for every row g",
    source="Parikh & Boyd, Proximal Algorithms, 2014, §6.5.1 and §1.2 (prox of an indicator); as "
    "max-norm regularization: Srivastava et al., Dropout, JMLR 15, 2014, §5.1",
    inputs={"x": "float n m"},
    args={"limit": 1.0},
    traits=["nonsmooth", "odd", "idempotent"],
)
def row_ball_projection(x: Tensor, step: float | Tensor, limit: float = 1.0) -> Tensor:
    """Each row of x [n, …] moved to the nearest point of norm at most c: like x.

    The step plays no part: t · ∞ is ∞. Raises ValueError where c is negative.
    """
    if not limit >= 0:
        raise ValueError(f"the limit is {limit}, but no norm is below 0")
    rows = x.reshape(len(x), -1)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    beyond = norms > limit
    factor = torch.where(beyond, limit / torch.where(beyond, norms, 1), 1)
    return (factor * rows).reshape(x.shape)


@reference(
    kind="proximal",
    formula="min(max(x, −c), c)",
    source="Parikh & Boyd, Proximal Algorithms, 2014, §6.2.4; as weight clipping: Arjovsky, "
    "Chintala & Bottou, Wasserstein GAN, ICML 2017, algorithm 1",
    args={"limit": 0.7},
    traits=["nonsmooth", "odd", "idempotent", "elementwise"],
)
def box_projection(x: Tensor, step: float | Tensor, limit: float = 1.0) -> Tensor:
    """Each element of x moved to the nearest number in [−c, c]: x of any shape; like x."""
    if not limit >= 0:
        raise ValueError(f"the limit is {limit}, but no distance is below 0")
    return x.clamp(-limit, limit)
