"""Schedules that rise before they fall."""

from __future__ import annotations

import functools
import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from dlcheck.registry import reference


@reference(
    kind="scheduler",
    formula="η_t = η₀ (t + 1)/W for t < W, then η_min + (η₀ − η_min)(1 + cos π(t − W)/(T − W))/2",
    source="Goyal et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, §2.2; Loshchilov & "
    "Hutter, SGDR, ICLR 2017, eq. 5",
    args={"warmup": 5, "total": 25, "least": 0.001},
    options={
        "steps": "total",
        "closed_form": "base_lr * (t + 1) / warmup if t < warmup else least + (base_lr - least) * "
        "(1 + cos(pi * min(1, (t - warmup) / (total - warmup)))) / 2",
    },
)
def linear_warmup_cosine(
    optimizer: Optimizer, warmup: int = 5, total: int = 25, least: float = 0.0
) -> LRScheduler:
    """A rate that rises linearly for W = warmup steps, then falls like half a cosine to `least`.

    total: T, steps in all; the first step already has η₀/W. Past T the rate stays at `least`.
    """
    if not 0 < warmup < total:
        raise ValueError(f"0 < warmup < total, not warmup = {warmup}, total = {total}")

    def share(t: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (t - warmup) / (total - warmup))))

    def rate(base: float, t: int) -> float:
        if t < warmup:
            return (t + 1) / warmup
        return (least + (base - least) * share(t)) / base

    # A resumed optimizer has a later rate as its lr.
    bases = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    return LambdaLR(optimizer, [functools.partial(rate, base) for base in bases])


@reference(
    kind="scheduler",
    formula="η_t = η₀ min((t + 1)^−½, (t + 1) W^−3/2) W^½",
    source="Vaswani et al., Attention Is All You Need, NeurIPS 2017, eq. 3, with η₀ the peak",
    args={"warmup": 6},
    options={"closed_form": "base_lr * min((warmup / (t + 1)) ** 0.5, (t + 1) / warmup)"},
)
def inverse_square_root(optimizer: Optimizer, warmup: int = 4000) -> LRScheduler:
    """A rate that rises linearly to η₀ in W = warmup steps, then falls like 1/√t."""
    if warmup < 1:
        raise ValueError(f"warmup is at least 1, not {warmup}")
    return LambdaLR(optimizer, lambda t: min(math.sqrt(warmup / (t + 1)), (t + 1) / warmup))


@reference(
    kind="scheduler",
    formula="η₀ times the warm-up of LinearLR, then the cosine of CosineAnnealingLR, one by one",
    source="torch.optim.lr_scheduler.SequentialLR",
    args={"warmup": 4, "total": 20},
    options={
        "steps": "total",
        "closed_form": "base_lr * (0.1 + 0.9 * t / warmup) if t < warmup else "
        "base_lr * (1 + cos(pi * (t - warmup) / (total - warmup))) / 2",
    },
)
def sequential_warmup_cosine(optimizer: Optimizer, warmup: int = 4, total: int = 20) -> LRScheduler:
    """torch's own building blocks in a row: LinearLR from a tenth, then CosineAnnealingLR."""
    first = LinearLR(optimizer, start_factor=0.1, total_iters=warmup)
    then = CosineAnnealingLR(optimizer, T_max=total - warmup)
    return SequentialLR(optimizer, [first, then], milestones=[warmup])
