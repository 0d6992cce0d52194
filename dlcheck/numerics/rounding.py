"""The rounding errors of floating-point arithmetic: the unit from which checks derive bounds.

A basic operation rounds to nearest: fl(a ∘ b) = (a ∘ b)(1 + δ), |δ| ≤ u, the unit roundoff. A
chain of n operations multiplies n such factors, and Π(1 + δᵢ)^±1 = 1 + θₙ with
|θₙ| ≤ γₙ = n·u / (1 − n·u). So a sum of n numbers, in any order, is off by at most
γₙ₋₁·Σ|xᵢ|, and a dot product of length n by at most γₙ·Σ|xᵢyᵢ|.

Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, §2.2
and lemma 3.1.
"""

from __future__ import annotations

import math

import torch


def unit_roundoff(dtype: torch.dtype) -> float:
    """The largest relative error of one rounding to nearest: half the gap after 1."""
    return torch.finfo(dtype).eps / 2


def gamma(operations: int, dtype: torch.dtype) -> float:
    """γₙ = n·u / (1 − n·u): the largest relative error of n = `operations` roundings in a row.

    Infinite from n·u = 1 on, where the lemma says nothing.
    """
    accumulated = operations * unit_roundoff(dtype)
    return accumulated / (1.0 - accumulated) if accumulated < 1.0 else math.inf
