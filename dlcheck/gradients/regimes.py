"""Other points of the same function: where a backward that is right at one point goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_LARGE = 30.0


def _zeros(x: Tensor) -> Tensor:
    """Every third element 0."""
    flat = x.clone().reshape(-1)
    flat[::3] = 0
    return flat.view(x.shape)


def _ties(x: Tensor) -> Tensor:
    """Rounded to halves: many equal elements."""
    return torch.view_as_complex((2 * torch.view_as_real(x)).round() / 2) if x.is_complex() else (
        (2 * x).round() / 2
    )  # fmt: skip


def _duplicated(x: Tensor) -> Tensor:
    """Every row the first one."""
    return x[:1].expand(x.shape).clone() if x.dim() else x.clone()


def _odd(x: Tensor) -> Tensor:
    """Without the last element of the last axis."""
    return x[..., :-1].clone() if x.dim() and x.shape[-1] > 1 else x.clone()


REGIMES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "large": lambda x: _LARGE * x,
    "tiny": lambda x: 2.0**-13 * x,
    "negative": lambda x: -x.abs() if not x.is_complex() else -x,
    "zeros": _zeros,
    "ties": _ties,
    "duplicated": _duplicated,
    "odd": _odd,
}
