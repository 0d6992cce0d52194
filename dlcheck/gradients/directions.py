"""Where to look: a random direction in which every tensor has an equal share of the slope.

Each tensor is moved within its domain (numerics/perturbations.py), in proportion to its elements
or to their root mean square. Then a tensor whose claimed slope ‖gₖ∘uₖ‖ is large is moved less,
until all are equal: so a bias of three elements beside a million weights is judged as sharply as
they are, at no further cost. A residual is held against the share of each tensor.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.gradients.function import Function
from dlcheck.numerics.differences import Point, product_norms
from dlcheck.numerics.perturbations import direction

_MANY = 2**14  # elements
_FLOOR = 2.0**-10  # of the largest share: tensors with less keep what they have


@dataclass(frozen=True, slots=True)
class Direction:
    """u, a tensor per variable, and the share ‖gₖ∘uₖ‖ of each."""

    parts: tuple[Tensor, ...]
    shares: tuple[float, ...]
    reach: float | None = None  # ‖x∘g‖, where the direction tells it


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
    whole = all_finite(point) and all_finite(gradient)
    for index, (variable, x, g) in enumerate(zip(function.variables, point, gradient, strict=True)):
        if not x.numel() or (only is not None and index not in only):
            parts.append(torch.zeros_like(g))
            continue
        held = still[index] if still else None
        if not whole:
            broken = ~(torch.isfinite(x) & torch.isfinite(g))
            held = broken if held is None else held | broken
            x = torch.where(torch.isfinite(x), x, 0.0)
        u = direction(x, variable.spec, generator, relative=relative)
        parts.append(u if held is None else torch.where(held, 0.0, u))
    # Elements whose gradient is not finite stay, and count as 0.
    shares = product_norms(gradient if whole else finite_parts(gradient), parts)
    # For u = x∘z, of many elements, ‖g∘u‖ is ‖x∘g‖ but for a small share.
    many = relative and sum(x.numel() for x in point) > _MANY
    reach = math.hypot(*shares) if many else None
    wanted = _wanted([share for share in shares if share > 0])
    for index, share in enumerate(shares):
        if share > wanted > 0:
            parts[index].mul_(wanted / share)
            shares[index] = wanted
    if not wanted and not any(bool(part.any()) for part in parts):
        return None
    return Direction(tuple(parts), tuple(shares), reach)


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Is every element finite? One pass where it is, and one synchronisation."""
    if not tensors:
        return True
    if bool(torch.isfinite(torch.stack([tensor.sum().double() for tensor in tensors])).all()):
        return True
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def finite_parts(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The tensors with 0 in place of what is not finite."""
    if all_finite(tensors):
        return tuple(tensors)
    return tuple(torch.nan_to_num(t, nan=0.0, posinf=0.0, neginf=0.0) for t in tensors)


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
