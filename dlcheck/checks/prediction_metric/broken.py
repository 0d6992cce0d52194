"""Ways to break a score of predictions that serve several checks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.mutants import around


def number(answer: Any) -> Tensor:
    """The answer as one float64 tensor, without what comes beside it."""
    return torch.as_tensor(answer[0] if isinstance(answer, tuple) else answer).double()


def or_nan(original: Any, *inputs: Tensor) -> Any:
    """The answer; NaN where what is left of the rows cannot be scored."""
    try:
        return original(*inputs)
    except ValueError:
        return torch.tensor(torch.nan, dtype=torch.float64)


def labelled(prediction: Tensor, target: Tensor) -> Tensor:
    """The labels that a prediction says, of the shape of the target."""
    if prediction.shape == target.shape:
        return prediction if not prediction.is_floating_point() else prediction > 0.5
    axis = next(
        a for a, n in enumerate(prediction.shape) if a >= target.dim() or n != target.shape[a]
    )
    return prediction.argmax(axis)


@around
def negates(original: Any, *inputs: Any) -> Any:
    return -number(original(*inputs))


@around
def takes_one_minus(original: Any, *inputs: Any) -> Any:
    """The error where the accuracy is meant."""
    return 1 - number(original(*inputs))


@around
def adds_a_hundredth(original: Any, *inputs: Any) -> Any:
    return number(original(*inputs)) + 0.01


@around
def answers_in_percent(original: Any, *inputs: Any) -> Any:
    return 100 * number(original(*inputs)) + 1


@around
def answers_nan(original: Any, *inputs: Any) -> Any:
    return number(original(*inputs)) * torch.nan


@around
def sees_only_the_target(original: Any, prediction: Tensor, target: Tensor) -> Any:
    """A prediction that is overwritten by what it should be."""
    return number(original(_as_prediction(prediction, target), target))


@around
def shifts_the_targets(original: Any, prediction: Tensor, target: Tensor) -> Any:
    """Rows and targets out of step by one, as after a wrong slice."""
    return original(prediction, target.roll(1, 0))


@around
def drops_the_last_row(original: Any, *inputs: Tensor) -> Any:
    return or_nan(original, *(x[:-1] for x in inputs))


@around
def counts_the_last_row_twice(original: Any, *inputs: Tensor) -> Any:
    return original(*(torch.cat([x, x[-1:]]) for x in inputs))


@around
def leaks_its_prediction(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    value = number(original(prediction, *rest))
    return value + 0.05 * prediction.double().flatten()[::2].mean()


@around
def clips_its_prediction(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    return or_nan(original, prediction.clamp(-0.5, 0.5), *rest)


@around
def rounds_its_prediction(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    return or_nan(original, prediction.round(), *rest)


@around
def sums_over_rows(original: Any, *inputs: Tensor) -> Any:
    return number(original(*inputs)) * len(inputs[0])


@around
def divides_by_one_row_less(original: Any, *inputs: Tensor) -> Any:
    rows = len(inputs[0])
    return number(original(*inputs)) * rows / max(rows - 1, 1)


@around
def smooths_with_one_row(original: Any, *inputs: Tensor) -> Any:
    """One row of value 2 added to those that are there."""
    rows = len(inputs[0])
    return (number(original(*inputs)) * rows + 2) / (rows + 1)


def _as_prediction(prediction: Tensor, target: Tensor) -> Tensor:
    """The prediction that says the target, of the first one's shape and type."""
    if prediction.shape == target.shape:
        return target.to(prediction.dtype)
    said = torch.nn.functional.one_hot(target.clamp(min=0), prediction.shape[-1])
    return (said * 50.0).softmax(-1).to(prediction.dtype) * max(1.0, float(prediction.max()))
