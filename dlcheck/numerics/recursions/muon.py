"""Muon: momentum whose matrices are made orthogonal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.numerics.recursions.gradient_descent import State, ascent, held

Coefficients = tuple[float, float, float]
_QUINTIC: Coefficients = (3.4445, -4.775, 2.0315)


def newton_schulz(
    matrix: Tensor,
    steps: int = 5,
    coefficients: Coefficients = _QUINTIC,
    eps: float = 1e-7,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """X ← aX + (bA + cA²)X, A = XXᵀ, from X = G/‖G‖: singular values near 1, vectors kept.

    matrix: [n, m], of any rank; with the usual coefficients the singular values come to between
    0.7 and 1.2. dtype: that of the iteration, the matrix's own unless told (published: bfloat16).
    Source: Jordan et al., Muon: An optimizer for hidden layers, 2024; Bernstein & Newhouse, Old
    Optimizer, New Norm, arXiv:2409.20325, §4.
    """
    a, b, c = coefficients
    x: Tensor = matrix.to(dtype or matrix.dtype)
    is_tall = x.shape[0] > x.shape[1]
    x = x.mT if is_tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


def muon(
    parameter: Tensor,
    gradient: Tensor,
    state: State,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: Coefficients = _QUINTIC,
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    maximize: bool = False,
) -> Tensor:
    """B ← μB + (1 − μ)G, θ ← (1 − ηλ)θ − η' NS(μB + (1 − μ)G), NS making matrices orthogonal.

    η' is η √max(1, rows/columns) (original), or 0.2 η √max(rows, columns) (match_rms_adamw), which
    gives steps the size of AdamW's. Source: Jordan et al., 2024; Liu et al., Muon is Scalable for
    LLM Training, arXiv:2502.16982, §2.2.
    """
    g = ascent(gradient, maximize=maximize)
    buffer = momentum * held(state, "buffer", torch.zeros_like(g)) + (1 - momentum) * g
    state["buffer"] = buffer
    update = momentum * buffer + (1 - momentum) * g if nesterov else buffer
    rows, columns = parameter.shape[:2]
    ratio = math.sqrt(max(1.0, rows / columns))
    if adjust_lr_fn == "match_rms_adamw":
        ratio = 0.2 * math.sqrt(max(rows, columns))
    orthogonal = newton_schulz(update, ns_steps, ns_coefficients, eps)
    return (1 - lr * weight_decay) * parameter - lr * ratio * orthogonal
