"""The rounding errors of floating-point arithmetic: the units from which checks derive their bounds.

A basic operation rounds to nearest: fl(a ∘ b) = (a ∘ b)(1 + δ) with |δ| ≤ u, the unit roundoff. A chain of n operations
multiplies n such factors, and Π(1 + δᵢ)^±1 = 1 + θₙ with |θₙ| ≤ γₙ = n·u / (1 − n·u). So a sum of n numbers in any order
is off by at most γₙ₋₁·Σ|xᵢ|, and a dot product of length n by at most γₙ·Σ|xᵢyᵢ|.

Source: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., SIAM 2002, §2.2 and lemma 3.1.
"""

import math

import torch


def unit_roundoff(dtype: torch.dtype) -> float:
    """The largest relative error of one rounding to nearest in `dtype`: half the gap between 1 and the next number."""
    return torch.finfo(dtype).eps / 2


def gamma(operations: int, dtype: torch.dtype) -> float:
    """γₙ = n·u / (1 − n·u): the largest relative error that `operations` roundings in a row can make.

    Infinite once n·u ≥ 1, where Higham's lemma says nothing.
    """
    accumulated = operations * unit_roundoff(dtype)
    return accumulated / (1.0 - accumulated) if accumulated < 1.0 else math.inf
