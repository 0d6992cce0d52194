"""A sampler that shuffles by the number of the epoch is told it before each epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler, TensorDataset

from dlcheck.checks.training.calling import keywords
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.checks.training.rehearsal import Rehearsal
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _EPOCHS = 12, 4


class Told(Sampler[int]):
    """Shuffles by the epoch that it is told, and notes which it was when it was read."""

    def __init__(self) -> None:
        self.epoch = 0
        self.read: list[int] = []

    def __len__(self) -> int:
        return _ROWS

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.read.append(self.epoch)
        generator = torch.Generator().manual_seed(self.epoch)
        return iter(torch.randperm(_ROWS, generator=generator).tolist())


@check(
    kind="training",
    needs={"sets_epoch"},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("never_tells_the_epoch"),
        faulty("tells_every_epoch_the_same"),
        faulty("tells_half_of_the_epochs"),
        faulty("tells_the_epoch_too_late"),
    ],
)
def sampler_learns_the_epoch(subject: Implementation, case: Case) -> Evidence:
    """Before each epoch the loader's sampler is told a number that it was not told before.

    A sampler with `set_epoch`, as torch's DistributedSampler, whose order depends on that number
    alone: untold, all epochs come in one order. Four epochs; counted are those read with the
    number of an earlier one. Exact: the bound is 0.
    Source: the documentation of torch.utils.data.distributed.DistributedSampler, warning.
    """
    run, sampler = Rehearsal.of(subject, case, rows=_ROWS), Told()
    model = copy.deepcopy(run.model)
    loader: DataLoader[Any] = DataLoader(TensorDataset(run.x, run.y), 4, sampler=sampler)
    given = keywords(subject, epochs=_EPOCHS)
    subject(model, loader, run.optimizer(model), run.loss, **given)
    again = max(_EPOCHS - len(set(sampler.read)), 0)
    return Evidence(
        error=float(again),
        bound=0.0,
        signal=float(_EPOCHS),
        unit="epochs",
        what="epochs in the order of an earlier one",
        got=f"read after set_epoch of {', '.join(map(str, sampler.read))}",
        cause="call loader.sampler.set_epoch(epoch) before each epoch" if again else "",
    )
