"""A small training run, made twice: by the subject, and by a loop written for the checks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.checks.training.calling import keywords
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.numerics.rounding import gamma
from dlcheck.strategies import Case, materialize
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
    def of(cls, subject: Implementation, case: Case, rows: int | None = None) -> Rehearsal:
        """The case's rows, or so many, in a seeded order, with a small network and its loss."""
        x, y = _rows_of(case, rows)
        order = torch.randperm(len(x), generator=case.generator("order")).tolist()
        seed_everything(case.recipe.seed)
        model = _model(subject, case, x, y).to(device=case.device, dtype=case.dtype)
        return cls(x, y, model, _loss(subject, y), tuple(order))

    def on(self, device: torch.device) -> Rehearsal:
        """The same rows and model there."""
        model = copy.deepcopy(self.model).to(device)
        return replace(self, x=self.x.to(device), y=self.y.to(device), model=model)

    def trained(
        self,
        subject: Implementation,
        batch: int,
        *,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **wanted: Any,
    ) -> Tensor:
        """The parameters [p] after the subject has trained a copy of the model, or the given one.

        wanted: epochs, accumulate, or any option that names an argument, with its value.
        """
        model = copy.deepcopy(self.model) if model is None else model
        optimizer = self.optimizer(model) if optimizer is None else optimizer
        answer = subject(
            model, self.loader(batch), optimizer, self.loss, **keywords(subject, **wanted)
        )
        return flat(answer if isinstance(answer, nn.Module) else model)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def loader(self, batch: int) -> DataLoader[Any]:
        """The rows in order. A stream of its own: what it draws is not seen by the others."""
        return DataLoader(
            TensorDataset(self.x, self.y),
            batch_size=batch,
            sampler=self.order,
            generator=torch.Generator().manual_seed(0),
        )

    def expected(self, batch: int, **settings: Any) -> Tensor:
        """The parameters [p] at the end of `steps`."""
        return self.steps(batch, **settings)[-1]

    def steps(
        self,
        batch: int,
        *,
        epochs: int = 1,
        together: int = 1,
        window: str = "rows",
        clip: float = math.inf,
        without: Sequence[int] = (),
        nudge: float = 0.0,
    ) -> list[Tensor]:
        """The parameters [p] at the start and after each momentum step, epoch after epoch.

        together: batches of a window, whose step averages over what `window` says. clip: limit
        of the global norm. without: numbers of the batches that are left out. nudge: change data
        and parameters by ±nudge, relatively, at random.
        """
        generator = torch.Generator().manual_seed(0)
        model = copy.deepcopy(self.model)
        x = _nudged(self.x, nudge, generator)
        parameters = list(model.parameters())
        with torch.no_grad():
            for parameter in parameters:
                parameter.copy_(_nudged(parameter, nudge, generator))
        velocity = [torch.zeros_like(parameter) for parameter in parameters]
        taken = [flat(model)]
        for _ in range(epochs):
            for parts in self.windows(batch, together, without):
                value = self._mean(model, x, parts, window, together)
                gradients = _clipped(torch.autograd.grad(value, parameters), clip)
                with torch.no_grad():
                    for p, v, g in zip(parameters, velocity, gradients, strict=True):
                        v.mul_(MOMENTUM).add_(g)
                        p.sub_(LEARNING_RATE * v)
                taken.append(flat(model))
        return taken

    def _mean(
        self, model: nn.Module, x: Tensor, parts: list[list[int]], window: str, together: int
    ) -> Tensor:
        if window == "rows":
            rows = [row for part in parts for row in part]
            return self.loss(model(x[rows]), self.y[rows])
        values = [self.loss(model(x[part]), self.y[part]) for part in parts]
        return torch.stack(values).sum() / (together if window == "full" else len(parts))

    def norm(self, batch: int) -> float:
        """The norm of the first batch's gradient."""
        rows = self.windows(batch)[0][0]
        model = copy.deepcopy(self.model)
        value = self.loss(model(self.x[rows]), self.y[rows])
        gradients = torch.autograd.grad(value, list(model.parameters()))
        return math.sqrt(sum(float(g.square().sum()) for g in gradients))

    def answers(self, weights: Tensor, x: Tensor) -> Tensor:
        """What the model answers to x with these parameters [p]."""
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            nn.utils.vector_to_parameters(weights, model.parameters())
            answer: Tensor = model(x)
        return answer

    def weights(self, model: nn.Module) -> Tensor:
        """The parameters [p] of a trained copy, which may have come back in a wrapper."""
        own = flat(model)
        if len(own) != len(self.start):
            raise SubjectError(
                f"a model with {len(own)} parameters came back; {len(self.start)} were given"
            )
        return own

    def windows(
        self, batch: int, together: int = 1, without: Sequence[int] = ()
    ) -> list[list[list[int]]]:
        """Windows of `together` batches of rows; the last one of each may be shorter."""
        order = list(self.order)
        batches = [order[start : start + batch] for start in range(0, len(order), batch)]
        batches = [rows for number, rows in enumerate(batches) if number not in without]
        return [batches[i : i + together] for i in range(0, len(batches), together)]

    def rounding(self, batch: int, **settings: Any) -> float:
        """How far two right loops may end up from each other.

        A weight passes through at most (inputs + hidden + outputs + rows) roundings a step; each
        acts like a relative change by u of a number on its way. What such changes do to the end
        is measured: the response to ±2⁻²⁶ changes of data and parameters, per unit of change.
        """
        taken = self.steps(batch, **settings)
        right = taken[-1]
        response = max(
            float((self.expected(batch, nudge=nudge, **settings) - right).abs().amax()) / _NUDGE
            for nudge in (_NUDGE, -_NUDGE)
        )
        width = sum(p.shape[-1] + 1 for p in self.model.parameters())
        rows = batch * settings.get("together", 1)
        roundings = (len(taken) - 1) * (width + min(rows, len(self.x)))
        size = float(right.abs().amax())
        return gamma(roundings, self.x.dtype) * (response * math.sqrt(width) + size)

    @property
    def start(self) -> Tensor:
        return flat(self.model)


def _rows_of(case: Case, rows: int | None) -> tuple[Tensor, Tensor]:
    first = next(iter(case.specs.values())).dims
    if rows is None:
        x, y = case.tensors[:2]
        return x, y
    if not first or not first[0].name:
        raise NotApplicable("the number of rows is fixed; name the first dim of the inputs")
    recipe = replace(case.recipe, sizes={**case.sizes, first[0].name: rows})
    x, y = list(materialize(recipe, case.specs, case.device, case.dtype).values())[:2]
    return x, y


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


def flat(model: nn.Module) -> Tensor:
    """The parameters as one vector [p], copied."""
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])


def _clipped(gradients: Sequence[Tensor], limit: float) -> Sequence[Tensor]:
    """g · min(1, limit / ‖all g together‖)."""
    if math.isinf(limit):
        return gradients
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return [g * min(1.0, limit / float(norm)) for g in gradients]


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
