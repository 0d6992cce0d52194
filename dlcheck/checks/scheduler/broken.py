"""The ways in which people get a schedule wrong."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from dlcheck.model import Subject

Optimizer = torch.optim.Optimizer


class Warmed(LRScheduler):
    """Linear warm-up, then half a cosine down to 0; what follows are its bugs."""

    def __init__(self, optimizer: Optimizer, warmup: int = 4, total: int = 12) -> None:
        self.warmup, self.total = warmup, total
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        if t < self.warmup:
            return (t + 1) / self.warmup
        share = min(1.0, (t - self.warmup) / (self.total - self.warmup))
        return 0.5 * (1 + math.cos(math.pi * share))

    def get_lr(self) -> list[Any]:
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]


FORMULA = (
    "base_lr * ((t + 1) / warmup if t < warmup else "
    "0.5 * (1 + math.cos(math.pi * min(1, (t - warmup) / (total - warmup)))))"
)


class StartsOneLate(Warmed):
    """t/W: the first step has a rate of 0."""

    def factor(self, t: int) -> float:
        return super().factor(t - 1) if t else 0.0


class RisesAgain(Warmed):
    """Past its end the cosine goes on."""

    def factor(self, t: int) -> float:
        if t < self.warmup:
            return super().factor(t)
        share = (t - self.warmup) / (self.total - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * share))


class CountsEpochs(Warmed):
    """One of its units is three steps."""

    def factor(self, t: int) -> float:
        return super().factor(t // 3)


class GoesBelowZero(Warmed):
    """A linear decay without an end."""

    def factor(self, t: int) -> float:
        return 1 - t / self.total


class SharesTheFirstRate(Warmed):
    """The first group's rate for all groups."""

    def get_lr(self) -> list[Any]:
        return [self.base_lrs[0] * self.factor(self.last_epoch)] * len(self.base_lrs)


class SetsTheFirstGroup(Warmed):
    def step(self, epoch: int | None = None) -> None:
        kept = [group["lr"] for group in self.optimizer.param_groups[1:]]
        super().step(epoch)
        for group, lr in zip(self.optimizer.param_groups[1:], kept, strict=True):
            group["lr"] = lr


class ReportsAnotherRate(Warmed):
    """get_last_lr() is the next one."""

    def get_last_lr(self) -> list[Any]:
        return [base * self.factor(self.last_epoch + 1) for base in self.base_lrs]


class SetsNothing(Warmed):
    """What it computes is reported, and never written to the optimizer."""

    def step(self, epoch: int | None = None) -> None:
        kept = [group["lr"] for group in self.optimizer.param_groups]
        super().step(epoch)
        for group, lr in zip(self.optimizer.param_groups, kept, strict=True):
            group["lr"] = lr


class ReportsTheBase(Warmed):
    def get_last_lr(self) -> list[Any]:
        return list(self.base_lrs)


class CompoundsItsFactor(Warmed):
    """The factor multiplies the rate that is there, not the base."""

    def get_lr(self) -> list[Any]:
        factor = self.factor(self.last_epoch)
        return [group["lr"] * factor for group in self.optimizer.param_groups]


class ForgetsItsStep(Warmed):
    """A count that no state_dict holds."""

    def __init__(self, optimizer: Optimizer, warmup: int = 4, total: int = 12) -> None:
        self.own = [0]
        super().__init__(optimizer, warmup, total)

    def get_lr(self) -> list[Any]:
        self.own[0] += 1
        return [base * self.factor(self.own[0] - 1) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        return {k: v for k, v in super().state_dict().items() if k != "own"}


class LoadsNothing(Warmed):
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        return None


class StartsAnewOnLoading(Warmed):
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "last_epoch": 0})


class LosesItsBase(Warmed):
    """The base rate is taken from the optimizer again."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.base_lrs = [group["lr"] for group in self.optimizer.param_groups]


class SetsNothingInTheSecond(Warmed):
    """The second group keeps its base rate."""

    def get_lr(self) -> list[Any]:
        first, *rest = super().get_lr()
        return [first, *self.base_lrs[1:]] if rest else [first]


class AveragesTheGroups(Warmed):
    def get_lr(self) -> list[Any]:
        found = super().get_lr()
        return [sum(found) / len(found)] * len(found)


class TurnsNegativeAtFirst(Warmed):
    """(t − 1)/W."""

    def factor(self, t: int) -> float:
        return (t - 1) / self.warmup if t < self.warmup else super().factor(t)


class IsNeverANumber(Warmed):
    """0/0 where the warm-up ends."""

    def factor(self, t: int) -> float:
        return math.nan if t == self.warmup else super().factor(t)


class OverflowsInTheEnd(Warmed):
    def factor(self, t: int) -> float:
        return float(super().factor(t) * 10.0 ** (min(t, 11) ** 2 / 4))


def wrong(target: type[Any], **options: Any) -> Subject:
    """A broken schedule, declared as a right one would be."""
    return Subject(name=target.__name__, target=target, kind="scheduler", options=options)
