"""One stream of what all ranks of a process group saw."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from dlcheck.references.metrics.process_group import Peers
from dlcheck.references.metrics.streams import settings_of

_TIMEOUT = timedelta(minutes=5)
_NEEDS = ("reset", "merge", "state_dict", "load_state_dict")
_SHOWN = 300  # characters of settings, of a network more than anyone reads


class Mergeable(Protocol):
    """A stream whose state can travel: numbers, strings and tensors in dicts and lists."""

    def reset(self) -> None: ...

    def merge(self, other: Any, /) -> Any: ...

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


_Stream = TypeVar("_Stream", bound=Mergeable)


def all_reduce(
    metric: _Stream, group: dist.ProcessGroup | None = None, timeout: timedelta = _TIMEOUT
) -> _Stream:
    """A new stream of the rows that all ranks of `group` saw, to the last bit the same on each.

    Every rank of the group calls it; `metric` stays as it is, so that a stream may go on and be
    reduced again without counting twice. Ranks may have seen any number of rows, or none. States
    are merged by the metric's own `merge`, neighbours first: the rows of rank 0 come before those
    of rank 1, a rank holds few states at a time, and ⌈log₂ ranks⌉ messages go up
    and down one after another. Numbers travel as they are, float64 as float64, tensors of an
    accelerator to the receiver's current one.

    Raises ValueError on every rank where two have other settings or do not merge; RuntimeError
    without a process group; TypeError for what is no such stream; TimeoutError or ConnectionError
    where a rank sends nothing within `timeout`.
    """
    _must_travel(metric)
    peers = Peers.of(group, timeout)
    reduced, step = _Reduced(metric, peers.rank), 1
    while step < peers.size and not peers.rank & step:
        if peers.rank + step < peers.size:
            reduced.take(peers.receive(peers.rank + step), peers.rank + step)
        step *= 2
    message = reduced.packed()
    if peers.rank:
        peers.send(message, peers.rank - step)
        message = peers.receive(peers.rank - step)
    while step > 1:
        step //= 2
        if peers.rank + step < peers.size:
            peers.send(message, peers.rank + step)
    final = _unpacked(message)
    if final["problem"]:
        raise ValueError(final["problem"])
    return reduced.stream(final["state"])  # on rank 0 too: all compute from the same bits


def _must_travel(metric: object) -> None:
    missing = [name for name in _NEEDS if not callable(getattr(metric, name, None))]
    if missing:
        raise TypeError(
            f"{type(metric).__name__} has no {' and no '.join(missing)}: all_reduce takes streams "
            f"with {', '.join(_NEEDS)}; metrics of torchmetrics reduce themselves in compute()"
        )


class _Reduced(Generic[_Stream]):
    """A rank's share of the whole, and the first reason why there is none.

    A rank that raised at once would leave the others waiting: reasons travel instead of states.
    """

    def __init__(self, metric: _Stream, rank: int) -> None:
        self.rank, self.problem = rank, ""
        self._empty = copy.deepcopy(metric)
        self._empty.reset()
        # Without a row, what is kept of rows is the same for the same settings.
        self._settings = settings_of(self._empty)
        self.share = copy.deepcopy(metric)

    def stream(self, state: Mapping[str, Any]) -> _Stream:
        made = copy.deepcopy(self._empty)
        made.load_state_dict(state)
        return made

    def take(self, message: Tensor, peer: int) -> None:
        """Merge a peer's state behind one's own."""
        try:
            theirs = _unpacked(message)
            self.problem = self.problem or theirs["problem"] or self._differs(theirs, peer)
            if not self.problem:
                self.share.merge(self.stream(theirs["state"]))
        except Exception as error:
            self.problem = f"the states of ranks {self.rank} and {peer} do not merge: {error}"

    def packed(self) -> Tensor:
        told = {"problem": self.problem, "settings": self._settings, "state": {}}
        buffer = io.BytesIO()
        try:
            torch.save({**told, "state": {} if self.problem else self.share.state_dict()}, buffer)
            self.share = self._empty  # it is in the message: one state less in memory
        except Exception as error:
            problem = f"the state of rank {self.rank} cannot be sent: {error}"
            buffer = io.BytesIO()
            torch.save({**told, "problem": problem}, buffer)
        return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)

    def _differs(self, theirs: Mapping[str, Any], peer: int) -> str:
        if theirs["settings"] == self._settings:
            return ""
        own, other = (_short(text) for text in (self._settings, theirs["settings"]))
        return (
            f"rank {self.rank} has {own} and rank {peer} has {other}: build the metric with the "
            "same settings on every rank"
        )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _unpacked(message: Tensor) -> dict[str, Any]:
    """Nothing is run: a state is numbers, strings and tensors."""
    told: dict[str, Any] = torch.load(
        io.BytesIO(message.numpy().data), map_location=_nearest, weights_only=True
    )
    return told


def _nearest(storage: Any, location: str) -> Any:
    """On the CPU what was there; what was on another process's accelerator, on the own one."""
    kind = location.partition(":")[0]
    if kind == "cpu":
        return storage
    here = f"{kind}:{torch.accelerator.current_device_index()}"
    return torch.serialization.default_restore_location(storage, here)
