"""Directions in which an input may be moved without leaving its domain.

A step x + tu with |t| ≤ 2⁻⁶ stays symmetric and positive definite, sums to 1, or keeps its sign,
as its element says. `relative` moves each element in proportion to itself (log, square roots and
scales of 10^±8; exact zeros stay), otherwise by the tensor's typical size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlcheck.domains import Input

_TILE = 4093  # prime, so that rows do not repeat it
_SAMPLED = 4096  # elements that tell the size of a tensor
_BOUNDS = {"unit": (0.0, 1.0), "image": (0.0, 1.0), "signed": (-1.0, 1.0)}


def bounds_of(spec: Input | None) -> tuple[float, float] | None:
    """Between which two numbers the elements of an input lie; None where they may be any."""
    if spec is None:
        return None
    if spec.low is not None and spec.high is not None:
        return spec.low, spec.high
    return (0.0, 1.0) if spec.element in ("probability", "onehot") else _BOUNDS.get(spec.element)


def direction(
    x: Tensor, spec: Input | None, generator: torch.Generator, *, relative: bool
) -> Tensor:
    """A random direction u of the shape of x: normal numbers times the room of each element.

    spec says what x holds; None is a parameter: any real numbers.
    """
    z = normal(x, generator)
    element = spec.element if spec is not None else "float"
    bounds = bounds_of(spec)
    if bounds is not None and element not in ("probability", "onehot"):
        return z * torch.minimum(x - bounds[0], bounds[1] - x).clamp_min(0)
    match element:
        case "positive":
            return z * x.abs()
        case "probability" | "onehot":  # Σ pᵢ(zᵢ − Σ pⱼzⱼ) = 0, and zeros stay
            axis = spec.axis if spec is not None else -1
            mean: Tensor = (x * z).sum(axis, keepdim=True)
            return x * (z - mean)
        case "log_probability":  # Σ eˡ δ = 0, as a softmax before it sends back
            axis = spec.axis if spec is not None else -1
            weighted: Tensor = (x.exp() * z).sum(axis, keepdim=True)
            return z - weighted
        case "direction":  # the tangent of the sphere
            along: Tensor = (x * z).sum(-1, keepdim=True)
            return z - along * x
        case "spd":  # x + tu = L (1 + tS) Lᵀ, positive while t‖S‖ < 1; ‖S‖ is about 2
            root, symmetric = torch.linalg.cholesky(x), (z + z.mT) / math.sqrt(2)
            moved: Tensor = root @ (symmetric / math.sqrt(x.shape[-1])) @ root.mT
            return moved
        case "orthogonal":  # the tangent of x exp(tA), A skew
            skew: Tensor = (z - z.mT) / math.sqrt(x.shape[-1])
            return x @ skew
    # z is symmetric: x will do for |x|.
    return z * x if relative else z.mul_(typical_size(x))


def tiled_direction(
    x: Tensor, spec: Input | None, generator: torch.Generator, *, relative: bool
) -> Tensor:
    """A direction to a point nearby, for which large tensors need no fresh number per element."""
    if x.numel() <= _TILE or (spec is not None and spec.element not in ("float", "logit")):
        x = torch.where(torch.isfinite(x), x, 0.0)
        return direction(x, spec, generator, relative=relative) if x.numel() else x.double()
    z = torch.randn(_TILE, generator=generator, dtype=torch.float64, device=generator.device)
    repeats = -(-x.numel() // _TILE)
    tiled = z.to(x.device).repeat(repeats)[: x.numel()].view(x.shape)
    return tiled.mul_(x) if relative else tiled.mul_(typical_size(x))


def normal(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape of x in float64, drawn where the generator lives."""
    z = torch.randn(x.shape, generator=generator, dtype=torch.float32, device=generator.device)
    return z.to(device=x.device, dtype=torch.float64)


def typical_size(x: Tensor) -> float:
    """The median of what is not 0 among |xᵢ|, of a sample where there are many; 1 without any.

    No mean: beside an outlier all others would be moved out of their surroundings.
    """
    flat = x.detach().reshape(-1)
    sizes = flat[:: max(1, flat.numel() // _SAMPLED)].abs()
    sizes = sizes[sizes > 0]
    return float(sizes.median()) if sizes.numel() else root_mean_square(x)


def root_mean_square(x: Tensor) -> float:
    """√(Σx²/n), and 1 for a tensor of zeros, which has no scale."""
    norm = float(torch.linalg.vector_norm(x.double()))
    if 1e-140 < norm < 1e140:
        return norm / math.sqrt(x.numel())
    largest = float(x.abs().amax()) if x.numel() else 0.0
    return largest * float((x / largest).square().mean().sqrt()) if largest > 0 else 1.0
