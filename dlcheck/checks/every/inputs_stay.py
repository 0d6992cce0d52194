"""A call leaves its inputs as they were."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from dlcheck.model import Evidence
from dlcheck.mutants import around, rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def overwrites_its_first_input(original: Any, first: Any, *rest: Any, **keywords: Any) -> Any:
    answer = original(first, *rest, **keywords)
    with torch.no_grad():
        (first[0] if isinstance(first, (list, tuple)) else first).mul_(2).add_(1)
    return answer


@around
def resizes_its_last_input(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`unsqueeze_` and the like."""
    answer = original(*inputs, **keywords)
    last = inputs[-1][-1] if isinstance(inputs[-1], (list, tuple)) else inputs[-1]
    if isinstance(last, torch.Tensor):
        last.unsqueeze_(0)
    else:
        inputs[0].unsqueeze_(0)  # the last is a number, as a step is
    return answer


class _InEvaluation(torch.nn.Module):
    """Writes to its input where no gradient is needed."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original = original

    def forward(self, first: Any, *rest: Any, **keywords: Any) -> Any:
        answer = self.original(first, *rest, **keywords)
        tensor = first[0] if isinstance(first, (list, tuple)) else first
        if not self.training:
            with torch.no_grad():
                tensor.add_(1)
        return answer


overwrites_in_evaluation = rebuilt("overwrites_in_evaluation", _InEvaluation)


@check(
    kind="tensors",
    forbids={"in_place"},
    rejects=[overwrites_its_first_input, resizes_its_last_input, overwrites_in_evaluation],
)
def leaves_inputs_unchanged(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A call changes none of its inputs, in train and in evaluation.

    Every input, of integers too, is compared with a private copy, element by element; NaN equals
    NaN. The bound is 0: neither values nor shapes may change. Cases take turns between the modes.
    """
    given = case.fresh()
    if subject.module is not None:
        subject.module.train(case.recipe.seed % 2 == 0)
    with torch.no_grad():  # an input that requires a gradient cannot be written to, with it
        subject(*given)
    for (name, original), after in zip(case.inputs.items(), given, strict=True):
        if original.shape != after.shape:
            shapes = tuple(original.shape), tuple(after.shape)
            yield Evidence(
                error=math.inf,
                bound=0.0,
                signal=1.0,
                what=f"shape of {name} after the call",
                expected=str(shapes[0]),
                got=str(shapes[1]),
            )
            continue
        same = torch.eq(original, after) | (original != original) & (after != after)
        yield Evidence(
            error=float((~same).sum()),
            bound=0.0,
            signal=float(max(same.numel(), 1)),
            unit="elements",
            what=f"changed elements of {name}",
        )
