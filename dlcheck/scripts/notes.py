"""What a recorder writes on its tape: values as Refs, and what changed between two looks."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlcheck.numerics.layouts import clone_as_laid_out
from dlcheck.scripts.modules import seeded
from dlcheck.scripts.objects import Made, described
from dlcheck.scripts.plain import plain_text
from dlcheck.scripts.tape import (
    STREAMS,
    Exit,
    Node,
    Ref,
    Resource,
    Tape,
    is_plain,
    storage_of,
    tensors_of,
    version_of,
)


class Notes:
    """A tape, and what must be remembered of the things on it to write the next node."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.leaves: dict[int, Tensor] = {}
        self.linked: dict[int, dict[int, Tensor]] = {}  # object → tensors that it was ever given
        self.seed: int | None = None  # the last one
        self._built: dict[type, nn.Module] = {}  # the last of each kind
        self._tables: dict[str, Ref] = {}  # answers that are tables, by their text
        self._making: set[int] = set()  # objects that are being written down
        self._modes: dict[int, tuple[bool, ...]] = {}
        self._held: dict[tuple[int, str], tuple[int, Tensor]] = {}

    def link(self, thing: object, tensors: list[Tensor]) -> None:
        """The thing was given these and may keep them, as an optimizer does its parameters."""
        forgets = inspect.isroutine(thing) or isinstance(thing, (Tensor, nn.Module, partial))
        if not is_plain(thing) and not forgets:
            if id(thing) not in self.linked:
                self.linked[id(thing)] = {}
                self.tape.keep(thing)
            self.linked[id(thing)].update((id(t), t) for t in tensors)

    def linked_to(self, thing: object) -> Iterator[Tensor]:
        yield from self.linked.get(id(thing), {}).values()

    def given_by(self, node: Node, answer: Any, tensors: list[Tensor]) -> int:
        index = self.tape.add(node)
        old = {storage_of(t) for t in tensors}
        for made in tensors_of(answer):
            place = storage_of(made)
            new = {place} - old
            if self.tape.known(made) is None:
                new.add(("flag", id(made)))
            elif node.kind == "call" and self._was_answered(made):
                self._anew(made, answer, index)
            node.writes |= new
            node.creates |= new
            if made.requires_grad and made.is_leaf:
                self.leaves[id(made)] = made
        fresh = not is_plain(answer) and self.tape.known(answer) is None
        if isinstance(answer, nn.Module) and node.kind == "call" and fresh:
            self._rename(answer, index)
        self.tape.name_all(answer, Ref(index))
        for thing in objects_in(answer):
            node.writes.add(("object", id(thing)))
        return index

    def _was_answered(self, made: Tensor) -> bool:
        """Did an earlier call of the subject give it? What a check made keeps its own name."""
        ref = self.tape.known(made)
        first = self.tape.nodes[ref.node] if ref is not None else None
        return first is not None and first.kind == "call" and not isinstance(made, nn.Parameter)

    def _anew(self, made: Tensor, answer: Any, index: int) -> None:
        """A tensor that the subject answered with before is what this call answers."""
        if made is answer:
            self.tape.name(made, Ref(index))
        elif isinstance(answer, (tuple, list)):
            place = next((i for i, part in enumerate(answer) if part is made), None)
            if place is not None:
                self.tape.name(made, Ref(index, (("item", place),)))

    def adopt(self, module: Any) -> None:
        """A module of a kind that the subject built, made behind our back: a copy of the last."""
        if not isinstance(module, nn.Module) or self.tape.known(module) is not None:
            return
        like = self._built.get(type(module))
        if like is None or like.state_dict().keys() != module.state_dict().keys():
            return
        ref = self.tape.known(like)
        node = Node("call", None, word="copy", state=ref)
        node.reads = {("object", id(like))} | self.read(list(tensors_of(like)))
        node.writes = {storage_of(tensor) for tensor in tensors_of(module)}
        node.writes.add(("object", id(module)))
        node.creates = set(node.writes)
        self._load(module, self.tape.add(node), node)

    def _rename(self, module: nn.Module, index: int) -> None:
        """What is in a module just built is named after it, whatever made its parts."""
        self.tape.name(module, Ref(index))
        self._built[type(module)] = module
        for path, part in module.named_modules():
            if path:
                self.tape.name(part, Ref(index, (("call", f'get_submodule("{path}")'),)))
        for path, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.tape.name(tensor, Ref(index, (("path", path),)))
            if tensor.requires_grad:
                self.leaves[id(tensor)] = tensor
            self.tape.parts.setdefault(index, {})[path] = storage_of(tensor)
        self._modes[id(module)] = tuple(part.training for part in module.modules())
        self.note_parts(module)

    def note_parts(self, module: nn.Module) -> None:
        for path, part in module.named_buffers():
            self._held[id(module), path] = id(part), part.detach().clone()

    def settle(self, module: nn.Module) -> None:
        """The modes and buffers that were given to a module behind the back of torch."""
        ref = self.tape.known(module)
        assert ref is not None
        modes = tuple(part.training for part in module.modules())
        if self._modes.setdefault(id(module), modes) != modes:
            self._modes[id(module)] = modes
            node = Node("call", None, (modes,), word="modes", state=ref, tensors=False)
            node.writes.add(("object", id(module)))
            self.tape.add(node)
        for path, part in module.named_buffers():
            was = self._held.get((id(module), path))
            if was is None or was[0] == id(part):
                continue
            if was[1].shape != part.shape or not torch.equal(was[1], part):
                node = Node("call", None, (path, self.frozen(part)), word="part", state=ref)
                node.tensors = False
                node.reads.add(storage_of(part))
                node.writes.add(("object", id(module)))
                self.tape.add(node)
            self.tape.name(part, ref.at("path", path))
            self._held[id(module), path] = id(part), part.detach().clone()

    def frozen(self, value: Any) -> Any:
        """The value with Refs in place of tensors and objects."""
        if isinstance(value, Tensor):
            return self.tape.known(value) or self._constant(value)
        if isinstance(value, Mapping):
            if (copied := self._copy_of_an_answer(value)) is not None:
                return copied
            return {key: self.frozen(part) for key, part in value.items()}
        if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            return type(value)(self.frozen(part) for part in value)
        if is_plain(value):
            return value
        return self.tape.known(value) or self._object(value)

    def note_table(self, answer: Any, index: int) -> None:
        """A table that a call answered with, as state_dict does: a copy of it is known again."""
        if isinstance(answer, Mapping) and (said := plain_text(answer)):
            self._tables[said] = Ref(index)

    def _copy_of_an_answer(self, value: Mapping[Any, Any]) -> Ref | None:
        ref = self._tables.get(plain_text(value)) if self._tables else None
        if ref is None:
            return None
        node = Node("torch", copy.deepcopy, (ref,), {}, "__deepcopy__")
        node.reads = {storage_of(tensor) for tensor in tensors_of(value)}
        return Ref(self.tape.add(node))

    def _constant(self, tensor: Tensor) -> Ref:
        node = Node("value", None, (_snapshot(tensor),), word="tensor")
        node.keywords = {
            "requires_grad": tensor.requires_grad,
            "parameter": isinstance(tensor, nn.Parameter),
        }
        node.writes = {storage_of(tensor), ("flag", id(tensor))}
        node.creates = set(node.writes)
        index = self.tape.add(node)
        self.tape.name(tensor, Ref(index))
        if tensor.requires_grad and tensor.is_leaf:
            self.leaves[id(tensor)] = tensor
        return Ref(index)

    def _object(self, thing: Any) -> Ref:
        if isinstance(thing, np.ndarray):
            node = Node("value", None, (thing.copy(),), word="array")
        else:
            is_inside = id(thing) in self._making
            made = Made(reason="it is given what holds itself") if is_inside else described(thing)
            self._making.add(id(thing))
            anew = self._seeded(thing, made)
            build = anew or made.build
            node = Node("value", build, self.frozen(made.args), {}, word="object")
            node.answer = made
            node.reads = {storage_of(t) for t in tensors_of(made.args)}
            node.reads |= {("object", id(part)) for part in objects_in(made.args)}
        node.writes.add(("object", id(thing)))
        node.creates.add(("object", id(thing)))
        index = self.tape.add(node)
        self.tape.name_all(thing, Ref(index))
        if isinstance(thing, nn.Module):
            made_here = {storage_of(tensor) for tensor in tensors_of(thing)}
            made_here |= {(way, id(t)) for t in tensors_of(thing) for way in ("flag", "grad")}
            node.writes |= made_here
            node.creates |= made_here
            if made.args:  # of given tensors, which stay what they are
                self.link(thing, list(tensors_of(made.args)))
            elif anew is None:
                self._load(thing, index, node)
            else:
                node.reads.add(STREAMS[0])
                node.writes.add(STREAMS[0])
                self._rename(thing, index)
        elif not isinstance(thing, np.ndarray):
            self.link(thing, list(tensors_of(made.args)))
        return Ref(index)

    def _seeded(self, thing: Any, made: Made) -> Callable[[], nn.Module] | None:
        """What builds a module with its numbers, right after the last seed; that seed is noted."""
        is_large = isinstance(thing, nn.Module) and sum(t.numel() for t in tensors_of(thing)) > 1
        if not is_large or self.seed is None or not made.text or made.args:
            return None
        build = seeded(thing, self.seed)
        if build is not None:
            self.note_seed(self.seed)
        return build

    def note_seed(self, seed: int) -> None:
        """The generators begin anew."""
        self.seed = seed
        node = Node("seed", None, (seed,))
        node.writes, node.creates = set(STREAMS), set(STREAMS)
        self.tape.add(node)

    def _load(self, module: nn.Module, index: int, made: Node) -> None:
        """The numbers in a module that the check has built."""
        state = dict((*module.named_parameters(), *module.named_buffers()))
        if state:
            literals = {
                path: self._constant(tensor.detach().clone()) for path, tensor in state.items()
            }
            node = Node("call", None, (literals,), word=".load_state_dict", state=Ref(index))
            node.reads = {("object", id(module))} | set().union(
                *(self.tape.nodes[ref.node].writes for ref in literals.values())
            )
            node.writes, node.tensors = set(made.writes), False
            self.tape.add(node)
        self._rename(module, index)

    def read(self, tensors: list[Tensor]) -> set[Resource]:
        found: set[Resource] = {("flag", id(t)) for t in tensors}
        found |= {storage_of(t) for t in tensors}
        return found | {("grad", id(t)) for t in tensors if t.is_leaf and t.requires_grad}

    def footprint(self, tensors: list[Tensor]) -> list[tuple[int, int, int]]:
        return [(version_of(t), *_grad_of(t)) for t in tensors]

    def changed(self, tensors: list[Tensor], before: list[tuple[int, int, int]]) -> set[Resource]:
        found: set[Resource] = set()
        for tensor, (version, grad, of_grad) in zip(tensors, before, strict=True):
            if version_of(tensor) != version:
                found.add(storage_of(tensor))
            if _grad_of(tensor) != (grad, of_grad):
                found.add(("grad", id(tensor)))
        return found

    def flat_exits(self, ref: Ref, answer: Any) -> None:
        """The plain numbers of an answer."""
        if isinstance(answer, (bool, int, float, np.number)):
            with contextlib.suppress(TypeError, OverflowError):
                self.tape.exits.append(Exit(ref, float(answer), "plain"))
        elif isinstance(answer, Mapping):
            for key, part in answer.items():
                self.flat_exits(ref.at("item", key), part)
        elif isinstance(answer, (tuple, list)):
            for place, part in enumerate(itertools.islice(answer, 64)):
                self.flat_exits(ref.at("item", place), part)


def _snapshot(tensor: Tensor) -> Tensor:
    if tensor.layout != torch.strided:
        return tensor.detach().clone()
    return clone_as_laid_out(tensor.detach())


def _grad_of(tensor: Tensor) -> tuple[int, int]:
    if not tensor.is_leaf or tensor.grad is None:
        return 0, 0
    return id(tensor.grad), version_of(tensor.grad)


def objects_in(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from objects_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from objects_in(part)
    elif not isinstance(value, (Tensor, np.ndarray)) and not is_plain(value):
        yield value


def generators_in(value: Any) -> Iterator[torch.Generator]:
    return (thing for thing in objects_in(value) if isinstance(thing, torch.Generator))
