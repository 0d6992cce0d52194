"""What tells the wrong elements of a gradient from the right ones, in words.

Of w wrong and r right elements a rule drawn at random separates them with probability
1 / C(w + r, w), so that a rule found among R counts only where R / C(w + r, w) is small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.gradients.localise import Part, Region
from dlcheck.numerics.localisation import limits
from dlcheck.numerics.localisation import tied as tied

_CHANCE = 0.05  # that some rule separates by accident

Rule = tuple[str, Tensor]  # in words, and [n] bool: where it holds


def separating(part: Part, region: Region) -> str:
    """The first rule that holds for every wrong element measured and for no right one."""
    wrong, right = len(region.wrong), len(region.right)
    if not wrong or not right:
        return ""
    at = torch.tensor([*region.wrong, *region.right], device=part.x.device)
    is_wrong = torch.arange(wrong + right, device=at.device) < wrong
    rules = list(_rules(part, at, is_wrong))
    if len(rules) / math.comb(wrong + right, wrong) > _CHANCE:
        return ""
    for words, holds in rules:
        if torch.equal(holds.to(is_wrong.device), is_wrong):
            return words
    return ""


def _rules(part: Part, at: Tensor, is_wrong: Tensor) -> Iterator[Rule]:
    x, gradient = part.x.reshape(-1).double(), part.gradient.reshape(-1)
    here, g = x[at], gradient[at]
    yield "x < 0", here < 0
    yield "x > 0", here > 0
    yield "x = 0", here == 0
    yield "elements whose value occurs more than once", tied(x)[at]
    largest = float(gradient.abs().max())
    yield f"elements cut off at ±{largest:.4g}", g.abs() >= largest * (1 - 1e-12)
    yield from limits("|x|", here.abs(), is_wrong)
    yield from limits("x", here, is_wrong)
    yield from _places(tuple(part.x.shape), at, is_wrong)
    yield from _lookups(part, at)


def _places(shape: tuple[int, ...], at: Tensor, is_wrong: Tensor) -> Iterator[Rule]:
    if not shape:
        return
    places = torch.unravel_index(at, shape)
    for axis, (index, size) in enumerate(zip(places, shape, strict=True)):
        if size == 1:
            continue
        wrong = index[is_wrong]
        yield f"the first index of dim {axis}", index == 0
        yield f"the last index of dim {axis}", index == size - 1
        yield f"odd indices of dim {axis}", index % 2 == 1
        yield f"even indices of dim {axis}", index % 2 == 0
        yield f"the border of dim {axis}", (index == 0) | (index == size - 1)
        yield f"dim {axis} from index {int(wrong.min())} on", index >= wrong.min()
        yield f"dim {axis} up to index {int(wrong.max())}", index <= wrong.max()
        only = torch.unique(wrong)
        if 2 * len(only) < size:
            listed = ", ".join(map(str, only.tolist()))
            yield f"index {listed} of dim {axis}", torch.isin(index, only)
    if len(shape) < 2:
        return
    row, column = places[-2], places[-1]
    yield "elements below the diagonal", row > column
    yield "elements above the diagonal", row < column
    yield "elements off the diagonal", row != column
    yield "elements on the diagonal", row == column
    depths = [torch.minimum(i, size - 1 - i) for i, size in zip(places, shape, strict=True)]
    depth = torch.minimum(depths[-2], depths[-1])
    reach = int(depth[is_wrong].max())
    yield f"the border, {reach + 1} deep", depth <= reach
    start = int(depth[is_wrong].min())
    yield f"the inside, {start} or more from the border", depth >= start


def _lookups(part: Part, at: Tensor) -> Iterator[Rule]:
    """Rows that an integer input names once, often, or never."""
    shape = tuple(part.x.shape)
    if not shape:
        return
    row = at // (part.x.numel() // shape[0])
    for name, constant in part.judge.function.constants:
        if constant.is_floating_point() or constant.is_complex() or constant.dtype == torch.bool:
            continue
        if not constant.numel() or int(constant.min()) < 0 or int(constant.max()) >= shape[0]:
            continue
        counts = torch.bincount(constant.reshape(-1).long(), minlength=shape[0])[row]
        yield f"rows that {name} names more than once", counts > 1
        yield f"rows that {name} names", counts > 0
