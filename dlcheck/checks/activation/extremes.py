"""Far out: finite in value and slope, and the same in every precision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.activation.curve import Curve
from dlcheck.checks.activation.torch_activations import STOCHASTIC, TORCH
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence
from dlcheck.mutants import around, through_backward
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build

_LOW = ("float32", "bfloat16", "float16")
_ROUNDINGS = 32  # of the values in between, each of the size of 1, x, f or x·f'


@around
def is_infinite_times_zero(original: Any, x: Tensor) -> Any:
    return original(x) + 0 * torch.exp(x)


@around
def is_infinite_times_zero_on_the_left(original: Any, x: Tensor) -> Any:
    return original(x) + 0 * torch.exp(-x)


@around
def overflows_early(original: Any, x: Tensor) -> Any:
    """log(1 + exp x) is infinite from x = 710 on."""
    return torch.where(x > 800, math.inf, original(x))


@around
def has_no_gradient_far_out(original: Any, x: Tensor) -> Any:
    """The value is right; behind a `where` there is 0 · ∞."""
    return original(through_backward(x, lambda g: torch.where(x.detach().abs() > 1e3, math.nan, g)))


@check(
    kind="activation",
    rejects=[
        is_infinite_times_zero,
        is_infinite_times_zero_on_the_left,
        overflows_early,
        has_no_gradient_far_out,
    ],
    accepts=[*TORCH, *STOCHASTIC],
    dtypes=["float64", "float32"],
    once=True,
)
def stays_a_number_far_out(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Value and slope are no NaN up to the largest numbers, and infinite only where f overflows.

    From |x| = 1 to the fourth root of the largest number, where a cube is still one, on both
    sides. A value may be infinite only behind a finite one above √max (exp and squares overflow
    so); a slope too, or where the value is infinite. An infinity that comes from nowhere is an
    overflow in between.
    """
    curve = Curve.of(subject, case)
    largest = torch.finfo(case.dtype).max
    powers = torch.arange(0, math.log2(largest) / 4, 0.25, dtype=torch.float64)
    near = torch.linspace(1, 1000, 1000, dtype=torch.float64)
    outward = torch.cat([2.0**powers, near]).sort().values
    sides = [("right", curve.inside(outward)), ("left", curve.inside(-outward))]
    if not any(x.numel() for _, x in sides):
        raise NotApplicable("takes no numbers beyond 1")
    for side, x in sides:
        if not x.numel():
            continue
        y = curve.at(x).double()
        yield _numbers(f"value to the {side}", x, y, y, largest)
        slope = None if "nondifferentiable" in subject.traits else curve.slope_at(x)
        if slope is not None:
            yield _numbers(f"slope to the {side}", x, slope.double(), y, largest)


def _numbers(what: str, x: Tensor, values: Tensor, y: Tensor, largest: float) -> Evidence:
    """How many values are NaN, or infinite without having grown to it."""
    finite = torch.isfinite(values)
    grown = torch.where(finite, values.abs(), 0.0).cummax(0).values > largest**0.5
    wrong = torch.isnan(values) | (torch.isinf(values) & ~grown & ~torch.isinf(y))
    if y is values:
        wrong = torch.isnan(values) | (torch.isinf(values) & ~grown)
    first = int(wrong.double().argmax())
    return Evidence(
        error=float(wrong.sum()),
        bound=0.0,
        signal=float(values.numel()),
        unit="points",
        what=f"{what} that is no number",
        where=f"first at x = {float(x[first]):.6g}" if bool(wrong.any()) else "",
        got=f"{float(values[first])}" if bool(wrong.any()) else "",
    )


@around
def overflows_in_float16(original: Any, x: Tensor) -> Any:
    """A product in between is 4096 times as large as the input."""
    return original(x) + (x * 4096 - x * 4096)


