"""Where to look: a random direction in which every tensor has an equal share of the slope.

Each tensor is moved within its domain (numerics/perturbations.py), in proportion to its elements
or to their root mean square. Then a tensor whose claimed slope ‖gₖ∘uₖ‖ is large is moved less,
until all are equal: so a bias of three elements beside a million weights is judged as sharply as
they are, at no further cost. A residual is held against the share of each tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.domains import Input
from dlcheck.gradients.function import Function
from dlcheck.numerics.differences import Point, product_norm
from dlcheck.numerics.perturbations import direction

_FLOOR = 2.0**-10  # of the largest share: tensors with less keep what they have


@dataclass(frozen=True, slots=True)
class Direction:
    """u, a tensor per variable, and the share ‖gₖ∘uₖ‖ of each."""

    parts: tuple[Tensor, ...]
    shares: tuple[float, ...]


def balanced(
    function: Function,
    point: Point,
    gradient: Point,
    generator: torch.Generator,
    *,
    relative: bool,
    only: Collection[int] | None = None,
    still: Sequence[Tensor | None] = (),
) -> Direction | None:
    """A random direction, each tensor with an equal share of the slope; None if nothing moves.

    only: the variables that move. still: per variable, the elements [bool] that do not.
    """
    parts = []
    for index, (variable, x, g) in enumerate(zip(function.variables, point, gradient, strict=True)):
        if not x.numel() or (only is not None and index not in only):
            parts.append(torch.zeros_like(g))
            continue
        held = still[index] if still else None
        parts.append(_moved(x, g, variable.spec, generator, relative=relative, held=held))
    # Elements whose gradient is not finite stay, and count as 0.
    shares = [product_norm(finite_part(g), u) for g, u in zip(gradient, parts, strict=True)]
    wanted = _wanted([share for share in shares if share > 0])
    for index, share in enumerate(shares):
        if share > wanted > 0:
            parts[index].mul_(wanted / share)
            shares[index] = wanted
    if not any(bool(part.any()) for part in parts):
        return None
    return Direction(tuple(parts), tuple(shares))


def _moved(
    x: Tensor,
    g: Tensor,
    spec: Input | None,
    generator: torch.Generator,
    *,
    relative: bool,
    held: Tensor | None,
) -> Tensor:
    """A direction for one tensor; elements that are not finite, or held, stay."""
    if not (all_finite(x) and all_finite(g)):
        broken = ~(torch.isfinite(x) & torch.isfinite(g))
        held = broken if held is None else held | broken
        x = torch.where(torch.isfinite(x), x, 0.0)
    u = direction(x, spec, generator, relative=relative)
    return u if held is None else torch.where(held, 0.0, u)


def all_finite(tensor: Tensor) -> bool:
    """Is every element finite? One pass where it is."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def finite_part(tensor: Tensor) -> Tensor:
    """The tensor with 0 in place of what is not finite."""
    if all_finite(tensor):
        return tensor
    return torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0)


def _wanted(shares: Sequence[float]) -> float:
    return max(min(shares), _FLOOR * max(shares)) if shares else 0.0


def cotangent(function: Function, generator: torch.Generator) -> Tensor:
    """v [m], normal numbers with all their bits: rounded ones would hide a float32 backward."""
    value = function.value
    z = torch.randn(
        value.shape, generator=generator, dtype=torch.float64, device=generator.device
    ).to(value.device)
    # One output: a number of order 1, lest a small draw spoil the relation to rounding.
    return function.mask(z if z.numel() > 1 else z.sign() * (1 + z.abs() / (1 + z.abs())))
