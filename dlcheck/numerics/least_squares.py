"""Penalised least squares: 1/(2n) ‖Xw − y‖² + λ₁‖w‖₁ + (λ₂/2)‖w‖², its solutions and optimality."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.numerics.fista import fista
from dlcheck.numerics.rounding import gamma


@dataclass(frozen=True)
class LeastSquares:
    """f(w) = 1/(2n) ‖Xw − y‖², as scikit-learn's Lasso scales it: X [n, d], y [n], float64."""

    x: Tensor
    y: Tensor

    @functools.cached_property
    def gram(self) -> Tensor:
        """H = XᵀX/n, the Hessian: [d, d]."""
        return self.x.mT @ self.x / len(self.x)

    @functools.cached_property
    def correlation(self) -> Tensor:
        """c = Xᵀy/n: [d]."""
        return self.x.mT @ self.y / len(self.x)

    @functools.cached_property
    def curvature(self) -> tuple[float, float]:
        """The least and the largest eigenvalue of the Hessian."""
        eigenvalues = torch.linalg.eigvalsh(self.gram)
        return float(eigenvalues[0]), float(eigenvalues[-1])

    def gradient(self, weights: Tensor) -> Tensor:
        """∇f(w) = Hw − c: [d]."""
        return self.gram @ weights - self.correlation

    def rounding(self, weights: Tensor) -> float:
        """The norm of the rounding error of ∇f(w), a dot product of length d and a difference.

        Where a penalty's slope balances ∇f, it is the rounding of their sum twice over.
        """
        terms = self.gram.abs() @ weights.abs() + self.correlation.abs()
        return gamma(len(weights) + 16, weights.dtype) * float(terms.norm())

    @property
    def largest_penalty(self) -> float:
        """λ_max = ‖Xᵀy‖∞ / n: from this λ₁ on the lasso's solution is 0."""
        return float(self.correlation.abs().max())

    @functools.cached_property
    def svd(self) -> tuple[Tensor, Tensor, Tensor]:
        u, s, vt = torch.linalg.svd(self.x, full_matrices=False)
        return u, s, vt


def ridge(problem: LeastSquares, l2: float) -> Tensor:
    """argmin f(w) + (λ₂/2)‖w‖² = V diag(s / (s² + nλ₂)) Uᵀy: [d].

    From X = U diag(s) Vᵀ and (XᵀX + nλ₂ I) w = Xᵀy.
    Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2009, eq. 3.47.
    """
    u, s, vt = problem.svd
    return vt.mT @ (s / (s.square() + len(problem.x) * l2) * (u.mT @ problem.y))


def elastic_net(
    problem: LeastSquares, l1: float, l2: float = 0.0, start: Tensor | None = None
) -> Tensor:
    """argmin f(w) + λ₁‖w‖₁ + (λ₂/2)‖w‖² by FISTA: [d], exact zeros included.

    Source: Friedman, Hastie & Tibshirani, J. Statistical Software 33(1), 2010, eq. 2.
    """

    def prox(z: Tensor, step: float) -> Tensor:
        return z.sign() * (z.abs() - step * l1).clamp(min=0) / (1 + step * l2)

    start = torch.zeros_like(problem.correlation) if start is None else start
    return fista(problem.gradient, prox, start, problem.curvature[1], steps=20_000)


def kkt_violation(problem: LeastSquares, weights: Tensor, l1: float, l2: float = 0.0) -> float:
    """How far w is from satisfying the conditions of a minimum; 0 at the solution.

    Where wⱼ ≠ 0: ∂ⱼf + λ₂wⱼ = −λ₁ sign wⱼ. Where wⱼ = 0: |∂ⱼf| ≤ λ₁.
    Source: Hastie, Tibshirani & Wainwright, Statistical Learning with Sparsity, 2015, eq. 2.6.
    """
    slope = problem.gradient(weights) + l2 * weights
    active = (slope + l1 * weights.sign()).abs()
    resting = (slope.abs() - l1).clamp(min=0)
    return float(torch.where(weights != 0, active, resting).max())
