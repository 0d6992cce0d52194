"""Which elements of an answer are wrong: a rule that holds for each of them and for no other.

A rule about places is a fact about this answer. A rule about values could hold by accident: of w
wrong elements among n one that is drawn at random separates them with probability 1 / C(n, w), so
a rule found among R is told only where R / C(n, w) is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

_CHANCE = 0.05  # that some rule about values separates by accident
_TILES = (1024, 512, 256, 128, 64, 32, 16, 8)
_LISTED = 4  # indices that are named one by one
_VALUES = 20  # different integers of an input that are tried
_MOST = 2**20  # elements beyond which only places are looked at
_ONLY = ", only where "

Rule = tuple[str, Tensor]  # in words, and where it holds


def place_of(got: Tensor, expected: Tensor, wrong: Tensor, rule: str = "") -> str:
    """`31 of 63 elements, only where x < 0; worst at [3, 2]`; empty where nothing is wrong.

    got, expected, wrong: of one shape, wrong of bools. rule: what the wrong ones share.
    """
    if not bool(wrong.any()) or not wrong.dim():
        return ""
    count, total = int(wrong.sum()), wrong.numel()
    share = f"all {total} elements" if count == total else f"{count} of {total} elements"
    said = share + (_ONLY + rule if rule else "")
    if total == 1:
        return ""
    place = list(worst_place(got, expected, wrong))
    return f"{said}; at {place}" if count == 1 else f"{said}; worst at {place}"


def names_a_pattern(place: str) -> bool:
    """Does this place, in words, say what the wrong elements share?"""
    return _ONLY in place


def without_pattern(place: str) -> str:
    """The place, in words, with no word of what the wrong elements share."""
    head, only, rest = place.partition(_ONLY)
    return f"{head}; {rest.rpartition('; ')[2]}" if only else place


def worst_place(got: Tensor, expected: Tensor, wrong: Tensor) -> tuple[int, ...]:
    """The index of the wrong element that is furthest off; NaN and infinities before all."""
    off = (got - expected).abs().double().nan_to_num(math.inf, math.inf)
    at = torch.where(wrong, off, -1.0).argmax()
    return tuple(int(i) for i in torch.unravel_index(at, wrong.shape))


def pattern_of(
    wrong: Tensor,
    *,
    beside: Mapping[str, Tensor] | None = None,
    names: Sequence[str] = (),
) -> str:
    """A condition that every wrong element meets and no right one; empty where none is found.

    wrong: bools, of any shape. beside: inputs, by name, whose values may tell the wrong elements
    from the right ones. names: of the dims.
    """
    count, total = int(wrong.sum()), wrong.numel()
    if not 0 < count < total:
        return ""
    axes = [names[k] if len(names) == wrong.dim() else f"dim {k}" for k in range(wrong.dim())]
    place = _box(wrong, axes) or _diagonal(wrong, axes) or _outside_a_box(wrong, axes)
    if count == 1 and "past" not in place:
        place = ""  # its index says it
    if total > _MOST:
        return place
    values = _of_values(wrong, beside or {})
    return f"{place}, that is, {values}" if place and values else place or values


# --- places -------------------------------------------------------------------------------------


def _box(wrong: Tensor, axes: Sequence[str]) -> str:
    """One condition per dim: the wrong elements are all those that meet each of them."""
    found = [_indices(wrong, axis) for axis in range(wrong.dim())]
    if math.prod(len(indices) for indices in found) != int(wrong.sum()):
        return ""
    told = []
    for name, indices, size in zip(axes, found, wrong.shape, strict=True):
        if len(indices) == size:
            continue
        said = _subset(name, indices, size)
        if not said:
            return ""
        told.append(said)
    return " and ".join(told)


def _indices(wrong: Tensor, axis: int) -> list[int]:
    others = [k for k in range(wrong.dim()) if k != axis]
    along = wrong.any(dim=others) if others else wrong
    return [int(i) for i in torch.nonzero(along).reshape(-1)]


def _subset(name: str, indices: list[int], size: int) -> str:
    """A part of the indices 0 … size − 1, in words; empty where it has no name."""
    first, last, count = indices[0], indices[-1], len(indices)
    if count == 1:
        past = f", past the last whole {size - 1}" if size - 1 in _TILES[:-1] else ""
        place = f" (the last{past})" if last == size - 1 else ""
        return f"{name} = {first}{place}"
    if count == last - first + 1:
        return _range(name, first, last, size)
    if indices == list(range(1, size, 2)):
        return f"{name} is odd"
    if indices == list(range(0, size, 2)):
        return f"{name} is even"
    if indices == [0, size - 1]:
        return f"{name} is at its border"
    if count == size - 1:
        left = next(i for i in range(size) if i not in indices)
        return f"{name} ≠ {left}"
    if count <= _LISTED:
        return f"{name} = {', '.join(map(str, indices[:-1]))} or {last}"
    step = indices[1] - first
    if first == 0 and indices == list(range(0, size, step)):
        return f"{name} is a multiple of {step}"
    return ""


def _range(name: str, first: int, last: int, size: int) -> str:
    if last < size - 1:
        return f"{name} ≤ {last}" if first == 0 else f"{first} ≤ {name} ≤ {last}"
    for tile in _TILES:
        if first and first == size - size % tile:
            return f"{name} ≥ {first} (past the last whole {tile})"
    return f"{name} ≥ {first}"


def _diagonal(wrong: Tensor, axes: Sequence[str]) -> str:
    """The places of a matrix in the last two dims, if each matrix is wrong alike."""
    if wrong.dim() < 2 or min(wrong.shape[-2:]) < 2:
        return ""
    matrices = wrong.reshape(-1, *wrong.shape[-2:])
    if not bool((matrices == matrices[:1]).all()):
        return ""
    row = torch.arange(wrong.shape[-2], device=wrong.device)[:, None]
    column = torch.arange(wrong.shape[-1], device=wrong.device)
    i, j = axes[-2:] if axes[-1] != axes[-2] else ("row", "column")
    for said, holds in (
        (f"{i} = {j}, the diagonal", row == column),
        (f"{i} ≠ {j}, off the diagonal", row != column),
        (f"{i} > {j}, below the diagonal", row > column),
        (f"{i} < {j}, above the diagonal", row < column),
        (f"{i} ≥ {j}, on and below the diagonal", row >= column),
        (f"{i} ≤ {j}, on and above the diagonal", row <= column),
        (f"{i} + {j} is odd", (row + column) % 2 == 1),
        (f"{i} + {j} is even", (row + column) % 2 == 0),
    ):
        if torch.equal(holds, matrices[0]):
            return said
    return ""


def _outside_a_box(wrong: Tensor, axes: Sequence[str]) -> str:
    """All but the elements inside: a border, or everything but one row of one channel."""
    found = [_indices(~wrong, axis) for axis in range(wrong.dim())]
    if math.prod(len(indices) for indices in found) != int((~wrong).sum()):
        return ""
    inside = [
        (name, indices, size)
        for name, indices, size in zip(axes, found, wrong.shape, strict=True)
        if len(indices) < size
    ]
    if all(indices == list(range(1, size - 1)) for _, indices, size in inside):
        return f"{' or '.join(name for name, _, _ in inside)} is at its border"
    told = [_subset(*each) for each in inside]
    return f"not ({' and '.join(told)})" if all(told) else ""


# --- values -------------------------------------------------------------------------------------


def _of_values(wrong: Tensor, beside: Mapping[str, Tensor]) -> str:
    for name, values in beside.items():
        fitted = _fitted(wrong, values)
        if fitted is None:
            continue
        marked, at = fitted
        count, total = int(marked.sum()), marked.numel()
        if not 0 < count < total:
            continue
        rules = list(_rules(name, at, marked))
        if len(rules) / math.comb(total, count) > _CHANCE:
            continue
        for said, holds in rules:
            if torch.equal(holds, marked):
                return said
    return ""


def _fitted(wrong: Tensor, values: Tensor) -> tuple[Tensor, Tensor] | None:
    """The wrong ones among the elements of an input: of one shape, or along the first or the last
    dims where all that belongs to an element is wrong or right together."""
    d, n = values.dim(), wrong.dim()
    if not 0 < d <= n or not values.numel():
        return None
    for rest, fits in (
        (list(range(d, n)), values.shape == wrong.shape[:d]),
        (list(range(n - d)), values.shape == wrong.shape[n - d :]),
    ):
        if not fits:
            continue
        any_wrong = wrong.any(dim=rest) if rest else wrong
        if not rest or torch.equal(any_wrong, wrong.all(dim=rest)):
            return any_wrong.reshape(-1), values.detach().reshape(-1).to(wrong.device)
    return None


def _rules(name: str, x: Tensor, wrong: Tensor) -> Iterator[Rule]:
    if x.dtype == torch.bool:
        yield f"{name} is true", x
        yield f"{name} is false", ~x
        return
    if x.is_complex():
        return
    if not x.is_floating_point():
        for value in torch.unique(x)[:_VALUES].tolist():
            yield f"{name} = {value}", x == value
        return
    yield f"{name} < 0", x < 0
    yield f"{name} > 0", x > 0
    yield f"{name} = 0", x == 0
    yield f"{name} ≤ 0", x <= 0
    yield f"{name} ≥ 0", x >= 0
    yield f"{name} is equal to another one", tied(x)
    yield f"{name} is not finite", ~torch.isfinite(x)
    yield from limits(f"|{name}| is", x.abs(), wrong)
    yield from limits(f"{name} is", x, wrong)


def tied(x: Tensor) -> Tensor:
    """[bool]: the elements that are equal to another one."""
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    found: Tensor = (counts > 1)[inverse]
    return found


def limits(name: str, size: Tensor, wrong: Tensor) -> Iterator[Rule]:
    """A limit between the wrong and the right ones, wherever it may lie."""
    off, right = size[wrong], size[~wrong]
    low, high = float(right.max()), float(off.min())
    yield f"{name} above a limit between {low:.3g} and {high:.3g}", size >= high
    low, high = float(off.max()), float(right.min())
    yield f"{name} below a limit between {low:.3g} and {high:.3g}", size <= low
