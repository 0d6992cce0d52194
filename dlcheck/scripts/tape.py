"""What happened in a run: one node per call, and which tensors and objects each read and wrote."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Resource = tuple[str, Any]
STREAMS: tuple[Resource, ...] = (("stream", "torch"), ("stream", "numpy"), ("stream", "random"))
MOST_NODES = 60_000
MOST_BYTES = 2**28  # of the tensors that a tape keeps alive


class Unwritable(Exception):
    """Why there can be no script."""


class Enough(Unwritable):
    """Why a tape ends before the run: what is on it holds."""


@dataclass(frozen=True, slots=True)
class Ref:
    """What a node gave, or a part of it: steps are ("item", key) or ("attr", name)."""

    node: int
    steps: tuple[tuple[str, Any], ...] = ()

    def at(self, way: str, key: Any) -> Ref:
        """A part of what this stands for."""
        return Ref(self.node, (*self.steps, (way, key)))


@dataclass(slots=True)
class Node:
    """One call. kind: "torch" (of the check), "call" (of the subject), "value" or "seed".

    args and keywords hold Refs in place of tensors and objects. gives: the first object that came
    out of it, whose identity names it. creates: resources that did not exist before.
    """

    kind: str
    function: Any
    args: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    word: str = ""  # how it is written
    grad: bool = True
    reads: set[Resource] = field(default_factory=set)
    writes: set[Resource] = field(default_factory=set)
    creates: set[Resource] = field(default_factory=set)
    raised: BaseException | None = None
    state: Any = None  # of a call: modes of the modules before it
    answer: Any = None  # of a call of the subject: what came out, as Refs and plain values
    tensors: bool = True  # does it give tensors?
    holds: set[Resource] = field(default_factory=set)  # in the objects that a call is given
    tells: bool = False  # is there anything in the answer that can be compared?
    said: str = ""  # of a call of the subject: its answer as text, where it is short
    place: int = -1  # of a call of the subject: its number among the guarded calls


@dataclass(slots=True)
class Exit:
    """A number that left the tensors: `float(ref)`."""

    ref: Ref
    value: float
    way: str  # "float", "plain"


@dataclass(slots=True)
class Tape:
    """The nodes of a run in order, the numbers that left it, and the comparisons that were told."""

    nodes: list[Node] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    compared: list[tuple[Ref, Ref, Any]] = field(default_factory=list)
    parts: dict[int, dict[str, Resource]] = field(default_factory=dict)  # of modules built
    _refs: dict[int, Ref] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)
    _bytes: int = 0

    def add(self, node: Node) -> int:
        if len(self.nodes) >= MOST_NODES:
            raise Enough("the check makes too many calls")
        self.nodes.append(node)
        return len(self.nodes) - 1

    def known(self, thing: object) -> Ref | None:
        return self._refs.get(id(thing))

    def keep(self, thing: object) -> None:
        """Its identity stays its own."""
        self._kept.append(thing)

    def name(self, thing: object, ref: Ref) -> None:
        """The thing is what ref stands for; it is kept, so that its identity stays its own."""
        if isinstance(thing, Tensor):
            self._bytes += _size(thing)
            if self._bytes > MOST_BYTES:
                raise Enough("the check makes too many numbers")
        self._refs[id(thing)] = ref
        self.keep(thing)

    def name_all(self, answer: Any, ref: Ref) -> None:
        """Every tensor and object of an answer that has no name yet."""
        if isinstance(answer, Tensor):
            if self.known(answer) is None:
                self.name(answer, ref)
        elif isinstance(answer, Mapping):
            for key, part in answer.items():
                self.name_all(part, ref.at("item", key))
        elif isinstance(answer, (tuple, list)):
            for place, part in enumerate(answer):
                self.name_all(part, ref.at("item", place))
        elif not is_plain(answer) and self.known(answer) is None:
            self.name(answer, ref)
            if isinstance(answer, nn.Module):
                self.name_parts(answer, ref)

    def name_parts(self, module: nn.Module, ref: Ref) -> None:
        """The parameters, buffers and modules in it, by their paths."""
        for path, part in module.named_modules():
            if path and self.known(part) is None:
                self.name(part, ref.at("call", f'get_submodule("{path}")'))
        for path, part in (*module.named_parameters(), *module.named_buffers()):
            if self.known(part) is None:
                self.name(part, ref.at("path", path))


def is_plain(value: object) -> bool:
    """Is it written as it is: a number, a text, a name of torch?"""
    return isinstance(value, _PLAIN)


_PLAIN = (
    bool, int, float, complex, str, bytes, type(None), type(...), type, slice, np.generic,
    torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format,
)  # fmt: skip


def tensors_of(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_of(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_of(part)


def storage_of(tensor: Tensor) -> Resource:
    """What names the memory of a tensor; of one without memory, itself."""
    try:
        place = tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        place = 0
    return ("memory", place) if place else ("tensor", id(tensor))


def _size(tensor: Tensor) -> int:
    try:
        return tensor.numel() * tensor.element_size()
    except (NotImplementedError, RuntimeError):
        return 0


def streams() -> tuple[Any, ...]:
    """The states of the three global generators, to be compared."""
    numpy: Any = np.random.get_state()
    _, keys, place, *rest = numpy
    return (
        torch.default_generator.get_state().numpy().tobytes(),
        (place, keys[:8].tobytes(), *rest),
        random.getstate(),
    )


def version_of(tensor: Tensor) -> int:
    try:
        return int(tensor._version)
    except (RuntimeError, NotImplementedError):
        return 0
