"""Ways to break a declared symmetry that fit any subject which has it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.mutants import around, on_tensors


def _ramp(y: Tensor, *, axis: int | None = None) -> Tensor:
    """0 to 1 along an axis, or over all elements: a weight that tells positions apart."""
    if axis is None or not y.dim():
        return torch.linspace(0, 1, max(y.numel(), 1), dtype=y.dtype, device=y.device)[
            : y.numel()
        ].reshape(y.shape)
    n = y.shape[axis]
    shape = [1] * y.dim()
    shape[axis] = n
    return torch.linspace(0, 1, n, dtype=y.dtype, device=y.device).reshape(shape)


def _first(first: Any) -> Tensor:
    found: Tensor = first[0] if isinstance(first, (list, tuple)) else first
    return found


@around
def weighs_positions_differently(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """As a position embedding in a set function."""
    return original(*_reweighed(inputs), **keywords)


def _reweighed(inputs: tuple[Any, ...]) -> list[Any]:
    def change(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(change(part) for part in x)
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        return x * (1 + 0.1 * torch.cos(3 * _ramp(x)))

    return [change(x) for x in inputs]


@around
def adds_its_position(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y + 0.01 * _ramp(y))


@around
def answers_in_another_order(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """Sorted, or turned round: right as a set, at the wrong places."""

    def turned(y: Tensor) -> Tensor:
        return y.flatten().roll(1).reshape(y.shape) if y.dim() else y + 1

    return on_tensors(original(*inputs, **keywords), turned)


@around
def sees_the_first_element_everywhere(original: Any, *inputs: Any, **keywords: Any) -> Any:
    def shifted(y: Tensor) -> Tensor:
        x = _first(inputs[0])
        return y + 1e-3 * x.flatten()[0].to(y) if x.numel() else y

    return on_tensors(original(*inputs, **keywords), shifted)


@around
def adds_a_constant(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """A bias where there is none."""
    return on_tensors(original(*inputs, **keywords), lambda y: y + 0.1)


@around
def bends_large_values(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y + 0.01 * y * y.abs())


@around
def doubles_what_is_negative(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: torch.where(y < 0, 2 * y, y))


@around
def clips_its_input(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`clamp` that was meant for the output."""

    def clipped(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return type(x)(clipped(part) for part in x)
        return x.clamp(-0.7, 0.5) if isinstance(x, Tensor) and x.is_floating_point() else x

    return original(*map(clipped, inputs), **keywords)


@around
def scales_by_a_hair(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: 1.0001 * y)


@around
def leaks_its_input(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """Means of the input and its squares are added that do not belong there."""

    def leaked(y: Tensor) -> Tensor:
        x = _first(inputs[0]).to(y)
        return y + 1e-3 * (x + x.square()).mean()  # rows of probabilities have one mean

    return on_tensors(original(*inputs, **keywords), leaked)


@around
def favours_its_first_input(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(
        original(*inputs, **keywords),
        lambda y: y + 1e-3 * _first(inputs[0]).to(y).square().mean(),
    )


@around
def turns_its_sign(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), torch.neg)
