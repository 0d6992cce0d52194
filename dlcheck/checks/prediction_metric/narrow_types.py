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
