"""The elastic net: L1 and L2 together."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from dlcheck.references.penalties.parameters import penalised
from dlcheck.registry import reference


@reference(
    kind="penalty",
    formula="λ₁ Σᵢ |wᵢ| + (λ₂/2) Σᵢ wᵢ²",
    source="Zou & Hastie, Regularization and Variable Selection via the Elastic Net, JRSS B 67(2), "
    "2005, §2.1; with the ½ of Friedman, Hastie & Tibshirani, J. Stat. Software 33(1), 2010, eq. 2",
    args={"l1": 0.1, "l2": 0.3},
    traits=["nonnegative", "convex", "even", "nonsmooth"],
    options={"norm": {"l1": 1, "l2": 2}, "convention": "half"},
)
def elastic_net_penalty(
    parameters: Tensor | Iterable[Tensor], l1: float = 0.1, l2: float = 0.1
) -> Tensor:
    """λ₁ Σᵢ |wᵢ| + (λ₂/2) Σᵢ wᵢ²: one tensor or several, of any shape; returns [].

    The gradient is λ₁ sign w + λ₂ w. scikit-learn's ElasticNet(alpha, l1_ratio) has
    λ₁ = alpha · l1_ratio and λ₂ = alpha · (1 − l1_ratio).
    """
    if not min(l1, l2) >= 0:
        raise ValueError(
            f"the strengths are {l1} and {l2}; a penalty below 0 rewards large weights"
        )
    return penalised(parameters, 1.0, lambda w: l1 * w.abs().sum() + 0.5 * l2 * w.square().sum())
