"""Loaders whose stream has no end, is shuffled in a buffer, or carries fresh noise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.data.loaders import Batch, refuse_empty_batches
from dlcheck.registry import reference


def stacked(rows: list[tuple[Tensor, ...]]) -> Batch:
    return tuple(torch.stack(list(column)) for column in zip(*rows, strict=True))


@reference(
    kind="loader",
    formula="π₁(1)…π₁(N) π₂(1)…π₂(N) …, cut into batches of B across the ends of the passes",
    source="Bottou, SLDS 2009 (random reshuffling), with an epoch that is a number of steps",
    options={"shuffle": True, "seed": "seed"},
    traits=["endless"],
)
class EndlessLoader:
    """Full batches without end; a second iteration goes on where the first one stopped."""

    def __init__(self, dataset: Any, batch_size: int, *, seed: int = 0) -> None:
        refuse_empty_batches(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.rows = self._rows()

    def _rows(self) -> Iterator[int]:
        while len(self.dataset):
            yield from torch.randperm(len(self.dataset), generator=self.generator).tolist()

    def __iter__(self) -> Iterator[Batch]:
        while chosen := list(itertools.islice(self.rows, self.batch_size)):
            yield stacked([self.dataset[i] for i in chosen])


@reference(
    kind="loader",
    formula="a buffer of M rows; each next row takes the place of a uniform one, which is given",
    source="the documentation of tf.data.Dataset.shuffle; torch.utils.data.IterableDataset",
    options={"shuffle": "buffer", "seed": "seed"},
)
class BufferLoader:
    """Rows in the order of the data set through a buffer of 16 rows."""

    def __init__(self, dataset: Any, batch_size: int, *, seed: int = 0) -> None:
        refuse_empty_batches(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def _rows(self) -> Iterator[int]:
        rows = iter(range(len(self.dataset)))
        buffer = list(itertools.islice(rows, 16))
        for row in rows:
            place = int(torch.randint(len(buffer), (), generator=self.generator))
            buffer[place], row = row, buffer[place]
            yield row
        for place in torch.randperm(len(buffer), generator=self.generator).tolist():
            yield buffer[place]

    def __iter__(self) -> Iterator[Batch]:
        rows = self._rows()
        while chosen := list(itertools.islice(rows, self.batch_size)):
            yield stacked([self.dataset[i] for i in chosen])


@reference(
    kind="loader",
    formula="x + 0.1 z, z standard normal, anew for every row of every epoch",
    source="Bishop, Training with Noise is Equivalent to Tikhonov Regularization, Neural "
    "Computation 7(1), 1995",
    options={"shuffle": False, "seed": "seed"},
    traits=["stochastic"],
)
class NoisyLoader:
    """The order of the data set; noise on the first column, from a stream that the seed starts."""

    def __init__(self, dataset: Any, batch_size: int, *, seed: int = 0) -> None:
        refuse_empty_batches(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.dataset), self.batch_size):
            stop = min(start + self.batch_size, len(self.dataset))
            first, *rest = stacked([self.dataset[i] for i in range(start, stop)])
            noise = torch.randn(first.shape, generator=self.generator, dtype=torch.float64)
            yield first + 0.1 * noise.to(first), *rest
