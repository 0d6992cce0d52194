"""Answers that are integers or booleans, beside the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dlcheck.checks.difference import difference
from dlcheck.checks.every.answers import called, inputs_in
from dlcheck.checks.every.judged import magnitude
from dlcheck.checks.every.twin import reference_of
from dlcheck.checks.every.usual import redrawn
from dlcheck.errors import SubjectError
from dlcheck.model import Evidence
from dlcheck.numerics.perturbations import normal
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in

_STRIKES = 3  # draws of values that must all differ
_PAIRS = 2  # of moves, each there and back
_FEW = 64  # roundings that such a move amounts to


def whole_numbers_agree(subject: Implementation, case: Case) -> list[Evidence]:
    """Integers and booleans are those of the reference, where that is sure of them.

    At a tie any winner is right, and where rounding decides: there the reference's own answer
    changes when the inputs move by 64u of their size, there or back, and nothing is compared.
    """
    found = {one.what: one for one in _compared(subject, case)}
    for strike in range(1, _STRIKES):
        if not any(one.error for one in found.values()):
            break
        for other in _compared(subject, redrawn(case, strike)):  # one that says nothing is absent
            if other.what in found and other.error < found[other.what].error:
                found[other.what] = other
    return [*found.values()]


def _compared(subject: Implementation, case: Case) -> Iterator[Evidence]:
    reference = reference_of(subject, case, case.dtype)
    inputs = inputs_in(case, case.dtype)
    right = _whole(reference, inputs, case)
    if not right:
        return
    got = _whole(subject, inputs, case)
    if [y.shape for y in got] != [y.shape for y in right]:
        raise SubjectError(
            f"{subject.declared.name} answers integers or booleans of shapes "
            f"{[tuple(y.shape) for y in got]}, where its reference answers "
            f"{[tuple(y.shape) for y in right]}"
        )
    sure = [torch.ones_like(y, dtype=torch.bool) for y in right]
    for moved in _moves(case, inputs):
        for kept, one, other in zip(sure, right, _whole(reference, moved, case), strict=True):
            kept &= one == other if one.shape == other.shape else torch.zeros_like(kept)
    for place, (one, two, kept) in enumerate(zip(got, right, sure, strict=True)):
        count = int(kept.sum())
        if count:
            yield _evidence(place, one, two, kept, count)


def _evidence(place: int, got: Tensor, right: Tensor, sure: Tensor, count: int) -> Evidence:
    wrong = (got != right) & sure
    told = difference(got.double(), right.double(), wrong)
    return Evidence(
        error=float(wrong.sum()),
        bound=0.0,
        signal=float(count),
        unit="elements",
        what=f"integers or booleans, answer {place} of them",
        expected=told.expected,
        got=told.got,
        where=told.where,
        cause=told.cause,
    )


def _whole(made: Implementation, inputs: Mapping[str, Tensor], case: Case) -> list[Tensor]:
    with torch.no_grad():
        answers = list(tensors_in(called(made, inputs, case)))
    return [y for y in answers if not (y.is_floating_point() or y.is_complex())]


def _moves(case: Case, inputs: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    generator = case.generator("moves beside whole numbers")
    step = _FEW * unit_roundoff(case.dtype)
    for _ in range(_PAIRS):
        ways = {name: step * normal(inputs[name], generator) for name in case.floating}
        for sign in (1, -1):
            moved = {
                name: (x + sign * ways[name] * _size(x)).to(x.dtype)
                for name, x in inputs.items()
                if name in ways
            }
            yield {**inputs, **moved}


def _size(x: Tensor) -> Tensor:
    """|x| and the root mean square of all: a 0 moves too."""
    return x.double().abs() + magnitude(x)
