"""Rotary position embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.positional.sinusoidal import angles
from dlcheck.references.precision import wide
from dlcheck.registry import reference


class _Rotate(torch.autograd.Function):
    """Each pair (a, b) of features is turned by θ: (a cos θ − b sin θ, b cos θ + a sin θ).

    A rotation is orthogonal, Rᵀ(θ) = R(−θ), so the gradient is v turned back.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:  # noqa: FBT001
        return x * cos + _quarter_turn(x, interleaved=interleaved) * sin

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, cos, sin, ctx.interleaved = inputs
        ctx.save_for_backward(cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        (v,) = gradients
        turned = _quarter_turn(v, interleaved=ctx.interleaved)
        return v * cos - turned * sin, None, None, None


def _quarter_turn(x: Tensor, *, interleaved: bool) -> Tensor:
    """(a, b) → (−b, a) for each pair: neighbours, or features i and i + d/2."""
    if interleaved:
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack((-b, a), -1).flatten(-2)
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


@reference(
    kind="positional",
    formula="(y₂ᵢ, y₂ᵢ₊₁) = R(t base^{−2i/d}) (x₂ᵢ, x₂ᵢ₊₁)",
    source="Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021, §3.2.2",
    inputs={"x": "float b h t d*2"},
    traits=["smooth", "twice_differentiable", "linear", "orthogonal", "norm_preserving"],
    options={
        "axes": [-2],
        "mode": "rotate",
        "relative": "rotation",
        "base": "base",
        "first": 0,
    },
)
def rotary_embedding(
    x: Tensor,
    base: float = 10000.0,
    interleaved: bool = False,  # noqa: FBT001, FBT002
) -> Tensor:
    """Pairs of features of token t turned by t·base^{−2i/d}: x […, t, d] with even d, y like x.

    A pair is (i, i + d/2), as in GPT-NeoX and LLaMA; interleaved, (2i, 2i + 1), as in the paper
    and GPT-J. Raises ValueError for an odd d.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"features are turned in pairs, but there are {x.shape[-1]}")
    turn = angles(x.shape[-2], x.shape[-1] // 2, base)
    turn = turn.repeat_interleave(2, -1) if interleaved else torch.cat((turn, turn), -1)
    given = wide(x)
    y: Tensor = _Rotate.apply(given, turn.cos().to(given), turn.sin().to(given), interleaved)
    return y.to(x.dtype)