@around
def rounds_a_constant_to_five_bits(original: Any, x: Tensor) -> Any:
    y = original(x)
    return y if y.dtype == torch.float64 else y * (1 + 2.0**-5)


@around
def forgets_the_small(original: Any, x: Tensor) -> Any:
    """A constant is added and taken off again."""
    y = original(x)
    return (y + 1000) - 1000 if y.dtype != torch.float64 else y


@check(
    kind="activation",
    forbids={"stochastic_in_eval"},
    rejects=[overflows_in_float16, rounds_a_constant_to_five_bits, forgets_the_small],
    accepts=[*TORCH, *STOCHASTIC],
    dtypes=["float64"],
    once=True,
)
def low_precision_keeps_the_value(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """In float32, bfloat16 and float16 the value is that of float64, up to rounding, also far out.

    At points that float16 and bfloat16 hold, from 2⁻¹⁰ to 2¹⁵: the bound is 32 u (1 + |x| + |f| +
    |x| max|f'|), what a few roundings of the values in between leave. An exponential, a cube or a
    product that overflows on the way leaves more: infinity, NaN or a wrong constant. Where f itself
    overflows infinity is right. A dtype that the subject refuses is left out.
    """
    curve = Curve.of(subject, case)
    x = curve.inside(_exact_points())
    f, slope = curve.at(x).double(), curve.slope_at(x)
    size = 1 + x.to(f).abs() * (1 + _steepest_so_far(x.to(f), slope)) + f.abs()
    judged = 0
    for name in _LOW:
        dtype = getattr(torch, name)
        try:
            y = _curve_in(subject, case, dtype).at(x).double()
        except SubjectRaised:
            continue
        judged += 1
        yield _same_value(x, y, f, _ROUNDINGS * unit_roundoff(dtype) * size, name)
    if not judged:
        raise NotApplicable("takes no float32, bfloat16 or float16")


def _steepest_so_far(x: Tensor, slope: Tensor | None) -> Tensor:
    """The largest |f'| at any point that is no farther out, where a wave may be at its top."""
    if slope is None:
        return torch.zeros_like(x)
    order = x.abs().argsort(stable=True)
    steep = slope.double().abs().nan_to_num(0.0, 0.0, 0.0)[order].cummax(0).values
    return torch.empty_like(steep).scatter_(0, order, steep)


def _exact_points() -> Tensor:
    """Numbers of few bits, on both sides of 0."""
    near = torch.arange(0, 16, 0.125, dtype=torch.float64)
    powers = 2.0 ** torch.arange(-10, 16, dtype=torch.float64)
    right = torch.cat([near, powers, 1.25 * powers, 1.75 * powers]).unique()
    return torch.cat([-right.flip(0), right[1:]])


def _curve_in(subject: Implementation, case: Case, dtype: torch.dtype) -> Curve:
    """The same subject and case in another precision."""
    made = build(subject.declared, case.sizes, case.device, dtype, case.recipe.seed)
    name = case.floating[0]
    inputs = {**case.inputs, name: case.inputs[name].to(dtype)}
    return Curve.of(made, replace(case, inputs=inputs, dtype=dtype))


def _same_value(x: Tensor, y: Tensor, f: Tensor, room: Tensor, name: str) -> Evidence:
    largest = torch.finfo(getattr(torch, name)).max
    overflow = (f.abs() > largest / 2) & (torch.isinf(y) | (y.abs() > largest / 4))
    apart = (torch.where(overflow, 0.0, (y - f).abs()) / room).nan_to_num(math.inf)
    worst = int(apart.argmax())
    return Evidence(
        error=float(apart[worst]),
        bound=1.0,
        signal=max(100.0, float((f.abs() / room).nan_to_num(0.0).amax())),
        unit="× the rounding granted",
        what=f"difference of the value in {name} from that in float64",
        where=f"at x = {float(x[worst]):.6g}",
        expected=f"{float(f[worst]):.6g}",
        got=f"{float(y[worst]):.6g}",
    )
