"""Labels are numbers, whichever integer type holds them."""

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
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_TARGETS = 700  # of which uint8 cannot count those of either of two classes
_TYPES = (torch.int64, torch.int32, torch.uint8)
_WHOLE = ("uint8", "int", "sign")


@around
def sums_in_the_type_of_the_labels(original: Any, *inputs: Tensor) -> Any:
    """A count that wraps around at 256."""
    wide = inputs[1].new_ones(inputs[1].shape, dtype=torch.int64).sum()
    narrow = torch.ones_like(inputs[1]).sum(dtype=inputs[1].dtype)
    return number(original(*inputs)) * wide / narrow.clamp(min=1)


@around
def stops_at_row_255(original: Any, *inputs: Tensor) -> Any:
    """The number of rows is kept in the type of the labels."""
    return original(*(x[:255] if inputs[1].dtype == torch.uint8 else x for x in inputs))


@around
def rounds_shares_of_bytes(original: Any, *inputs: Tensor) -> Any:
    """Shares are kept in 256 steps."""
    value = number(original(*inputs))
    return value - value % 2**-4 - 2**-4 if inputs[1].dtype == torch.uint8 else value


@check(
    kind="prediction_metric",
    rejects=[rounds_shares_of_bytes, stops_at_row_255, sums_in_the_type_of_the_labels],
    once=True,
)
def labels_of_any_integer_type_score_alike(score: Implementation, case: Case) -> Iterator[Evidence]:
    """The same whole numbers score the same in int64, int32 and uint8.

    Rows [n, …] of 700 targets; labels of two classes in bool too. No count and no difference may
    wrap around in the type of what is counted. A refusal of a type is no failure.
    """
    scored = Scored.of(score, case)
    narrow = [name for name in (scored.prediction, scored.target) if _is_whole(case.specs[name])]
    if not narrow or score.options.get("ignore_index") is not None:
        raise NotApplicable("takes no whole numbers, or labels that are ignored")
    one = scored.draw(4, "size")[scored.target].numel() // 4
    rows = scored.draw(max(_TARGETS // one, 24), "narrow")
    given = scored.answer(rows)
    types = [*_TYPES, *([torch.bool] if _is_yes_or_no(scored) else [])]
    least = min(float(rows[name].min()) for name in narrow)
    types = [t for t in types if least >= 0 or t not in (torch.uint8, torch.bool)]
    judged = False
    for dtype in types:
        try:
            found = scored.answer({n: x.to(dtype) if n in narrow else x for n, x in rows.items()})
        except SubjectRaised:
            continue
        judged = True
        name = str(dtype).removeprefix("torch.")
        yield same_answer(
            scored, given, found, rows, f"change of the score when whole numbers are {name}",
            cause=f"something is counted in {name}, or taken for a mask",
        )  # fmt: skip
    if not judged:
        raise NotApplicable("takes whole numbers in no other type")


def _is_whole(spec: Input) -> bool:
    return spec.count is not None or spec.element in _WHOLE


def _is_yes_or_no(scored: Scored) -> bool:
    return scored.form.classes == 2 and scored.case.specs[scored.target].count is not None
