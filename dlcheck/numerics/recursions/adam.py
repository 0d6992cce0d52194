"""Adam and its family: moments of the gradient, corrected for where they start."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.numerics.recursions.gradient_descent import State, ascent, held

Betas = tuple[float, float]


def adam(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    eps_place: str = "outside",
    amsgrad_of: str = "raw",
) -> Tensor:
    """m, v ← averages of g and g², θ ← θ − η m̂/(√v̂ + ε), m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).

    eps_place: outside the root of v̂; inside it, √(v̂ + ε); or uncorrected, √v + ε before the
    correction, the paper's ε̂. amsgrad: the largest v so far, taken raw or after its correction.
    Source: Kingma & Ba, Adam, ICLR 2015, algorithm 1 and §2; AMSGrad: Reddi, Kale & Kumar, ICLR
    2018, algorithm 2; decoupled decay: Loshchilov & Hutter, ICLR 2019, algorithm 2.
    """
    g = ascent(gradient, maximize=maximize)
    if decoupled_weight_decay:
        parameter = (1 - lr * weight_decay) * parameter
    else:
        g = g + weight_decay * parameter
    m, v, t = _moments(state, g, betas)
    one, two = 1 - betas[0] ** t, 1 - betas[1] ** t
    if amsgrad and amsgrad_of == "raw":
        v = state["most"] = torch.maximum(held(state, "most", torch.zeros_like(v)), v)
    corrected = v / two
    if amsgrad and amsgrad_of == "corrected":
        corrected = torch.maximum(held(state, "most", torch.zeros_like(v)), corrected)
        state["most"] = corrected
    if eps_place == "inside":
        root = (corrected + eps).sqrt()
    elif eps_place == "uncorrected":
        root = corrected.sqrt() + eps / math.sqrt(two)
    else:
        root = corrected.sqrt() + eps
    return parameter - lr * (m / one) / root


def adamw(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    maximize: bool = False,
    eps_place: str = "outside",
    amsgrad_of: str = "raw",
) -> Tensor:
    """θ ← (1 − ηλ)θ, then the step of Adam.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2.
    """
    return adam(
        parameter, gradient, state, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
        amsgrad=amsgrad, maximize=maximize, decoupled_weight_decay=True, eps_place=eps_place,
        amsgrad_of=amsgrad_of,
    )  # fmt: skip


def adamax(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    maximize: bool = False,
) -> Tensor:
    """u ← max(β₂u, |g| + ε), θ ← θ − η/(1 − β₁ᵗ) · m/u.

    Source: Kingma & Ba, Adam, ICLR 2015, algorithm 2; ε as in torch.optim.Adamax.
    """
    t = state["t"] = state.get("t", 0) + 1
    g = ascent(gradient, maximize=maximize) + weight_decay * parameter
    zeros = torch.zeros_like(g)
    m = state["m"] = betas[0] * held(state, "m", zeros) + (1 - betas[0]) * g
    u = state["u"] = torch.maximum(betas[1] * held(state, "u", zeros), g.abs() + eps)
    step: Tensor = lr / (1 - betas[0] ** t) * m / u
    return parameter - step


def nadam(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Tensor:
    """m̂ = μ_{t+1} m/(1 − Π_{t+1} μ) + (1 − μ_t) g/(1 − Π_t μ), μ_t = β₁(1 − ½·0.96^(tψ)).

    Source: Dozat, Incorporating Nesterov Momentum into Adam, ICLR workshop 2016, algorithm 2.
    """
    g = ascent(gradient, maximize=maximize)
    if decoupled_weight_decay:
        parameter = (1 - lr * weight_decay) * parameter
    else:
        g = g + weight_decay * parameter
    m, v, t = _moments(state, g, betas)
    here = betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    later = betas[0] * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    product: float = state.get("product", 1.0) * here
    state["product"] = product
    ahead = later * m / (1 - product * later) + (1 - here) * g / (1 - product)
    step: Tensor = lr * ahead / ((v / (1 - betas[1] ** t)).sqrt() + eps)
    return parameter - step


def radam(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> Tensor:
    """Adam with its step times r_t where ρ_t > 5, else momentum alone.

    ρ∞ = 2/(1 − β₂) − 1, ρ_t = ρ∞ − 2tβ₂ᵗ/(1 − β₂ᵗ),
    r_t² = (ρ_t − 4)(ρ_t − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρ_t).
    Source: Liu et al., On the Variance of the Adaptive Learning Rate, ICLR 2020, algorithm 2, with
    5 for its 4, and ε beside √v, as torch.optim.RAdam.
    """
    g = ascent(gradient, maximize=maximize)
    if decoupled_weight_decay:
        parameter = (1 - lr * weight_decay) * parameter
    else:
        g = g + weight_decay * parameter
    m, v, t = _moments(state, g, betas)
    ahead = m / (1 - betas[0] ** t)
    longest = 2 / (1 - betas[1]) - 1
    length = longest - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if length > 5:
        r = math.sqrt(
            (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        )
        ahead = ahead * r * math.sqrt(1 - betas[1] ** t) / (v.sqrt() + eps)
    return parameter - lr * ahead


def lamb(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    maximize: bool = False,
    bias_correction: bool = True,
) -> Tensor:
    """θ ← θ − η ‖θ‖/‖r + λθ‖ (r + λθ), r = m̂/(√v̂ + ε); the ratio is 1 where a norm is 0.

    Source: You et al., Large Batch Optimization for Deep Learning, ICLR 2020, algorithm 2, φ the
    identity.
    """
    g = ascent(gradient, maximize=maximize)
    m, v, t = _moments(state, g, betas)
    if bias_correction:
        m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    step = m / (v.sqrt() + eps) + weight_decay * parameter
    size, length = float(parameter.norm()), float(step.norm())
    trust = size / length if size > 0 and length > 0 else 1.0
    return parameter - lr * trust * step


def _moments(state: State, g: Tensor, betas: Betas) -> tuple[Tensor, Tensor, int]:
    """m, v and the count of steps, this one included."""
    t = state["t"] = state.get("t", 0) + 1
    zeros = torch.zeros_like(g)
    m = state["m"] = betas[0] * held(state, "m", zeros) + (1 - betas[0]) * g
    v = state["v"] = betas[1] * held(state, "v", zeros) + (1 - betas[1]) * g * g
    return m, v, t
