"""A loop that keeps the best weights ends with those, and not with the last."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.checks.training.calling import keywords
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.checks.training.rehearsal import Rehearsal
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_EPOCHS, _BATCH = 5, 4
_CANDIDATES = (2, 1, 3)  # epochs, from 0, one of which is made the best
_POOL, _ROWS, _EACH = 4000, 16, 4


@check(
    kind="training",
    needs={"restores_best"},
    forbids={"freezes", "replaces_head", "perturbed_gradient", "reduced_precision"},
    options={"validation": True},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("keeps_a_reference"),
        faulty("keeps_the_worst"),
        faulty("keeps_the_last_weights"),
        faulty("restores_the_first_tensor_only"),
    ],
)
def best_weights_are_the_best(subject: Implementation, case: Case) -> Evidence:
    """The weights at the end are those of the epoch that validated best, here not the last.

    The weights after each of five epochs are known from a loop of the checks. Validation rows are
    chosen from a pool so that the third epoch, or one beside it, is best by loss and by accuracy,
    in batches of equal size, so that every usual measure agrees. The bound is the rounding of
    the steps.
    Source: Prechelt, Early Stopping, But When?, 1998.
    """
    run = Rehearsal.of(subject, case, rows=23)
    ends = run.steps(_BATCH, epochs=_EPOCHS)[:: len(run.windows(_BATCH))][1:]
    best, x, y = _telling_rows(run, ends, case)
    loader: DataLoader[Any] = DataLoader(TensorDataset(x, y), batch_size=_EACH)
    model = copy.deepcopy(run.model)
    optimizer = run.optimizer(model)
    given = keywords(subject, epochs=_EPOCHS, validation=loader)
    if subject.options.get("scheduler"):
        given["scheduler"] = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0)
    answer = subject(model, run.loader(_BATCH), optimizer, run.loss, **given)
    got = run.weights(answer if isinstance(answer, nn.Module) else model)
    apart = [float((got - end).abs().amax()) for end in ends]
    others = [end for number, end in enumerate(ends) if number != best]
    nearest = min(range(_EPOCHS), key=apart.__getitem__)
    return Evidence(
        error=apart[best],
        bound=run.rounding(_BATCH, epochs=_EPOCHS),
        signal=min(float((ends[best] - end).abs().amax()) for end in others),
        what=f"weights at the end, beside those after epoch {best + 1} of {_EPOCHS}",
        expected=f"the weights after epoch {best + 1}, which validated best",
        got=f"those after epoch {nearest + 1}" if apart[nearest] < 1e-9 else "others",
        cause="a state dict holds references: copy it (copy.deepcopy)"
        if nearest == _EPOCHS - 1 and apart[nearest] < 1e-9
        else "",
    )


def _telling_rows(run: Rehearsal, ends: list[Tensor], case: Case) -> tuple[int, Tensor, Tensor]:
    """(an epoch between the first and the last, rows, labels): the epoch is best on the rows.

    A row's label is what the weights after that epoch predict. Rows of a pool are added one by
    one, each time the one that leaves the least lead over another epoch largest.
    """
    if run.y.is_floating_point():
        raise NotApplicable("the best epoch is shown with classes")
    shape = (_POOL, *run.x.shape[1:])
    pool = 3 * torch.randn(shape, generator=case.generator("pool"), dtype=torch.float64)
    pool = pool.to(run.x)
    scores = torch.stack([run.answers(end, pool).log_softmax(-1) for end in ends])
    for best in _CANDIDATES:
        labels = scores[best].argmax(-1)
        likes = scores.gather(-1, labels.expand(len(ends), -1)[..., None])[..., 0]
        others = [number for number in range(len(ends)) if number != best]
        lead = likes[best] - likes[others]
        fallen = (scores[others].argmax(-1) != labels).double()
        rows = _chosen(lead, fallen)
        if bool((lead[:, rows].sum(1) > 0).all()) and bool((fallen[:, rows].sum(1) > 0).all()):
            return best, pool[rows], labels[rows]
    raise NotApplicable("no rows were found on which one epoch is best by every measure")


def _chosen(lead: Tensor, fallen: Tensor) -> list[int]:
    """`_ROWS` rows of a pool that make the least lead large: the first ones those that fall.

    lead, fallen: [epochs, pool], how much better the best epoch is, and whether the other one is
    wrong where it is right.
    """
    rows: list[int] = []
    total = torch.zeros_like(lead[:, :1])
    for turn in range(_ROWS):
        allowed = fallen[turn % len(fallen)] > 0 if turn < _ROWS // 2 else fallen.amax(0) >= 0
        worth = (total + lead).amin(0).masked_fill(~allowed, -torch.inf)
        worth[rows] = -torch.inf
        rows.append(int(worth.argmax()))
        total = total + lead[:, rows[-1:]]
    return rows
