"""Broken loaders: any loader with its data set, its arguments or its batches changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dlcheck.model import Mutant
from dlcheck.mutants import rebuilt

Batches = list[tuple[Tensor, ...]]
_MANY = 300  # batches of a loader that may have no end


class Altered:
    """A loader whose epochs pass through `change(batches, epoch)`."""

    def __init__(self, loader: Any, change: Callable[[Batches, int], Batches]) -> None:
        self.loader = loader
        self.change = change
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        most = None if hasattr(type(self.loader), "__len__") else _MANY
        batches = [tuple(batch) for batch in islice(self.loader, most)]
        self.epoch += 1
        return iter(self.change(batches, self.epoch - 1))


class Seen(Dataset):  # type: ignore[type-arg]
    """A data set seen through `look(dataset, i)`: what a wrong sampler or `__getitem__` makes."""

    def __init__(self, dataset: Any, look: Callable[[Any, int], Any], rows: int) -> None:
        self.dataset = dataset
        self.look = look
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Any:
        return self.look(self.dataset, int(index))


def batches_changed(change: Callable[[Batches, int], Batches]) -> Mutant:
    """A mutant whose epochs pass through `change(batches, epoch)`; use as a decorator."""

    def altered(factory: Any) -> Any:
        return lambda dataset, **arguments: Altered(factory(dataset, **arguments), change)

    return rebuilt(change.__name__, altered)


def rows_changed(look: Callable[[Any, int], Any]) -> Mutant:
    """A mutant that asks its data set through `look(dataset, i)`; use as a decorator."""

    def altered(factory: Any) -> Any:
        return lambda dataset, **arguments: factory(Seen(dataset, look, len(dataset)), **arguments)

    return rebuilt(look.__name__, altered)


def stacked(dataset: Any, order: Sequence[int], size: int) -> Batches:
    """The rows in that order as batches of `size`."""
    cuts = [list(order[start : start + size]) for start in range(0, len(order), size)]
    return [tuple(column[cut] for column in dataset.tensors) for cut in cuts]


def reordered(order: Any) -> Mutant:
    """A mutant whose order is `order(rows, epoch, batch_size)`; use as a decorator."""

    def altered(factory: Any) -> Any:
        def make(dataset: Any, *, batch_size: int, **arguments: Any) -> Any:
            def change(batches: Batches, epoch: int) -> Batches:
                return stacked(dataset, order(len(dataset), epoch, batch_size), batch_size)

            return Altered(factory(dataset, batch_size=batch_size, **arguments), change)

        return make

    return rebuilt(order.__name__, altered)


def glued(parts: Sequence[Tensor]) -> Tensor:
    """Columns one below the other, narrow ones filled with zeros."""
    if parts[0].dim() > 1 and len({part.shape[1] for part in parts}) > 1:
        width = max(part.shape[1] for part in parts)
        wide = [part.new_zeros((len(part), width, *part.shape[2:])) for part in parts]
        for whole, part in zip(wide, parts, strict=True):
            whole[:, : part.shape[1]] = part
        parts = wide
    return torch.cat(list(parts))


def seeded_order(rows: int, seed: int) -> list[int]:
    """A permutation that the seed fixes."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()
