"""What a score answers, as numbers: a float, a tensor, an array, or several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import SubjectError


def flat(answer: Any, name: str) -> Tensor:
    """Every number of an answer in order, [n] in float64. Raises SubjectError for anything else."""
    parts = list(_parts(answer, name))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def first_of(answer: Any) -> Any:
    """The score where it comes with more, as SciPy's statistic with its p-value."""
    return answer[0] if isinstance(answer, (tuple, list)) and answer else answer


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
