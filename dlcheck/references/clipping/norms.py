"""Clipping by norms: of everything, of units of weights, and relative to the weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dlcheck.registry import reference


@reference(
    kind="clipping",
    formula="g ← g min(1, c/‖g‖), ‖g‖ over all parameters",
    source="Pascanu, Mikolov & Bengio, On the difficulty of training RNNs, ICML 2013, algorithm 1",
    options={"by": "global_norm"},
)
@torch.no_grad()
def clip_by_global_norm(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale all gradients so that their common norm is at most `limit`; returns the norm, [].

    Parameters without a gradient are left out; without any the norm is 0.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.stack([g.double().norm() for g in gradients]).norm()
    if norm > limit:
        for g in gradients:
            g.mul_((limit / norm).to(g))
    return norm


@reference(
    kind="clipping",
    formula="w_j ← w_j min(1, c/‖w_j‖), w_j the weights into unit j",
    source="Srivastava et al., Dropout, JMLR 15, 2014, §5.1 (max-norm regularization)",
    options={"by": "unit_norm", "target": "weights"},
)
@torch.no_grad()
def max_norm(parameters: Iterable[Tensor], limit: float) -> None:
    """Hold the norm of the weights into each unit, a row of each parameter, to `limit`."""
    for p in parameters:
        norms = _unit_norms(p)
        p.copy_(torch.where(norms > limit, p * (limit / norms.clamp_min(1e-38)), p))


@reference(
    kind="clipping",
    formula="G_j ← G_j min(1, λ max(‖W_j‖, ε)/‖G_j‖), ε = 10⁻³",
    source="Brock et al., High-Performance Large-Scale Image Recognition Without Normalization, "
    "ICML 2021, eq. 3",
    options={"by": "unit_norm", "relative_to_parameters": True},
)
@torch.no_grad()
def adaptive_gradient_clipping(
    parameters: Iterable[Tensor], limit: float, eps: float = 1e-3
) -> None:
    """Hold the norm of each unit's gradient to `limit` times that of its weights."""
    for p in parameters:
        if p.grad is None:
            continue
        most = limit * _unit_norms(p).clamp_min(eps)
        norms = _unit_norms(p.grad)
        clipped = p.grad * (most / norms.clamp_min(1e-38))
        p.grad.copy_(torch.where(norms > most, clipped, p.grad))


def _unit_norms(x: Tensor) -> Tensor:
    """The norm over all axes but the first; that of the whole of a vector."""
    axes = tuple(range(1, x.dim())) or (0,)
    norms: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=True)
    return norms
