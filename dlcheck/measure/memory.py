"""How many bytes autograd keeps for the backward, counted exactly and on any device.

What a graph saves passes through `torch.autograd.graph.saved_tensors_hooks`. The object that a
hook returns lives as long as the graph needs it, so that its death says when memory was given
back: the count needs no allocator and repeats to the byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

Span = tuple[int, int]


@dataclass(slots=True)
class SavedBytes:
    """A meter of what is saved for backward, while it is entered as a context.

    Counted are the bytes that saved tensors cover: shared memory once, of a view its own part,
    parameters, which are there anyway, not at all. `now` is what live graphs hold, `peak` the
    most that they held at one time.
    """

    parameters: Iterable[Tensor] = ()
    now: int = 0
    peak: int = 0
    _spans: dict[int, Counter[Span]] = field(default_factory=dict)  # storage → what is held of it
    _own: frozenset[int] = frozenset()
    _hooks: Any = None

    def __enter__(self) -> SavedBytes:
        self._own = frozenset(_address(p) for p in self.parameters)
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack)
        self._hooks.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: Tensor) -> _Held | Tensor:
        where = _address(tensor)
        if where in self._own or tensor.numel() == 0:
            return tensor
        span = _span(tensor)
        self._change(where, span, 1)
        self.peak = max(self.peak, self.now)
        return _Held(tensor, lambda: self._change(where, span, -1))

    def _change(self, where: int, span: Span, count: int) -> None:
        held = self._spans.setdefault(where, Counter())
        before = _covered(held)
        held[span] += count
        if not held[span]:
            del held[span]
        if not held:  # the address may belong to another tensor from now on
            del self._spans[where]
        self.now += _covered(held) - before


class _Held:
    """One saved tensor; says when the graph lets it go."""

    __slots__ = ("release", "tensor")

    def __init__(self, tensor: Tensor, release: Callable[[], None]) -> None:
        self.tensor = tensor
        self.release = release

    def __del__(self) -> None:
        self.release()


def _unpack(held: _Held | Tensor) -> Tensor:
    return held if isinstance(held, Tensor) else held.tensor


def _span(tensor: Tensor) -> Span:
    """First and last byte of a tensor within its storage."""
    reach = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset())
    return start * tensor.itemsize, (start + int(reach) + 1) * tensor.itemsize


def _covered(spans: Iterable[Span]) -> int:
    """Bytes in the union of spans."""
    total, end = 0, 0
    for first, last in sorted(spans):
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def saved_for_backward(model: nn.Module, work: Callable[[], Any]) -> SavedBytes:
    """The meter after a call of `work`: its peak, and what is still held afterwards."""
    meter = SavedBytes(list(model.parameters()))
    with meter:
        answer = work()
    del answer
    return meter
