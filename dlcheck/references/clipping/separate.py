"""Clipping that looks at one gradient at a time: by its norm, and element by element."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dlcheck.references.precision import wide
from dlcheck.registry import reference


@reference(
    kind="clipping",
    formula="g ← g min(1, c/‖g‖), each parameter by itself",
    source="Pascanu, Mikolov & Bengio, On the difficulty of training RNNs, ICML 2013, algorithm 1, "
    "per parameter; Keras, optimizers, clipnorm",
    options={"by": "norm"},
)
@torch.no_grad()
def clip_by_norm(parameters: Iterable[Tensor], limit: float) -> None:
    """Scale each gradient, of any shape, so that its own norm is at most `limit`.

    Parameters without a gradient are left out; half types are summed in float32.
    """
    for p in parameters:
        if p.grad is None:
            continue
        norm = torch.linalg.vector_norm(wide(p.grad))
        if norm > limit:
            p.grad.copy_(wide(p.grad) * (limit / norm))


@reference(
    kind="clipping",
    formula="gᵢ ← max(−c, min(c, gᵢ))",
    source="Mikolov, thesis, Brno 2012; Pascanu, Mikolov & Bengio, ICML 2013, §3.2",
    options={"by": "value"},
)
@torch.no_grad()
def clip_by_value(parameters: Iterable[Tensor], limit: float) -> None:
    """Hold every element of every gradient to [−c, c]; the direction may turn.

    Parameters without a gradient are left out.
    """
    for p in parameters:
        if p.grad is not None:
            p.grad.clamp_(-limit, limit)
