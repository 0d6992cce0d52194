"""Ways to break any augmentation: what serves the mutants of several checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.isolation import seed_everything

Change = Callable[[Tensor], Tensor]


def on_images(answer: Any, change: Change) -> Any:
    """The same answer with other images, which come first."""
    if isinstance(answer, Tensor):
        return change(answer)
    first, *rest = answer
    return (change(first), *rest)


def on_the_rest(answer: Any, change: Change) -> Any:
    """The same answer with other labels or targets: every tensor but the images."""
    if isinstance(answer, Tensor):
        return answer
    return (answer[0], *(_changed(part, change) for part in answer[1:]))


def _changed(part: Any, change: Change) -> Any:
    if isinstance(part, Tensor):
        return change(part)
    if isinstance(part, tuple):
        return tuple(_changed(piece, change) for piece in part)
    return part


def row_by_row(original: Any, inputs: tuple[Tensor, ...], seeds: Callable[[int], int]) -> Any:
    """Each row by a call of its own, row i under seed `seeds(i)`; drawn anew in each call."""
    base = int(torch.randint(2**31, ()))
    answers = []
    for row in range(len(inputs[0])):
        seed_everything(base + seeds(row))
        answers.append(original(*(x[row : row + 1] for x in inputs)))
    seed_everything(base - 1)  # the next call draws another base
    if isinstance(answers[0], Tensor):
        return torch.cat(answers)
    return tuple(torch.cat(parts) for parts in zip(*answers, strict=True))


def untouched(inputs: tuple[Tensor, ...]) -> Any:
    """What went in, in the form of an answer."""
    return inputs[0] if len(inputs) == 1 else inputs
