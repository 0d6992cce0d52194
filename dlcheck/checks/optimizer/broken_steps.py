"""Mistakes of the step itself: its decay, its direction, its size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.optimizer.broken import Plain, Scaled


class DecaysThroughTheGradient(Scaled):
    """L2 in Adam where decoupled decay is declared."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        g = gradient + group["weight_decay"] * p
        p.sub_(group["lr"] * self.direction(group, p, g))


class DecaysByTheRateSquared(Scaled):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 - group["lr"] ** 2 * group["weight_decay"])
        p.sub_(group["lr"] * self.direction(group, p, gradient))


class DecaysWithoutTheRate(Scaled):
    """1 − λ where 1 − ηλ is declared."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 - group["weight_decay"])
        p.sub_(group["lr"] * self.direction(group, p, gradient))


class GrowsWeights(Scaled):
    """The sign of the decay is turned."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 + group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * self.direction(group, p, gradient))


class AlwaysDecays(Scaled):
    """A constant decay, whatever the argument says."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 - group["lr"] * 0.01)
        super().update(group, p, gradient)


class DecaysTheBuffer(Plain):
    """λ goes into the momentum buffer twice."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient + group["weight_decay"] * p)


class Climbs(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, -gradient)


class NeverMoves(Plain):
    """Updates a copy: `p = p - …`."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p.clone(), gradient)


class DividesByTheSteps(Plain):
    """A rate that falls like 1/t²: it stops before it arrives."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        count = self.state[p].get("count", 0) + 1
        p.sub_(group["lr"] / count**4 * gradient)
        self.state[p]["count"] = count


class UsesTheSizeAlone(Plain):
    """−|g|: the sign is lost."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient.abs())


class CentralizesItsGradient(Plain):
    """Gradient centralization, right: the mean of each row is left out."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        axes = tuple(range(1, gradient.dim()))
        centred = gradient - gradient.mean(axes, keepdim=True) if axes else gradient
        super().update(group, p, centred)


class SignDescent(Plain):
    """signSGD, right."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, lr, momentum=0.0)

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.sub_(group["lr"] * gradient.sign())


class WithMaximize(Plain):
    """SGD that may climb, right; what follows are its bugs."""

    def __init__(
        self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9,
        weight_decay: float = 0.1, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, momentum, weight_decay)
        self.maximize = maximize

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, -gradient if self.maximize else gradient)


class MaximizesTheDecayToo(WithMaximize):
    """The sign is turned of all: weights grow."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        Plain.update(self, {**group, "lr": -group["lr"] if self.maximize else group["lr"]},
                     p, gradient)  # fmt: skip


class IgnoresMaximize(WithMaximize):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        Plain.update(self, group, p, gradient)


class MaximizesTheMomentumOnly(WithMaximize):
    """The first step, without a buffer yet, goes down."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        first = not self.state[p]
        Plain.update(self, group, p, -gradient if self.maximize and not first else gradient)


class MaximizesTwice(WithMaximize):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, -gradient if self.maximize else gradient)


class ForgetsTheCorrection(Scaled):
    """m is never divided by 1 − β₁ᵗ: the first step is a tenth."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        found = super().direction(group, p, g)
        kept: Tensor = found * (1 - group["betas"][0] ** self.state[p]["step"])
        return kept


class CorrectsOneStepLate(Scaled):
    """1 − β^(t+1)."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        super().direction(group, p, g)
        state, (one, two) = self.state[p], group["betas"]
        t = state["step"] + 1
        m, v = state["m"] / (1 - one**t), state["v"] / (1 - two**t)
        found: Tensor = m / (v.sqrt() + group["eps"])
        return found


class PutsEpsUnderTheRoot(Scaled):
    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        super().direction({**group}, p, g)
        state, (one, two) = self.state[p], group["betas"]
        m, v = state["m"] / (1 - one ** state["step"]), state["v"] / (1 - two ** state["step"])
        found: Tensor = m / (v + group["eps"]).sqrt()
        return found


class SwapsItsBetas(Scaled):
    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        return super().direction({**group, "betas": group["betas"][::-1]}, p, g)


class SumsItsMomentum(Plain):
    """Dampens what torch does not: (1 − μ) g."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, (1 - group["momentum"]) * gradient)


class SquaresTheSize(Scaled):
    """A step that grows with the gradient: v without its root."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        super().direction(group, p, g)
        state = self.state[p]
        found: Tensor = state["m"] / (state["v"].sqrt() + 1.0)
        return found


class ClampsPositive(Scaled):
    """A step that is larger upwards than downwards."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        r = super().direction(group, p, g)
        return torch.where(r > 0, r, 0.5 * r)


class PositiveMomentum(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient + 1e-3)


class RoundsUp(Plain):
    """ceil to a grid: not a mirror image."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, (64 * gradient).ceil() / 64)


class UsesTheSize(Plain):
    """|g| where g is meant, for the buffer."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, 0.9 * gradient + 0.1 * gradient.abs())
