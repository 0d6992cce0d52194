"""The order of the samples does not matter."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.agreement import agreement
from dlcheck.checks.loss.batches import ARGUMENT, reduces
from dlcheck.checks.loss.broken import CLASSES, EACH, wrong
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _weights_by_place(prediction: Tensor, target: Tensor) -> Tensor:
    rows = (prediction - target).square().mean(-1)
    return (rows * torch.arange(1, len(rows) + 1).to(rows)).mean()


def _against_the_next_row(prediction: Tensor, target: Tensor) -> Tensor:
    """Targets are shuffled apart from their predictions."""
    return (prediction - target.roll(1, 0)).square().mean()


def _differences_of_neighbours(prediction: Tensor, target: Tensor) -> Tensor:
    e = prediction - target
    return e.square().mean() + (e[1:] - e[:-1]).square().sum()


def _first_row_twice(prediction: Tensor, target: Tensor) -> Tensor:
    rows = F.cross_entropy(prediction, target, reduction="none")
    return (rows.sum() + rows[0]) / (len(rows) + 1)


@check(
    kind="loss",
    rejects=[
        wrong(_weights_by_place, EACH),
        wrong(_against_the_next_row, EACH),
        wrong(_differences_of_neighbours, EACH),
        wrong(_first_row_twice, CLASSES),
    ],
    accepts=[
        Subject(name="reduces", target=reduces, kind="loss", options=ARGUMENT),
        Subject(
            name="torch_cross_entropy",
            target=F.cross_entropy,
            kind="loss",
            options={"task": "classification", "sizes": {"k": [2, 9]}},
        ),
    ],
    forbids={"stochastic"},
    dtypes=["float64", "float32"],
)
def order_of_samples_does_not_matter(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Samples permuted, prediction and target together, have the same loss.

    Without a reduction the losses are permuted alike. The bound is rounding. Of a pair-wise loss
    too: its pairs move together. Source: a sum has no order.
    """
    meaning = Meaning(subject, case)
    axes = meaning.batch
    size = case.sizes.get(meaning.batch_name, 0)
    if size < 2:
        raise NotApplicable("one sample has no order")
    order = torch.randperm(size, generator=case.generator("order"))
    if bool((order == torch.arange(size)).all()):
        order = order.roll(1)
    order = order.to(case.device)
    whole = meaning.answer({})
    moved = meaning.answer(
        {name: meaning.inputs[name].index_select(axis, order) for name, axis in axes.items()}
    )
    axis = axes.get(meaning.prediction, 0)
    expected = whole
    if whole.dim() > axis and whole.shape[axis] == size and whole.numel() > 1:
        expected = whole.index_select(axis, order)
    room = meaning.call.room()()[0]
    yield agreement(
        "loss of the permuted batch",
        moved, expected, room, signal=float(whole.abs().sum()) or 1.0,
        cause="samples are told apart by their place, or targets from their predictions",
    )  # fmt: skip
