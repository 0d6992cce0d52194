"""Six operations with implementations of each that are right, loose, or wrong on purpose.

What the tolerance policy is developed on. *Right*: other algorithms with the arithmetic inside in
float32 or wider. *Loose*: correct, but with steps rounded to the type or cancellation inside.
*Wrong*: bugs that people really make in kernels, of all sizes from NaN down to 10⁻³.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]
HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A trusted operation, its domain, and implementations by name."""

    name: str
    reference: Function
    inputs: Mapping[str, str]
    even: Mapping[str, int]  # the sizes on which kernels are usually compared
    right: Mapping[str, Function]
    loose: Mapping[str, Function]
    wrong: Mapping[str, Function]
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, Mapping[str, Function]]:
        return {"right": self.right, "loose": self.loose, "wrong": self.wrong}


def wide(x: Tensor) -> Tensor:
    """x in the type in which kernels compute: float32 for the half types."""
    return x.float() if x.dtype in HALF else x


def half_of(x: Tensor) -> torch.dtype:
    """A half type as narrow as that of x, or bfloat16."""
    return torch.float16 if x.dtype == torch.float16 else torch.bfloat16


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).to(x.dtype)


def tiles(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of each tile; the last may be short."""
    for begin in range(0, length, tile):
        yield begin, min(begin + tile, length)


def all_but_a_short_tile(length: int, tile: int) -> list[tuple[int, int]]:
    """As a grid of length // tile blocks covers it; a single tile is kept."""
    whole = length // tile * tile or length
    return list(tiles(whole, tile))
