"""What makes a wrong answer right: a factor, a constant, a transposition, a shift.

Each relation corrects the answer, and is told only where the corrected one meets the bound at
every element. A constant that is fitted needs further elements that confirm it; a factor that has
a name needs one element that is known to 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice

import torch
from torch import Tensor

_CONFIRMED = 3  # elements that a fitted constant must explain
_KNOWN = 1e-5  # relative precision for a factor to have a name
_CLEAR = 10  # bounds by which an element must be off, to tell anything
_NAMES = 2  # meanings that are told of one factor


@dataclass(frozen=True, slots=True)
class Named:
    """A factor between a wrong answer and the right one, and the mistake that makes it."""

    factor: float
    meaning: str
    size: str = ""  # from which the factor comes: "n = 7"

    def __str__(self) -> str:
        return f"{self.meaning} ({self.size})" if self.size else self.meaning


def relation(
    got: Tensor,
    expected: Tensor,
    bound: Tensor | float,
    *,
    sizes: Mapping[str, int] | None = None,
    beside: Mapping[str, Tensor] | None = None,
    names: tuple[str, ...] = (),
) -> str:
    """What relates a wrong answer to the right one, in words; empty where nothing fits.

    got, expected: of the same dtype, float64 or complex128. bound: how far an element of a right
    answer may be off. sizes: of the case by name; beside: its inputs by name; names: of the dims.
    """
    if got.shape != expected.shape:
        return _of_shapes(got, expected, bound)
    limit = torch.as_tensor(bound, dtype=torch.float64, device=got.device).expand(got.shape)
    known = torch.isfinite(limit) & torch.isfinite(expected)
    if not bool(known.any()) or not bool(torch.isfinite(got[known]).all()):
        return ""
    off = known & ((got - expected).abs() > limit)
    if not bool(off.any()):
        return ""
    found = next(_relations(got, expected, limit, known, sizes or {}, beside or {}, names), "")
    if found or bool(off[known].all()):
        return found
    there = (got[off], expected[off], limit[off])
    inputs = {name: x[off] for name, x in (beside or {}).items() if x.shape == got.shape}
    inside = torch.ones_like(there[2], dtype=torch.bool)
    said = next(_elementwise(*there, inside, sizes or {}, inputs), "")
    return f"there {said.removesuffix(', everywhere')}" if said else ""


def _relations(
    got: Tensor,
    expected: Tensor,
    limit: Tensor,
    known: Tensor,
    sizes: Mapping[str, int],
    beside: Mapping[str, Tensor],
    names: tuple[str, ...],
) -> Iterator[str]:
    yield from _elementwise(got, expected, limit, known, sizes, beside)
    axes = [names[k] if len(names) == got.dim() else f"dim {k}" for k in range(got.dim())]
    yield from _moved(got, expected, limit, known, axes)
    yield from _of_slices(got, expected, limit, known, axes)


# --- element by element -------------------------------------------------------------------------


def _elementwise(
    got: Tensor,
    expected: Tensor,
    limit: Tensor,
    known: Tensor,
    sizes: Mapping[str, int],
    beside: Mapping[str, Tensor],
) -> Iterator[str]:
    g, e, room = got[known], expected[known], limit[known]
    if not bool((g != 0).any()):
        yield "it is 0: dropped, or never written"
        return
    clear = (g - e).abs() > _CLEAR * room
    if not bool(clear.any()):
        return
    yield from _inputs(g, room, known, beside)
    yield from _factors(g, e, room, sizes)
    if g.is_complex():
        return
    yield from _constants(g, e, room)
    if int(clear.sum()) >= _CONFIRMED and _vary(e, room):
        yield from (said for said, f in _FUNCTIONS if _is_function(f, g, e, room))
        yield from _cut(g, e, room)


def _inputs(g: Tensor, room: Tensor, known: Tensor, beside: Mapping[str, Tensor]) -> Iterator[str]:
    for name, x in beside.items():
        if x.shape != known.shape or not x.is_floating_point() or g.is_complex():
            continue
        given = x.to(g)[known]
        if not bool((given.abs() > _CLEAR * room).any()):
            continue
        if bool(((g - given).abs() <= room).all()):
            yield f"it is {name} as it was given"
        elif bool(((g + given).abs() <= room).all()):
            yield f"it is −{name}"


def _factors(g: Tensor, e: Tensor, room: Tensor, sizes: Mapping[str, int]) -> Iterator[str]:
    """got = a · expected."""
    at = int((e.abs() - room).argmax())
    if not float(e[at].abs()) > _CLEAR * float(room[at]):
        return
    ratio = g[at] / e[at]
    if g.is_complex() and abs(float(ratio.imag)) > 1e-9 * abs(float(ratio.real)):
        return
    a = float(ratio.real)
    if a == 0:
        return
    precision = float(room[at] / e[at].abs()) * max(1.0, 1 / abs(a))
    if precision <= _KNOWN:
        named = [
            str(named)
            for named in named_factors(sizes)
            if math.isclose(a, named.factor, rel_tol=max(2 * precision, 1e-12))
            and _is_scaled(g, e, room, named.factor)
        ]
        if named:
            yield " or ".join(named[:_NAMES])
    informative = (e.abs() * abs(a - 1) > _CLEAR * room) & (e.abs() > _CLEAR * room)
    if int(informative.sum()) >= _CONFIRMED and _is_scaled(g, e, room, a):
        digits = min(max(1, int(-math.log10(max(precision, 1e-6)))), 6)
        yield f"it is {a:.{digits}g} times what it should be, everywhere"


def _is_scaled(g: Tensor, e: Tensor, room: Tensor, a: float) -> bool:
    # g is a number of the size of a · e, and was rounded as one.
    return bool(((g / a - e).abs() <= room * max(1.0, 1 / abs(a)) + 1e-15 * e.abs()).all())


def named_factors(sizes: Mapping[str, int]) -> Iterator[Named]:
    """What a wrong answer may be times the right one; sizes: of the case, by name."""
    yield Named(-1.0, "the sign is flipped")
    yield Named(2.0, "a factor 2 too many")
    yield Named(0.5, "a factor 2 is missing")
    yield Named(100.0, "it is in percent")
    yield Named(0.01, "it is taken for percent")
    yield Named(1 / math.log(2), "a logarithm to base 2, not e")
    yield Named(1 / math.log(10), "a logarithm to base 10, not e")
    for n, name in _counts(sizes):
        root, size = f"√{name}" if len(name) == 1 else f"√({name})", f"{name} = {n}"
        yield Named(float(n), f"{name} times too large: a sum where a mean is meant", size)
        yield Named(1 / n, f"{name} times too small: a mean where a sum is meant", size)
        yield Named(math.sqrt(n), f"{root} times too large: a division by it is missing", size)
        yield Named(1 / math.sqrt(n), f"{root} times too small: divided by it once more", size)
    for name, n in sizes.items():
        if n < 3:
            continue
        for power, of in ((1.0, "variance"), (0.5, "deviation")):
            more, size = (n / (n - 1)) ** power, f"{name} = {n}"
            yield Named(more, f"a {of} over {name} − 1 where one over {name} is meant", size)
            yield Named(1 / more, f"a {of} over {name} where one over {name} − 1 is meant", size)


def _counts(sizes: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """Numbers that a sum may run over: a size, then products of two and three."""
    long = [(name, size) for name, size in sizes.items() if size > 1]
    for several in (1, 2, 3):
        for chosen in islice(combinations(long, several), 10):
            yield math.prod(size for _, size in chosen), "·".join(name for name, _ in chosen)


def _constants(g: Tensor, e: Tensor, room: Tensor) -> Iterator[str]:
    """got = expected + c, or c whatever is expected."""
    if g.numel() < _CONFIRMED or not _vary(e, room):
        return
    c = float((g - e).median())
    if bool(((g - e - c).abs() <= 2 * room).all()):
        yield f"it is {abs(c):.6g} too {'large' if c > 0 else 'small'}, everywhere"
    c = float(g.median())
    if bool(((g - c).abs() <= room).all()):
        yield f"it is {c:.6g} everywhere"


def _vary(e: Tensor, room: Tensor) -> bool:
    """Do at least three of the right values differ clearly from each other?"""
    order = e.sort().values
    return int((order.diff() > _CLEAR * room.max()).sum()) >= _CONFIRMED - 1


_FUNCTIONS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("the sign is lost: it is the absolute value", torch.abs),
    ("what is below 0 is cut to 0", torch.relu),
    ("it is the square of what it should be", torch.square),
    ("it is the root of what it should be: a square is missing", torch.sqrt),
    ("it is the logarithm of what it should be", torch.log),
    ("it is the exponential of what it should be", torch.exp),
    ("it is 1 over what it should be", torch.reciprocal),
    ("it is 1 minus what it should be", lambda e: 1 - e),
    ("it is rounded to whole numbers", torch.round),
    ("it is rounded to bfloat16 on its way", lambda e: e.bfloat16().double()),
    ("it is rounded to float16 on its way", lambda e: e.half().double()),
    ("it is rounded to float32 on its way", lambda e: e.float().double()),
)


def _is_function(f: Callable[[Tensor], Tensor], g: Tensor, e: Tensor, room: Tensor) -> bool:
    """Is g = f(e) for some e that is as near as the bound allows?"""
    near = torch.stack([f(e - room), f(e), f(e + room)])
    slack = room * 1e-3 + 1e-15 * g.abs()
    return bool(((g >= near.amin(0) - slack) & (g <= near.amax(0) + slack)).all())


def _cut(g: Tensor, e: Tensor, room: Tensor) -> Iterator[str]:
    low, high = float(g.min()), float(g.max())
    if low == high or not bool(((e.clamp(low, high) - g).abs() <= room).all()):
        return
    above, below = int((e > high + room).sum()), int((e < low - room).sum())
    if above + below >= 2:
        at = [f"above {high:.6g}"] * (above > 0) + [f"below {low:.6g}"] * (below > 0)
        yield f"it is cut off {' and '.join(at)}"


# --- moved elements -----------------------------------------------------------------------------


def _moved(
    got: Tensor, expected: Tensor, limit: Tensor, known: Tensor, axes: list[str]
) -> Iterator[str]:
    if not bool(known.all()) or got.numel() < _CONFIRMED:
        return
    room = limit.max()

    def same(moved: Tensor, right: Tensor = expected) -> bool:
        return moved.shape == right.shape and bool(((moved - right).abs() <= room).all())

    pairs = combinations(range(got.dim()), 2)
    yield from (
        f"{axes[i]} and {axes[j]} are exchanged" for i, j in pairs if same(got.transpose(i, j))
    )
    for k, name in enumerate(axes):
        size = got.shape[k]
        if size < 2:
            continue
        first = got.narrow(k, 0, 1)
        along = expected.narrow(k, 0, 1).expand_as(expected)
        if same(got, first.expand_as(got)) and not same(along):
            yield f"it is the same for each {name}"
        if size < 3:
            continue
        if same(got.flip(k)):
            yield f"it is in reverse order along {name}"
        for step, said in ((1, "the one before"), (-1, "the one after")):
            if same(got.roll(-step, k)):
                yield f"it is shifted by one along {name}, around the end: each is {said}"
            start = max(step, 0)
            kept = got.narrow(k, start, size - 1)
            if same(kept, expected.narrow(k, 1 - start, size - 1)):
                yield f"it is shifted by one along {name}: each is {said}"


def _of_slices(
    got: Tensor, expected: Tensor, limit: Tensor, known: Tensor, axes: list[str]
) -> Iterator[str]:
    """Each row, or each channel, off by its own factor or its own amount."""
    if not bool(known.all()) or got.is_complex():
        return
    for k, name in enumerate(axes):
        rest = [axis for axis in range(got.dim()) if axis != k]
        inside = got.numel() // max(got.shape[k], 1)
        if got.shape[k] < 2 or inside < _CONFIRMED:
            continue
        g, e, room = (t.movedim(k, 0).reshape(t.shape[k], -1) for t in (got, expected, limit))
        at = e.abs().argmax(1, keepdim=True)
        a = g.gather(1, at) / e.gather(1, at)
        clear = (e.abs() > _CLEAR * room).sum(1) >= _CONFIRMED
        scaled = ((g - a * e).abs() <= 2 * room * a.abs().clamp(min=1.0)).all()
        if bool(clear.all()) and bool(scaled):
            between = f"{float(a.min()):.6g} to {float(a.max()):.6g}"
            if between == "1 to 1":  # it holds of any answer that is nearly right
                continue
            yield f"each {name} has a factor of its own, from {between}"
        c = (g - e).median(1, keepdim=True).values
        differ = ((e - e.mean(1, keepdim=True)).abs() > _CLEAR * room).sum(1) >= _CONFIRMED - 1
        if rest and bool(differ.all()) and bool(((g - e - c).abs() <= 2 * room).all()):
            between = f"{float(c.min()):.6g} to {float(c.max()):.6g}"
            yield f"each {name} is off by an amount of its own, from {between}"


# --- other shapes -------------------------------------------------------------------------------


def _of_shapes(got: Tensor, expected: Tensor, bound: Tensor | float) -> str:
    """What was done to the dims, where that gives the right values too."""
    room = bound if isinstance(bound, float) else float(torch.as_tensor(bound).double().amax())

    def same(changed: Tensor) -> bool:
        return changed.shape == expected.shape and bool(((changed - expected).abs() <= room).all())

    if not got.numel() or not expected.numel() or not math.isfinite(room):
        return ""
    if got.numel() == expected.numel():
        if same(got.reshape(expected.shape)):
            return "the values are right, in another shape"
        for i, j in combinations(range(got.dim()), 2):
            if same(got.transpose(i, j)):
                return f"dims {i} and {j} are exchanged"
        return ""
    if got.numel() > expected.numel():
        for dims in _chosen_dims(got):
            kept = f"over dim {', '.join(map(str, dims))} is missing"
            for keep in (False, True):
                if same(got.sum(dims, keepdim=keep)):
                    return f"the sum {kept}"
                if same(got.mean(dims, keepdim=keep)):
                    return f"the mean {kept}"
        return ""
    for dims in _chosen_dims(expected):
        for said, reduced in (("summed", expected.sum(dims)), ("averaged", expected.mean(dims))):
            if reduced.numel() == got.numel() and bool(
                ((got.reshape(reduced.shape) - reduced).abs() <= room * expected.numel()).all()
            ):
                return f"it is {said} over dim {', '.join(map(str, dims))}"
    return ""


def _chosen_dims(values: Tensor) -> Iterator[tuple[int, ...]]:
    for several in range(1, min(values.dim(), 3) + 1):
        yield from combinations(range(values.dim()), several)
