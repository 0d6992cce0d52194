"""No row of an epoch is lost, repeated or replaced by one of another epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from dlcheck.checks.training import wrong_loops as wrong
from dlcheck.checks.training.calling import epochs_of, keywords
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _EPOCHS = 23, 3


class Orders(Sampler[int]):
    """A fresh order every time it is asked; those it gave stay in `given`."""

    def __init__(self, rows: int, generator: torch.Generator) -> None:
        self.rows = rows
        self.generator = generator
        self.given: list[list[int]] = []

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        self.given.append(torch.randperm(self.rows, generator=self.generator).tolist())
        return iter(self.given[-1])


@check(
    kind="training",
    forbids={
        "freezes", "replaces_head", "returns_average", "restores_best", "plain_sequential",
        "reduced_precision"
    },
    options={"model": False, "loss": False},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("loses_the_tail"),
        faulty("repeats_a_batch"),
        faulty("replays_the_first_epoch"),
        faulty("skips_the_first_batch_of_later_epochs"),
        wrong.reuses_the_first_batch,
        wrong.drops_the_last_batch,
        wrong.trains_one_epoch_only,
        wrong.forgets_zero_grad,
    ],
)  # fmt: skip
def every_sample_counts_each_epoch(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Each row of each epoch moves the weights once, with the weight of its batch.

    Row i is the unit vector eᵢ, the model x·w, the loss the mean of x·w: its gradient is the mean
    of a batch's rows, wherever w is. Plain descent with step 1 from w = 0 ends in
    wᵢ = −Σ 1/(rows of the batch in which row i came). 23 rows in a fresh order for each of 3
    epochs, in batches of 4 and of 30; a row's weights are added by at most 3 epochs and B terms,
    so the bound is (B + 3) roundings.
    Source: Robbins & Monro 1951; TEXTBOOK B1: an epoch is every sample once.
    """
    epochs = epochs_of(subject, _EPOCHS)
    for batch in (4, 30):
        orders = Orders(_ROWS, case.generator(f"orders {batch}"))
        x = torch.eye(_ROWS, device=case.device, dtype=case.dtype)
        y = torch.zeros(_ROWS, dtype=torch.int64, device=case.device)
        model = nn.Linear(_ROWS, 1, bias=False).to(device=case.device, dtype=case.dtype)
        nn.init.zeros_(model.weight)
        loader: DataLoader[Any] = DataLoader(TensorDataset(x, y), batch_size=batch, sampler=orders)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        subject(model, loader, optimizer, _mean, **keywords(subject, epochs=epochs))
        off = _off(model.weight.detach()[0], orders.given, epochs, batch)
        read = len(orders.given)
        yield Evidence(
            error=float(off.amax()),
            bound=(batch + _EPOCHS) * unit_roundoff(case.dtype) * epochs,
            signal=float(epochs),
            unit="times",
            what=f"how often a row counted in {epochs} epochs of batches of {batch}",
            where=f"row {int(off.argmax())}; the loader was read {read} times",
        )


def _mean(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean of the predictions: its gradient does not depend on the weights."""
    return prediction.mean()


def _off(weights: Tensor, orders: list[list[int]], epochs: int, batch: int) -> Tensor:
    """How often each row counted too much or too little.

    A loop may read the loader without training on it, to see a shape: of the orders that were
    given, those fit that explain the weights best. Of an epoch that was never read any order.
    """
    given = [*orders, *[list(range(_ROWS))] * (epochs - len(orders))]
    choices = itertools.combinations(given[: epochs + 2], epochs)
    wrong = [
        (weights + _shares(choice, batch).to(weights)).abs() * min(batch, _ROWS)
        for choice in choices
    ]
    return min(wrong, key=lambda off: float(off.amax()) if bool(off.isfinite().all()) else 1e300)


def _shares(orders: Sequence[Sequence[int]], batch: int) -> Tensor:
    """Σ over epochs of 1 / (rows of the row's batch)."""
    total = torch.zeros(_ROWS, dtype=torch.float64)
    for order in orders:
        for start in range(0, _ROWS, batch):
            rows = list(order[start : start + batch])
            total[rows] += 1 / len(rows)
    return total
