"""The same gradient under other circumstances: it must not depend on them.

Jᵀv for the same x and v is computed again with v or x lying otherwise in memory, and by a second
backward of the same forward. No evaluation of differences is needed: a gradient that differs from
the one that was certified is wrong. What may differ is rounding, as sums are taken in another
order: by how much is measured, by rounding the inputs otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.errors import SubjectRaised
from dlcheck.gradients.confirmation import NUDGE_SAFETY, NUDGES
from dlcheck.gradients.directions import all_finite
from dlcheck.gradients.function import Function, Gradient
from dlcheck.gradients.judge import Judge
from dlcheck.numerics.layouts import REARRANGED, lay_out

_LARGE = 2**16  # elements


@dataclass(frozen=True, slots=True)
class Difference:
    """A gradient that depends on a circumstance."""

    cause: str
    tensor: str
    error: float  # ‖other − plain‖
    bound: float
    size: float  # ‖plain‖


@dataclass(frozen=True, slots=True)
class _Condition:
    cause: str
    gradient: Callable[[], Gradient]
    plain: Callable[[], Gradient]
    is_layout: bool = True  # which a subject may refuse, in words


def differences(judge: Judge, certificate: float) -> Iterator[Difference]:
    """What the gradient at the point depends on though it must not.

    certificate: to what relative error the gradient was certified. A function that computes in a
    lower precision inside shows in it, and differences below it say nothing.
    """
    if judge.function.deviations:
        return  # two calls differ anyway
    v, plain = judge.claimed(judge.here())
    for condition in _conditions(judge, v, plain):
        try:
            other, usual = condition.gradient(), condition.plain()
        except SubjectRaised as error:
            if condition.is_layout:
                judge.notes.append(f"refuses inputs that are not contiguous: {error}"[:160])
                continue
            yield Difference(f"{condition.cause}: {error}", "all", math.nan, 0.0, math.nan)
            continue
        found = _compared(judge, v, other, usual, condition.cause, certificate)
        if found is not None:
            yield found


def _conditions(judge: Judge, v: Tensor, plain: Gradient) -> Iterator[_Condition]:
    function = judge.function

    def claimed(cotangents: Sequence[Tensor], **how: object) -> Callable[[], Gradient]:
        return lambda: judge.claim(function.gradient(cotangents, **how))  # type: ignore[arg-type]

    dense = function.shaped(v)
    yield _Condition(
        "a second backward of the same forward differs: the first changed what was saved",
        claimed(dense, twice=True), lambda: plain, is_layout=False,
    )  # fmt: skip
    for layout in REARRANGED:
        laid = [lay_out(part, layout) for part in dense]
        if any(a.stride() != b.stride() for a, b in zip(laid, dense, strict=True)):
            yield _Condition(
                f"the backward ignores the strides of its incoming gradient ({layout})",
                claimed(laid), lambda: plain,
            )  # fmt: skip
    if any(part.numel() > 1 for part in dense):
        same = [
            part.reshape(-1)[:1].view([1] * part.dim()).expand(part.shape) if part.numel() else part
            for part in dense
        ]
        yield _Condition(
            "the backward ignores the strides of its incoming gradient (expanded, as the one "
            "that sum().backward() sends)",
            claimed(same), claimed([part.contiguous() for part in same]),
        )  # fmt: skip
    if function.draws:
        return  # in another layout the random numbers meet other elements
    for layout in function.layouts:
        if _can_lie(function, layout):
            yield _Condition(
                f"the backward ignores the memory layout of its inputs ({layout})",
                claimed(dense, layout=layout), lambda: plain,
            )  # fmt: skip


def _can_lie(function: Function, layout: str) -> bool:
    """Is there an input that this layout changes?"""
    if layout == "sliced" and sum(x.numel() for x in function.x) > _LARGE:
        return False  # it takes twice the memory of the inputs
    least = {"transposed": 2, "sliced": 1, "channels_last": 4}[layout]
    return any(
        variable.parameter is None
        and variable.value.layout == torch.strided
        and variable.value.dim() >= least
        and variable.value.numel() > 1
        and lay_out(variable.value, layout).stride() != variable.value.stride()
        for variable in function.variables
    )


def _compared(
    judge: Judge,
    v: Tensor,
    other: Gradient,
    plain: Gradient,
    cause: str,
    certificate: float,
) -> Difference | None:
    """The first variable, or the output, that differs by more than rounding."""
    pairs = [_where_finite(*pair) for pair in zip(plain.parts, other.parts, strict=True)]
    pairs.insert(0, (plain.value, other.value))
    names = ["output", *(variable.name for variable in judge.function.variables)]
    reach = [0.0] + [_norm(v)] * len(plain.parts)  # terms as large as v may have cancelled
    spreads: list[float] = []  # measured only where rounding and certificate do not explain it
    for index, ((one, two), name) in enumerate(zip(pairs, names, strict=True)):
        if torch.equal(one, two):
            continue
        size, change = _norm(one), _norm(two - one)
        rounded = 32 * judge.function.unit * (math.sqrt(one.numel()) * size + reach[index])
        bound = rounded + certificate * size
        if change <= bound:
            continue
        spreads = spreads or _spreads(judge, v, plain)
        bound += NUDGE_SAFETY * spreads[index]
        if not change <= bound:
            if name == "output":
                judge.notes.append(
                    "the value depends on how the inputs lie in memory, and so may the gradient"
                )
                return None
            return Difference(cause, name, change, bound, size)
    return None


def _where_finite(plain: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    if all_finite([plain]):
        return plain, other
    finite = torch.isfinite(plain)
    return torch.where(finite, plain, 0.0), torch.where(finite, other, 0.0)


def _spreads(judge: Judge, v: Tensor, plain: Gradient) -> list[float]:
    """How far the output and each gradient move when inputs are rounded otherwise, or again."""
    function, found = judge.function, [0.0] * (1 + len(plain.parts))
    dense = function.shaped(v)
    points = [function.x, *([judge.nudged(x) for x in function.x] for _ in range(NUDGES))]
    for point in points:
        nearby = judge.claim(function.gradient(dense, at=point))
        pairs = [_where_finite(*pair) for pair in zip(plain.parts, nearby.parts, strict=True)]
        pairs.insert(0, (plain.value, nearby.value))
        for index, (b, a) in enumerate(pairs):
            change = _norm(a - b)
            found[index] = max(found[index], change) if math.isfinite(change) else found[index]
    return found


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))
