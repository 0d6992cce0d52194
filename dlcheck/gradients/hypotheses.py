"""What a wrong gradient would have to be turned into to be right: candidates for one tensor.

The derivative of one tensor is known along a few directions, D = ⟨true, u⟩. A candidate is a
tensor H for which ⟨H, u⟩ = D in all of them, or whose multiple is what the claim g lacks:
⟨g + aH, u⟩ = D. With more directions than free numbers, a wrong candidate fits by accident with
probability 0, so that what fits is evidence.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.gradients.factors import scale_in_words
from dlcheck.gradients.measured import Measured


def explanation(measured: Measured) -> str:
    """The first candidate that fits, in words; empty if none does."""
    gradient = measured.gradient
    if not bool(gradient.any()):
        return "the gradient is zero, though the output depends on this: detached, or not written"
    if all(abs(found.measured) <= found.bound for found in measured.slopes):
        return "the function does not change with it here, but a gradient is returned"
    if not measured.is_sharp:
        return ""
    if _is_x_times_a_constant(measured):
        return "the backward takes the output for x times a constant: a factor is detached"
    zero = [0.0] * len(measured.slopes)
    a = measured.factor(zero, measured.along(gradient))
    if a is not None:
        return scale_in_words(a, measured)
    for name, tensor in _rearranged(gradient):
        if measured.fits(measured.along(tensor)):
            return f"the gradient is {name}"
        a = measured.factor(zero, measured.along(tensor))
        if a is not None:
            return f"the gradient is {name}, and {a:.6g} times too small"
    for name, tensor in _replacements(measured):
        a = measured.factor(zero, measured.along(tensor))
        if a is not None and abs(a - 1) < 1e-6:
            return f"it should be {name}"
    base = measured.along(gradient)
    for names, first, second in _normalisations(measured):
        pair = measured.factors(base, measured.along(first), measured.along(second))
        if pair is not None and all(abs(a) > 1e-3 for a in pair):
            said = [f"{a:.6g} × ({name})" for a, name in zip(pair, names, strict=True)]
            return f"two terms are missing: {' and '.join(said)}"
    for name, tensor in _terms(measured):
        a = measured.factor(base, measured.along(tensor))
        if a is not None and abs(a) > 1e-12:
            return _missing(a, name)
    return ""


def _is_x_times_a_constant(measured: Measured) -> bool:
    """y = c(x)·x with c kept out of the graph: then g·x = v·y, element by element."""
    function, look = measured.part.judge.function, measured.part.look
    x, g = measured.part.x, measured.gradient
    for y, v in zip(function.shaped(look.place.value), _incoming(measured), strict=True):
        if y.shape == x.shape and not y.is_complex():
            level = float((v * y).abs().max())
            if float((g * x - v * y).abs().max()) <= 1e-12 * level and not bool((y == x).all()):
                return True
    return False


def _missing(a: float, name: str) -> str:
    if a > 0:
        return f"a term is missing: {a:.6g} × ({name})"
    return f"a term too many: {-a:.6g} × ({name})"


def _rearranged(g: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The claimed gradient, its elements in other places."""
    axes = [axis for axis in range(g.dim()) if g.shape[axis] > 1]
    for i, j in itertools.combinations(axes, 2):
        if g.shape[i] == g.shape[j]:
            yield f"transposed (dims {i} and {j})", g.transpose(i, j)
    for axis in axes:
        yield f"flipped along dim {axis}", g.flip(axis)
        for shift in (1, -1):
            yield f"shifted by one along dim {axis}", g.roll(shift, axis)
    for i, j in itertools.combinations(axes, 2):
        yield f"flipped along dims {i} and {j}", g.flip(i, j)
    if len(axes) > 2:
        yield "flipped along all dims", g.flip(axes)
    for axis in axes:
        size = g.shape[axis]
        if size % 2 == 0 and size > 2:
            halves = g.roll(size // 2, axis)
            yield f"with the halves of dim {axis} exchanged", halves


def _replacements(measured: Measured) -> Iterator[tuple[str, Tensor]]:
    """Gradients of others, and reductions of what comes in: what was meant to be returned."""
    look, shape = measured.part.look, measured.gradient.shape
    names = [variable.name for variable in measured.part.judge.function.variables]
    for k, other in enumerate(look.gradient.parts):
        if k != measured.part.index and bool(other.any()):
            for how, tensor in _reduced(other, shape):
                yield f"the gradient of {names[k]}{how}", tensor
    if measured.part.judge.function.variables[measured.part.index].value.is_complex():
        yield "the one with a factor conjugated", _conjugated(measured)
    for k, v in enumerate(_incoming(measured)):
        which = f" {k}" if len(measured.part.judge.function.shapes) > 1 else ""
        for how, tensor in _reduced(v, shape):
            yield f"the incoming gradient{which}{how}", tensor


def _conjugated(measured: Measured) -> Tensor:
    """conj(g(conj v)): for g = v·w this is v·conj(w)."""
    judge, look = measured.part.judge, measured.part.look
    v = [part.conj().resolve_conj() for part in judge.function.shaped(look.v)]
    found = judge.claim(judge.function.gradient(v, at=look.place.x)).parts[measured.part.index]
    return found * torch.tensor([1.0, -1.0], dtype=found.dtype, device=found.device)


def _reduced(tensor: Tensor, shape: torch.Size) -> Iterator[tuple[str, Tensor]]:
    """The tensor, or its sum over some dims, where it then has the shape."""
    if tensor.shape == shape:
        yield "", tensor
    axes = range(tensor.dim())
    for count in (1, 2, 3):
        for dims in itertools.combinations(axes, count):
            kept = [size for axis, size in enumerate(tensor.shape) if axis not in dims]
            if kept == list(shape) and count <= tensor.dim():
                yield f" summed over dim {', '.join(map(str, dims))}", tensor.sum(dims)
                if count == 1:
                    yield f" of one index of dim {dims[0]}", tensor.select(dims[0], 0)


def _incoming(measured: Measured) -> list[Tensor]:
    function, look = measured.part.judge.function, measured.part.look
    return [torch.view_as_real(v) if v.is_complex() else v for v in function.shaped(look.v)]


def _terms(measured: Measured) -> Iterator[tuple[str, Tensor]]:
    """What a formula of this shape may lack, or have too much of."""
    g, x = measured.gradient, measured.part.x.double()
    x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    yield "x", x
    yield "1", torch.ones_like(x)
    yield "sign(x)", x.sign()
    yield "x · g", x * g
    yield "x² · g", x * x * g
    yield "g where x < 0", torch.where(x < 0, g, 0.0)
    yield "g where x > 0", torch.where(x > 0, g, 0.0)
    for axis in range(x.dim()):
        if x.shape[axis] > 1:
            yield f"the mean of g over dim {axis}", g.mean(axis, keepdim=True)
            yield f"x · mean(x · g) over dim {axis}", x * (x * g).mean(axis, keepdim=True)
            yield f"mean(x · g) over dim {axis}", (x * g).mean(axis, keepdim=True)
            centred = x - x.mean(axis, keepdim=True)
            along = (centred * g).mean(axis, keepdim=True)
            yield f"(x − mean x) · mean((x − mean x) · g) over dim {axis}", centred * along
            square = centred.square().mean(axis, keepdim=True).clamp_min(1e-300)
            yield f"x̂ · mean(x̂ · g) over dim {axis}, x̂ standardised", centred * along / square
            spread = x.square().mean(axis, keepdim=True).clamp_min(1e-300)
            shared = (x * g).mean(axis, keepdim=True)
            yield f"x · mean(x · g) / mean(x²) over dim {axis}", x * shared / spread
    names = [variable.name for variable in measured.part.judge.function.variables]
    look = measured.part.look
    for k, name in enumerate(names):
        if k != measured.part.index and look.place.x[k].shape == x.shape:
            yield name, look.place.x[k].double()
            yield f"the gradient of {name}", look.gradient.parts[k]
            yield f"{name} · g", look.place.x[k].double() * g
    yield from _output_terms(measured, x)


def _normalisations(measured: Measured) -> Iterator[tuple[tuple[str, str], Tensor, Tensor]]:
    """The two terms of a normalisation's backward, over each way to take its moments."""
    g, x = measured.gradient, measured.part.x.double()
    x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
    dims = range(x.dim())
    ways: list[tuple[int, ...]] = [(axis,) for axis in dims]
    ways += [tuple(d for d in dims if d != axis) for axis in dims if x.dim() > 2]
    ways += [tuple(dims[start:]) for start in range(1, x.dim() - 1)]
    for way in dict.fromkeys(ways):
        centred = x - x.mean(way, keepdim=True)
        square = centred.square().mean(way, keepdim=True)
        # Of two elements every gradient is the sum of such terms.
        if math.prod(x.shape[axis] for axis in way) < 3 or not bool((square > 0).all()):
            continue
        over = ", ".join(map(str, way))
        names = (f"mean g over dim {over}", "x̂ · mean(x̂ · g), x̂ standardised")
        mean = g.mean(way, keepdim=True).expand_as(g)
        yield names, mean, centred * (centred * g).mean(way, keepdim=True) / square


def _output_terms(measured: Measured, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    function, look = measured.part.judge.function, measured.part.look
    values = function.shaped(look.place.value)
    for y, v in zip(values, _incoming(measured), strict=True):
        if y.is_complex():
            y = torch.view_as_real(y)
        for how, tensor in _reduced(v, x.shape):
            yield f"the incoming gradient{how}", tensor
        if y.shape != x.shape:
            continue
        yield "incoming gradient · y", v * y
        yield "y", y
        yield "incoming gradient · y²", v * y * y
        yield "incoming gradient · x", v * x
        yield "incoming gradient · (1 − y²)", v * (1 - y * y)
        yield "incoming gradient · y · (1 − y)", v * y * (1 - y)
        gate = torch.where(x == 0, 0.0, y / torch.where(x == 0, 1.0, x))
        yield "incoming gradient · y · gate, for y = x · gate", v * y * gate
        yield "incoming gradient · gate, for y = x · gate", v * gate
        yield "incoming gradient · y · (1 − gate), for y = x · gate", v * y * (1 - gate)
        for axis in range(y.dim()):
            inner = (v * y).sum(axis, keepdim=True)
            yield f"y · sum(incoming gradient · y) over dim {axis}", y * inner
            mean = v.mean(axis, keepdim=True).expand_as(v)
            yield f"the mean of the incoming gradient over dim {axis}", mean
