"""Gradient descent with and without momentum, averaged, layer-wise scaled, and by signs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


def sgd(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
) -> Tensor:
    """v ← μv + (1 − τ)g (v = g at first), θ ← θ − η(g + μv if Nesterov, else v), g += λθ.

    Source: Sutskever et al., On the importance of initialization and momentum, ICML 2013, §2, with
    the step size outside of the velocity, as torch.optim.SGD has it.
    """
    g = ascent(gradient, maximize=maximize) + weight_decay * parameter
    if momentum:
        first = "velocity" not in state
        state["velocity"] = g if first else momentum * state["velocity"] + (1 - dampening) * g
        g = g + momentum * state["velocity"] if nesterov else state["velocity"]
    return parameter - lr * g


def asgd(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Tensor:
    """θ ← (1 − λη_t)θ − η_t g, η_t = η/(1 + λη(t − 1))^α; the average is kept in the state.

    `ax` is θ up to t0, then the mean of what follows. Source: Polyak & Juditsky, SIAM J. Control
    Optim. 30(4), 1992; Bottou, Large-scale machine learning, COMPSTAT 2010, §5.1, with the index of
    η_t as in torch.optim.ASGD: the first step has η.
    """
    t = state["t"] = state.get("t", 0) + 1
    g = ascent(gradient, maximize=maximize) + weight_decay * parameter
    # torch renews η after the step: it has η in the first and η/(1 + λη·(t − 1))^α in the t-th.
    eta = lr if t == 1 else lr / (1 + lambd * lr * (t - 1)) ** alpha
    new = (1 - lambd * eta) * parameter - eta * g
    mu = 1 / max(1.0, t - 1 - t0)
    state["ax"] = new if mu == 1 else state["ax"] + mu * (new - state["ax"])
    return new


def lars(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    trust_coefficient: float = 1e-3,
    eps: float = 0.0,
    maximize: bool = False,
) -> Tensor:
    """η_l = c‖θ‖/(‖g‖ + λ‖θ‖), v ← μv + ηη_l(g + λθ), θ ← θ − v; η_l = 1 where a norm is 0.

    Source: You, Gitman & Ginsburg, Large Batch Training of Convolutional Networks,
    arXiv:1708.03888, algorithm 1.
    """
    g = ascent(gradient, maximize=maximize)
    size, slope = float(parameter.norm()), float(g.norm())
    trust = 1.0
    if size > 0 and slope > 0:
        trust = trust_coefficient * size / (slope + weight_decay * size + eps)
    step = lr * trust * (g + weight_decay * parameter)
    velocity = momentum * held(state, "velocity", torch.zeros_like(step)) + step
    state["velocity"] = velocity
    return parameter - velocity


def sign_sgd(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Tensor:
    """m ← βm + (1 − β)g, θ ← θ − η(sign m + λθ): signSGD, and Signum where β > 0.

    Source: Bernstein et al., signSGD, ICML 2018, algorithms 1 and 2.
    """
    g = ascent(gradient, maximize=maximize)
    m = momentum * held(state, "m", torch.zeros_like(g)) + (1 - momentum) * g
    state["m"] = m
    return parameter - lr * (m.sign() + weight_decay * parameter)


def lion(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Tensor:
    """θ ← θ − η(sign(β₁m + (1 − β₁)g) + λθ), then m ← β₂m + (1 − β₂)g.

    Source: Chen et al., Symbolic Discovery of Optimization Algorithms, NeurIPS 2023, algorithm 2.
    """
    g = ascent(gradient, maximize=maximize)
    one, two = betas
    m = held(state, "m", torch.zeros_like(g))
    state["m"] = two * m + (1 - two) * g
    return (1 - lr * weight_decay) * parameter - lr * (one * m + (1 - one) * g).sign()


def rprop(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-2,
    etas: tuple[float, float] = (0.5, 1.2),
    step_sizes: tuple[float, float] = (1e-6, 50.0),
    maximize: bool = False,
) -> Tensor:
    """Δ ← Δ·(η⁺, η⁻ or 1) by the sign of g·g', within bounds; θ ← θ − Δ sign g, g = 0 after η⁻.

    Source: Riedmiller & Braun, RPROP, IEEE ICNN 1993; without backtracking, the variant iRprop⁻ of
    Igel & Hüsken, Neurocomputing 50, 2003, §2.4.
    """
    g = ascent(gradient, maximize=maximize)
    delta = held(state, "delta", torch.full_like(g, lr))
    agreement = (g * held(state, "g", torch.zeros_like(g))).sign()
    factor = torch.ones_like(g).masked_fill(agreement > 0, etas[1])
    factor = factor.masked_fill(agreement < 0, etas[0])
    state["delta"] = delta = (delta * factor).clamp(*step_sizes)
    state["g"] = g = torch.where(agreement < 0, 0.0, g)
    return parameter - delta * g.sign()


def ascent(gradient: Tensor, *, maximize: bool) -> Tensor:
    """The gradient of what is minimized: its negative where the objective is to grow."""
    return -gradient if maximize else gradient


def held(state: State, name: str, at_first: Tensor) -> Tensor:
    """What the state has under that name; before the first step, at_first."""
    value: Tensor = state.get(name, at_first)
    return value
