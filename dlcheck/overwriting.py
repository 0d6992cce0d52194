"""What fails because a call writes to its inputs: the next call is then given other numbers.

Many checks compare two calls on the same tensors. A loss that smooths its targets in place fails
them all, each with a cause of its own that is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from dlcheck.errors import SubjectError
from dlcheck.model import Evidence, Verdict
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_TELLS_IT = "leaves_inputs_unchanged"  # the check whose claim this is


def with_overwriting(
    check: str, evidence: Sequence[Evidence], subject: Implementation, case: Case
) -> list[Evidence]:
    """The evidence with this cause in place of its own, where a call writes to an input."""
    names = [] if check == _TELLS_IT else overwritten(subject, case)
    if not names:
        return list(evidence)
    cause = f"a call writes to its input {', '.join(names)}, and later calls see it: {_TELLS_IT}"
    return [
        replace(piece, cause=cause) if piece.verdict is Verdict.FAILED else piece
        for piece in evidence
    ]


def overwritten(subject: Implementation, case: Case) -> list[str]:
    """The inputs to which one call writes, unless that is documented."""
    if "in_place" in subject.traits or not subject.kind.returns_tensors:
        return []
    given = case.fresh()
    before = [x._version for x in given]
    try:
        with torch.no_grad():
            subject(*given)
    except SubjectError:
        return []
    return [
        name
        for name, x, version in zip(case.inputs, given, before, strict=True)
        if x._version != version
    ]
