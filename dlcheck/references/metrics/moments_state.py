"""Moments of pairs of values as one tensor: the state of a streaming score."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.numerics.moments import Moments


def packed(moments: Moments) -> Tensor:
    """[7]: rows, mean [2], scatter [2, 2]."""
    rows = moments.mean.new_tensor([moments.rows])
    return torch.cat([rows, moments.mean, moments.scatter.flatten()])


def moments_of(state: Tensor) -> Moments:
    return Moments(int(state[0]), state[1:3], state[3:].view(2, 2))


def varies(moments: Moments, side: int) -> bool:
    """Is the scatter of a side more than what rounding its mean leaves of equal values?"""
    unit = 4 * torch.finfo(moments.mean.dtype).eps * moments.mean[side].abs()
    return bool(moments.scatter[side, side] > moments.rows * unit.square())


def joined(first: Tensor, second: Tensor) -> Tensor:
    """The moments of both sets of rows: scatter₁ + scatter₂ + δδᵀ n₁n₂/n, δ between the means.

    Source: Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances, Stanford STAN-CS-79-773, 1979, eq. 2.1.
    """
    one, other = moments_of(first), moments_of(second)
    rows, step = one.rows + other.rows, other.mean - one.mean
    between = torch.outer(step, step) * (one.rows * other.rows / rows)
    mean = one.mean + step * (other.rows / rows)
    return packed(Moments(rows, mean, one.scatter + other.scatter + between))
