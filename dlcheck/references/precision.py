"""The precision in which a reference computes: half types are only ever stored, never summed in."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """x in float32 where it is of a half type, else x itself.

    A reference widens what it is given, computes, and rounds once with `.to(x.dtype)`. Autograd
    does the reverse on the way back, so that gradients too are summed in float32 and rounded once.
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


def wide_or_none(x: Tensor | None) -> Tensor | None:
    """The same for an argument that may be left out."""
    return None if x is None else wide(x)
