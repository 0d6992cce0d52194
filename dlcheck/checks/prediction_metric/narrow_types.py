"""Labels are numbers, whichever integer type holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import number
from dlcheck.checks.prediction_metric.row_order import same_answer
from dlcheck.checks.prediction_metric.scored import Scored
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS = 300  # more than uint8 counts, and than int8 twice over
_TYPES = (torch.int64, torch.int32, torch.uint8)


@around
def sums_in_the_type_of_the_labels(original: Any, *inputs: Tensor) -> Any:
    """A count that wraps around at 256."""
    wide = inputs[1].new_ones(inputs[1].shape, dtype=torch.int64).sum()
    narrow = torch.ones_like(inputs[1]).sum(dtype=inputs[1].dtype)
    return number(original(*inputs)) * wide / narrow.clamp(min=1)


@around
def takes_bytes_for_a_mask(original: Any, *inputs: Tensor) -> Any:
    """Old indexing: uint8 is a mask."""
    if inputs[1].dtype != torch.uint8:
        return original(*inputs)
    keep = inputs[1].flatten(1).any(1) if inputs[1].dim() > 1 else inputs[1].bool()
    return original(*(x[keep].long() if not x.is_floating_point() else x[keep] for x in inputs))


@around
def scales_bytes(original: Any, *inputs: Tensor) -> Any:
    """Bytes are divided by 255, as those of an image."""
    if inputs[1].dtype != torch.uint8:
        return original(*inputs)
    return original(inputs[0], (inputs[1] / 255).long(), *inputs[2:])


@check(
    kind="prediction_metric",
    rejects=[scales_bytes, sums_in_the_type_of_the_labels, takes_bytes_for_a_mask],
    once=True,
)
def labels_of_any_integer_type_score_alike(score: Implementation, case: Case) -> Iterator[Evidence]:
    """300 rows of labels in int64, int32 and uint8 score the same.

    Rows [300, …]; labels of two classes in bool too. No count may wrap around in the type of the
    labels. A refusal of a type is no failure.
    """
    scored = Scored.of(score, case)
    narrow = [n for n in (scored.prediction, scored.target) if case.specs[n].count is not None]
    if not narrow or score.options.get("ignore_index") is not None:
        raise NotApplicable("takes no labels, or some that are ignored")
    rows = scored.draw(_ROWS, "narrow")
    given = scored.answer(rows)
    types = [*_TYPES[1:], *([torch.bool] if scored.form.classes == 2 else [])]
    judged = False
    for dtype in types:
        try:
            found = scored.answer({n: x.to(dtype) if n in narrow else x for n, x in rows.items()})
        except SubjectRaised:
            continue
        judged = True
        name = str(dtype).removeprefix("torch.")
        yield same_answer(
            scored, given, found, rows, f"change of the score when labels are {name}",
            cause=f"something is counted in {name}, or labels are taken for a mask",
        )  # fmt: skip
    if not judged:
        raise NotApplicable("takes labels in int64 alone")
