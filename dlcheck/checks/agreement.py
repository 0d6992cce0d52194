"""Two answers that must be the same number, computed in two ways.

Most claims about a layer compare two calls of it: rows permuted and the output permuted, a chunk
and the whole. Both sides round, so they differ, by no more than rounding can move the answer.
`rounding_room` measures how far that is; `agreement` holds the two against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from dlcheck.checks.difference import difference, other_shape
from dlcheck.domains import Input
from dlcheck.isolation import compared, seed_everything, unheard
from dlcheck.model import Evidence
from dlcheck.numerics.perturbations import bounds_of
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in

_DEVIATIONS = 8.0  # λ: one rounding model fails with probability 2 exp(−λ²/2) = 3e-14
_DRAWS = 4  # of random signs
_CANCELLED = 64  # roundings of numbers of size 1, that may be left where such cancel
_NOISY = 4  # further ones, of changes in the last bits
_JUMP = 2.0**-10  # × the largest output: what a nudge of √u may never do to a continuous function

Call = Callable[..., object]


def rounding_room(
    subject: Implementation,
    case: Case,
    inputs: Sequence[Tensor] | None = None,
    call: Call | None = None,
) -> list[Tensor]:
    """How far rounding may move each element of each output of a call, one tensor per output.

    inputs: those of the case unless told; call: the subject unless told (any function of the
    same inputs that returns tensors). Elements that a nudge of the inputs by √u makes jump get
    infinity: there the answer says nothing.

    n numbers enter, each of which is rounded like a relative change by u, and a sum of n terms
    rounds n times: the error is within λ√n·u·(A + max|y|), where A is the largest response of
    the output to relative changes of all inputs and parameters with random signs, measured at
    ±√u and rescaled, and λ = 8. What cancels inside (1 − cos of vectors of one element) answers to
    no relative change, but to the last bits: four times what changes by 4u are seen to do.
    Source: Higham & Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci.
    Comput. 41(5), 2019, theorem 2.4.
    """
    with unheard():
        return _rounding_room(subject, case, inputs, call)


def _rounding_room(
    subject: Implementation,
    case: Case,
    inputs: Sequence[Tensor] | None,
    call: Call | None,
) -> list[Tensor]:
    given = [x.detach() for x in (case.fresh() if inputs is None else inputs)]
    u = unit_roundoff(case.dtype)
    h = math.sqrt(u)
    generator = case.generator("rounding room")
    parameters = list(subject.parameters.values())
    middle = _answers(call or subject, given, case)
    specs: list[Input | None] = [None] * len(given)
    if len(case.specs) == len(given):
        specs = list(case.specs.values())
    response = [torch.zeros(y.shape, dtype=torch.float64, device=y.device) for y in middle]
    noise = [torch.zeros_like(r) for r in response]
    for _ in range(_NOISY):
        moved = [_nudged(x, 4 * u, generator, spec) for x, spec in zip(given, specs, strict=True)]
        _raise_to(noise, _answers(call or subject, moved, case), middle)
    kept = [p.detach().clone() for p in parameters]
    for _ in range(_DRAWS):
        moved = [_nudged(x, h, generator, spec) for x, spec in zip(given, specs, strict=True)]
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(_nudged(value, h, generator))
        _raise_to(response, _answers(call or subject, moved, case), middle)
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    numbers = 16 + sum(x.numel() for x in (*given, *kept) if x.is_floating_point())
    factor = _DEVIATIONS * math.sqrt(numbers) * u
    return [
        _room(z, moved_by, h, factor, seen)
        for z, moved_by, seen in zip(middle, response, noise, strict=True)
    ]


def _raise_to(largest: list[Tensor], answers: list[Tensor], middle: list[Tensor]) -> None:
    """The largest differences so far, and of these answers from the one in the middle."""
    for total, y, z in zip(largest, answers, middle, strict=True):
        if y.shape == z.shape:
            torch.maximum(total, (_wide(y) - _wide(z)).abs().nan_to_num(0.0), out=total)


def _room(answer: Tensor, response: Tensor, h: float, factor: float, noise: Tensor) -> Tensor:
    if not (answer.is_floating_point() or answer.is_complex()):
        return torch.zeros_like(response)
    largest = largest_of(answer)
    smooth = response <= _JUMP * largest
    worst = float(response[smooth].amax()) if bool(smooth.any()) else 0.0
    bound = factor * (worst / h + largest)
    seen = float(noise[smooth].amax()) if bool(smooth.any()) else 0.0
    seen = min(seen, _CANCELLED * h * h * max(1.0, largest))  # h² = u; more is no rounding
    bound = max(bound, _DEVIATIONS / 2 * seen)
    return torch.full_like(response, bound).masked_fill(~smooth, math.inf)


def _wide(y: Tensor) -> Tensor:
    return y.to(torch.complex128 if y.is_complex() else torch.float64)


def _answers(call: Call, inputs: Sequence[Tensor], case: Case) -> list[Tensor]:
    seed_everything(case.recipe.seed)
    with torch.no_grad():
        return [y.detach() for y in tensors_in(call(*inputs))]


def _nudged(x: Tensor, h: float, generator: torch.Generator, spec: Input | None = None) -> Tensor:
    if not x.is_floating_point():
        return x
    signs = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1
    moved = x * (1 + h * signs)
    bounds = bounds_of(spec)
    return moved if bounds is None else moved.clamp(*bounds)


def largest_of(values: Tensor) -> float:
    """The largest |value| that is finite; 0 without any."""
    finite = values.detach()[torch.isfinite(values)]
    finite = finite.double() if finite.dtype == torch.bool else finite
    return float(finite.abs().amax()) if finite.numel() else 0.0


def exact_signal(values: Tensor) -> float:
    """The largest |value|; 1 where each is 0, as no other number would be taken for it."""
    return largest_of(values) or float(values.numel() > 0)


def plain_slope(cotangents: Iterable[Tensor], outputs: Iterable[Tensor], x: Tensor) -> float:
    """|v|·max|y|·max(1, 1/max|x|): of what the rounding of a gradient by x is, at least.

    A slope y(1 − y) is known to u where y is, however small it is.
    """
    pairs = zip(cotangents, outputs, strict=False)
    rise = max((largest_of(v) * largest_of(y) for v, y in pairs), default=0.0)
    size = largest_of(x)
    return rise * max(1.0, 1 / size) if size > 0 else rise


def agreement(
    what: str,
    got: Tensor,
    expected: Tensor,
    room: Tensor | float,
    *,
    signal: float | None = None,
    where: str = "",
    cause: str = "",
) -> Evidence:
    """`got` and `expected` are the same numbers, each within `room` of the exact answer.

    room: what `rounding_room` gave for this output, of the shape of `expected`, or one number.
    The bound of a difference is twice the room: both sides round. NaN and ±inf must stand at the
    same places; shapes must be equal; integers and booleans are compared exactly. signal: the
    largest |expected| unless told, or 1 where each is 0 and nothing else would pass.
    """
    if got.shape != expected.shape:
        with unheard():
            told = other_shape(got, expected, 2 * torch.as_tensor(room, dtype=torch.float64))
        found = Evidence(
            error=math.inf,
            bound=0.0,
            signal=1.0,
            what=what,
            expected=told.expected,
            got=told.got,
            where=where,
            cause=cause or told.cause,
        )
        return compared(got, expected, found)
    a, b = _wide(got.detach()), _wide(expected.detach())
    limit = torch.as_tensor(room, dtype=torch.float64, device=b.device).expand(b.shape)
    judged = torch.isfinite(limit)
    same = (a == b) | ((a != a) & (b != b))
    apart = torch.where(same, 0.0, (a - b).abs())
    apart = torch.where(apart == apart, apart, math.inf)
    bound = 2 * float(limit[judged].amax()) if bool(judged.any()) else math.inf
    error = float(apart[judged].amax()) if bool(judged.any()) else 0.0
    if signal is None:
        signal = largest_of(b[judged]) if bound else exact_signal(b[judged])
    wrong = judged & (apart > bound)
    limits = torch.full(b.shape, bound, dtype=torch.float64, device=b.device)
    limits = limits.masked_fill(~judged, math.inf)
    with unheard():
        told = difference(a, b, wrong, limits)
    found = Evidence(
        error=error,
        bound=bound,
        signal=signal,
        what=what,
        expected=told.expected,
        got=told.got,
        where=f"{where}: {told.where}" if where and told.where else where or told.where,
        cause=cause or told.cause,
    )
    return compared(got, expected, found)
