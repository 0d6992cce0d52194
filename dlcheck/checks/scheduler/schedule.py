"""A schedule at work on an optimizer of several groups."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dlcheck.errors import SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded

BASE = 0.16
BASES = (BASE, 0.02)  # of the two groups
_STEPS = 30  # where options.steps does not say


class Schedule:
    """A scheduler at work on an optimizer of plain gradient descent, with several groups."""

    def __init__(self, subject: Implementation, case: Case, bases: Sequence[float] = BASES) -> None:
        self.subject, self.case = subject, case
        seed_everything(case.recipe.seed)
        parameters = [nn.Parameter(torch.ones(2, dtype=case.dtype)) for _ in bases]
        groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, bases, strict=True)]
        # Schedules that cycle the momentum too want one to cycle.
        self.optimizer = torch.optim.SGD(groups, lr=bases[0], momentum=0.9)
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.scheduler = guarded(subject.target, self.optimizer)
        if not hasattr(self.scheduler, "step"):
            raise SubjectError(
                f"{subject.declared.name} was built as {type(self.scheduler).__qualname__}, which "
                f"has no step(); a scheduler is called {subject.kind.call}"
            )

    @property
    def rates(self) -> list[float]:
        """What the optimizer uses, group by group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    @property
    def reported(self) -> list[float] | None:
        """What get_last_lr() says; None where there is none."""
        if not hasattr(self.scheduler, "get_last_lr"):
            return None
        return [float(lr) for lr in guarded(self.scheduler.get_last_lr)]

    def advance(self, turn: int) -> None:
        """One step of the optimizer, and one of the schedule after it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an order that is kept here
            self.optimizer.step()
            guarded(self.scheduler.step, *self._given(turn))

    def _given(self, turn: int) -> list[float]:
        """What step() is called with, as `options.step_takes` says, or its signature."""
        takes = self.subject.options.get("step_takes")
        if takes is None:
            takes = "metric" if _wants_a_metric(self.scheduler) else "nothing"
        given: dict[object, list[float]] = {"metric": [metric_at(turn)], "epoch": [turn + 1]}
        return given.get(takes, [])

    def run(self, first: int, last: int) -> list[list[float]]:
        """The rates that the steps first … last − 1 of the optimizer use."""
        found = []
        for turn in range(first, last):
            found.append(self.rates)
            self.advance(turn)
        return found


def metric_at(turn: int) -> float:
    """A loss that falls, stays on a plateau, and falls again."""
    return 1 / (1 + min(turn, 6)) + (0.0 if turn < 20 else -0.05)


def _wants_a_metric(scheduler: Any) -> bool:
    try:
        parameters = inspect.signature(scheduler.step).parameters
    except (TypeError, ValueError):
        return False
    first = next(iter(parameters.values()), None)
    return first is not None and first.default is inspect.Parameter.empty and first.kind not in (
        first.VAR_POSITIONAL, first.VAR_KEYWORD,
    )  # fmt: skip


def steps_of(subject: Implementation) -> int:
    """How many steps the schedule is meant for."""
    stated = subject.argument("steps")
    return int(stated) if stated is not None else _STEPS
