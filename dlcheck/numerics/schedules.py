"""Learning rates in closed form: `(t, base_lr, **options) → rate of the t-th step`, t from 0.

Keywords are torch's where torch has the schedule. A plateau, which depends on what was measured,
takes the metrics and gives all rates at once.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence


def step(t: int, base_lr: float, *, step_size: int, gamma: float = 0.1) -> float:
    """η₀ γ^⌊t/s⌋.

    Source: Krizhevsky, Sutskever & Hinton, NeurIPS 2012, §5, who divide by 10 a few times.
    """
    return base_lr * gamma ** (t // step_size)


def multistep(t: int, base_lr: float, *, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """η₀ γ^(milestones that are not after t); one that is listed twice counts twice.

    Source: He et al., Deep Residual Learning, CVPR 2016, §4.2.
    """
    return base_lr * gamma ** bisect.bisect_right(sorted(milestones), t)


def constant(t: int, base_lr: float, *, factor: float = 1 / 3, total_iters: int = 5) -> float:
    """η₀ f for t < T, then η₀.

    Source: Goyal et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, §2.2, constant warm-up.
    """
    return base_lr * (factor if t < total_iters else 1.0)


def linear(
    t: int,
    base_lr: float,
    *,
    start_factor: float = 1 / 3,
    end_factor: float = 1.0,
    total_iters: int = 5,
) -> float:
    """η₀ (a + (b − a) min(t, T)/T).

    Source: Goyal et al., Accurate, Large Minibatch SGD, arXiv:1706.02677, §2.2, gradual warm-up.
    """
    share = min(t, total_iters) / total_iters
    return base_lr * (start_factor + (end_factor - start_factor) * share)


def exponential(t: int, base_lr: float, *, gamma: float) -> float:
    """η₀ γᵗ. Source: torch.optim.lr_scheduler.ExponentialLR."""
    return base_lr * gamma**t


def polynomial(t: int, base_lr: float, *, total_iters: int = 5, power: float = 1.0) -> float:
    """η₀ (1 − min(t, T)/T)^p. Source: Chen et al., DeepLab, TPAMI 40(4), 2018, §4.1."""
    return base_lr * math.pow(1 - min(t, total_iters) / total_iters, power)


def inverse_square_root(t: int, base_lr: float, *, warmup: int) -> float:
    """η₀ min((t + 1)/W, √(W/(t + 1))): the peak η₀ is reached by the W-th step.

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, eq. 3, where
    η₀ = 1/√(d W), and whose step number is t + 1.
    """
    return base_lr * min((t + 1) / warmup, math.sqrt(warmup / (t + 1)))


def scaled(t: int, base_lr: float, *, lr_lambda: Callable[[int], float]) -> float:
    """η₀ λ(t). Source: torch.optim.lr_scheduler.LambdaLR."""
    return base_lr * lr_lambda(t)


def multiplied(t: int, base_lr: float, *, lr_lambda: Callable[[int], float]) -> float:
    """η₀ λ(1) λ(2) … λ(t). Source: torch.optim.lr_scheduler.MultiplicativeLR."""
    return base_lr * math.prod(lr_lambda(turn) for turn in range(1, t + 1))


def cosine(t: int, base_lr: float, *, T_max: int, eta_min: float = 0.0) -> float:
    """η_min + (η₀ − η_min)(1 + cos πt/T)/2; past T it rises again, as in CosineAnnealingLR.

    Source: Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5, without the restarts.
    """
    return eta_min + (base_lr - eta_min) * (1 + math.cos(math.pi * t / T_max)) / 2


def cosine_warm_restarts(
    t: int, base_lr: float, *, T_0: int, T_mult: int = 1, eta_min: float = 0.0
) -> float:
    """The cosine from η₀, again and again, over T₀, T₀k, T₀k², … steps.

    Source: Loshchilov & Hutter, SGDR, ICLR 2017, eq. 5 and §3.
    """
    length = T_0
    while t >= length:
        t, length = t - length, length * T_mult
    return cosine(t, base_lr, T_max=length, eta_min=eta_min)


def one_cycle(
    t: int,
    *,
    max_lr: float,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> float:
    """From η_max/d up to η_max in a share p of the steps, then down to η_max/(d d').

    With three phases it comes down to η_max/d as fast as it rose, and then to the end; each phase
    is half a cosine or a line. Source: Smith & Topin, Super-Convergence, arXiv:1708.07120, §2 (its
    cycle is that of three phases, in lines). Raises ValueError for t ≥ total_steps.
    """
    if not 0 <= t < total_steps:
        raise ValueError(f"a cycle of {total_steps} steps has no rate at t = {t}")
    first, last = max_lr / div_factor, max_lr / div_factor / final_div_factor
    turn, end = pct_start * total_steps - 1.0, total_steps - 1.0
    corners = [(0.0, first), (turn, max_lr), (end, last)]
    if three_phase:
        corners.insert(2, (2 * pct_start * total_steps - 2.0, first))
    phases = list(itertools.pairwise(corners))
    (begun, high), (done, low) = next((p for p in phases if t <= p[1][0]), phases[-1])
    share = (t - begun) / (done - begun)
    if anneal_strategy == "cos":
        share = (1 - math.cos(math.pi * share)) / 2
    return high + (low - high) * share


def cyclic(
    t: int,
    base_lr: float,
    *,
    max_lr: float,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
) -> float:
    """η₀ + (η_max − η₀) s a: s rises from 0 to 1 in step_size_up steps, and falls in the others.

    mode: triangular, a = 1; triangular2, half in each further cycle; exp_range, a = γᵗ.
    Source: Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, §3.
    """
    down = step_size_up if step_size_down is None else step_size_down
    cycle, within = divmod(t, step_size_up + down)
    is_rising = within <= step_size_up
    share = within / step_size_up if is_rising else 1 - (within - step_size_up) / down
    amplitude = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**t}[mode]
    return base_lr + (max_lr - base_lr) * share * amplitude


def plateau(
    metrics: Sequence[float],
    base_lr: float,
    *,
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    eps: float = 1e-8,
) -> list[float]:
    """η ← max(fη, η_min) when more than `patience` metrics in a row are no better than the best.

    Returns the rate after each metric. Better is m < b(1 − τ), or m < b − τ where the threshold is
    absolute; for mode max m > b(1 + τ), or m > b + τ. After a cut the next `cooldown` metrics do
    not count, and a cut of at most eps is left out.
    Source: torch.optim.lr_scheduler.ReduceLROnPlateau.
    """
    sign = 1.0 if mode == "min" else -1.0
    best, waited, resting, rate = sign * math.inf, 0, 0, base_lr
    rates = []
    for metric in metrics:
        bar = best * (1 - sign * threshold) if threshold_mode == "rel" else best - sign * threshold
        if sign * metric < sign * bar:
            best, waited = metric, 0
        else:
            waited += 1
        if resting > 0:
            resting, waited = resting - 1, 0
        if waited > patience:
            lower = max(factor * rate, min_lr)
            rate = lower if rate - lower > eps else rate
            resting, waited = cooldown, 0
        rates.append(rate)
    return rates


# What a declaration may name: closed_form = "cosine_warm_restarts".
SCHEDULES: Mapping[str, Callable[..., float]] = {
    function.__name__: function
    for function in (
        step, multistep, constant, linear, exponential, polynomial, inverse_square_root, cosine,
        cosine_warm_restarts, one_cycle, cyclic,
    )
}  # fmt: skip
