"""A loop that is shown one batch over and over learns it by heart."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dlcheck.checks.training import wrong_loops as wrong
from dlcheck.checks.training.calling import train_for
from dlcheck.checks.training.rehearsal import Rehearsal
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _STEPS, _HIDDEN = 8, 150, 32
_LEFT = 0.05  # of the loss at the start that may be left


@check(
    kind="training",
    forbids={"freezes", "replaces_head", "returns_average"},
    dtypes=["float64"],
    once=True,
    rejects=[
        wrong.climbs,
        wrong.zeroes_before_the_step,
        wrong.trains_one_epoch_only,
        wrong.drops_the_last_batch,
    ],
)
def fits_one_batch(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """One batch of 8 rows, shown 150 times, is learnt: at most 5 % of its first loss is left.

    A declared model is taken as it is; where it classifies, its first loss must be that of a
    guess, ln k, to within ln 2: a right class with less than half of a guess's chance means
    that it starts confident and wrong. Else a network with 32 hidden units, which can hold 8 rows.
    Source: Karpathy, A Recipe for Training Neural Networks, 2019: "overfit one batch", "verify
    loss @ init".
    """
    run = Rehearsal.of(subject, case, rows=_ROWS)
    model = run.model if "model" in subject.options else _wide(run)
    model = copy.deepcopy(model).to(device=case.device, dtype=case.dtype)
    first = _loss(run, model)
    if "model" in subject.options and not run.y.is_floating_point():
        classes = int(model(run.x[:2]).shape[-1])
        yield Evidence(
            error=abs(first - math.log(classes)),
            bound=math.log(2),
            signal=math.log(classes),
            resolution=1.0,
            unit="nats",
            what="loss before training, beside ln k",
        )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train_for(subject, _STEPS, model, run.loader(_ROWS), optimizer, run.loss)
    left = _loss(run, model)
    yield Evidence(
        error=left,
        bound=_LEFT * first,
        signal=first,
        resolution=0.1,
        what=f"loss on {_ROWS} rows after {_STEPS} steps on them",
        got=f"{first:.3g} → {left:.3g}",
    )


def _wide(run: Rehearsal) -> nn.Module:
    features, classes = run.x[0].numel(), int(run.model(run.x[:1]).shape[-1])
    return nn.Sequential(nn.Linear(features, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, classes))


@torch.no_grad()
def _loss(run: Rehearsal, model: nn.Module) -> float:
    """The loss in evaluation mode, the mode being put back."""
    was_training = model.training
    model.eval()
    value: Tensor = run.loss(model(run.x), run.y)
    model.train(was_training)
    return float(value)
