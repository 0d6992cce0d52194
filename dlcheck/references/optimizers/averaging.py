"""Averages of parameters over the steps of a training."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """θ̄ ← δθ̄ + (1 − δ)θ after each step, from θ̄ = θ at the start.

    parameters: those of a module. With `debiased` the average starts at 0 and is divided by
    1 − δᵗ, as Adam's moments are. Source: Polyak & Juditsky, SIAM J. Control Optim. 30(4), 1992;
    Kingma & Ba, ICLR 2015, §7.2. Raises ValueError for a decay outside of [0, 1).
    """

    def __init__(
        self, parameters: Iterable[Tensor], decay: float = 0.999, *, debiased: bool = False
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay lies in [0, 1), not {decay!r}")
        self.parameters, self.decay, self.debiased = list(parameters), decay, debiased
        self.count = 0
        self.averages = [
            torch.zeros_like(p) if debiased else p.detach().clone() for p in self.parameters
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters as they are now into the average."""
        self.count += 1
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            average.lerp_(parameter, 1 - self.decay)

    def values(self) -> list[Tensor]:
        """The averages, one per parameter."""
        if not self.debiased:
            return [average.clone() for average in self.averages]
        weight = 1 - self.decay**self.count
        return [average / weight if self.count else average.clone() for average in self.averages]


class StochasticWeightAveraging:
    """θ̄ ← θ̄ + (θ − θ̄)/(n + 1): the mean of the parameters at every update.

    Source: Izmailov et al., Averaging Weights Leads to Wider Optima, UAI 2018, algorithm 1.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parameters = list(module.parameters())
        self.count = 0
        self.averages = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters as they are now into the mean."""
        self.count += 1
        for average, parameter in zip(self.averages, self.parameters, strict=True):
            average.add_((parameter - average) / self.count)

    def values(self) -> list[Tensor]:
        """The means, one per parameter; zeros before the first update."""
        return [average.clone() for average in self.averages]
