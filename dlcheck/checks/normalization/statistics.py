"""Running statistics by their declared names: read, set, and what a batch says they should be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.normalization.normalizer import FAR, Normalizer, scatter
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@dataclass(frozen=True, slots=True)
class Running:
    """The declared buffers of a module, by the names that `running` gives."""

    module: nn.Module
    names: Mapping[str, Any]
    momentum: float | None  # weight of the new batch; None averages all batches alike
    ddof: int | None  # of the variance; None allows 0 and 1

    @classmethod
    def of(cls, subject: Implementation) -> Running:
        names = subject.options.get("running")
        if not isinstance(names, Mapping) or "mean" not in names or "var" not in names:
            raise NotApplicable("declares no names of running statistics: { mean, var, momentum }")
        if subject.module is None:
            raise NotApplicable("is no module, so that it keeps no statistics")
        momentum = names.get("momentum", math.nan)
        if isinstance(momentum, str):
            momentum = subject.value_of(momentum, "running.momentum")
        made = cls(subject.module, names, momentum, names.get("ddof"))
        made.tensor("mean"), made.tensor("var")
        return made

    def tensor(self, which: str) -> Tensor:
        """The running mean or variance itself. Raises SubjectError where it is no tensor."""
        path = str(self.names[which])
        found: Any = self.module
        for name in path.split("."):
            found = getattr(found, name, None)
        if not isinstance(found, Tensor):
            raise SubjectError(
                f"option running names {path!r}, which is no tensor of {type(self.module).__name__}"
            )
        return found

    def set_to(self, mean: Tensor, var: Tensor) -> None:
        with torch.no_grad():
            self.tensor("mean").copy_(mean)
            self.tensor("var").copy_(var)

    def of_batch(self, made: Normalizer, x: Tensor, ddof: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of one batch, of the shape of the buffers.

        Where a buffer is shorter (instance normalization keeps no statistics per sample), the
        statistics of the samples are averaged.
        """
        law, n = made.law, made.law.count(x)
        wide, shape = x.double(), self.tensor("mean").shape
        mean = law.over_groups(wide, lambda v, axes: v.mean(axes, keepdim=True))
        variance = law.over_groups(
            law.centre(x).square(), lambda v, axes: v.mean(axes, keepdim=True)
        ) * (n / max(n - ddof, 1))
        return _fitted(mean, shape), _fitted(variance, shape)

    @property
    def ddofs(self) -> tuple[int, ...]:
        return (0, 1) if self.ddof is None else (int(self.ddof),)


def _fitted(statistic: Tensor, shape: torch.Size) -> Tensor:
    if statistic.numel() != shape.numel():
        statistic = statistic.mean(0, keepdim=True)
    if statistic.numel() != shape.numel():
        raise SubjectError(
            f"the running statistics have shape {tuple(shape)}, which is not what is left of the "
            f"input without the declared axes: {tuple(statistic.shape)}"
        )
    return statistic.reshape(shape)


def prepared(subject: Implementation, case: Case) -> tuple[Normalizer, Running]:
    """In train mode, with parameters and statistics that are off their first values."""
    made = Normalizer.of(subject, case)
    running = Running.of(subject)
    scatter(made)
    generator = case.generator("statistics")
    like = running.tensor("mean")
    mean = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    spread = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    running.set_to(mean.to(like), (0.5 + spread).to(like))
    return made, running


def known(made: Normalizer, running: Running, salt: str, variance: float) -> tuple[Tensor, Tensor]:
    """A running mean and variance of the given size, times 2²⁴ where no ε is declared."""
    like, generator = running.tensor("mean"), made.case.generator(salt)
    scale = variance**0.5 * (FAR if made.law.eps is None else 1.0)
    mean = scale * torch.randn(like.shape, generator=generator, dtype=torch.float64)
    share = 0.5 + torch.rand(like.shape, generator=generator, dtype=torch.float64)
    return mean.to(like), (scale**2 * share).to(like)
