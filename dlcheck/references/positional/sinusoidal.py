"""Sinusoidal positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.precision import wide
from dlcheck.registry import reference


def angles(tokens: int, frequencies: int, base: float) -> Tensor:
    """t·base^{−i/f} for tokens t and frequencies i = 0 … f − 1: [tokens, f], float64, on the CPU.

    An angle of 1000 in float32 is known to 6e-5 only, so they are never rounded before sin and
    cos are taken; and not every device has float64.
    """
    exponent = torch.arange(frequencies, dtype=torch.float64) / frequencies
    return torch.arange(tokens, dtype=torch.float64).unsqueeze(1) * base**-exponent


class _AddTable(torch.autograd.Function):
    """y = x + P with a fixed table P [t, d]: the gradient of x is v."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, table: Tensor) -> Tensor:
        return x + table

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


@reference(
    kind="positional",
    formula="y = x + P,  P[t, 2i] = sin(t base^{−2i/d}),  P[t, 2i + 1] = cos(t base^{−2i/d})",
    source="Vaswani et al., Attention Is All You Need, NeurIPS 2017, §3.5",
    inputs={"x": "float b t d*2"},
    traits=["smooth", "twice_differentiable"],
    options={
        "axes": [-2],
        "mode": "add",
        "relative": "inner_product",
        "base": "base",
        "first": 0,
    },
)
def sinusoidal_positions(x: Tensor, base: float = 10000.0) -> Tensor:
    """x + P: x […, t, d] with even d, y like x. Sines and cosines alternate.

    ⟨P[m], P[n]⟩ = Σᵢ cos((m − n) base^{−2i/d}) depends on the distance only. Raises ValueError for
    an odd d.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"sines and cosines come in pairs, but there are {x.shape[-1]} features")
    turn = angles(x.shape[-2], x.shape[-1] // 2, base)
    table = torch.stack((turn.sin(), turn.cos()), -1).flatten(-2)
    given = wide(x)
    y: Tensor = _AddTable.apply(given, table.to(given))
    return y.to(x.dtype)
