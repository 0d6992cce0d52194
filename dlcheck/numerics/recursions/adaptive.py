"""Step sizes by element from squared gradients: Adagrad and what came of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.numerics.recursions.gradient_descent import State, ascent, held


def adagrad(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
) -> Tensor:
    """G ← G + g², θ ← θ − η/(1 + (t − 1)η_λ) · g/(√G + ε).

    Source: Duchi, Hazan & Singer, Adaptive Subgradient Methods, JMLR 12, 2011, fig. 1 (diagonal).
    """
    t = state["t"] = state.get("t", 0) + 1
    g = ascent(gradient, maximize=maximize) + weight_decay * parameter
    total = held(state, "sum", torch.full_like(g, initial_accumulator_value)) + g * g
    state["sum"] = total
    step: Tensor = lr / (1 + (t - 1) * lr_decay) * g / (total.sqrt() + eps)
    return parameter - step


def rmsprop(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    maximize: bool = False,
    eps_place: str = "outside",
) -> Tensor:
    """v ← αv + (1 − α)g², θ ← θ − ηg/(√v + ε); centred: v less the square of the mean.

    eps_place: outside the root (torch) or inside (TensorFlow, timm's RMSpropTF). Source: Hinton,
    Neural Networks for Machine Learning, lecture 6e, 2012; centred: Graves, arXiv:1308.0850, §4.2.
    """
    g = ascent(gradient, maximize=maximize) + weight_decay * parameter
    v = state["v"] = alpha * held(state, "v", torch.zeros_like(g)) + (1 - alpha) * g * g
    if centered:
        mean = state["mean"] = alpha * held(state, "mean", torch.zeros_like(g)) + (1 - alpha) * g
        v = v - mean * mean
    root = (v + eps).sqrt() if eps_place == "inside" else v.sqrt() + eps
    step = g / root
    if momentum > 0:
        step = state["b"] = momentum * held(state, "b", torch.zeros_like(g)) + step
    return parameter - lr * step


def adadelta(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Tensor:
    """v ← ρv + (1 − ρ)g², Δ = √(u + ε)/√(v + ε) · g, u ← ρu + (1 − ρ)Δ², θ ← θ − ηΔ.

    Source: Zeiler, ADADELTA, arXiv:1212.5701, algorithm 1, where η = 1.
    """
    g = ascent(gradient, maximize=maximize) + weight_decay * parameter
    zeros = torch.zeros_like(g)
    v = state["v"] = rho * held(state, "v", zeros) + (1 - rho) * g * g
    u = held(state, "u", zeros)
    delta = ((u + eps) / (v + eps)).sqrt() * g
    state["u"] = rho * u + (1 - rho) * delta * delta
    return parameter - lr * delta


def adafactor(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-2,
    beta2_decay: float = -0.8,
    eps: tuple[float | None, float] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Tensor:
    """Adam's v of a matrix from the means of its rows and columns, steps clipped to RMS d.

    R ← (1 − t^τ)R + t^τ mean_row g², C alike, V = RC/mean R, u = g/√V,
    θ ← θ − α u/max(1, RMS(u)/d), α = max(ε₂, RMS(θ)) min(η, 1/√t), after θ ← (1 − ηλ)θ.
    Source: Shazeer & Stern, Adafactor, ICML 2018, algorithms 4 and 5, without ε₁ in the squares,
    as torch.optim.Adafactor.
    """
    t = state["t"] = state.get("t", 0) + 1
    g = ascent(gradient, maximize=maximize)
    least = torch.finfo(parameter.dtype).eps if eps[0] is None else eps[0]
    new = t**beta2_decay
    size = float(parameter.norm()) / math.sqrt(parameter.numel())
    alpha = max(eps[1], size) * min(lr, 1 / math.sqrt(t))
    kept = (1 - lr * weight_decay) * parameter
    squares = g * g
    if g.dim() > 1:
        row = _mixed(state, "row", squares.mean(-1, keepdim=True), new)
        column = _mixed(state, "column", squares.mean(-2, keepdim=True), new)
        v = row @ column / row.mean(-2, keepdim=True).clamp(min=least)
    else:
        v = _mixed(state, "v", squares, new)
    u = g / v.clamp(min=least * least).sqrt()
    spread = float(u.norm()) / math.sqrt(u.numel())
    return kept - alpha / max(1.0, spread / d) * u


def _mixed(state: State, name: str, value: Tensor, new: float) -> Tensor:
    old = state.get(name, torch.zeros_like(value))
    mixed: Tensor = (1 - new) * old + new * value
    state[name] = mixed
    return mixed
