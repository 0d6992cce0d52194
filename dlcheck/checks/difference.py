"""How two answers differ that should be the same: where, by how much, and what would mend it.

The search runs a check thousands of times to find the smallest case that fails; only when that
case is run again to be explained (`explaining`) is it worth looking for a rule.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from dlcheck.numerics.localisation import pattern_of, place_of, worst_place
from dlcheck.numerics.relations import relation
from dlcheck.strategies import Case

_EXPLAINED: ContextVar[Case | None] = ContextVar("the case that is explained", default=None)
_DIGITS = (9, 12, 17)


@contextmanager
def explaining(case: Case) -> Iterator[None]:
    """Within it, differences are looked into: the case tells names, sizes and inputs."""
    token = _EXPLAINED.set(case)
    try:
        yield
    finally:
        _EXPLAINED.reset(token)


class Fitted(str):
    """A cause that the numbers of one case point to; in a few elements it may be an accident."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two answers: the worst element of both, which elements are wrong, and why."""

    expected: str = ""
    got: str = ""
    where: str = ""
    cause: str = ""


def difference(
    got: Tensor, expected: Tensor, wrong: Tensor, bound: Tensor | float = 0.0
) -> Difference:
    """How `got` differs from `expected`; wrong: bools of their shape; empty where none is.

    bound: how far apart two right answers may be, an element or all. The pattern of the wrong
    elements and the relation to the right ones are looked for in a case that is `explaining`.
    """
    if not bool(wrong.any()):
        return Difference()
    index = worst_place(got, expected, wrong)
    said, wanted = told_apart(got[index].item(), expected[index].item())
    rule = cause = ""
    with contextlib.suppress(Exception):  # the failure stands, whatever can be said of it
        rule, cause = _explained(got, expected, wrong, bound)
        cause = Fitted(cause)
    return Difference(
        expected=wanted, got=said, where=place_of(got, expected, wrong, rule), cause=cause
    )


def _explained(
    got: Tensor, expected: Tensor, wrong: Tensor, bound: Tensor | float
) -> tuple[str, str]:
    case = _EXPLAINED.get()
    if case is None:
        return "", ""
    names = _names_of(case, got)
    inputs = {name: x.detach().to(got.device) for name, x in case.inputs.items()}
    a, b = _wide(got, expected)
    return (
        pattern_of(wrong, beside=inputs, names=names),
        relation(a, b, bound, sizes=case.sizes, beside=inputs, names=names),
    )


def other_shape(got: Tensor, expected: Tensor, bound: Tensor | float = 0.0) -> Difference:
    """Answers of two shapes, and what was done to the dims where the values tell."""
    cause = ""
    with contextlib.suppress(Exception):  # as above
        if _EXPLAINED.get() is not None:
            cause = relation(*_wide(got, expected), bound=bound)
    return Difference(
        expected=f"shape {tuple(expected.shape)}", got=f"shape {tuple(got.shape)}", cause=cause
    )


def _wide(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    is_complex = one.is_complex() or other.is_complex()
    dtype = torch.complex128 if is_complex else torch.float64
    return one.detach().to(dtype), other.detach().to(dtype)


def _names_of(case: Case, answer: Tensor) -> tuple[str, ...]:
    """The names of the dims of an answer: those of the input that has its shape, else those of the
    sizes. None where two sizes are the same, as either may be meant."""
    if len({*answer.shape}) < answer.dim():
        return ()
    for name, spec in case.specs.items():
        if case.inputs[name].shape == answer.shape and spec.dims:
            return tuple(
                str(dim) if dim.name else f"dim {axis}" for axis, dim in enumerate(spec.dims)
            )
    named = {size: name for name, size in case.sizes.items()}
    if len(named) < len(case.sizes):
        return ()
    return tuple(named.get(size, f"dim {axis}") for axis, size in enumerate(answer.shape))


def told_apart(one: complex, other: complex) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to see that they differ, at least nine."""
    for digits in _DIGITS:
        said = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if said[0] != said[1]:
            break
    return said
