"""Mean and scatter of rows in one pass, mergeable, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 512  # rows: enough for the rank-k update to dominate, few enough to stay in cache
_STRIPES = 8  # of the columns: of a symmetric product 9/16 is computed


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
        stream = MomentStream()
        stream.update(rows)
        return stream.moments()

    def covariance(self, ddof: int = 1) -> Tensor:
        """scatter / (n − ddof); NaN or infinite where n ≤ ddof leaves nothing to divide by."""
        return self.scatter / (self.rows - ddof)


class MomentStream:
    """Moments of rows that come in batches of any size, with one [d, d] matrix in memory.

    `origin` [d] is taken from every row first: a point near the rows, by which a large common
    offset drops out exactly, also from the difference of two means. Rows wait until there are 512,
    so that single rows cost no update each; until there are more than d of them all are kept, and
    `kept()` gives them back: covariances of so few rows are singular, and known better by rows.
    """

    def __init__(self, origin: Tensor | None = None) -> None:
        self.rows = 0
        self.origin = origin
        self._waiting: list[Tensor] = []
        self._folded = 0  # rows that are in mean and scatter
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def update(self, rows: Tensor) -> None:
        """Take rows [n, d], n ≥ 1, of any dtype; they are copied."""
        for chunk in rows.split(_CHUNK):
            own = chunk.to(torch.float64, copy=True)
            self._waiting.append(own if self.origin is None else own.sub_(self.origin))
            self.rows += len(own)
            self._fold_when_full(rows.shape[1])

    def merge(self, other: MomentStream) -> None:
        """Take what the other stream saw; it is left as it was. Origins may differ."""
        step = _difference(other.origin, self.origin)
        for rows in other._waiting:
            self._waiting.append(rows + step)
        self.rows += other.rows
        if other._mean is not None and other._scatter is not None:
            self._join(other._folded, other._mean + step, other._scatter)
        if self._waiting:
            self._fold_when_full(self._waiting[0].shape[1])

    def kept(self) -> Tensor | None:
        """All rows [n, d] less the origin, while there are at most max(511, d) of them."""
        return None if self._folded else torch.cat(self._waiting)

    def moments(self) -> Moments:
        """The moments so far of the rows less the origin; n ≥ 1. Further rows may follow."""
        self._fold()
        assert self._mean is not None
        assert self._scatter is not None
        return Moments(self.rows, self._mean, _mirrored(self._scatter))

    def _fold_when_full(self, width: int) -> None:
        least = _CHUNK if self._folded else max(_CHUNK, width + 1)
        if self.rows - self._folded >= least:
            self._fold()

    def _fold(self) -> None:
        for rows in _chunks(self._waiting):
            mean = rows.mean(0)
            centred = rows - mean
            if self._scatter is None or self._mean is None:
                self._mean, self._folded = mean, len(rows)
                self._scatter = mean.new_zeros(len(mean), len(mean))
            else:
                # δδᵀ n₁n₂/n is one more row of the product.
                total = self._folded + len(rows)
                step = mean - self._mean
                weight = (self._folded * len(rows) / total) ** 0.5
                centred = torch.cat([centred, (step * weight)[None]])
                self._mean = self._mean + step * (len(rows) / total)
                self._folded = total
            _add_product(self._scatter, centred)
        self._waiting.clear()

    def _join(self, rows: int, mean: Tensor, scatter: Tensor) -> None:
        if self._mean is None or self._scatter is None:
            self._folded, self._mean, self._scatter = rows, mean.clone(), scatter.clone()
            return
        total, step = self._folded + rows, mean - self._mean
        self._scatter += scatter
        _add_product(self._scatter, (step * (self._folded * rows / total) ** 0.5)[None])
        self._mean = self._mean + step * (rows / total)
        self._folded = total


def _chunks(waiting: list[Tensor]) -> Iterator[Tensor]:
    """The waiting rows, joined to chunks of at least 512 but for the last."""
    joined: list[Tensor] = []
    for rows in waiting:
        joined.append(rows)
        if sum(map(len, joined)) >= _CHUNK:
            yield torch.cat(joined)
            joined = []
    if joined:
        yield torch.cat(joined)


def _add_product(scatter: Tensor, rows: Tensor) -> None:
    """scatter += rowsᵀ rows on and above the diagonal, stripe by stripe, without a copy."""
    width = max(-(-scatter.shape[0] // _STRIPES), 64)
    for start in range(0, scatter.shape[0], width):
        stripe = scatter[start : start + width, start:]
        stripe.addmm_(rows[:, start : start + width].mT, rows[:, start:])


def _mirrored(scatter: Tensor) -> Tensor:
    """Symmetric, from what stands on and above the diagonal."""
    upper = scatter.triu()
    return upper + upper.triu(1).mT


def _difference(first: Tensor | None, second: Tensor | None) -> Tensor | float:
    if first is None or second is None:
        return (0.0 if first is None else first) - (0.0 if second is None else second)
    return first - second
