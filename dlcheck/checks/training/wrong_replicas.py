"""Loops that get the ranks of torch.distributed wrong: mutants of the check of replicas."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from dlcheck.mutants import instead

Synchronize = Callable[[nn.Module, int, int], Any]


def _replicated(
    name: str, synchronize: Synchronize, *, inner: bool = False, after: Any = None
) -> Any:  # fmt: skip
    """A right loop but for `synchronize(model, batch, batches)`, the context of a backward."""

    def train(
        model: Any, loader: Any, optimizer: Any, loss: Any, *, accumulate: int = 1, epochs: int = 1
    ) -> None:
        own = model.module if inner and hasattr(model, "module") else model
        for _ in range(epochs):
            batches = iter(loader)
            while window := list(islice(batches, accumulate)):
                optimizer.zero_grad()
                rows = sum(len(x) for x, _ in window)
                for number, (x, y) in enumerate(window):
                    with synchronize(model, number, len(window)):
                        (loss(own(x), y) * (len(x) / rows)).backward()
                if after is not None:
                    after(model)
                optimizer.step()

    train.__name__ = name
    return instead(train)


def _always(model: nn.Module, batch: int, batches: int) -> Any:
    return contextlib.nullcontext()


def _never(model: Any, batch: int, batches: int) -> Any:
    return model.no_sync()


def _first_only(model: Any, batch: int, batches: int) -> Any:
    """The backward of the last batch must synchronize: what comes after the first is not seen."""
    return model.no_sync() if batch or batches == 1 else contextlib.nullcontext()


def _sum(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)


trains_the_inner_model = _replicated("trains_the_inner_model", _always, inner=True)
never_synchronizes = _replicated("never_synchronizes", _never)
adds_the_ranks = _replicated("adds_the_gradients_of_the_ranks", _always, after=_sum)
synchronizes_the_first_batch_only = _replicated("synchronizes_the_first_batch_only", _first_only)
