"""tr (Σ₁Σ₂)^½ of two covariances, without a general matrix root."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SINGULAR = 1e-13  # a squared pivot below it, relative to the largest, is taken for rounding
_STRIPES = 8  # of the columns of a triangular product


def trace_of_root(one: Tensor, two: Tensor) -> Tensor:
    """tr (Σ₁Σ₂)^½ [] of symmetric positive semidefinite [d, d]; the lower triangle of Σ₁ is read.

    With Σ₁ = LLᵀ, Σ₁Σ₂ has the eigenvalues of the symmetric LᵀΣ₂L. Where one of the two is
    singular an eigenvalue 0 of that would be known to ε and its root to √ε; then it is the sum of
    the singular values of R₁ᵀR₂, Σᵢ = RᵢRᵢᵀ, without the directions in which there is nothing.
    """
    found = trace_if_regular(one, two)
    if found is not None:
        return found
    first, second = regular_factor(one), regular_factor(two)
    first, second = (_root(x) if f is None else f for x, f in ((one, first), (two, second)))
    return nuclear_norm(first.mT @ second)


def trace_if_regular(one: Tensor, two: Tensor) -> Tensor | None:
    """The same where both are regular to rounding, else None."""
    factor = regular_factor(one)
    if factor is None:
        return None
    values: Tensor = torch.linalg.eigvalsh(_congruent(factor, two))
    doubtful = values[0] < len(values) * torch.finfo(values.dtype).eps * values[-1]
    if bool(doubtful) and regular_factor(two) is None:
        return None
    return values.clamp_min(0).sqrt().sum()


def regular_factor(covariance: Tensor) -> Tensor | None:
    """L with LLᵀ = Σ, or None where Σ is singular to rounding."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(covariance)
    pivots = factor.diagonal().square()
    if bool(failed) or not bool(pivots.min() > _SINGULAR * pivots.max()):
        return None
    return factor


def nuclear_norm(matrix: Tensor) -> Tensor:
    values: Tensor = torch.linalg.svdvals(matrix)
    return values.sum()


def _congruent(factor: Tensor, other: Tensor) -> Tensor:
    """LᵀΣL on and below the diagonal, 0 above: a third of what two whole products cost.

    Column stripe j of ΣL needs the rows of L from j on; row stripe i of Lᵀ(ΣL) needs those from i
    on, and only its columns up to i.
    """
    size = len(factor)
    starts = range(0, size, max(-(-size // _STRIPES), 64))
    half = torch.cat([other[:, i:] @ factor[i:, i:end] for i, end in _ends(starts, size)], 1)
    rows = [factor[i:, i:end].mT @ half[i:, :end] for i, end in _ends(starts, size)]
    whole: Tensor = torch.cat([functional.pad(x, (0, size - x.shape[1])) for x in rows])
    return whole


def _ends(starts: range, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + starts.step, size)) for start in starts]


def _root(covariance: Tensor) -> Tensor:
    """R with RRᵀ = Σ, without the eigenvalues below the rounding of the largest: they are 0."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values.max()
    root: Tensor = vectors[:, kept] * values[kept].sqrt()
    return root
