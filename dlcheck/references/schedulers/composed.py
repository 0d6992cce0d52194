"""torch's schedules that are made of functions or of other schedules, as factories."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiplicativeLR,
)

from dlcheck.registry import reference


@reference(
    kind="scheduler",
    formula="η_t = η₀ (1 − t/T)^p, 0 from T on",
    source="Chen et al., DeepLab, TPAMI 40(4), 2018, §4.1 (the poly policy)",
    args={"total": 18, "power": 0.9},
    options={"steps": "total", "closed_form": "base_lr * max(0, 1 - t / total) ** power"},
)
def polynomial_decay(optimizer: Optimizer, total: int = 18, power: float = 0.9) -> LRScheduler:
    """A rate that falls like a power of what is left, by LambdaLR; 0 from step `total` on."""
    return LambdaLR(optimizer, lambda t: max(0.0, 1 - t / total) ** power)


@reference(
    kind="scheduler",
    formula="η_t = η₀ γᵗ",
    source="torch.optim.lr_scheduler.MultiplicativeLR",
    args={"gamma": 0.93},
    options={"closed_form": "base_lr * gamma ** t"},
)
def multiplied(optimizer: Optimizer, gamma: float = 0.95) -> LRScheduler:
    """A rate that is multiplied by γ at each step, by MultiplicativeLR."""
    return MultiplicativeLR(optimizer, lambda t: gamma)


@reference(
    kind="scheduler",
    formula="η_t = η₀ γᵗ · (f for t < T, else 1)",
    source="torch.optim.lr_scheduler.ChainedScheduler",
    args={"factor": 0.2, "total": 6, "gamma": 0.9},
    options={"closed_form": "base_lr * gamma ** t * (factor if t < total else 1)"},
)
def chained(
    optimizer: Optimizer, factor: float = 0.2, total: int = 6, gamma: float = 0.9
) -> LRScheduler:
    """ConstantLR and ExponentialLR at once, by ChainedScheduler: the product of both."""
    parts = [ConstantLR(optimizer, factor, total), ExponentialLR(optimizer, gamma)]
    return ChainedScheduler(parts, optimizer)
