"""Watches a run: every call of the subject, and every operation of torch around it."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlcheck.constructors import Remade
from dlcheck.isolation import heard_by
from dlcheck.model import Evidence, Kind, Subject
from dlcheck.numerics.layouts import clone_as_laid_out
from dlcheck.scripts.objects import described
from dlcheck.scripts.tape import (
    STREAMS,
    Exit,
    Node,
    Ref,
    Resource,
    Tape,
    Unwritable,
    is_plain,
    storage_of,
    streams,
    tensors_of,
    version_of,
)
from dlcheck.targets import load_target

_SAYS_NOTHING = frozenset(
    """size dim numel stride is_contiguous is_floating_point is_complex data_ptr storage_offset
    element_size untyped_storage __len__ __format__ __repr__ __hash__ type get_device ndimension
    nelement is_signed is_shared has_names __array__ numpy register_hook retain_grad is_nonzero
    result_type can_cast is_storage is_tensor __contains__ is_set_to""".split()  # noqa: SIM905
)
_PATIENCE = 3.0  # seconds of the processor, the run itself included
_LEAVES = frozenset(["__float__", "item", "__int__", "__bool__", "__index__"])


class Recorder(TorchFunctionMode):
    """Writes a tape. What fails in it stops the tape, never the run."""

    def __init__(self, subject: Subject, kind: Kind) -> None:
        super().__init__()
        self.tape, self.kind = Tape(), kind
        self.broken = ""  # why the tape stopped
        self.until = time.process_time() + _PATIENCE
        self.inputs: Mapping[str, Tensor] = {}  # of the case
        self.depth = 0  # calls of the subject that run
        target = load_target(subject.target, near=subject.file)
        self.target, self.parts = target, list(_parts(target))
        self.given: Mapping[str, Any] = {}  # to the constructor of what a remade target is made of
        self._leaves: dict[int, Tensor] = {}
        self._linked: dict[int, list[Tensor]] = {}  # object → tensors that it was ever given
        self._modes: dict[int, tuple[bool, ...]] = {}
        self._held: dict[tuple[int, str], tuple[int, Tensor]] = {}

    @contextlib.contextmanager
    def listening(self) -> Iterator[Recorder]:
        with heard_by(self), self:
            yield self

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    # --- torch -----------------------------------------------------------------------------------

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        keywords = kwargs or {}
        if self.depth or self.broken:
            return function(*args, **keywords)
        word = _word(function)
        if word in _SAYS_NOTHING:
            return function(*args, **keywords)
        if word == "__deepcopy__":
            return self._copied(function, args)
        return self._noted(function, word, args, keywords)

    def _copied(self, function: Any, args: Any) -> Any:
        """A deep copy, whose memory of other copies is left out."""
        answer = function(*args)
        with self._own():
            source = self._frozen(args[0])
            node = Node("torch", copy.deepcopy, (source,), {}, "__deepcopy__")
            node.reads = self._read([args[0]])
            self._given_by(node, answer, [args[0]])
        return answer

    def _noted(self, function: Any, word: str, args: Any, keywords: Any) -> Any:
        with self._own():
            tensors = list(tensors_of((args, keywords)))
            if word == "backward":
                tensors += self._leaves.values()
            before = self._footprint(tensors)
            frozen = self._frozen(args), self._frozen(keywords)
            stream = torch.default_generator.get_state()
            asked = word == "requires_grad_" and args[0].requires_grad
        answer = function(*args, **keywords)
        if self.broken:
            return answer
        with self._own():
            changed = self._changed(tensors, before)
            if word in _LEAVES and isinstance(args[0], Tensor):
                ref = frozen[0][0]
                if word != "item" or self.tape.nodes[ref.node].word != "__getitem__":
                    self.tape.exits.append(Exit(ref, float(answer), "float"))
                return answer
            if word == "tolist":
                self._flat_exits(frozen[0][0], answer)
                return answer
            silent = next(tensors_of(answer), None) is None
            if word == "requires_grad_" and answer.requires_grad == asked:
                return answer
            told = isinstance(answer, (bool, int, float)) and not word.startswith(".")
            if silent and not changed and not word.startswith("=") and not told:
                return answer
            node = Node("torch", function, frozen[0], frozen[1], word, tensors=not silent)
            node.grad = torch.is_grad_enabled()
            node.reads = self._read(tensors)
            node.writes = changed | self._set_by(word, args)
            if not torch.equal(stream, torch.default_generator.get_state()):
                node.reads.add(STREAMS[0])
                node.writes.add(STREAMS[0])
            for made in _generators((args, keywords)):
                node.reads.add(("object", id(made)))
                node.writes.add(("object", id(made)))
            self._given_by(node, answer, tensors)
        return answer

    def _set_by(self, word: str, args: Any) -> set[Resource]:
        if word == "=grad":
            return {("grad", id(args[0]))}
        if word in ("=requires_grad", "requires_grad_"):
            return {("flag", id(args[0]))}
        return {storage_of(args[0])} if word == "=data" else set()

    # --- the subject -----------------------------------------------------------------------------

    def seeded(self, seed: int) -> None:
        if not self.depth and not self.broken:
            with self._own():
                node = Node("seed", None, (seed,))
                node.writes, node.creates = set(STREAMS), set(STREAMS)
                self.tape.add(node)

    def compared(self, got: Tensor, expected: Tensor, found: Evidence) -> None:
        """Two tensors that should be the same, and what was found."""
        if not self.depth and not self.broken:
            with self._own():
                told = self.tape.known(got), self.tape.known(expected)
                if told[0] is not None and told[1] is not None:
                    self.tape.compared.append((told[0], told[1], found))

    def called(
        self, function: Callable[..., Any], inputs: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        """A call into foreign code."""
        if self.depth or self.broken:
            return function(*inputs, **keywords)
        if function is torch.autograd.backward:
            return self._noted(function, "backward", inputs, keywords)
        if any(function is part for part in self.parts):
            self.given = keywords
            return self._inside(function, inputs, keywords)
        word = None
        with self._own():
            word, owner, inputs_, keywords_ = self._callee(function, inputs, keywords)
        if word is None or self.broken:
            return function(*inputs, **keywords)
        return self._watched(function, word, owner, inputs, keywords, inputs_, keywords_)

    def _callee(
        self, function: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> tuple[str | None, Any, tuple[Any, ...], Mapping[str, Any]]:
        """How it is written, whose call it is, and with which arguments; None for what is ours."""
        target = self.target
        if isinstance(target, Remade) and function == target.change:
            made = inputs[0]
            given = made.keywords if isinstance(made, functools.partial) else self.given
            self.given = {}
            return "", None, (), given
        if self.tape.known(function) is not None:
            return "()", function, inputs, keywords
        whole, fixed = function, {}
        if isinstance(function, functools.partial) and not function.args:
            whole, fixed = function.func, function.keywords
        if whole is target:
            return "", None, inputs, {**fixed, **keywords}
        owner = getattr(whole, "__self__", None)
        if owner is not None and owner is target:
            return f".{whole.__name__}", None, inputs, {**fixed, **keywords}
        if owner is not None and not fixed and self.tape.known(owner) is not None:
            return f".{whole.__name__}", owner, inputs, keywords
        if function is copy.deepcopy and inputs:
            if inputs[0] is target:
                return "copy", None, (), {}
            if self.tape.known(inputs[0]) is not None:
                return "copy", inputs[0], (), {}
        if (
            inputs
            and self.kind.methods
            and getattr(function, "__module__", "").endswith("dlcheck.arrangement")
        ):
            place = inputs[0]
            if self.tape.known(place) is not None or place is target:
                known = place if self.tape.known(place) is not None else None
                return ">" + " ".join(self.kind.methods), known, inputs[1:], keywords
        return None, None, inputs, keywords

    def _watched(
        self, function: Any, word: str, owner: Any, inputs: Any, keywords: Any,
        written: Any, named: Any,
    ) -> Any:  # fmt: skip
        with self._own():
            if isinstance(owner, nn.Module):
                self._settle(owner)
            node = Node("call", function, self._frozen(written), self._frozen(named), word)
            node.state = None if owner is None else self.tape.known(owner)
            node.grad = torch.is_grad_enabled()
            tensors = [*tensors_of((written, named))]
            for thing in _objects((written, named)):
                tensors += self._linked.get(id(thing), ())
                node.reads.add(("object", id(thing)))
                node.writes.add(("object", id(thing)))
            if owner is not None:
                node.reads.add(("object", id(owner)))
                tensors += self._linked.get(id(owner), ())
                tensors += tensors_of(owner)
            before = self._footprint(tensors)
            held = streams()
        if self.broken:
            return function(*inputs, **keywords)
        try:
            answer = self._inside(function, inputs, keywords)
        except BaseException as error:
            with self._own():
                self._end_call(node, owner, None, tensors, before, held)
                node.raised = error
                self.tape.add(node)
            raise
        if self._has_stopped():
            return answer
        with self._own():
            self._end_call(node, owner, answer, tensors, before, held)
            if isinstance(answer, types.GeneratorType):
                node.word += "*"
                return self._one_by_one(answer, node)
            index = self._given_by(node, answer, tensors)
            self._flat_exits(Ref(index), answer)
        return answer

    def _end_call(
        self, node: Node, owner: Any, answer: Any, tensors: list[Tensor], before: Any, held: Any
    ) -> None:
        node.reads |= self._read(tensors) | {("grad", id(t)) for t in tensors if t.is_leaf}
        changed = self._changed(tensors, before)
        node.writes |= changed
        for stream, old, new in zip(STREAMS, held, streams(), strict=True):
            if old != new:
                node.reads.add(stream)
                node.writes.add(stream)
        if owner is not None and (
            changed or not isinstance(owner, (nn.Module, types.FunctionType))
        ):
            node.writes.add(("object", id(owner)))
        for thing in [answer, owner]:
            if thing is not None and not isinstance(thing, (Tensor, nn.Module)):
                self._linked.setdefault(id(thing), []).extend(tensors)
        if isinstance(owner, nn.Module):
            self._note_parts(owner)

    def _one_by_one(self, answer: Any, node: Node) -> Iterator[Any]:
        """The items of a generator of the subject, each made inside."""
        with self._own():
            node.tensors = False
            index = self.tape.add(node)
        count = 0
        while True:
            held = streams()
            try:
                item = self._inside(next, (answer,), {})
            except StopIteration:
                node.word += "!"  # to its end
                return
            with self._own():
                for stream, old, new in zip(STREAMS, held, streams(), strict=True):
                    if old != new:
                        node.reads.add(stream)
                        node.writes.add(stream)
                self.tape.name_all(item, Ref(index, (("item", count),)))
                self._flat_exits(Ref(index, (("item", count),)), item)
            count += 1
            node.answer = count
            yield item

    # --- what is noted ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _own(self) -> Iterator[None]:
        """Our own work: it is not recorded, and what fails in it stops the tape."""
        if time.process_time() > self.until:
            self.broken = self.broken or f"the check does more than is recorded in {_PATIENCE:g} s"
        self.depth += 1
        try:
            yield
        except Unwritable as error:
            self.broken = self.broken or str(error)
        except Exception as error:
            self.broken = self.broken or f"it cannot be recorded: {type(error).__name__}: {error}"
        finally:
            self.depth -= 1

    def _inside(self, function: Any, inputs: Any, keywords: Any) -> Any:
        self.depth += 1
        try:
            return function(*inputs, **keywords)
        finally:
            self.depth -= 1

    def _has_stopped(self) -> bool:
        return bool(self.broken)

    def _given_by(self, node: Node, answer: Any, tensors: list[Tensor]) -> int:
        index = self.tape.add(node)
        old = {storage_of(t) for t in tensors}
        for made in tensors_of(answer):
            place = storage_of(made)
            new = {place} - old
            if self.tape.known(made) is None:
                new.add(("flag", id(made)))
            elif node.kind == "call" and not isinstance(made, nn.Parameter):
                self._anew(made, answer, index)
            node.writes |= new
            node.creates |= new
            if made.requires_grad and made.is_leaf:
                self._leaves[id(made)] = made
        fresh = not is_plain(answer) and self.tape.known(answer) is None
        if isinstance(answer, nn.Module) and node.kind == "call" and fresh:
            self._rename(answer, index)
        self.tape.name_all(answer, Ref(index))
        for thing in _objects(answer):
            node.writes.add(("object", id(thing)))
        return index

    def _anew(self, made: Tensor, answer: Any, index: int) -> None:
        """A tensor that the subject answered with before is what this call answers."""
        if made is answer:
            self.tape.name(made, Ref(index))
        elif isinstance(answer, (tuple, list)):
            place = next((i for i, part in enumerate(answer) if part is made), None)
            if place is not None:
                self.tape.name(made, Ref(index, (("item", place),)))

    def _rename(self, module: nn.Module, index: int) -> None:
        """What is in a module just built is named after it, whatever made its parts."""
        self.tape.name(module, Ref(index))
        for path, part in module.named_modules():
            if path:
                self.tape.name(part, Ref(index, (("call", f'get_submodule("{path}")'),)))
        for path, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.tape.name(tensor, Ref(index, (("path", path),)))
            if tensor.requires_grad:
                self._leaves[id(tensor)] = tensor
            self.tape.parts.setdefault(index, {})[path] = storage_of(tensor)
        self._modes[id(module)] = tuple(part.training for part in module.modules())
        self._note_parts(module)

    def _note_parts(self, module: nn.Module) -> None:
        for path, part in module.named_buffers():
            self._held[id(module), path] = id(part), part.detach().clone()

    def _settle(self, module: nn.Module) -> None:
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
                node = Node("call", None, (path, self._frozen(part)), word="part", state=ref)
                node.tensors = False
                node.reads.add(storage_of(part))
                node.writes.add(("object", id(module)))
                self.tape.add(node)
            self.tape.name(part, ref.at("path", path))
            self._held[id(module), path] = id(part), part.detach().clone()

    def _frozen(self, value: Any) -> Any:
        """The value with Refs in place of tensors and objects."""
        if isinstance(value, Tensor):
            return self.tape.known(value) or self._constant(value)
        if isinstance(value, Mapping):
            return {key: self._frozen(part) for key, part in value.items()}
        if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            return type(value)(self._frozen(part) for part in value)
        if is_plain(value):
            return value
        return self.tape.known(value) or self._object(value)

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
            self._leaves[id(tensor)] = tensor
        return Ref(index)

    def _object(self, thing: Any) -> Ref:
        if isinstance(thing, np.ndarray):
            node = Node("value", None, (thing.copy(),), word="array")
        else:
            made = described(thing)
            node = Node("value", made.build, self._frozen(made.args), {}, word="object")
            node.answer = made
            node.reads = {storage_of(t) for t in tensors_of(made.args)}
            node.reads |= {("object", id(part)) for part in _objects(made.args)}
        node.writes.add(("object", id(thing)))
        node.creates.add(("object", id(thing)))
        index = self.tape.add(node)
        self.tape.name_all(thing, Ref(index))
        if isinstance(thing, nn.Module):
            node.writes |= {storage_of(tensor) for tensor in tensors_of(thing)}
            self._load(thing, index, node)
        elif not isinstance(thing, np.ndarray):
            self._linked[id(thing)] = list(tensors_of(made.args))
        return Ref(index)

    def _load(self, module: nn.Module, index: int, made: Node) -> None:
        """The numbers in a module that the check has built."""
        state = dict((*module.named_parameters(), *module.named_buffers()))
        if state:
            literals = {path: self._constant(tensor.detach()) for path, tensor in state.items()}
            node = Node("call", None, (literals,), word=".load_state_dict", state=Ref(index))
            node.reads = {("object", id(module))} | set().union(
                *(self.tape.nodes[ref.node].writes for ref in literals.values())
            )
            node.writes, node.tensors = set(made.writes), False
            self.tape.add(node)
        self._rename(module, index)

    def _read(self, tensors: list[Tensor]) -> set[Resource]:
        found: set[Resource] = {("flag", id(t)) for t in tensors}
        found |= {storage_of(t) for t in tensors}
        return found | {("grad", id(t)) for t in tensors if t.is_leaf and t.requires_grad}

    def _footprint(self, tensors: list[Tensor]) -> list[tuple[int, int, int]]:
        return [(version_of(t), *_grad_of(t)) for t in tensors]

    def _changed(self, tensors: list[Tensor], before: list[tuple[int, int, int]]) -> set[Resource]:
        found: set[Resource] = set()
        for tensor, (version, grad, of_grad) in zip(tensors, before, strict=True):
            if version_of(tensor) != version:
                found.add(storage_of(tensor))
            if _grad_of(tensor) != (grad, of_grad):
                found.add(("grad", id(tensor)))
        return found

    def _flat_exits(self, ref: Ref, answer: Any) -> None:
        """The plain numbers of an answer."""
        if isinstance(answer, (bool, int, float, np.number)):
            with contextlib.suppress(TypeError, OverflowError):
                self.tape.exits.append(Exit(ref, float(answer), "plain"))
        elif isinstance(answer, Mapping):
            for key, part in answer.items():
                self._flat_exits(ref.at("item", key), part)
        elif isinstance(answer, (tuple, list)):
            for place, part in enumerate(itertools.islice(answer, 64)):
                self._flat_exits(ref.at("item", place), part)


def _word(function: Any) -> str:
    """`add`; `.grad` for reading a property and `=grad` for writing one."""
    name = str(getattr(function, "__name__", ""))
    owner = getattr(function, "__self__", None)
    if name in ("__get__", "__set__") and owner is not None:
        return ("." if name == "__get__" else "=") + str(getattr(owner, "__name__", ""))
    return name


def _parts(target: Any) -> Iterator[Any]:
    """What a remade target is made of."""
    while isinstance(target, Remade):
        original = target.original
        target = load_target(original.target, near=original.file)
        yield target.change if isinstance(target, Remade) else target


def _snapshot(tensor: Tensor) -> Tensor:
    if tensor.layout != torch.strided:
        return tensor.detach().clone()
    return clone_as_laid_out(tensor.detach())


def _grad_of(tensor: Tensor) -> tuple[int, int]:
    if not tensor.is_leaf or tensor.grad is None:
        return 0, 0
    return id(tensor.grad), version_of(tensor.grad)


def _objects(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _objects(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _objects(part)
    elif not isinstance(value, (Tensor, np.ndarray)) and not is_plain(value):
        yield value


def _generators(value: Any) -> Iterator[torch.Generator]:
    return (thing for thing in _objects(value) if isinstance(thing, torch.Generator))
