"""A learning-rate schedule moves on when its unit is over, and no sooner."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from dlcheck.checks.training.calling import epochs_of, keywords, windows_of
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.checks.training.rehearsal import LEARNING_RATE, Rehearsal
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BATCH, _EPOCHS = 4, 3


class RecordedSGD(torch.optim.SGD):
    """SGD that notes the learning rate of every step."""

    rates: list[float]

    def step(self, closure: Any = None) -> Any:
        self.rates.append(float(self.param_groups[0]["lr"]))
        return super().step(closure)


@check(
    kind="training",
    forbids={"replaces_head"},
    options={"scheduler": ["step", "epoch"]},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("steps_the_schedule_in_the_other_unit"),
        faulty("never_steps_the_schedule"),
        faulty("steps_the_schedule_first"),
        faulty("steps_the_schedule_every_batch"),
    ],
)
def schedule_follows_optimizer_steps(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Step t of the optimizer uses the rate of place t of the schedule, or of its epoch.

    A schedule that divides the rate by 1 + t in its t-th place, over three epochs of 23 rows in
    batches of 4, alone and two to a window; the optimizer notes the rate of each step. Compared
    is every rate that was used and the one that is left. Exact up to one division.
    Source: Loshchilov & Hutter, SGDR, ICLR 2017, section 3; torch.optim: the optimizer steps
    before its schedule.
    """
    run, unit = Rehearsal.of(subject, case, rows=23), subject.options["scheduler"]
    epochs = epochs_of(subject, _EPOCHS)
    for together in windows_of(subject, 1, 2):
        model = copy.deepcopy(run.model)
        optimizer = RecordedSGD(model.parameters(), lr=LEARNING_RATE)
        optimizer.rates = []
        scheduler = LambdaLR(optimizer, lambda t: 1 / (1 + t))
        given = keywords(subject, epochs=epochs, accumulate=together, scheduler=scheduler)
        subject(model, run.loader(_BATCH), optimizer, run.loss, **given)
        steps = len(run.windows(_BATCH, together))
        places = [t // steps if unit == "epoch" else t for t in range(epochs * steps)]
        left = places[-1] + 1
        wanted = [LEARNING_RATE / (1 + t) for t in (*places, left)]
        used = [*optimizer.rates, float(optimizer.param_groups[0]["lr"])]
        if not optimizer.rates:
            raise NotApplicable("the loop never called optimizer.step: its rates cannot be seen")
        yield _compared(wanted, used, together, unit, case)


def _compared(
    wanted: list[float], used: list[float], together: int, unit: str, case: Case
) -> Evidence:
    first = next((i for i, (a, b) in enumerate(zip(wanted, used, strict=False)) if a != b), -1)
    apart = [abs(a - b) for a, b in zip(wanted, used, strict=False)]
    count = abs(len(wanted) - len(used))
    return Evidence(
        error=max(apart) / LEARNING_RATE + count,
        bound=gamma(4, case.dtype),
        signal=1.0,
        unit="of the base rate",
        what=f"learning rates of {len(wanted) - 1} steps, windows of {together}",
        expected=f"{', '.join(f'{rate:.3g}' for rate in wanted[:6])} …, one place every {unit}",
        got=f"{', '.join(f'{rate:.3g}' for rate in used[:6])} …, {len(used) - 1} steps",
        where=f"first apart at step {first}" if first >= 0 else "",
    )
