"""A call leaves its inputs as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def overwrites_its_first_input(original: Any, first: Any, *rest: Any, **keywords: Any) -> Any:
    answer = original(first, *rest, **keywords)
    with torch.no_grad():
        (first[0] if isinstance(first, (list, tuple)) else first).mul_(2).add_(1)
    return answer


@check(
    kind=["op", "layer", "activation", "loss", "penalty", "proximal", "dropout"],
    forbids={"in_place"},
    rejects=[overwrites_its_first_input],
)
def leaves_inputs_unchanged(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A call changes none of its inputs.

    Every input is compared with a private copy, element by element; NaN equals NaN. The bound
    is 0: nothing may change.
    """
    given = case.fresh()
    subject(*given)
    for (name, original), after in zip(case.inputs.items(), given, strict=True):
        same = torch.eq(original, after) | (original != original) & (after != after)
        yield Evidence(
            error=float((~same).sum()),
            bound=0.0,
            signal=float(same.numel()),
            unit="elements",
            what=f"changed elements of {name}",
        )
