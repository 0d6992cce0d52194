"""The nodes that a claim needs, run again, and shortened to what is not constant."""

from __future__ import annotations

import copy
import functools
import itertools
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.arrangement import through_methods
from dlcheck.constructors import Remade
from dlcheck.isolation import seed_everything
from dlcheck.model import Kind
from dlcheck.numerics.layouts import clone_as_laid_out
from dlcheck.scripts.plain import plain_text
from dlcheck.scripts.tape import Node, Ref, Tape, Unwritable
from dlcheck.subjects import _make

_SMALL = 600  # numbers of a constant that is written out rather than computed


def refs_in(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from refs_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from refs_in(part)


def refs_of(node: Node) -> Iterator[Ref]:
    yield from refs_in((node.args, node.keywords))
    if isinstance(node.state, Ref):
        yield node.state


@dataclass(slots=True)
class Program:
    """Nodes of a tape, by their number, in order."""

    tape: Tape
    kind: Kind
    target: Any
    nodes: dict[int, Node] = field(default_factory=dict)
    collects: frozenset[int] = frozenset()  # nodes whose answers are noted when they come
    told: list[str] = field(default_factory=list)  # those answers
    answers: dict[int, str] = field(default_factory=dict)  # of calls whose answers were noted
    stateful: bool = False  # may each call change the module that it is made on?

    def needed(self, wanted: Sequence[Ref], *, also: frozenset[int] = frozenset()) -> Program:
        """The nodes on which what is wanted depends."""
        source = self.nodes or dict(enumerate(self.tape.nodes))
        need = {ref.node for ref in wanted} | also
        resources: set[Any] = set()
        kept: dict[int, Node] = {}
        for index in sorted(source, reverse=True):
            node = source[index]
            if index not in need and not self._writes(node) & resources:
                continue
            kept[index] = node
            resources -= node.creates
            if node.kind != "seed":
                resources |= node.reads
            need |= {ref.node for ref in refs_of(node)}
        return replace(self, nodes=dict(sorted(kept.items())))

    def _writes(self, node: Node) -> set[Any]:
        if not self.stateful or node.kind != "call" or node.word == "copy":
            return node.writes
        objects = {resource for resource in node.reads if resource[0] == "object"}
        return node.writes | node.holds | objects

    # --- running it again ------------------------------------------------------------------------

    def run(self, values: dict[int, Any]) -> None:
        """Note what each node gives. Raises what the subject raises."""
        self.told.clear()
        self.answers.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index, node in self.nodes.items():
                with torch.set_grad_enabled(node.grad):
                    values[index] = self._run(node, values)
                if index in self.collects:
                    self.told.append(plain_text(values[index]))
                if node.said:
                    self.answers[index] = plain_text(values[index])

    def is_as_recorded(self) -> bool:
        """Were the answers those of the run that failed, as far as they were noted?"""
        return all(
            not (said := self.tape.nodes[index].said) or said == answer
            for index, answer in self.answers.items()
        )

    def _run(self, node: Node, values: dict[int, Any]) -> Any:
        args, keywords = resolved(node.args, values), resolved(node.keywords, values)
        match node.kind:
            case "seed":
                return seed_everything(*args)
            case "value":
                return self._value(node, args)
            case "torch":
                return node.function(*args, **keywords)
        owner = self.target if node.state is None else resolved(node.state, values)
        answer = self._call(node, owner, args, keywords)
        if isinstance(answer, types.GeneratorType):
            done = node.word.endswith("!")
            return list(answer if done else itertools.islice(answer, node.answer or 0))
        return answer

    def _value(self, node: Node, args: Any) -> Any:
        if node.word == "tensor":
            made = _copied(node.args[0]).requires_grad_(node.keywords["requires_grad"])
            if node.keywords["parameter"]:
                made = nn.Parameter(made.detach(), requires_grad=node.keywords["requires_grad"])
            return made
        if node.word == "array":
            return node.args[0].copy()
        if node.function is None:
            raise Unwritable(node.answer.reason)
        return node.function(*args)

    def again(self, index: int, values: dict[int, Any]) -> Any:
        """What a call answers now, to arguments that may have changed."""
        return self._run(self.nodes[index], values)

    def _call(self, node: Node, owner: Any, args: Any, keywords: Any) -> Any:
        word = node.word.rstrip("*!")
        if word == "modes":
            for part, mode in zip(owner.modules(), args[0], strict=True):
                part.training = mode
            return None
        if word == "part":
            place, _, name = args[0].rpartition(".")
            owner.get_submodule(place)._buffers[name] = args[1]
            return None
        if word == "iter":
            return list(itertools.islice(owner, node.answer))
        if word == "copy":
            return copy.deepcopy(owner)
        if word.startswith(">"):
            return through_methods(self.kind)(owner, *args, **keywords)
        if word.startswith("."):
            return getattr(owner, word[1:])(*args, **keywords)
        if word == "" and isinstance(owner, Remade):
            return _make(self.kind, owner, dict(keywords))
        return owner(*args, **keywords)

    # --- shorter ---------------------------------------------------------------------------------

    def folded(self, values: Mapping[int, Any]) -> Program:
        """The same with small tensors that do not depend on the subject written out.

        values: what each node gave, at the end of a run.
        """
        tainted = self._tainted()
        changers: dict[Any, list[int]] = {}
        readers: dict[Any, list[int]] = {}
        makers: dict[Any, list[int]] = {}
        for index, node in self.nodes.items():
            for table, places in (
                (changers, node.writes - node.creates),
                (readers, set() if _is_view(node) else node.reads),
                (makers, node.creates),
            ):
                for place in places:
                    table.setdefault(place, []).append(index)
        found: dict[int, tuple[set[Any], set[int]]] = {}
        for index, made in values.items():
            if index not in self.nodes or index in tainted or not _is_small(made):
                continue
            node = self.nodes[index]
            if node.kind == "call":
                continue
            places = set(node.creates)
            if not any(map(_is_memory, places)):  # a view
                places |= set(filter(_is_memory, node.reads))
            changes = {i for place in places for i in changers.get(place, ())}
            if index in changes or changes & tainted:
                continue
            looks = {i for place in places for i in readers.get(place, ())} - changes
            if not changes or min(looks, default=max(changes) + 1) > max(changes):
                found[index] = places, changes
        nodes = dict(self.nodes)
        for index, (places, changes) in found.items():
            node, made = self.nodes[index], values[index]
            keywords = {"requires_grad": made.requires_grad, "parameter": False}
            if node.kind == "value":
                keywords["parameter"] = node.keywords.get("parameter", False)
            literal = Node("value", None, (_copied(made),), keywords, word="tensor")
            memory = filter(_is_memory, places)
            whole = all(i in found for place in memory for i in makers.get(place, ()))
            literal.writes = literal.creates = places if whole else node.creates
            nodes[index] = literal
            for change in changes:
                nodes.pop(change, None)
        return replace(self, nodes=nodes)

    def _tainted(self) -> set[int]:
        """The nodes that depend on the subject, or on random numbers without a generator."""
        found: set[int] = set()
        places: set[Any] = set()
        for index, node in self.nodes.items():
            depends = node.reads & places or any(ref.node in found for ref in refs_of(node))
            if node.kind in ("call", "seed") or depends:
                found.add(index)
                places |= node.writes
        return found


_VIEWS = frozenset(("detach", "as_strided", "view", "transpose", "t", ".data", ".T", "unsqueeze"))


def _is_view(node: Node) -> bool:
    return node.kind == "torch" and node.word in _VIEWS


def _is_small(made: Any) -> bool:
    """Is it a tensor that can be written out, and no part of a graph?"""
    if not isinstance(made, Tensor) or made.numel() > _SMALL:
        return False
    return made.is_leaf or not made.requires_grad


def _is_memory(resource: Any) -> bool:
    return resource[0] in ("memory", "tensor")


def _copied(made: Tensor) -> Tensor:
    if made.layout != torch.strided:
        return made.detach().clone()
    leaf = made.is_leaf and made.requires_grad
    copied = clone_as_laid_out(made.detach())
    return copied.requires_grad_(leaf) if leaf else copied


def resolved(value: Any, values: Mapping[int, Any]) -> Any:
    """The value with what the nodes gave in place of Refs."""
    if isinstance(value, Ref):
        return functools.reduce(_step, value.steps, values[value.node])
    if isinstance(value, Mapping):
        return {key: resolved(part, values) for key, part in value.items()}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(resolved(part, values) for part in value)
    return value


def _step(value: Any, step: tuple[str, Any]) -> Any:
    way, key = step
    if way == "item":
        return value[key]
    if way == "call":
        return value.get_submodule(key[len('get_submodule("') : -2])
    return functools.reduce(getattr, key.split("."), value)
