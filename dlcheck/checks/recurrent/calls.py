"""How a recurrent network is called: m(x, state, *further) → (y, state), in its several forms.

x is [t, b, …], [b, t, …] or, for a cell, [b, …]; the state a tensor or a tuple, its batch axis the
one whose dim x shares. A cell may return its state alone, which is then its output too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement, rounding_room
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters, tensors_in

State = tuple[Tensor, ...]
_STEPS = 17


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A subject in eval mode, with the names of its inputs and the axes of x."""

    subject: Implementation
    case: Case
    x: str
    state_names: tuple[str, ...]
    batch: int | None  # axis of x
    time: int | None  # axis of x; None for a cell

    @classmethod
    def of(cls, subject: Implementation, case: Case) -> Recurrence:
        scatter_parameters(subject, case.recipe.seed)
        if subject.module is not None:
            subject.module.eval()
        apart = [subject.options.get("reset"), subject.options.get("lengths")]
        names = [name for name in case.floating if name not in apart]
        given = subject.options.get("state")
        if given is None:
            state = tuple(names[1:2])
        else:
            state = (given,) if isinstance(given, str) else tuple(given)
        found = [name for name in names if name not in state]
        if not found:
            raise NotApplicable("takes no sequence of real numbers")
        made = cls(subject, case, found[0], state, None, None)
        batch, time = _axes(made)
        return replace(made, batch=batch, time=time)

    # --- calls --------------------------------------------------------------------------------

    def __call__(
        self,
        x: Tensor,
        state: Any = None,
        further: dict[str, Tensor] | None = None,
        *,
        start: int = 0,
    ) -> tuple[Tensor, Any]:
        """(y, state). state: as the subject returns it, a tuple of tensors, or None.

        start: the step at which x begins; other inputs over time are cut to the steps of x.
        """
        y, after = self.parts(self.raw(x, state, further, start=start))
        return y, after

    def raw(
        self, x: Tensor, state: Any, further: dict[str, Tensor] | None = None, *, start: int = 0
    ) -> Any:
        own = {**self.case.inputs, **(further or {})}
        others = [
            self._cut(name, value, x, start)
            for name, value in own.items()
            if name != self.x and name not in self.state_names
        ]
        given: list[Any] = [x]
        if state is not None or others:
            given.append(self._packed(state))
        seed_everything(self.case.recipe.seed)
        return self.subject(*given, *others)

    def _cut(self, name: str, value: Tensor, x: Tensor, start: int) -> Tensor:
        """The steps of another input that belong to those of x."""
        if self.time is None:
            return value
        steps = self.case.specs[self.x].dims[self.time].name
        for axis, dim in enumerate(self.case.specs[name].dims):
            if steps and dim.name == steps and value.shape[axis] > x.shape[self.time]:
                value = value.narrow(axis, start, x.shape[self.time])
        return value

    def _packed(self, state: Any) -> Any:
        alone = isinstance(state, tuple) and len(state) == 1 and len(self.state_names) == 1
        return state[0] if alone else state

    def parts(self, answer: Any) -> tuple[Tensor, Any]:
        """Output and state in what was returned; the state is None where there is none."""
        count = len(self.state_names)
        shapes = [self.case.inputs[name].shape for name in self.state_names]
        if isinstance(answer, Tensor):
            return answer, (answer if count == 1 and answer.shape[1:] == shapes[0][1:] else None)
        answer = tuple(answer.values()) if isinstance(answer, dict) else answer
        tensors = list(tensors_in(answer))
        if len(tensors) == count and self.time is None:  # a cell of several states
            return tensors[0], answer
        if len(answer) == 2:
            return tensors[0], answer[1]
        return tensors[0], (tuple(answer[1:]) if len(tensors) == count + 1 else None)

    def flat(self, x: Tensor, state: Any, further: dict[str, Tensor] | None = None) -> State:
        """Output and state as one tuple of tensors."""
        y, after = self(x, state, further)
        return (y, *tensors_in(after))

    def room(self, x: Tensor, state: State | None) -> list[Tensor]:
        """How far rounding may move each element of output and state."""
        given = (x, *(state or ()))

        def call(*moved: Tensor) -> State:
            return self.flat(moved[0], moved[1:] if state is not None else None)

        return rounding_room(self.subject, self.case, given, call)

    # --- what is known ------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[Tensor, State | None]:
        """The case's own x and state; None for the state where it is no input.

        Of 17 steps at most, unless a reset or lengths have as many.
        """
        state = tuple(self.case.inputs[name].detach() for name in self.state_names)
        x = self.case.inputs[self.x].detach()
        if self.time is not None and len(self.case.inputs) == 1 + len(state):
            x = self.steps(x, slice(0, _STEPS))
        return x, state or None

    def drawn(self, salt: str) -> tuple[Tensor, State | None]:
        """Other numbers of the same shapes."""
        x, state = self.inputs
        return self._normal(x, salt), state and tuple(
            self._normal(s, f"{salt} {i}") for i, s in enumerate(state)
        )

    def _normal(self, like: Tensor, salt: str) -> Tensor:
        generator = self.case.generator(salt)
        return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)

    def batch_of(self, state: Tensor) -> int:
        """The batch axis of a state, [layers, b, n] or [b, n]: the one before the last."""
        for name in self.state_names:
            dims = [dim.name for dim in self.case.specs[name].dims]
            own = self.case.specs[self.x].dims[self.batch or 0].name
            if len(dims) == state.dim() and own and own in dims[:-1]:
                return dims.index(own)
        return max(state.dim() - 2, 0)

    def steps(self, x: Tensor, index: slice) -> Tensor:
        return x[(*([slice(None)] * (self.time or 0)), index)]

    @property
    def length(self) -> int:
        return 1 if self.time is None else self.inputs[0].shape[self.time]

    def must_have_steps(self, count: int) -> None:
        if self.time is None:
            raise NotApplicable("is a cell: one step has no time")
        if self.length < count:
            raise NotApplicable("the sequence is too short")

    def must_return_its_state(self, answer: Any) -> None:
        if next(tensors_in(answer), None) is None:
            raise NotApplicable("returns no state")

    def random(self, low: int, high: int, salt: str) -> int:
        """low ≤ number < high."""
        return int(torch.randint(low, high, (), generator=self.case.generator(salt)))


