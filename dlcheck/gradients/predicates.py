"""What tells the wrong elements of a gradient from the right ones, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dlcheck.gradients.localise import Part, Region

_LEAST = (2, 3)  # wrong and right elements without which a rule is chance
Holds = Callable[[int], bool]


def separating(part: Part, region: Region) -> str:
    """The first rule that holds for every wrong element measured and for no right one."""
    if len(region.wrong) < _LEAST[0] or len(region.right) < _LEAST[1]:
        return ""
    for rule, holds in _rules(part, region):
        if all(holds(at) for at in region.wrong) and not any(holds(at) for at in region.right):
            return rule
    return ""


def _rules(part: Part, region: Region) -> Iterator[tuple[str, Holds]]:
    x, g = part.x.reshape(-1).double(), part.gradient.reshape(-1)
    largest = float(g.abs().max())
    yield "x < 0", lambda at: bool(x[at] < 0)
    yield "x > 0", lambda at: bool(x[at] > 0)
    yield "x = 0", lambda at: bool(x[at] == 0)
    yield "another element has the same value", _tied(x)
    yield (
        f"the claimed gradient is cut off at ±{largest:.4g}",
        lambda at: float(g[at].abs()) >= largest * (1 - 1e-12),
    )
    yield from _thresholds(x.abs(), "|x|", region)
    yield from _thresholds(x, "x", region)
    yield from _places(tuple(part.x.shape), region)
    yield from _lookups(part)


def _tied(x: Tensor) -> Holds:
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    return lambda at: int(counts[inverse[at]]) > 1


def _thresholds(size: Tensor, name: str, region: Region) -> Iterator[tuple[str, Holds]]:
    wrong, right = size[list(region.wrong)], size[list(region.right)]
    if float(wrong.min()) > float(right.max()):
        limit = float(wrong.min())
        low = f"{float(right.max()):.3g} and {limit:.3g}"
        yield f"{name} is above a limit between {low}", lambda at: float(size[at]) >= limit
    if float(wrong.max()) < float(right.min()):
        top = float(wrong.max())
        high = f"{top:.3g} and {float(right.min()):.3g}"
        yield f"{name} is below a limit between {high}", lambda at: float(size[at]) <= top


def _places(shape: tuple[int, ...], region: Region) -> Iterator[tuple[str, Holds]]:
    def index(at: int, axis: int) -> int:
        below = 1
        for size in shape[axis + 1 :]:
            below *= size
        return at // below % shape[axis]

    def seen(at: int) -> bool:
        return at in region.wrong

    for axis, size in enumerate(shape):
        if size == 1:
            continue

        def here(at: int, axis: int = axis) -> int:
            return index(at, axis)

        yield f"the first index of dim {axis}", lambda at, here=here: here(at) == 0
        yield f"the last index of dim {axis}", lambda at, here=here, n=size: here(at) == n - 1
        yield f"odd indices of dim {axis}", lambda at, here=here: here(at) % 2 == 1
        yield f"even indices of dim {axis}", lambda at, here=here: here(at) % 2 == 0
        yield (
            f"the border of dim {axis}",
            lambda at, here=here, n=size: here(at) in (0, n - 1),
        )
        wrong = [here(at) for at in region.wrong]
        right = [here(at) for at in region.right]
        if min(wrong) > max(right):
            yield f"dim {axis} from index {min(wrong)} on", seen
        if max(wrong) < min(right):
            yield f"dim {axis} up to index {max(wrong)}", seen
        if len(set(wrong)) == 1 and wrong[0] not in right:
            yield f"index {wrong[0]} of dim {axis}", seen
    if len(shape) >= 2:
        last, before = len(shape) - 1, len(shape) - 2
        yield "below the diagonal", lambda at: index(at, before) > index(at, last)
        yield "above the diagonal", lambda at: index(at, before) < index(at, last)
        yield "off the diagonal", lambda at: index(at, before) != index(at, last)
        yield "on the diagonal", lambda at: index(at, before) == index(at, last)
        yield (
            "the border",
            lambda at: any(index(at, axis) in (0, shape[axis] - 1) for axis in (before, last)),
        )


def _lookups(part: Part) -> Iterator[tuple[str, Holds]]:
    """Rows that an integer input names once, often, or never."""
    shape = tuple(part.x.shape)
    if not shape:
        return
    below = part.x.numel() // shape[0]
    for name, constant in part.judge.function.constants:
        if constant.is_floating_point() or constant.is_complex() or constant.dtype == torch.bool:
            continue
        if not constant.numel() or int(constant.min()) < 0 or int(constant.max()) >= shape[0]:
            continue
        counts = torch.bincount(constant.reshape(-1).long(), minlength=shape[0]).tolist()
        yield (
            f"rows that {name} names more than once",
            lambda at, counts=counts: counts[at // below] > 1,
        )
        yield f"rows that {name} names", lambda at, counts=counts: counts[at // below] > 0
