"""Loaders by hand: the order of a map-style data set, cut into batches.

A data set has `len(dataset)` rows; `dataset[i]` is a row as a tuple of tensors. Every pass over a
loader is one epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.registry import reference

Batch = tuple[Tensor, ...]


def refuse_empty_batches(size: int) -> None:
    """Raise ValueError for a batch of no rows."""
    if size < 1:
        raise ValueError(f"batch_size is {size}; a batch holds at least 1 row")


@reference(
    kind="loader",
    formula="rows 1…N in order, cut into ⌈N/B⌉ batches",
    source="Goodfellow, Bengio & Courville, Deep Learning, MIT Press 2016, section 8.1.3",
    options={"shuffle": False, "drop_last": "drop_last"},
    traits=["validates"],
)
class SequentialLoader:
    """⌈N/B⌉ batches in the order of the data set, ⌊N/B⌋ with drop_last."""

    def __init__(self, dataset: Any, batch_size: int, *, drop_last: bool = False) -> None:
        refuse_empty_batches(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __len__(self) -> int:
        rows = len(self.dataset)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = list(range(len(self.dataset)))
        return cut(self.dataset, order, self.batch_size, len(self))


@reference(
    kind="loader",
    formula="π uniform over the N! orders, a new one each epoch; π(1)…π(N) cut into ⌈N/B⌉ batches",
    source="Bottou, Curiously Fast Convergence of some Stochastic Gradient Descent Algorithms, "
    "SLDS 2009 (random reshuffling); Knuth, TAOCP 2, section 3.4.2, algorithm P",
    options={"shuffle": True, "drop_last": "drop_last", "seed": "seed"},
    traits=["validates"],
)
class ShuffledLoader:
    """A fresh uniform permutation each epoch, from one stream that the seed starts."""

    def __init__(
        self, dataset: Any, batch_size: int, *, seed: int = 0, drop_last: bool = False
    ) -> None:
        refuse_empty_batches(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        rows = len(self.dataset)
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.dataset), generator=self.generator).tolist()
        return cut(self.dataset, order, self.batch_size, len(self))


@reference(
    kind="loader",
    formula="i₁…i_N independent and uniform over the rows, cut into ⌈N/B⌉ batches",
    source="Robbins & Monro, A Stochastic Approximation Method, Ann. Math. Statist. 22(3), 1951",
    options={"shuffle": True, "seed": "seed"},
    traits=["with_replacement"],
)
class BootstrapLoader:
    """Rows drawn independently: some come twice in an epoch, a share of 1/e not at all."""

    def __init__(self, dataset: Any, batch_size: int, *, seed: int = 0) -> None:
        refuse_empty_batches(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rows = len(self.dataset)
        order = torch.randint(max(rows, 1), (rows,), generator=self.generator).tolist()
        return cut(self.dataset, order, self.batch_size, len(self))


@reference(
    kind="loader",
    formula="rank r of R gets π(r), π(r + R), π(r + 2R), … of the epoch's common permutation π",
    source="Li et al., PyTorch Distributed, VLDB 13(12), 2020, section 3",
    options={
        "shuffle": True,
        "seed": "seed",
        "shards": {"rank": "rank", "count": "count"},
    },
)
class ShardedLoader:
    """One rank's share: the ranks know the same permutations and take turns in each."""

    def __init__(
        self, dataset: Any, batch_size: int, *, rank: int = 0, count: int = 1, seed: int = 0
    ) -> None:
        refuse_empty_batches(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.rank = rank
        self.count = count
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        own = len(range(self.rank, len(self.dataset), self.count))
        return -(-own // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self.dataset), generator=self.generator).tolist()
        return cut(self.dataset, order[self.rank :: self.count], self.batch_size, len(self))


def cut(dataset: Any, order: Sequence[int], size: int, count: int) -> Iterator[Batch]:
    """The first `count` batches of `size` rows in the given order; column by column stacked."""
    for start in range(0, count * size, size):
        rows = [dataset[i] for i in order[start : start + size]]
        yield tuple(torch.stack(column) for column in zip(*rows, strict=True))
