"""Weight decay that pulls elsewhere than to zero, and corrections of a bias that are lost."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlcheck.checks.optimizer.broken import Plain, Scaled


class PushesAway(Plain):
    """g − λw where g + λw is meant."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        away = gradient - 2 * group["weight_decay"] * p
        super().update(group, p, away)


class TakesOffAConstant(Scaled):
    """`p.add_(weight_decay, alpha=-lr)`: the weight is forgotten, as in SGDW of torch_optimizer."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.sub_(group["lr"] * group["weight_decay"])
        super().update({**group, "weight_decay": 0.0}, p, gradient)


class IgnoresItsDecay(Scaled):
    """The argument is taken, and stands in the groups; nothing reads it."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update({**group, "weight_decay": 0.0}, p, gradient)


class DecaysByTheSize(Plain):
    """λ|w|: negative weights grow."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        decayed = gradient + group["weight_decay"] * p.abs()
        super().update({**group, "weight_decay": 0.0}, p, decayed)


class GrowsByItsDecay(Scaled):
    """1 + ηλ."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update({**group, "weight_decay": -group["weight_decay"]}, p, gradient)


class ForgetsTheSecondCorrection(Scaled):
    """v is never divided by 1 − β₂ᵗ: the first steps are too long."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        found = super().direction(group, p, g)
        kept: Tensor = found / (1 - group["betas"][1] ** self.state[p]["step"]) ** 0.5
        return kept


class NeverCounts(Scaled):
    """t stays 1: the correction of the first step, for ever."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        found = super().direction(group, p, g)
        self.state[p]["step"] = 0
        return found
