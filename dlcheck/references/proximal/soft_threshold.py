"""The proximal operators of the L1 norm, the elastic net and the group lasso."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.registry import reference


@reference(
    kind="proximal",
    formula="sign(x) max(|x| − tλ, 0)",
    source="Donoho & Johnstone, Ideal Spatial Adaptation by Wavelet Shrinkage, Biometrika 81(3), "
    "1994; Parikh & Boyd, Proximal Algorithms, 2014, §6.5.2",
    traits=["nonsmooth", "odd", "elementwise"],
    options={
        "norm": 1,
        "strength": "strength",
        "penalty": "dlcheck.references.penalties.l1:l1_penalty",
    },
)
def soft_threshold(x: Tensor, step: float | Tensor, strength: float = 0.1) -> Tensor:
    """sign(x) max(|x| − tλ, 0), elementwise: x of any shape, step t > 0; returns x's shape.

    u = x − tλ sign u where that keeps x's sign, else 0 satisfies 0 ∈ u − x + tλ ∂|u|.
    """
    return torch.sign(x) * torch.clamp(x.abs() - step * strength, min=0)


@reference(
    kind="proximal",
    formula="sign(x) max(|x| − tλ₁, 0) / (1 + tλ₂)",
    source="Parikh & Boyd, Proximal Algorithms, 2014, §6.5.3",
    args={"l1": 0.1, "l2": 0.3},
    traits=["nonsmooth", "odd", "elementwise"],
    options={
        "norm": {"l1": 1, "l2": 2},
        "convention": "half",
        "penalty": "dlcheck.references.penalties.elastic_net:elastic_net_penalty",
    },
)
def elastic_net_proximal(
    x: Tensor, step: float | Tensor, l1: float = 0.1, l2: float = 0.1
) -> Tensor:
    """sign(x) max(|x| − tλ₁, 0) / (1 + tλ₂), elementwise, for λ₁‖u‖₁ + (λ₂/2)‖u‖².

    x of any shape, step t > 0; returns x's shape.
    """
    return torch.sign(x) * torch.clamp(x.abs() - step * l1, min=0) / (1 + step * l2)


@reference(
    kind="proximal",
    formula="max(1 − tλ√p / ‖x_g‖, 0) x_g for every row g",
    source="Yuan & Lin, JRSS B 68(1), 2006, eq. 2.4; Parikh & Boyd, Proximal Algorithms, 2014, "
    "§6.5.4",
    inputs={"x": "float n m"},
    traits=["nonsmooth", "odd"],
    options={
        "norm": "group",
        "strength": "strength",
        "penalty": "dlcheck.references.penalties.group_lasso:group_lasso_penalty",
    },
)
def block_soft_threshold(x: Tensor, step: float | Tensor, strength: float = 0.1) -> Tensor:
    """max(1 − tλ√p / ‖x_g‖, 0) x_g for every row x_g of p weights: [n, …] → [n, …].

    Whole rows become exactly zero. A row of zeros stays, without a division by its norm.
    """
    rows = x.reshape(len(x), -1)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    threshold = step * strength * math.sqrt(rows.shape[1])
    kept = norms > threshold
    factor = torch.where(kept, 1 - threshold / torch.where(kept, norms, 1), 0)
    return (factor * rows).reshape(x.shape)
