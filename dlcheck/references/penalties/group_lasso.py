"""The group lasso: whole rows of weights go to zero together."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from dlcheck.references.penalties.parameters import penalised
from dlcheck.registry import reference


@reference(
    kind="penalty",
    formula="λ Σ_g √p_g ‖w_g‖₂, the groups g being rows",
    source="Yuan & Lin, Model Selection and Estimation in Regression with Grouped Variables, "
    "JRSS B 68(1), 2006, eq. 2.1",
    inputs={"weight": "float n m", "kernel": "float k m 3"},
    traits=["nonnegative", "convex", "even", "nonsmooth"],
    options={"norm": "group", "strength": "strength", "homogeneity": 1},
)
def group_lasso_penalty(parameters: Tensor | Iterable[Tensor], strength: float = 0.1) -> Tensor:
    """λ Σ_g √p ‖w_g‖₂ over the rows w_g of p weights: [n, …], one tensor or several; returns [].

    A row is what leads to one output; a vector has rows of one weight, which is L1.
    """
    return penalised(parameters, strength, _row_norms)


def _row_norms(weights: Tensor) -> Tensor:
    """√p Σ_g ‖w_g‖; the subgradient at a row of zeros is 0."""
    rows = weights.reshape(len(weights), -1)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return math.sqrt(rows.shape[1]) * norms.sum()
