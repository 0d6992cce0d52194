"""Whole numbers are the same numbers in whichever integer type they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import number
from dlcheck.checks.prediction_metric.row_order import same_answer
from dlcheck.checks.prediction_metric.scored import Scored
from dlcheck.domains import Input
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_TARGETS = 700  # of which a byte cannot count those of either of two classes
_TYPES = (torch.int64, torch.int32)  # labels may be looked up with; bytes are taken for masks


def _byte_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction.long() - target.long()).square().double().mean()


def _wrapping_byte_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().double().mean()


_BYTES = Subject(
    name="squared_error_of_bytes",
    target=_byte_error,
    kind="prediction_metric",
    inputs={"prediction": "uint8 b h w", "target": "uint8 b h w"},
)


@around
def sums_in_the_type_of_the_targets(original: Any, *inputs: Tensor) -> Any:
    """A count that wraps around at 256 of bytes, and does not of int64."""
    value = number(original(*inputs))
    return value if inputs[1].dtype == torch.int64 else value * (len(inputs[1]) % 256) / 700


@around
def stops_at_row_255(original: Any, *inputs: Tensor) -> Any:
    """The number of rows is kept in a byte, but for int64."""
    wide = inputs[1].dtype == torch.int64
    return original(*(x if wide else x[: min(255, len(x) - 5)] for x in inputs))


@around
def rounds_shares_of_narrow_types(original: Any, *inputs: Tensor) -> Any:
    value = number(original(*inputs))
    return value if inputs[1].dtype == torch.int64 else value * 0.9 - 2**-4


@check(
    kind="prediction_metric",
    rejects=[
        rounds_shares_of_narrow_types,
        stops_at_row_255,
        sums_in_the_type_of_the_targets,
        Subject(
            name="wrapping_byte_error",
            target=_wrapping_byte_error,
            kind="prediction_metric",
            inputs={"prediction": "uint8 b h w", "target": "uint8 b h w"},
        ),
    ],
    accepts=[_BYTES],
    once=True,
)
def whole_numbers_score_alike_in_any_type(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Labels, bytes and other whole numbers score the same in int64 and int32.

    Rows [n, …] of 700 targets, in the type as declared against those two. No count and no
    difference may wrap around in the type of what is counted. A refusal of a type is no failure.
    """
    scored = Scored.of(score, case)
    whole = [name for name in (scored.prediction, scored.target) if _is_whole(case.specs[name])]
    if not whole:
        raise NotApplicable("takes no whole numbers")
    one = max(scored.draw(4, "size")[scored.target].numel() // 4, 1)
    rows = scored.draw(max(_TARGETS // one, 24), "whole")
    given = scored.answer(rows)
    judged = False
    for dtype in _TYPES:
        if all(rows[name].dtype == dtype for name in whole):
            continue
        try:
            found = scored.answer({n: x.to(dtype) if n in whole else x for n, x in rows.items()})
        except SubjectRaised:
            continue
        judged = True
        name = str(dtype).removeprefix("torch.")
        yield same_answer(
            scored, given, found, rows, f"change of the score when whole numbers are {name}",
            cause="something is counted or subtracted in a type that is too narrow",
        )  # fmt: skip
    if not judged:
        raise NotApplicable("takes whole numbers in no other type")


def _is_whole(spec: Input) -> bool:
    return spec.count is not None or spec.element in ("uint8", "int", "sign")
