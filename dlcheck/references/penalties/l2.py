"""The L2 (ridge, weight decay) penalty, in the two conventions of the literature."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from dlcheck.references.penalties.parameters import penalised
from dlcheck.registry import reference


@reference(
    kind="penalty",
    formula="λ Σᵢ wᵢ²",
    source="Hoerl & Kennard, Ridge Regression, Technometrics 12(1), 1970, §2; "
    "Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2009, eq. 3.41",
    traits=["nonnegative", "convex", "even", "smooth", "twice_differentiable"],
    options={
        "norm": 2,
        "strength": "strength",
        "convention": "full",
        "homogeneity": 2,
        "prior": "gaussian",
    },
)
def l2_penalty(parameters: Tensor | Iterable[Tensor], strength: float = 0.1) -> Tensor:
    """λ Σᵢ wᵢ²: one tensor or several, of any shape; returns [] in their dtype.

    The gradient is 2λw; the prior is normal of variance 1/(2λ).
    """
    return penalised(parameters, strength, _sum_of_squares)


@reference(
    kind="penalty",
    formula="(λ/2) Σᵢ wᵢ²",
    source="Krogh & Hertz, A Simple Weight Decay Can Improve Generalization, NIPS 1991, §2; "
    "Goodfellow, Bengio & Courville, Deep Learning, 2016, §7.1.1",
    traits=["nonnegative", "convex", "even", "smooth", "twice_differentiable"],
    options={
        "norm": 2,
        "strength": "strength",
        "convention": "half",
        "homogeneity": 2,
        "prior": "gaussian",
    },
)
def half_l2_penalty(parameters: Tensor | Iterable[Tensor], strength: float = 0.1) -> Tensor:
    """(λ/2) Σᵢ wᵢ²: one tensor or several, of any shape; returns [] in their dtype.

    The gradient is λw, what `weight_decay=λ` of torch.optim.SGD adds; the prior is normal of
    variance 1/λ.
    """
    return penalised(parameters, 0.5 * strength, _sum_of_squares)


@reference(
    kind="penalty",
    formula="(λ/2) Σ ‖W‖² over the tensors W of two axes or more",
    source="Goodfellow, Bengio & Courville, Deep Learning, 2016, §7.1: biases stay unregularized",
    inputs={"weight": "float n m", "bias": "float n"},
    traits=["nonnegative", "convex", "even", "smooth", "twice_differentiable"],
    options={
        "norm": 2,
        "strength": "strength",
        "convention": "half",
        "homogeneity": 2,
        "exclude": "bias",
        "prior": "gaussian",
    },
)
def weight_decay_penalty(parameters: Iterable[Tensor], strength: float = 0.1) -> Tensor:
    """(λ/2) Σ ‖W‖² over the weight matrices and kernels; vectors (biases, gains) cost nothing.

    Several tensors of any shape; returns [] in their dtype, 0 if all are vectors.
    """
    return penalised(parameters, 0.5 * strength, _sum_of_squares_of_matrices)


def _sum_of_squares(weights: Tensor) -> Tensor:
    return weights.square().sum()


def _sum_of_squares_of_matrices(weights: Tensor) -> Tensor:
    return weights.square().sum() if weights.dim() > 1 else 0 * weights.sum().detach()
