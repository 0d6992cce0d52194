"""Forward, backward and update, repeated, lead to a network that has learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.checks.training import wrong_loops as wrong
from dlcheck.checks.training.calling import train_for
from dlcheck.datasets import Table, digits
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Figure
from dlcheck.registry import check
from dlcheck.strategies import Case, stream_seed
from dlcheck.subjects import Implementation

_ROWS, _CLASSES, _HIDDEN = 400, 10, 32
_BATCH, _LEARNING_RATE, _MOMENTUM = 32, 0.2, 0.9
_ROUNDS, _EPOCHS = 10, 5  # so many looks, and so many epochs between two
_MISTAKES = 0.01  # the share of training rows that a trained network may still get wrong


@dataclass(frozen=True, slots=True)
class _State:
    """What is measured between epochs."""

    loss: float  # mean over the training rows, in nats
    slope: float  # ‖∇ loss‖
    mistakes: float  # the share of wrong rows among those kept back


@check(
    kind="training",
    forbids={"replaces_head", "freezes", "returns_average"},
    dtypes=["float64"],
    once=True,
    rejects=[
        wrong.forgets_zero_grad,
        wrong.steps_before_backward,
        wrong.zeroes_before_the_step,
        wrong.climbs,
        wrong.reuses_the_first_batch,
    ],
    textbook={
        "id": "P1",
        "says": "Backpropagation is forward, backward and update until convergence",
        "verdict": "true",
    },
)
def converges_on_the_digits(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Trained on handwritten digits, the loss falls from a guess to where mistakes are excluded.

    A 64-32-10 network with tanh, 50 epochs over 400 rows. A guess costs ln 10. A misclassified
    row has a probability of at most ½ for its class and so a loss of at least ln 2: a mean loss
    of L leaves at most a share L / ln 2 wrong, and converged means L ≤ 0.01 ln 2. What was learnt
    must hold for the 1397 rows kept back: no more mistakes than the nearest class mean makes, a
    classifier without any training, and 4 standard errors.
    Source: TEXTBOOK P1; Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    train, test = digits().split(_ROWS, seed=stream_seed(case.root, case.claim, "split"))
    train, test = train.to(case.device, case.dtype), test.to(case.device, case.dtype)
    states = _states(subject, case, train, test)
    first, last = states[0], states[-1]
    yield Evidence(
        error=last.loss,
        bound=_MISTAKES * math.log(2),
        signal=first.loss,
        unit="nats",
        what=f"mean training loss after {_ROUNDS * _EPOCHS} epochs",
        expected=f"from about ln 10 = {math.log(_CLASSES):.2f} to at most 0.01 ln 2",
        got=f"{first.loss:.3f} → {last.loss:.3g}",
        values={"gradient norm at the start": first.slope, "at the end": last.slope},
        figures=(_figure(states),),
    )
    allowed = _nearest_mean_mistakes(train, test)
    allowed += 4 * math.sqrt(allowed * (1 - allowed) / len(test.x))
    yield Evidence(
        error=last.mistakes,
        bound=allowed,
        signal=1 - 1 / _CLASSES,  # of a guess
        resolution=0.25,  # the nearest mean makes an eighth of the mistakes of a guess
        unit="of the rows",
        what=f"mistakes on {len(test.x)} rows that were kept back",
        got=f"{first.mistakes:.3f} → {last.mistakes:.3f}",
    )


def _states(subject: Implementation, case: Case, train: Table, test: Table) -> list[_State]:
    """The state before training and after each round of epochs."""
    seed_everything(stream_seed(case.root, case.claim, "weights"))
    model = nn.Sequential(
        nn.Linear(train.x.shape[1], _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, _CLASSES)
    ).to(device=case.device, dtype=case.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM)
    order = torch.Generator().manual_seed(stream_seed(case.root, case.claim, "order"))
    loader: DataLoader[Any] = DataLoader(
        TensorDataset(train.x, train.y), batch_size=_BATCH, shuffle=True, generator=order
    )
    states = [_state(model, train, test)]
    for _ in range(_ROUNDS):
        train_for(subject, _EPOCHS, model, loader, optimizer, nn.CrossEntropyLoss())
        states.append(_state(model, train, test))
    return states


def _state(model: nn.Module, train: Table, test: Table) -> _State:
    model.eval()
    loss = F.cross_entropy(model(train.x), train.y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    squares = sum(float(g.square().sum()) for g in gradients)
    with torch.no_grad():
        mistakes = _share(model(test.x).argmax(-1) != test.y)
    return _State(float(loss.detach()), math.sqrt(squares), mistakes)


def _nearest_mean_mistakes(train: Table, test: Table) -> float:
    means = torch.stack([train.x[train.y == digit].mean(0) for digit in range(_CLASSES)])
    return _share(torch.cdist(test.x, means).argmin(-1) != test.y)


def _share(wrong_rows: Tensor) -> float:
    return float(wrong_rows.double().mean())


def _figure(states: list[_State]) -> Figure:
    epochs = [float(_EPOCHS * number) for number in range(len(states))]
    finite = [
        (epoch, state)
        for epoch, state in zip(epochs, states, strict=True)
        if math.isfinite(state.loss) and math.isfinite(state.slope) and state.loss > 0
    ]
    level = _MISTAKES * math.log(2)
    return Figure(
        title="Training on the digits",
        x="epoch",
        y="nats; norm of the gradient",
        log_y=True,
        series={
            "training loss": [(epoch, state.loss) for epoch, state in finite],
            "norm of the gradient": [(epoch, state.slope) for epoch, state in finite],
            "0.01 ln 2": [(epochs[0], level), (epochs[-1], level)],
        },
        note="Below 0.01 ln 2 at most 1 % of the training rows can be misclassified.",
    )
