"""A small training run, made twice: by the subject, and by a loop written for the checks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.isolation import seed_everything
from dlcheck.numerics.rounding import gamma
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation
from dlcheck.targets import load_target

HIDDEN = 4
LEARNING_RATE = 0.1
MOMENTUM = 0.5
_NUDGE = 2.0**-26  # a relative change of the data: small, yet far above rounding in float64


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Rows, a model to train on them, and the order in which they come."""

    x: Tensor
    y: Tensor
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    order: tuple[int, ...]

    @classmethod
    def of(cls, subject: Implementation, case: Case) -> Rehearsal:
        """The case's rows, in a seeded order, with a small network and its usual loss."""
        x, y = case.tensors[:2]
        order = torch.randperm(len(x), generator=case.generator("order")).tolist()
        seed_everything(case.recipe.seed)
        model = _model(subject, case, x, y).to(device=case.device, dtype=case.dtype)
        return cls(x, y, model, _loss(subject, y), tuple(order))

    def trained(
        self, subject: Implementation, batch: int, *, accumulate: int = 1, epochs: int = 1
    ) -> Tensor:
        """The parameters [p] after the subject has trained a copy of the model."""
        model = copy.deepcopy(self.model)
        optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        loader: DataLoader[Any] = DataLoader(
            TensorDataset(self.x, self.y), batch_size=batch, sampler=self.order
        )
        keywords = {"accumulate": accumulate} if accumulate > 1 else {}
        subject(model, loader, optimizer, self.loss, epochs=epochs, **keywords)
        return _flat(model)

    def expected(self, window: int, epochs: int = 1, nudge: float = 0.0) -> Tensor:
        """The parameters [p] after one momentum step per `window` rows, epoch after epoch.

        nudge: change data and parameters by ±nudge, relatively, at random.
        """
        generator = torch.Generator().manual_seed(0)
        model = copy.deepcopy(self.model)
        x = _nudged(self.x, nudge, generator)
        parameters = list(model.parameters())
        with torch.no_grad():
            for parameter in parameters:
                parameter.copy_(_nudged(parameter, nudge, generator))
        velocity = [torch.zeros_like(parameter) for parameter in parameters]
        for _ in range(epochs):
            for rows in self.windows(window):
                value = self.loss(model(x[rows]), self.y[rows])
                gradients = torch.autograd.grad(value, parameters)
                with torch.no_grad():
                    for p, v, g in zip(parameters, velocity, gradients, strict=True):
                        v.mul_(MOMENTUM).add_(g)
                        p.sub_(LEARNING_RATE * v)
        return _flat(model)

    def windows(self, size: int) -> list[list[int]]:
        order = list(self.order)
        return [order[start : start + size] for start in range(0, len(order), size)]

    def rounding(self, window: int, epochs: int = 1) -> float:
        """How far two right loops may end up from each other.

        A weight passes through at most (inputs + hidden + outputs + rows) roundings a step; each
        acts like a relative change by u of a number on its way. What such changes do to the end
        is measured: the response to ±2⁻²⁶ changes of data and parameters, per unit of change.
        """
        right = self.expected(window, epochs)
        response = max(
            float((self.expected(window, epochs, nudge) - right).abs().amax()) / _NUDGE
            for nudge in (_NUDGE, -_NUDGE)
        )
        width = sum(p.shape[-1] + 1 for p in self.model.parameters())
        steps = epochs * len(self.windows(window))
        roundings = steps * (width + min(window, len(self.x)))
        size = float(right.abs().amax())
        return gamma(roundings, self.x.dtype) * (response * math.sqrt(width) + size)

    @property
    def start(self) -> Tensor:
        return _flat(self.model)


def _model(subject: Implementation, case: Case, x: Tensor, y: Tensor) -> nn.Module:
    if "model" in subject.options:
        made = load_target(subject.options["model"], near=subject.declared.file)
        return made if isinstance(made, nn.Module) else made()
    features = x[0].numel()
    spec = list(case.specs.values())[1]
    classes = spec.count.size(case.sizes) if spec.count is not None else y[0].numel()
    return nn.Sequential(nn.Linear(features, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, classes))


def _loss(subject: Implementation, y: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    if "loss" in subject.options:
        made = load_target(subject.options["loss"], near=subject.declared.file)
        loss: Callable[[Tensor, Tensor], Tensor] = made() if isinstance(made, type) else made
        return loss
    return nn.MSELoss() if y.is_floating_point() else nn.CrossEntropyLoss()


def _nudged(value: Tensor, nudge: float, generator: torch.Generator) -> Tensor:
    signs = torch.randn(value.shape, generator=generator).sign().to(value)
    return value.detach() * (1 + nudge * signs)


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


def uphill(start: Tensor, right: Tensor, got: Tensor) -> str:
    """In words, where the end of a training run shows at once what happened."""
    if torch.equal(start, got):
        return "the weights did not move at all"
    wanted, made = right - start, got - start
    sizes = torch.linalg.vector_norm(wanted) * torch.linalg.vector_norm(made)
    return "the steps go uphill" if float(wanted @ made) < -0.7 * float(sizes) else ""


def batch_sizes(rows: int, seed: int) -> Sequence[int]:
    """Batch sizes that leave a short last batch, where there are rows enough."""
    short = [size for size in range(2, max(rows // 2, 2) + 1) if rows % size]
    return [short[seed % len(short)]] if short else [max(rows // 2, 1)]
