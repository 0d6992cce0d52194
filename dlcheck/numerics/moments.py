"""Mean and scatter of rows in one pass, mergeable, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 512  # rows: enough for the rank-k update to dominate, few enough to stay in cache


@dataclass(frozen=True, slots=True)
class Moments:
    """`rows` feature vectors: their mean [d] and scatter Σ (x − mean)(x − mean)ᵀ [d, d].

    Two sets merge without a look at their rows (δ the difference of the means):
    mean = mean₁ + δ n₂/n and scatter = scatter₁ + scatter₂ + δδᵀ n₁n₂/n. Every chunk is centred
    before it is squared, so that a common offset costs no digits, as E[xxᵀ] − μμᵀ does.

    Source: Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances, Stanford STAN-CS-79-773, 1979, eq. 2.1.
    """

    rows: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Moments:
        """The moments of rows [n, d], n ≥ 1, whatever their dtype."""
        first, *rest = (cls._of_chunk(chunk.double()) for chunk in rows.split(_CHUNK))
        for chunk in rest:
            first = first.merged(chunk)
        return first

    @classmethod
    def _of_chunk(cls, rows: Tensor) -> Moments:
        mean = rows.mean(0)
        centred = rows - mean
        return cls(len(rows), mean, centred.mT @ centred)

    def merged(self, other: Moments) -> Moments:
        """The moments of both sets together."""
        rows = self.rows + other.rows
        step = other.mean - self.mean
        between = torch.outer(step, step) * (self.rows * other.rows / rows)
        mean = self.mean + step * (other.rows / rows)
        return Moments(rows, mean, self.scatter + other.scatter + between)

    def covariance(self, ddof: int = 1) -> Tensor:
        """scatter / (n − ddof); NaN or infinite where n ≤ ddof leaves nothing to divide by."""
        return self.scatter / (self.rows - ddof)
