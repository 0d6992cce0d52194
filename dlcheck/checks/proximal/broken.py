"""The ways in which people get a proximal operator wrong."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dlcheck.mutants import around

Operator = Callable[[Tensor, float], Tensor]


@around
def thresholds_hard(original: Operator, x: Tensor, step: float) -> Tensor:
    """What is kept is not shrunk: the operator of L0, not of L1."""
    shrunk = original(x, step)
    return torch.where(shrunk.abs() > 0.5 * x.abs(), x, 0)


@around
def forgets_the_step(original: Operator, x: Tensor, step: float) -> Tensor:
    """λ for tλ: right with a step of 1 only."""
    return original(x, 1.0)


@around
def takes_half_the_step(original: Operator, x: Tensor, step: float) -> Tensor:
    """The other convention: λ/2 for λ, or ‖u − x‖² for ½‖u − x‖²."""
    return original(x, 0.5 * step)


@around
def divides_by_the_step(original: Operator, x: Tensor, step: float) -> Tensor:
    """λ/t for tλ: the convention of 1/t as the weight of the distance, the wrong way round."""
    return original(x, 1 / step)


@around
def leaves_dust(original: Operator, x: Tensor, step: float) -> Tensor:
    """ε left where zero is meant, so that a division later is safe."""
    return original(x, step) + 1e-12 * torch.sign(x)


@around
def keeps_one_side(original: Operator, x: Tensor, step: float) -> Tensor:
    """max(x − tλ, 0), as for non-negative weights."""
    return original(x, step).clamp(min=0)


@around
def loses_the_sign(original: Operator, x: Tensor, step: float) -> Tensor:
    return original(x, step).abs()


@around
def takes_a_gradient_step(original: Operator, x: Tensor, step: float) -> Tensor:
    """x − t·∂P(x) without a clamp: small values overshoot zero and change sign."""
    far = 1e3 * (x.abs().max() + 1)
    return x - torch.sign(x) * (far - original(far.expand_as(x), step))


@around
def shrinks_in_proportion(original: Operator, x: Tensor, step: float) -> Tensor:
    """The operator of another penalty, which divides."""
    return original(x, step) * 0.5 + 0.5 * x / (1 + step)


@around
def goes_twice_as_far(original: Operator, x: Tensor, step: float) -> Tensor:
    """A reflection, 2 prox − identity: steps over the minimum."""
    return 2 * original(x, step) - x


@around
def moves_away(original: Operator, x: Tensor, step: float) -> Tensor:
    """A sign error: x + (x − prox)."""
    return 2 * x - original(x, step)


@around
def steps_twice(original: Operator, x: Tensor, step: float) -> Tensor:
    return original(original(x, step), step)


@around
def rounds_to_a_grid(original: Operator, x: Tensor, step: float) -> Tensor:
    """Kept on a lattice: jumps where the argument hardly moves."""
    shrunk = original(x, step)
    cell = 2 ** torch.floor(torch.log2(0.25 * x.abs().max()))
    return torch.where(cell > 0, (shrunk / cell).round() * cell, shrunk)
