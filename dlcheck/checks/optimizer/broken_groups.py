"""Mistakes with the options of a group: read elsewhere, once, or for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from dlcheck.checks.optimizer.broken import Plain, Scaled


class DecaysByTheDefaults(Scaled):
    """The decay of the constructor, so that biases and norms decay with the rest."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update({**group, "weight_decay": self.defaults["weight_decay"]}, p, gradient)


class DecaysByTheFirstGroup(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        first = self.param_groups[0]["weight_decay"]
        super().update({**group, "weight_decay": first}, p, gradient)


class KeepsItsMomentum(Plain):
    """self.momentum, set when it was built."""

    def __init__(
        self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, momentum, weight_decay)
        self.momentum = momentum

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update({**group, "momentum": self.momentum}, p, gradient)


class TakesTheBetasOfTheFirst(Scaled):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update({**group, "betas": self.param_groups[0]["betas"]}, p, gradient)


class DecaysAllByTheLast(Plain):
    """What a loop over the groups left behind."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        last = self.param_groups[-1]["weight_decay"]
        super().update({**group, "weight_decay": last}, p, gradient)
