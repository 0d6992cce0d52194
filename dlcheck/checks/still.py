"""A subject held still: every call starts from the same state and the same random numbers.

What a check compares are two calls of one function. A batch norm that moves its statistics, or a
dropout that draws a new mask, is one function only from one state and one seed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dlcheck.checks.agreement import agreement, exact_signal, rounding_room
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters, tensors_in

State = list[tuple[nn.Module, str, Tensor]]


def buffers_of(module: nn.Module | None) -> State:
    """Every buffer that is state, with its owner and a copy of its value; see kept_buffers."""
    if module is None:
        return []
    return [
        (owner, name, buffer.detach().clone())
        for owner in module.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None and name not in owner._non_persistent_buffers_set
    ]


def put_back(state: State) -> None:
    """The buffers as they were, also where the call put other tensors in their place."""
    for owner, name, value in state:
        owner._buffers[name] = value.clone()


class Still:
    """The subject as a function of its inputs, its parameters moved off their constants.

    training: the mode, that of the build unless told. seed: of the random streams before each
    call, the case's unless told. Gradients are off unless `differentiable`.
    """

    def __init__(
        self,
        subject: Implementation,
        case: Case,
        *,
        training: bool | None = None,
        differentiable: bool = False,
    ) -> None:
        self.subject, self.case = subject, case
        self.seed, self.differentiable = case.recipe.seed, differentiable
        scatter_parameters(subject, case.recipe.seed)
        if subject.module is not None and training is not None:
            subject.module.train(training)
        self.state = buffers_of(subject.module)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        put_back(self.state)
        seed_everything(self.seed)
        with torch.set_grad_enabled(self.differentiable):
            answer = tuple(tensors_in(self.subject(*inputs)))
        if self.differentiable:
            return answer
        return tuple(y.detach() for y in answer)

    def room(
        self, inputs: Sequence[Tensor] | None = None, call: Callable[..., object] | None = None
    ) -> Callable[[], list[Tensor]]:
        """How far rounding may move each output, measured when it is first asked for.

        call: what is measured, this function unless told; see rounding_room.
        """
        return functools.cache(lambda: rounding_room(self.subject, self.case, inputs, call or self))


def held(
    what: str, got: Tensor, expected: Tensor, room: Callable[[], Tensor | float], cause: str = ""
) -> Evidence:
    """As `agreement`, with the room measured only where the two are not equal bit by bit."""
    if got.shape == expected.shape and torch.equal(got, expected):
        return Evidence(error=0.0, bound=0.0, signal=exact_signal(expected), what=what)
    return agreement(what, got, expected, room(), cause=cause)


def part_of(
    room: Callable[[], Sequence[Tensor]],
    place: int,
    cut: Callable[[Tensor], Tensor] | None = None,
) -> Callable[[], Tensor]:
    """The room of one answer, or of what `cut` leaves of it, measured when it is asked for."""

    def measured() -> Tensor:
        whole = room()[place]
        return whole if cut is None else cut(whole)

    return measured


def larger_of(rooms: Sequence[Callable[[], Sequence[Tensor]]], place: int) -> Callable[[], Tensor]:
    """The larger room of one answer to two inputs."""
    return lambda: torch.stack([room()[place] for room in rooms]).amax(0)


def without_noise(subject: Implementation, case: Case) -> Still:
    """The subject as a function without random numbers: a stochastic one in evaluation.

    Raises NotApplicable for one that is random there too, or has no modes.
    """
    if "stochastic_in_eval" in subject.traits:
        raise NotApplicable("is random in evaluation too")
    if "stochastic" not in subject.traits:
        return Still(subject, case)
    if subject.module is None:
        raise NotApplicable("is random, and has no mode in which it is not")
    return Still(subject, case, training=False)
