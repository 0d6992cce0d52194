"""A Fréchet distance of one's own, as a stream, and a twin with a bug that most tests miss."""

import torch
from torch import Tensor


class FrechetDistance:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), updated with rows of both sets."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.rows: tuple[list[Tensor], list[Tensor]] = ([], [])

    def update(self, real: Tensor, generated: Tensor) -> None:
        for kept, rows in zip(self.rows, (real, generated), strict=True):
            kept.append(rows.double())

    def compute(self) -> Tensor:
        a, b = (torch.cat(kept) for kept in self.rows)
        one, two = self.covariance(a), self.covariance(b)
        apart = (a.mean(0) - b.mean(0)).square().sum()
        return apart + one.trace() + two.trace() - 2 * self.trace_of_root(one, two)

    def covariance(self, rows: Tensor) -> Tensor:
        """[n, d] → [d, d]."""
        return torch.cov(rows.mT).reshape(rows.shape[1], -1)

    def trace_of_root(self, one: Tensor, two: Tensor) -> Tensor:
        """Σ₁Σ₂ has the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric."""
        half = root(one)
        return torch.linalg.eigvalsh(half @ two @ half).clamp_min(0).sqrt().sum()


class BrokenFrechetDistance(FrechetDistance):
    """The trace of the product of the two roots: the same where covariances commute."""

    def trace_of_root(self, one: Tensor, two: Tensor) -> Tensor:
        return (root(one) @ root(two)).trace()


def root(covariance: Tensor) -> Tensor:
    """The symmetric root."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
