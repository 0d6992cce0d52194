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

_EPOCHS, _BEST, _BATCH = 5, 3, 4  # the weights after the third of five epochs are made the best
_POOL, _EACH = 2000, 4


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
    """The weights at the end are those of the epoch that validated best, here the third of five.

    The weights after each epoch are known from a loop of the checks. Validation rows are chosen
    from a pool so that the third epoch is best by loss and by accuracy, in batches of equal
    size, so that every usual measure agrees. The bound is the rounding of the steps.
    Source: Prechelt, Early Stopping, But When?, 1998.
    """
    run = Rehearsal.of(subject, case, rows=23)
    ends = run.steps(_BATCH, epochs=_EPOCHS)[:: len(run.windows(_BATCH))][1:]
    x, y = _telling_rows(run, ends, case)
    loader: DataLoader[Any] = DataLoader(TensorDataset(x, y), batch_size=_EACH)
    model = copy.deepcopy(run.model)
    optimizer = run.optimizer(model)
    given = keywords(subject, epochs=_EPOCHS, validation=loader)
    if subject.options.get("scheduler"):
        given["scheduler"] = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1.0)
    answer = subject(model, run.loader(_BATCH), optimizer, run.loss, **given)
    got = run.weights(answer if isinstance(answer, nn.Module) else model)
    apart = [float((got - end).abs().amax()) for end in ends]
    others = [end for number, end in enumerate(ends) if number != _BEST - 1]
    nearest = min(range(_EPOCHS), key=apart.__getitem__)
    return Evidence(
        error=apart[_BEST - 1],
        bound=run.rounding(_BATCH, epochs=_EPOCHS),
        signal=min(float((ends[_BEST - 1] - end).abs().amax()) for end in others),
        what=f"weights at the end, beside those after epoch {_BEST} of {_EPOCHS}",
        expected=f"the weights after epoch {_BEST}, which validated best",
        got=f"those after epoch {nearest + 1}" if apart[nearest] < 1e-9 else "others",
        cause="a state dict holds references: copy it (copy.deepcopy)"
        if nearest == _EPOCHS - 1 and apart[nearest] < 1e-9
        else "",
    )


def _telling_rows(run: Rehearsal, ends: list[Tensor], case: Case) -> tuple[Tensor, Tensor]:
    """Validation rows that the weights after epoch `_BEST` get right, and the others less well.

    A row's label is what the best weights predict. For every other epoch those rows of the pool
    are taken whose label it likes least beside the best epoch, and does not predict.
    """
    if run.y.is_floating_point():
        raise NotApplicable("the best epoch is shown with classes")
    shape = (_POOL, *run.x.shape[1:])
    pool = 3 * torch.randn(shape, generator=case.generator("pool"), dtype=torch.float64)
    pool = pool.to(run.x)
    scores = torch.stack([run.answers(end, pool).log_softmax(-1) for end in ends])
    best = scores[_BEST - 1]
    labels = best.argmax(-1)
    likes = scores.gather(-1, labels.expand(len(ends), -1)[..., None])[..., 0]
    chosen: list[int] = []
    for number in range(len(ends)):
        if number == _BEST - 1:
            continue
        fallen = scores[number].argmax(-1) != labels
        worse = torch.where(fallen, likes[_BEST - 1] - likes[number], -torch.inf)
        chosen += worse.topk(_EACH).indices.tolist()
    rows = torch.tensor(chosen)
    losses = -likes[:, rows].mean(1)
    right = (scores[:, rows].argmax(-1) == labels[rows]).double().mean(1)
    others = [i for i in range(len(ends)) if i != _BEST - 1]
    clear = bool((losses[others] > losses[_BEST - 1]).all())
    if not clear or not bool((right[others] < right[_BEST - 1]).all()):
        raise NotApplicable("no rows were found on which one epoch is best by every measure")
    return pool[rows], labels[rows]
