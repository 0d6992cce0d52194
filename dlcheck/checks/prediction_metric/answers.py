"""What a score answers, as numbers: a float, a tensor, an array, or several of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import SubjectError
from dlcheck.model import Evidence


def flat(answer: Any, name: str) -> Tensor:
    """Every number of an answer in order, [n] in float64. Raises SubjectError for anything else."""
    parts = list(_parts(answer, name))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def first_of(answer: Any) -> Any:
    """The score where it comes with more, as SciPy's statistic with its p-value."""
    return answer[0] if isinstance(answer, (tuple, list)) and answer else answer


def same_numbers(
    expected: Tensor, got: Tensor, room: Callable[[float], float], what: str, cause: str = ""
) -> Evidence:
    """Two answers, of one number or many, are the same; NaN where NaN was.

    room: how far rounding may move each of them, given the largest number of the expected one.
    """
    if expected.shape != got.shape:
        return Evidence(
            error=float("inf"),
            bound=0.0,
            signal=1.0,
            what=what,
            expected=f"{expected.numel()} numbers",
            got=f"{got.numel()} numbers",
            cause=cause,
        )
    finite = expected[torch.isfinite(expected)]
    size = float(finite.abs().amax()) if finite.numel() else 0.0
    same = (expected == got) | ((expected != expected) & (got != got))
    apart = torch.where(same, 0.0, (got - expected).abs().nan_to_num(torch.inf, torch.inf))
    worst = int(apart.argmax()) if apart.numel() else 0
    return Evidence(
        error=float(apart.amax()) if apart.numel() else 0.0,
        bound=2 * room(size),
        signal=max(size, 1.0),
        what=what,
        expected=f"{float(expected[worst]):.9g}" if expected.numel() else "",
        got=f"{float(got[worst]):.9g}" if got.numel() else "",
        cause=cause,
    )


def _parts(answer: Any, name: str) -> Any:
    if isinstance(answer, Mapping):
        for part in answer.values():
            yield from _parts(part, name)
    elif isinstance(answer, (tuple, list)):
        for part in answer:
            yield from _parts(part, name)
    else:
        try:
            yield torch.as_tensor(answer).detach().cpu().flatten().double()
        except (TypeError, ValueError, RuntimeError):
            raise SubjectError(
                f"{name} answered {type(answer).__qualname__}, and a score is a number, or a "
                "tensor, an array, a tuple or a dict of numbers"
            ) from None
