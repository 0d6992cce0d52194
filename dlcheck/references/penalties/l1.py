"""The L1 (lasso) penalty."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dlcheck.references.penalties.parameters import penalised
from dlcheck.registry import reference


@reference(
    kind="penalty",
    formula="λ Σᵢ |wᵢ|",
    source="Tibshirani, Regression Shrinkage and Selection via the Lasso, JRSS B 58(1), 1996, §2.1",
    traits=["nonnegative", "convex", "even", "nonsmooth"],
    options={"norm": 1, "strength": "strength", "homogeneity": 1, "prior": "laplace"},
)
def l1_penalty(parameters: Tensor | Iterable[Tensor], strength: float = 0.1) -> Tensor:
    """λ Σᵢ |wᵢ|: one tensor or several, of any shape; returns [] in their dtype.

    The gradient is λ sign w, with the subgradient 0 at w = 0.
    """
    return penalised(parameters, strength, _sum_of_sizes)


def _sum_of_sizes(weights: Tensor) -> Tensor:
    size: Tensor = torch.sum(weights.abs())
    return size