def _axes(made: Recurrence) -> tuple[int | None, int | None]:
    """The batch and time axes of x: by the dim shared with the state, the option, the effect."""
    specs = made.case.specs
    own = [dim.name for dim in specs[made.x].dims[:-1]]
    shared = {
        dim.name for name in made.state_names for dim in specs[name].dims[:-1] if dim.name in own
    }
    if len(own) == 1:
        return (0, None) if shared else (None, 0)
    if not own:
        raise NotApplicable("takes no sequence")
    common = [axis for axis in (0, 1) if own[axis] in shared]
    first = made.subject.argument("batch_first")
    if len(common) == 1:
        batch = common[0]
    elif first is not None:
        batch = 0 if first else 1
    else:
        batch = _axis_without_effect(made)
    return batch, 1 - batch


def _axis_without_effect(made: Recurrence) -> int:
    """Rows do not act on each other: the axis along which x[0] leaves the rest of the output."""
    x, state = made.inputs
    moved = x.clone()
    moved[0] += 1
    if x.shape[0] < 2:
        raise NotApplicable("one row tells no axis")
    a, b = (next(tensors_in(made.raw(z, state))) for z in (x, moved))
    same = bool(((a - b)[1:].abs() <= 1e-6 * a.abs().amax()).all())
    return 0 if same else 1


def both_agree(
    what: str, got: Sequence[Tensor], expected: Sequence[Tensor], room: Sequence[Tensor]
) -> Iterator[Evidence]:
    """Output and state are the same numbers."""
    for i, (a, b, limit) in enumerate(zip(got, expected, room, strict=True)):
        name = "output" if i == 0 else "state" if len(expected) == 2 else f"state {i - 1}"
        if b.numel():
            yield agreement(
                f"{name} {what}", a, b, limit, signal=1.0 if not bool(b.any()) else None
            )


def accepts_no_state(made: Recurrence) -> bool:
    """May the state be left out?"""
    try:
        made(made.inputs[0])
    except SubjectRaised:
        return False
    return True
