"""Subject → broken Subject: the ways to break a thing that serve more than one check.

A mutant is a function from a declaration to the declaration of a broken implementation. It works
for a function, a module or a factory alike, since it changes what was built. A mutant that serves
one check alone stands in that check's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.model import Mutant, Subject
from dlcheck.subjects import Remade, one_shot, streams

Call = Callable[..., Any]


class Around(nn.Module):
    """A module whose call goes through `call(original, *inputs)`, parameters and modes kept."""

    def __init__(self, original: nn.Module, call: Call) -> None:
        super().__init__()
        self.original = original
        self.call = call

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return self.call(self.original, *inputs, **keywords)


def around(call: Call) -> Mutant:
    """A mutant that replaces the call: `call(original, *inputs, **keywords)` is what answers.

    Use as a decorator; the function's name says what is broken.
    """

    def change(original: Any) -> Any:
        if isinstance(original, nn.Module):
            return Around(original, call)
        if streams(original) and not callable(original):
            original = one_shot(original)
        return lambda *inputs, **keywords: call(original, *inputs, **keywords)

    change.__wrapped__ = call  # type: ignore[attr-defined]  # where the mutant is written
    return rebuilt(call.__name__, change)


def rebuilt(name: str, change: Callable[[Any], Any]) -> Mutant:
    """A mutant that replaces what was built by `change(built)`."""

    def mutate(subject: Subject) -> Subject:
        return subject.with_target(f"{subject.name}:{name}", Remade(subject, change))

    mutate.__name__ = name
    return mutate


def instead(implementation: Callable[..., Any]) -> Mutant:
    """A mutant that puts another implementation in the place of the subject.

    It is declared, built and called like the subject; its name says what is broken.
    """

    def mutate(subject: Subject) -> Subject:
        return subject.with_target(f"{subject.name}:{implementation.__name__}", implementation)

    mutate.__name__ = implementation.__name__
    return mutate


def on_tensors(answer: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every floating tensor, and every float, changed."""
    if isinstance(answer, float):
        return change(torch.tensor(answer, dtype=torch.float64))
    if isinstance(answer, Tensor):
        return change(answer) if answer.is_floating_point() else answer
    if isinstance(answer, dict):
        return {key: on_tensors(value, change) for key, value in answer.items()}
    if isinstance(answer, (tuple, list)):
        return type(answer)(on_tensors(part, change) for part in answer)
    return answer


class _Backward(torch.autograd.Function):
    """The identity, whose backward applies `change` to the gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return ctx.change(gradient), None


def through_backward(value: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The same value, with a gradient that passes through `change` on its way back."""
    return _Backward.apply(value, change) if value.requires_grad else value


def scaled_gradient(factor: float) -> Mutant:
    """The right value with its gradient multiplied by `factor`."""

    def call(original: Any, *inputs: Any, **keywords: Any) -> Any:
        answer = original(*inputs, **keywords)
        return on_tensors(answer, lambda y: through_backward(y, lambda g: factor * g))

    call.__name__ = f"gradient_times_{factor:g}"
    return around(call)


def scaled_value(factor: float) -> Mutant:
    """The value, and so its gradient, multiplied by `factor`."""

    def call(original: Any, *inputs: Any, **keywords: Any) -> Any:
        return on_tensors(original(*inputs, **keywords), lambda y: factor * y)

    call.__name__ = f"value_times_{factor:g}"
    return around(call)
