"""Scores that take their rows in batches: update, compute, reset and merge."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, reduce
from typing import Protocol

import torch
from torch import Tensor, nn


class Stream(Protocol):
    """A score that is a function of what the rows add up to.

    `count(prediction, target)` is the state of one batch, `join` that of two together, and
    `score` the value of a state: so that any split in batches, and any merge of replicas, gives
    the value of all rows at once. A state is one tensor: counts, sums, or the rows themselves.
    """

    _parts: tuple[Tensor, ...] = ()

    def count(self, prediction: Tensor, target: Tensor) -> Tensor: ...

    def score(self, state: Tensor) -> Tensor: ...

    def join(self, first: Tensor, second: Tensor) -> Tensor:
        return first + second

    def of(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The value of these rows alone."""
        return self.score(self.count(prediction, target))

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Take a batch in, and answer with its own value."""
        state = self.count(prediction, target)
        self._take(state)
        return self.score(state)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self._take(self.count(prediction, target))

    def compute(self) -> Tensor:
        """The value of all rows since the last reset. Raises ValueError without any."""
        if not self._parts:
            raise ValueError("no rows to score: call update before compute")
        return self.score(self._state())

    def reset(self) -> None:
        self._parts = ()

    def merge(self, other: Stream) -> None:
        """Take in the rows of another replica, which stays as it is.

        Raises ValueError where it is another score, or has other settings.
        """
        mine, theirs = settings_of(self), settings_of(other)
        if mine != theirs:
            raise ValueError(
                f"this is {mine}, the other {theirs}: their counts do not add up; merge replicas "
                "of one score"
            )
        for state in other._parts:
            self._take(state)

    def state_dict(self) -> dict[str, Tensor]:
        return {"state": self._state()} if self._parts else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._parts = tuple(part.clone() for part in state.values())

    def _take(self, state: Tensor) -> None:
        state = state.detach()  # of a stream that is read much later, no graph is kept
        self._parts = (*self._parts, state) if self._keeps_rows else (self._joined(state),)

    def _joined(self, state: Tensor) -> Tensor:
        return self.join(self._parts[0], state) if self._parts else state

    def _state(self) -> Tensor:
        if self._keeps_rows:  # once, not at every update
            return torch.cat(self._parts, -1)
        return reduce(self.join, self._parts)

    @property
    def _keeps_rows(self) -> bool:
        """Is a state the rows themselves, [..., n]?"""
        return False


def settings_of(stream: object) -> str:
    """`StreamingPSNR(data_range=1.0, over='pairs')`: the class and its public attributes.

    The same in every process for the same settings: a function has its name, not its address.
    """
    public = {name: value for name, value in vars(stream).items() if not name.startswith("_")}
    return f"{type(stream).__qualname__}({_listed(public)})"


def _listed(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in settings.items())


def _shown(value: object) -> str:
    if isinstance(value, partial):
        arguments = [*map(_shown, value.args), *filter(None, [_listed(value.keywords)])]
        return f"{_shown(value.func)}({', '.join(arguments)})"
    if callable(value) and not isinstance(value, nn.Module):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return repr(value)


class RowStream(Stream, Protocol):
    """A score of the rows' order, as a rank correlation: its state is the rows, [..., n]."""

    @property
    def _keeps_rows(self) -> bool:
        return True
