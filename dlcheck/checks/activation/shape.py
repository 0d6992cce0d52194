"""The shape of the curve: through its points, within its bounds, along its asymptotes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.activation.curve import Curve
from dlcheck.checks.activation.torch_activations import EVEN, KINKED, SMOOTH, STOCHASTIC, TORCH
from dlcheck.checks.agreement import agreement
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROUNDINGS = 64  # of an elementary function and what is around it
_FAR = (2.0**12, 2.0**18)  # where an asymptote must be near, within 16/|x|


def grid() -> Tensor:
    """Points from −2³² to 2³²: dense around 0, then two to each power of two."""
    near = torch.linspace(-12, 12, 961, dtype=torch.float64)
    far = 2.0 ** torch.arange(4, 32, 0.25, dtype=torch.float64)
    return torch.cat([-far.flip(0), near, far])


def _rounding(curve: Curve, x: Tensor, y: Tensor) -> Tensor:
    """So many roundings of |x|, |y| and 1: what an elementary formula of them may be off by."""
    named = curve.subject.options.get("compute_dtype")
    dtype = getattr(torch, str(named)) if named else curve.case.dtype
    size = 1 + x.double().abs() + y.double().abs().nan_to_num(posinf=0.0)
    return gamma(_ROUNDINGS, dtype) * size


@around
def adds_a_constant(original: Any, x: Tensor) -> Tensor:
    y: Tensor = original(x)
    return y + 0.01


@around
def is_shifted_along_x(original: Any, x: Tensor) -> Any:
    return original(x + 1e-3)


@check(
    kind="activation",
    options={"values": True},
    rejects=[adds_a_constant, is_shifted_along_x],
    accepts=[*TORCH, *STOCHASTIC, *EVEN],
    dtypes=["float64", "float32"],
    once=True,
)
def passes_through_its_values(subject: Implementation, case: Case) -> Evidence:
    """At the declared points [x, f(x)] it has the declared values, within 64 roundings.

    Give them as the definition does, in full precision: [0, 0.5] of a sigmoid, [1, Φ(1)] of GELU.
    """
    curve = Curve.of(subject, case)
    points = torch.tensor(subject.options["values"], dtype=torch.float64, device=case.device)
    x, expected = points.reshape(-1, 2).unbind(1)
    got = curve.at(x)
    room = _rounding(curve, x, expected)
    return agreement("value at the declared points", got, expected, room, signal=1.0)


@around
def leaves_its_bounds(original: Any, x: Tensor) -> Any:
    return original(x) + torch.sign(x)


@around
def grows_without_bound(original: Any, x: Tensor) -> Any:
    return original(x) + x


@check(
    kind="activation",
    options={"bounds": True},
    rejects=[leaves_its_bounds, grows_without_bound],
    accepts=[*SMOOTH, *KINKED],
    dtypes=["float64", "float32"],
    once=True,
)
def stays_within_its_bounds(subject: Implementation, case: Case) -> Evidence:
    """No value lies outside `bounds`, from −2³² to 2³².

    64 roundings of a bound are granted, and none of what lies inside.
    """
    curve = Curve.of(subject, case)
    low, high = (float(end) for end in subject.options["bounds"])
    x = curve.inside(grid())
    y = curve.at(x).double()
    beyond = torch.where(y < low, low - y, 0.0) + torch.where(y > high, y - high, 0.0)
    beyond = torch.where(torch.isnan(y), math.inf, beyond)
    worst = int(beyond.argmax())
    ends = [abs(end) for end in (low, high) if math.isfinite(end)]
    return Evidence(
        error=float(beyond[worst]),
        bound=gamma(_ROUNDINGS, case.dtype) * max([1.0, *ends]),
        signal=1.0,
        what="distance beyond the bounds",
        expected=f"within [{low:g}, {high:g}]",
        got=f"f({float(x[worst]):.6g}) = {float(y[worst]):.6g}",
    )


@around
def is_reversed(original: Any, x: Tensor) -> Any:
    return original(-x)


@around
def ripples(original: Any, x: Tensor) -> Any:
    return original(x) + 0.1 * torch.sin(30 * x)


@around
def dips_below_zero(original: Any, x: Tensor) -> Any:
    """A bump to the left, as SiLU has it."""
    return original(x) + 3 * x * torch.exp(-x.square())


@check(
    kind="activation",
    options={"monotone": [True]},
    rejects=[is_reversed, ripples, dips_below_zero],
    accepts=[*SMOOTH, *KINKED],
    dtypes=["float64", "float32"],
    once=True,
)
def never_decreases(subject: Implementation, case: Case) -> Evidence:
    """f(x) ≤ f(x') for x < x', from −2³² to 2³² in steps of 1/40 around 0.

    Each value may be off by 64 roundings. A step of 1/40 shows a dip that is 10⁻¹³ deep.
    """
    curve = Curve.of(subject, case)
    x = curve.inside(grid())
    y = curve.at(x).double()
    fall = torch.where(y[:-1] == y[1:], 0.0, y[:-1] - y[1:]).nan_to_num(math.inf)
    room = _rounding(curve, 0 * x, y)
    excess = fall / (room[:-1] + room[1:])
    worst = int(excess.argmax())
    return Evidence(
        error=max(0.0, float(fall[worst])),
        bound=float((room[:-1] + room[1:])[worst]),
        signal=max(1.0, float(y[worst].abs().nan_to_num(1.0, 1.0))),
        what="decrease",
        where=f"from x = {float(x[worst]):.6g} to {float(x[worst + 1]):.6g}",
        got=f"{float(y[worst]):.6g}, then {float(y[worst + 1]):.6g}",
    )


@around
def tilts(original: Any, x: Tensor) -> Any:
    return original(x) + 1e-3 * x


@check(
    kind="activation",
    options={"asymptotes": True},
    rejects=[adds_a_constant, tilts],
    accepts=[*SMOOTH, *KINKED],
    dtypes=["float64", "float32"],
    once=True,
)
def nears_its_asymptotes(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Far out the curve is within 16/|x| of the declared line slope·x + intercept.

    At |x| = 2¹² and 2¹⁸; curves that near it as slowly as 1/x (softsign, arctan) are within that,
    the others much closer. 64 roundings of x are granted beside.
    """
    curve = Curve.of(subject, case)
    lines = subject.options["asymptotes"]
    if not isinstance(lines, Mapping) or not set(lines) <= {"left", "right"}:
        raise NotApplicable("asymptotes is a table { left = [slope, intercept], right = […] }")
    for side, (slope, intercept) in lines.items():
        sign = -1.0 if side == "left" else 1.0
        x = torch.tensor([sign * far for far in _FAR], dtype=torch.float64, device=case.device)
        due = float(slope) * x + float(intercept)
        y = curve.at(x)
        room = (16 / x.abs() + _rounding(curve, x * float(slope), due)) / 2
        for i in range(len(x)):
            yield agreement(
                f"value at x = {float(x[i]):g} against the asymptote",
                y[i : i + 1],
                due[i : i + 1],
                room[i : i + 1],
                signal=max(1.0, abs(float(due[i]))),
            )
