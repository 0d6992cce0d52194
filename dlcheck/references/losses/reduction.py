"""From the terms of a loss to what it returns."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.precision import wide

REDUCTIONS = ("mean", "sum", "none", "batchmean")


def reduced(terms: Tensor, reduction: str, dtype: torch.dtype) -> Tensor:
    """The terms themselves, their sum, their mean, or (batchmean) their sum over rows of axis 0.

    terms of any shape, in the precision of the sum; rounded once, to dtype. The mean of no terms
    is 0/0, NaN, as torch has it. Raises ValueError for another reduction.
    """
    if reduction == "none":
        return terms.to(dtype)
    if reduction == "mean":
        return terms.mean().to(dtype)
    if reduction == "sum":
        return terms.sum().to(dtype)
    if reduction == "batchmean":
        return (terms.sum() / terms.shape[0]).to(dtype)
    raise ValueError(f"reduction is one of {', '.join(REDUCTIONS)}, not {reduction!r}")


def weighted_mean(terms: Tensor, weights: Tensor) -> Tensor:
    """Σᵢ termsᵢ / Σᵢ weightsᵢ, of terms that hold their weights; 0 where there is no weight.

    The 0 has the gradient 0: a batch of ignored targets says nothing, where torch answers NaN.
    """
    total = weights.sum()
    return terms.sum() / torch.where(total == 0, 1.0, total)


def alike(**tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, half types widened. Raises ValueError unless their shapes are the same.

    Broadcasting [b, 1] against [b] would quietly compare every row with every other.
    """
    shapes = {name: list(x.shape) for name, x in tensors.items()}
    if any(shape != next(iter(shapes.values())) for shape in shapes.values()):
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"one shape is expected of all, not {given}")
    return tuple(wide(x) for x in tensors.values())
