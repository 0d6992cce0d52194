"""Mean 0 and mean square 1 over some axes, with its derivative: what all normalizations share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Axes = tuple[int, ...]


class _Standardize(torch.autograd.Function):
    """z = r c with c = x − mean x (or x itself where not centred), r = (mean c² + ε)^(−1/2).

    dr = −r³ mean(c dc) = −r² mean(z dc), so dz = r dc − z r mean(z dc). Centring is a symmetric
    projection: with v̄ = v − mean v (or v itself), and since z is centred already,
    dL = ⟨v, dz⟩ = ⟨r (v̄ − z mean(v z)), dx⟩.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, axes: Axes, eps: float, centred: bool) -> Tensor:  # noqa: FBT001
        z, _ = _standardized(x, axes, eps, centred=centred)
        return z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.axes, ctx.eps, ctx.centred = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        (v,) = gradients
        z, r = _standardized(x, ctx.axes, ctx.eps, centred=ctx.centred)
        straight = v - v.mean(ctx.axes, keepdim=True) if ctx.centred else v
        return r * (straight - z * (v * z).mean(ctx.axes, keepdim=True)), None, None, None


def _standardized(x: Tensor, axes: Axes, eps: float, *, centred: bool) -> tuple[Tensor, Tensor]:
    """z and r, in float32 at least."""
    c = centre(x, axes) if centred else x
    r = (c.square().mean(axes, keepdim=True) + eps).rsqrt()
    return c * r, r


def centre(x: Tensor, axes: Axes) -> Tensor:
    """x − mean x over the axes.

    A mean far from 0 is rounded by more than small deviations can bear; the mean of the
    differences is what that rounding was, and is taken off too.
    Source: Chan, Golub & LeVeque, Algorithms for Computing the Sample Variance, The American
    Statistician 37(3), 1983, §3 (the corrected two-pass algorithm).
    """
    c = x - x.mean(axes, keepdim=True)
    return c - c.mean(axes, keepdim=True)


def standardize(x: Tensor, axes: Axes, eps: float, *, centred: bool = True) -> Tensor:
    """(x − mean)/√(variance + ε) over the axes, or x/√(mean square + ε) where not centred."""
    z: Tensor = _Standardize.apply(x, axes, eps, centred)
    return z


class _ScaleAndShift(torch.autograd.Function):
    """y = w ⊙ z + b, where w and b broadcast to z.

    dL = ⟨v, w ⊙ dz + z ⊙ dw + db⟩: dL/dz = w ⊙ v, dL/dw = Σ v ⊙ z and dL/db = Σ v over the axes
    along which w and b are repeated.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return z * weight if bias is None else z * weight + bias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, weight, bias = inputs
        ctx.save_for_backward(z, weight)
        ctx.has_bias = bias is not None

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (v,) = gradients
        z, weight = ctx.saved_tensors
        to_z, to_weight, to_bias = ctx.needs_input_grad
        repeated = tuple(axis for axis, size in enumerate(weight.shape) if size == 1)
        return (
            v * weight if to_z else None,
            _summed(v * z, repeated) if to_weight else None,
            _summed(v, repeated) if ctx.has_bias and to_bias else None,
        )


def _summed(v: Tensor, axes: Axes) -> Tensor:
    return v.sum(axes, keepdim=True) if axes else v


def scale_and_shift(z: Tensor, weight: Tensor | None, bias: Tensor | None, axis: int) -> Tensor:
    """w ⊙ z + b with the axes of w and b lying along those of z from `axis` on.

    For weight [c] and axis 1 one factor per channel; for weight [h, w] and axis −2 one per place.
    """
    if weight is None:
        return z
    first = axis % z.dim()
    shape = (1,) * first + tuple(weight.shape) + (1,) * (z.dim() - first - weight.dim())
    shift = None if bias is None else bias.reshape(shape)
    y: Tensor = _ScaleAndShift.apply(z, weight.reshape(shape), shift)
    return y
