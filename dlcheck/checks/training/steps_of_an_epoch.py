"""A bigger batch takes fewer steps an epoch: one a batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.checks.training import wrong_loops as wrong
from dlcheck.checks.training.rehearsal import LEARNING_RATE, Rehearsal
from dlcheck.checks.training.throughput import steps_after_every_row
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_EPOCHS = 2


@check(
    kind="training",
    forbids={"perturbed_gradient", "plain_sequential", "skips_nonfinite", "reduced_precision"},
    rejects=[
        steps_after_every_row,
        wrong.drops_the_last_batch,
        wrong.trains_one_epoch_only,
        wrong.steps_one_batch_late,
    ],
    once=True,
    textbook={
        "id": "B3",
        "says": "A bigger batch needs fewer iterations for an epoch",
        "verdict": "true",
    },
)
def an_epoch_takes_a_step_a_batch(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """An epoch of N rows in batches of B takes ⌈N/B⌉ steps of the optimizer.

    Counted by a hook of the optimizer, over two epochs and four batch sizes from 1 to N: exact.
    Source: the definition of an epoch; Goodfellow, Bengio & Courville, Deep Learning, §8.1.3.
    """
    run = Rehearsal.of(subject, case)
    rows = len(run.x)
    for size in sorted({1, max(1, rows // 3), max(1, rows - 1), rows}):
        counted = _steps(subject, run, size)
        expected = _EPOCHS * math.ceil(rows / size)
        yield Evidence(
            error=float(abs(counted - expected)),
            bound=0.0,
            signal=float(expected),
            unit="steps",
            what=f"steps of {_EPOCHS} epochs of {rows} rows in batches of {size}",
            expected=str(expected),
            got=str(counted),
        )


def _steps(subject: Implementation, run: Rehearsal, size: int) -> int:
    model, count = copy.deepcopy(run.model), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def tick(*_: Any) -> None:
        nonlocal count
        count += 1

    optimizer.register_step_post_hook(tick)
    loader: DataLoader[Any] = DataLoader(
        TensorDataset(run.x, run.y), batch_size=size, sampler=run.order
    )
    subject(model, loader, optimizer, run.loss, epochs=_EPOCHS)
    return count
