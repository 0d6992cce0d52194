"""The precision in which a subject computes, whatever type it is given.

Many layers take their statistics in float32 on purpose, also of float64 inputs. Held against the
bounds of float64 all of it looks wrong: two calls that should agree differ by float32's rounding,
and a difference quotient sees the steps of float32 numbers. Computed in float64 throughout, such a
subject shows whether it is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from dlcheck.gradients.widening import Widened

_FINE = 2.0**-40  # relative: what float64 arithmetic stays far below
_COARSE = 2.0**-8  # and what float32 inside cannot exceed where nothing cancels


def widened() -> AbstractContextManager[object]:
    """Within it, what is asked for in float32 is computed in float64."""
    return Widened(torch.float32)


def is_single_inside(answer: Callable[[], Sequence[Tensor]]) -> bool:
    """Does what is answered change by float32's rounding when float32 is widened to float64?

    answer: the same call twice, with the same random numbers.
    """
    plain = answer()
    with widened():
        wide = answer()
    found = False
    for one, other in zip(plain, wide, strict=False):
        if not one.is_floating_point() or one.shape != other.shape or not one.numel():
            continue
        finite = torch.isfinite(one) & torch.isfinite(other)
        a, b = one.double()[finite], other.double()[finite]
        size = float(b.abs().amax()) if b.numel() else 0.0
        change = float((a - b).abs().amax()) if b.numel() else 0.0
        if change > _COARSE * size:
            return False
        found = found or change > _FINE * size
    return found
