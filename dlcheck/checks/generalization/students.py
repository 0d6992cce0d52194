"""Forty small networks, trained at once on forty small subsets of the digits.

Each has its own rows, its own wrong labels and its own weights: what is measured is a pair of
numbers for each of forty repetitions. Three in ten training labels are wrong, so that there is
something to learn by heart that does not hold elsewhere; the test labels are right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.datasets import digits
from dlcheck.isolation import seed_everything
from dlcheck.strategies import stream_seed

SEEDS, ROWS, HELD_BACK = 40, 100, 300
WRONG = 0.3  # the share of training labels that are drawn anew among the other digits
STEPS, RATE, MOMENTUM = 160, 0.05, 0.9
_PIXELS, _HIDDEN, _CLASSES = 64, 32, 10
_LOOKS = 20  # steps between two looks at the losses

Penalty = Callable[[Tensor], Tensor]  # of one matrix of weights
Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Way:
    """How training differs from plain training: one of the three, or nothing."""

    penalty: Penalty | None = None
    drop: Callable[[Tensor, str], Tensor] | None = None  # hidden units, "train" or "eval"
    optimizer: Optimizer | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """What the forty came to: each [40], in nats or as a share of the rows."""

    training_loss: Tensor
    test_loss: Tensor
    training_errors: Tensor
    test_errors: Tensor
    curve: tuple[tuple[float, float, float], ...]  # step, mean training loss, mean test loss

    @property
    def gap(self) -> Tensor:
        return self.test_loss - self.training_loss


@dataclass(frozen=True, slots=True)
class _Class:
    """The rows of the forty, each a column: x [40, 64, n], y [40, n]."""

    x: Tensor
    y: Tensor


def trained(way: Way, root: int, device: torch.device, dtype: torch.dtype) -> Marks:
    """Plain gradient descent with momentum on all training rows, unless the way has another."""
    lesson, exam = _rows(root, device, dtype)
    weights = _weights(root, device, dtype)
    make = way.optimizer or _gradient_descent
    optimizer = make(weights)
    seed_everything(stream_seed(root, "students", "noise"))
    curve: list[tuple[float, float, float]] = []
    for step in range(STEPS + 1):
        if step % _LOOKS == 0:
            losses = [float(_losses(way, weights, rows).mean()) for rows in (lesson, exam)]
            curve.append((float(step), losses[0], losses[1]))
        if step == STEPS:
            break
        answer = _answer(way, weights, lesson.x, "train")
        # The sum over the forty, so that each has the gradient that it would have alone.
        loss = SEEDS * F.cross_entropy(answer, lesson.y)
        if way.penalty is not None:
            loss = loss + sum(way.penalty(w.flatten(0, 1)) for w in weights[::2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Marks(
        training_loss=_losses(way, weights, lesson),
        test_loss=_losses(way, weights, exam),
        training_errors=_errors(way, weights, lesson),
        test_errors=_errors(way, weights, exam),
        curve=tuple(curve),
    )


@functools.lru_cache(maxsize=4)
def plainly_trained(root: int, device: torch.device, dtype: torch.dtype) -> Marks:
    """The forty without any regularization."""
    return trained(Way(), root, device, dtype)


def _gradient_descent(weights: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(weights, lr=RATE, momentum=MOMENTUM)


@functools.lru_cache(maxsize=4)
def _rows(root: int, device: torch.device, dtype: torch.dtype) -> tuple[_Class, _Class]:
    table = digits()
    generator = torch.Generator().manual_seed(stream_seed(root, "students", "rows"))
    orders = [torch.randperm(len(table.x), generator=generator) for _ in range(SEEDS)]
    seen = torch.stack([order[:ROWS] for order in orders])
    kept = torch.stack([order[ROWS : ROWS + HELD_BACK] for order in orders])
    labels = table.y[seen]
    others = (labels + torch.randint(1, _CLASSES, labels.shape, generator=generator)) % _CLASSES
    wrong = torch.rand(labels.shape, generator=generator) < WRONG
    labels = torch.where(wrong, others, labels)
    x = table.x.to(device, dtype)
    lesson, exam = (x[rows.to(device)].mT.contiguous() for rows in (seen, kept))
    return _Class(lesson, labels.to(device)), _Class(exam, table.y[kept].to(device))


def _weights(root: int, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """He's initialization: W₁ [40, 32, 64], b₁ [40, 32, 1], W₂ [40, 10, 32], b₂ [40, 10, 1]."""
    generator = torch.Generator().manual_seed(stream_seed(root, "students", "weights"))
    first = torch.randn(SEEDS, _HIDDEN, _PIXELS, generator=generator) * (2 / _PIXELS) ** 0.5
    second = torch.randn(SEEDS, _CLASSES, _HIDDEN, generator=generator) * (1 / _HIDDEN) ** 0.5
    found = [first, torch.zeros(SEEDS, _HIDDEN, 1), second, torch.zeros(SEEDS, _CLASSES, 1)]
    return [w.to(device, dtype).requires_grad_() for w in found]


def _answer(way: Way, weights: list[Tensor], x: Tensor, mode: str) -> Tensor:
    """The logits of all rows: [40, 10, n]."""
    first, bias, second, shift = weights
    hidden = torch.relu(torch.baddbmm(bias, first, x))
    if way.drop is not None:
        seen = hidden.mT  # a row a sample, as dropout has it
        hidden = way.drop(seen.flatten(0, 1), mode).reshape(seen.shape).mT
    return torch.baddbmm(shift, second, hidden)


def _losses(way: Way, weights: list[Tensor], rows: _Class) -> Tensor:
    """The mean loss of each in evaluation: [40]."""
    with torch.no_grad():
        answer = _answer(way, weights, rows.x, "eval")
        return F.cross_entropy(answer, rows.y, reduction="none").mean(1).double().cpu()


def _errors(way: Way, weights: list[Tensor], rows: _Class) -> Tensor:
    """The share of wrong rows of each: [40]."""
    with torch.no_grad():
        answer = _answer(way, weights, rows.x, "eval")
        return (answer.argmax(1) != rows.y).double().mean(1).cpu()
