"""The ways in which people get a penalty wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.model import NOTHING, Subject
from dlcheck.mutants import around, through_backward
from dlcheck.subjects import Remade, build, default_of

Parameters = Tensor | list[Tensor]
Penalty = Callable[[Parameters], Tensor]


def changed(parameters: Parameters, change: Callable[[Tensor], Tensor]) -> Parameters:
    """One tensor or each of several, changed."""
    if isinstance(parameters, Tensor):
        return change(parameters)
    return [change(w) for w in parameters]


def tensors(parameters: Parameters) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


@around
def takes_the_root(original: Penalty, parameters: Parameters) -> Tensor:
    """torch.norm(w) where torch.norm(w) ** 2 is meant; for L1 the root of the sum."""
    return original(parameters).clamp(min=1e-300).sqrt()


@around
def takes_the_mean(original: Penalty, parameters: Parameters) -> Tensor:
    """`.mean()` for `.sum()`: wider layers are penalised less."""
    return original(parameters) / sum(w.numel() for w in tensors(parameters))


@around
def forgets_the_absolute_value(original: Penalty, parameters: Parameters) -> Tensor:
    return original(parameters) + 0.5 * sum(w.sum() for w in tensors(parameters))


@around
def ignores_negative_weights(original: Penalty, parameters: Parameters) -> Tensor:
    return original(changed(parameters, torch.relu))


@around
def smooths_the_kink(original: Penalty, parameters: Parameters) -> Tensor:
    """√(w² + ε) for |w|: no weight is ever exactly zero."""
    return original(changed(parameters, lambda w: (w.square() + 1e-10).sqrt()))


@around
def rounds_off_near_zero(original: Penalty, parameters: Parameters) -> Tensor:
    """Huber's function for |w|: quadratic below 0.02, so that small weights are let be."""

    def huber(w: Tensor) -> Tensor:
        return torch.where(w.abs() < 0.02, w.square() / 0.04, w.abs() - 0.01)

    return original(changed(parameters, huber))


@around
def saturates(original: Penalty, parameters: Parameters) -> Tensor:
    """Large weights are penalised less and less."""
    penalty = original(parameters)
    return penalty / (1 + penalty)


@around
def clips_large_weights(original: Penalty, parameters: Parameters) -> Tensor:
    return original(changed(parameters, lambda w: w.clamp(-0.05, 0.05)))


@around
def adds_a_constant(original: Penalty, parameters: Parameters) -> Tensor:
    return original(parameters) + 1e-3


@around
def decays_toward_a_constant(original: Penalty, parameters: Parameters) -> Tensor:
    return original(changed(parameters, lambda w: w - 0.1))


@around
def squares_twice(original: Penalty, parameters: Parameters) -> Tensor:
    """norm(w, 2) ** 2 of something squared already."""
    return original(parameters) ** 2


@around
def counts_the_first_row_only(original: Penalty, parameters: Parameters) -> Tensor:
    """An iteration that stops after its first round: `return` inside the loop."""
    first = tensors(parameters)[0]
    first = first[:1] if len(first) > 1 else first.mT[:1]
    return original(first if isinstance(parameters, Tensor) else [first])


@around
def penalises_a_copy(original: Penalty, parameters: Parameters) -> Tensor:
    """`.data` or `.detach()`: the value is right and nothing is pulled."""
    free = original(changed(parameters, torch.detach))
    return free + 0 * sum(w.sum() for w in tensors(parameters))


@around
def clips_its_gradient(original: Penalty, parameters: Parameters) -> Tensor:
    """A hook that clips gradients elementwise, left in the model."""
    return original(
        changed(parameters, lambda w: through_backward(w, lambda g: g.clamp(-0.01, 0.01)))
    )


@around
def penalises_biases_too(original: Penalty, parameters: Parameters) -> Tensor:
    """Every vector is counted like a matrix."""
    vectors = [w[None] for w in tensors(parameters) if w.dim() == 1]
    penalty = original(parameters)
    return penalty + original(vectors) if vectors else penalty


def ignores_its_strength(subject: Subject) -> Subject:
    """The strength is stored and never used: what it was at first stays in the formula."""

    def change(_: Any) -> Any:
        return build(subject, NOTHING, torch.device("cpu"), torch.get_default_dtype(), 0).target

    return subject.with_target(f"{subject.name}:ignores_its_strength", Remade(subject, change))


def squares_its_strength(subject: Subject) -> Subject:
    """λ multiplied in twice on the way: λ²‖w‖."""
    norm, strength = subject.options.get("norm"), subject.options.get("strength")
    name = next(iter(norm)) if isinstance(norm, Mapping) else strength

    def change(original: Any) -> Any:
        given = getattr(original, "keywords", {})
        factor = float(given.get(name, default_of(subject, str(name))))
        return lambda parameters: factor * original(parameters)

    return subject.with_target(f"{subject.name}:squares_its_strength", Remade(subject, change))


@around
def takes_the_root_and_squares_it(original: Penalty, parameters: Parameters) -> Tensor:
    """torch.sqrt(sum of squares) ** 2: right everywhere, but at 0 the gradient is ∞ · 0."""
    return original(parameters).sqrt() ** 2


@around
def logs_it(original: Penalty, parameters: Parameters) -> Tensor:
    return original(parameters).clamp(min=1e-300).log()


@around
def is_shifted_below_zero(original: Penalty, parameters: Parameters) -> Tensor:
    """An entropy or a log-density with its constant: less than nothing for small weights."""
    nothing = original(changed(parameters, torch.zeros_like)).detach()
    return original(parameters) - 1.001 * nothing - 1e-3
