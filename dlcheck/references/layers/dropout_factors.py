"""The random factors of dropout, and the product with them.

Every dropout multiplies by a factor m that does not depend on x: y = m ⊙ x. So dy/dx = diag(m), and
the backward is Jᵀv = m ⊙ v with the same m.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _Multiply(torch.autograd.Function):
    """y = m ⊙ x, with m a constant that broadcasts to x: gradient m ⊙ v, and none for m."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: Tensor) -> Tensor:
        return factor * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return factor * gradients[0], None


def multiplied(x: Tensor, factor: Tensor) -> Tensor:
    """m ⊙ x, with m a constant that broadcasts to x."""
    return _Multiply.apply(x, factor)  # type: ignore[no-any-return]


def bernoulli_factors(x: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """Factors 1/(1 − p) with probability 1 − p, else 0, in the dtype of x. p = 1 gives zeros.

    The uniform numbers are of at least float32: in float16 they are multiples of 2⁻¹¹, and a rate
    would be rounded to one.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    kept = torch.rand(tuple(shape), device=x.device, dtype=wide) >= p
    return kept.to(x.dtype) * (1.0 / (1.0 - p) if p < 1 else 0.0)


def checked_rate(p: float) -> float:
    """p itself. Raises ValueError where it is no probability."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"the probability of dropping is {p}, but it lies between 0 and 1")
    return p
