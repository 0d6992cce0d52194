"""Mean and scatter of rows in one pass, mergeable, in float64."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_CHUNK = 512  # rows: enough for the rank-k update to dominate, few enough to stay in cache
_BLOCK = 128  # columns that are mirrored at a time
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
    so that single rows cost no update each; until there are d/2 of them all are kept, and `kept()`
    gives them back: what is singular is computed sooner from rows than from a [d, d] matrix.
    """

    def __init__(self, origin: Tensor | None = None) -> None:
        self.rows = 0
        self.origin = origin
        self._buffer: Tensor | None = None  # the rows that wait, and one to spare
        self._waiting = 0
        self._folded = 0  # rows that are in mean and scatter
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    def update(self, rows: Tensor) -> None:
        """Take rows [n, d] of any dtype; they are copied."""
        self._append(rows, self.origin)

    def merge(self, other: MomentStream) -> None:
        """Take what the other stream saw; it is left as it was. Origins may differ."""
        if other is self:
            other = copy.deepcopy(self)
        step = _difference(self.origin, other.origin)
        if other._buffer is not None:
            self._append(other._buffer[: other._waiting], step)
        if other._mean is not None and other._scatter is not None:
            mean = other._mean if step is None else other._mean - step
            self._join(other._folded, mean, other._scatter)
            self.rows += other._folded

    def state_dict(self) -> dict[str, Any]:
        """The rows so far as counts and tensors, which may be those of the stream itself."""
        waiting = None if self._buffer is None else self._buffer[: self._waiting]
        parts = {"origin": self.origin, "waiting": waiting}
        parts |= {"mean": self._mean, "scatter": self._scatter}
        held = {name: part for name, part in parts.items() if part is not None}
        return {"folded": self._folded, **held}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> MomentStream:
        """A stream that goes on from what `state_dict` told; nothing of it is shared."""
        stream = cls(state.get("origin"))
        if "mean" in state:
            stream._join(state["folded"], state["mean"], state["scatter"])
            stream.rows = stream._folded
        if "waiting" in state:
            stream._append(state["waiting"], None)
        return stream

    def kept(self) -> Tensor | None:
        """All rows [n, d] less the origin, while there are fewer than max(512, d/2) of them."""
        return None if self._folded or self._buffer is None else self._buffer[: self._waiting]

    def moments(self) -> Moments:
        """The moments so far of the rows less the origin; n ≥ 1. Further rows may follow."""
        self._fold()
        assert self._mean is not None
        assert self._scatter is not None
        return Moments(self.rows, self._mean, _mirrored(self._scatter))

    def _append(self, rows: Tensor, origin: Tensor | None) -> None:
        while len(rows):
            if self._buffer is None:
                width = rows.shape[1]
                most = _CHUNK if self._folded else max(_CHUNK, width // 2)
                self._buffer = rows.new_empty(most + 1, width, dtype=torch.float64)
            free = self._buffer[self._waiting : -1]
            part, rows = rows[: len(free)], rows[len(free) :]
            free[: len(part)].copy_(part)
            if origin is not None:
                free[: len(part)].sub_(origin)
            self._waiting += len(part)
            self.rows += len(part)
            if len(part) == len(free):
                self._fold()

    def _fold(self) -> None:
        if self._buffer is None:
            return
        chunk = self._buffer[: self._waiting + 1]
        rows, spare = chunk[:-1], chunk[-1]
        mean = rows.mean(0)
        rows.sub_(mean)
        spare.zero_()
        if self._scatter is None or self._mean is None:
            self._mean, self._folded = mean, len(rows)
            self._scatter = mean.new_zeros(len(mean), len(mean))
        else:
            # δδᵀ n₁n₂/n is one more row of the product.
            total = self._folded + len(rows)
            step = mean - self._mean
            spare.add_(step, alpha=(self._folded * len(rows) / total) ** 0.5)
            self._mean = self._mean + step * (len(rows) / total)
            self._folded = total
        _add_product(self._scatter, chunk)
        self._buffer, self._waiting = None, 0  # another one: a gradient may need this

    def _join(self, rows: int, mean: Tensor, scatter: Tensor) -> None:
        if self._mean is None or self._scatter is None:
            self._folded, self._mean, self._scatter = rows, mean.clone(), scatter.clone()
            return
        total, step = self._folded + rows, mean - self._mean
        self._scatter += scatter
        _add_product(self._scatter, (step * (self._folded * rows / total) ** 0.5)[None])
        self._mean = self._mean + step * (rows / total)
        self._folded = total


def _add_product(scatter: Tensor, rows: Tensor) -> None:
    """scatter += rowsᵀ rows on and above the diagonal, stripe by stripe, without a copy."""
    width = max(-(-scatter.shape[0] // _STRIPES), 64)
    for start in range(0, scatter.shape[0], width):
        stripe = scatter[start : start + width, start:]
        stripe.addmm_(rows[:, start : start + width].mT, rows[:, start:])


def _mirrored(scatter: Tensor) -> Tensor:
    """A symmetric copy, from what stands on and above the diagonal."""
    whole = scatter.clone()
    for start in range(0, len(whole), _BLOCK):
        end = start + _BLOCK
        corner = whole[start:end, start:end].triu()
        whole[start:end, start:end] = corner + corner.triu(1).mT
        whole[end:, start:end] = whole[start:end, end:].mT
    return whole


def _difference(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """What is to be taken from rows less the second origin, to have them less the first."""
    if first is None or second is None:
        return first if second is None else -second
    return first - second
