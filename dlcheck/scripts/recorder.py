"""Watches a run: every call of the subject, and every operation of torch around it."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dlcheck.isolation import heard_by
from dlcheck.isolation.listening import Deafness
from dlcheck.model import Evidence, Kind, Subject
from dlcheck.scripts.callees import Callees, parts_of
from dlcheck.scripts.notes import Notes, generators_in, objects_in
from dlcheck.scripts.plain import plain_text
from dlcheck.scripts.sway import Sway
from dlcheck.scripts.tape import (
    STREAMS,
    Enough,
    Exit,
    Node,
    Ref,
    Resource,
    Unwritable,
    storage_of,
    streams,
    tensors_of,
)
from dlcheck.targets import load_target

_SAYS_NOTHING = frozenset(
    """size dim numel stride is_contiguous is_floating_point is_complex data_ptr storage_offset
    element_size untyped_storage __len__ __format__ __repr__ __hash__ type get_device ndimension
    nelement is_signed is_shared has_names __array__ numpy register_hook retain_grad is_nonzero
    result_type can_cast is_storage is_tensor __contains__ is_set_to""".split()  # noqa: SIM905
)
_PATIENCE = 3.0  # seconds of the processor, the run itself included
_SHORT = 2000  # numbers of an answer that is noted
_LEAVES = frozenset(["__float__", "item", "__int__", "__bool__", "__index__"])


class Recorder(Deafness, TorchFunctionMode):
    """Writes a tape. What fails in it stops the tape, never the run.

    sway: changes what the subject answers, to see what follows from it.
    """

    def __init__(self, subject: Subject, kind: Kind, sway: Sway | None = None) -> None:
        super().__init__()
        self.notes, self.kind, self.sway = Notes(), kind, sway
        self.traits = subject.traits
        self.tape = self.notes.tape
        self.broken = ""  # why the tape stopped
        self.is_cut = False  # is what is on it the beginning of the run?
        self.until = time.process_time() + _PATIENCE
        self.inputs: Mapping[str, Tensor] = {}  # of the case
        self.count = 0  # guarded calls
        self.asked: Any = None  # the function of the last of them
        self.thread = threading.get_ident()
        target = load_target(subject.target, near=subject.file)
        self.target, self.parts = target, list(parts_of(target))
        self.callees = Callees(target, kind, self.notes)
        self.begun: tuple[Any, ...] | None = None  # the random streams before that constructor

    @contextlib.contextmanager
    def listening(self) -> Iterator[Recorder]:
        with heard_by(self), self:
            yield self

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
            source = self.notes.frozen(args[0])
            node = Node("torch", copy.deepcopy, (source,), {}, "__deepcopy__")
            node.reads = self.notes.read([args[0]])
            self.notes.given_by(node, answer, [args[0]])
        return answer

    def _noted(self, function: Any, word: str, args: Any, keywords: Any) -> Any:
        with self._own():
            tensors = list(tensors_of((args, keywords)))
            if word == "backward":
                tensors += self.notes.leaves.values()
            before = self.notes.footprint(tensors)
            frozen = self.notes.frozen(args), self.notes.frozen(keywords)
            stream = torch.default_generator.get_state()
            asked = word == "requires_grad_" and args[0].requires_grad
        answer = function(*args, **keywords)
        if self.broken:
            return answer
        with self._own():
            changed = self.notes.changed(tensors, before)
            if word in _LEAVES and isinstance(args[0], Tensor):
                ref = frozen[0][0]
                if word != "item" or self.tape.nodes[ref.node].word != "__getitem__":
                    self.tape.exits.append(Exit(ref, float(answer), "float"))
                return answer
            if word == "tolist":
                self.notes.flat_exits(frozen[0][0], answer)
                return answer
            silent = next(tensors_of(answer), None) is None
            if word == "requires_grad_" and answer.requires_grad == asked:
                return answer
            told = isinstance(answer, (bool, int, float)) and not word.startswith(".")
            if silent and not changed and not word.startswith("=") and not told:
                return answer
            node = Node("torch", function, frozen[0], frozen[1], word, tensors=not silent)
            node.grad = torch.is_grad_enabled()
            node.place = self.count - 1 if function is self.asked else -1
            node.reads = self.notes.read(tensors)
            node.writes = changed | self._set_by(word, args)
            if not torch.equal(stream, torch.default_generator.get_state()):
                node.reads.add(STREAMS[0])
                node.writes.add(STREAMS[0])
            for made in generators_in((args, keywords)):
                node.reads.add(("object", id(made)))
                node.writes.add(("object", id(made)))
            self.notes.given_by(node, answer, tensors)
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
                self.notes.note_seed(seed)

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
        if threading.get_ident() != self.thread:
            self.broken = self.broken or "it is called in threads of its own"
            return function(*inputs, **keywords)
        if self.depth:
            return function(*inputs, **keywords)
        self.count += 1
        self.asked = function
        if self.broken:
            return self._inside(function, inputs, keywords)
        if function is torch.autograd.backward:
            return self._noted(function, "backward", inputs, keywords)
        if any(function is part for part in self.parts):
            self.callees.given, self.begun = keywords, self.begun or streams()
            return self._inside(function, inputs, keywords)
        word = None
        with self._own():
            word, owner, inputs_, keywords_ = self.callees.of(function, inputs, keywords)
        if word is None or self.broken:
            return function(*inputs, **keywords)
        return self._watched(function, word, owner, inputs, keywords, inputs_, keywords_)

    def _watched(
        self, function: Any, word: str, owner: Any, inputs: Any, keywords: Any,
        written: Any, named: Any,
    ) -> Any:  # fmt: skip
        with self._own():
            if isinstance(owner, nn.Module):
                self.notes.settle(owner)
            node = Node(
                "call", function, self.notes.frozen(written), self.notes.frozen(named), word
            )
            node.state = None if owner is None else self.tape.known(owner)
            node.place = self.count - 1
            node.grad = torch.is_grad_enabled()
            tensors = [*tensors_of((written, named))]
            flat = [t for t in tensors if not isinstance(t, nn.Parameter)]
            for thing in objects_in((written, named)):
                tensors += self.notes.linked_to(thing)
                node.reads.add(("object", id(thing)))
                node.writes.add(("object", id(thing)))
            if owner is not None:
                node.reads.add(("object", id(owner)))
                tensors += self.notes.linked_to(owner)
                tensors += tensors_of(owner)
            tensors = list({id(t): t for t in tensors}.values())
            node.holds = {storage_of(t) for t in tensors} - {storage_of(t) for t in flat}
            before = self.notes.footprint(tensors)
            held, self.begun = self.begun or streams(), None
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
            return self._swayed(answer, [])
        if word == "iter":
            if type(answer) is not list:
                return answer
            # One more than there were: a mended subject may give more.
            node.answer = len(answer) + ("endless" not in self.traits)
        if word == "copy" and (answer is owner or answer is self.target):
            return answer  # of a function, which is its own copy
        with self._own():
            self._end_call(node, owner, answer, tensors, before, held)
            is_short = _count(answer) <= _SHORT
            node.said = plain_text(answer) if is_short else ""
            node.tells = not is_short or node.said not in ("", "'None'")
            answer = self._swayed(answer, [t for t in tensors if storage_of(t) in node.writes])
            if isinstance(answer, types.GeneratorType):
                node.word += "*"
                return self._one_by_one(answer, node)
            index = self.notes.given_by(node, answer, tensors)
            self.notes.note_table(answer, index)
            self.notes.flat_exits(Ref(index), answer)
        return answer

    def _swayed(self, answer: Any, changed: list[Tensor]) -> Any:
        return answer if self.sway is None else self.sway.moved(answer, changed)

    def _end_call(
        self, node: Node, owner: Any, answer: Any, tensors: list[Tensor], before: Any, held: Any
    ) -> None:
        node.reads |= self.notes.read(tensors) | {("grad", id(t)) for t in tensors if t.is_leaf}
        changed = self.notes.changed(tensors, before)
        node.writes |= changed
        for stream, old, new in zip(STREAMS, held, streams(), strict=True):
            if old != new:
                node.reads.add(stream)
                node.writes.add(stream)
        if owner is not None and changed:
            node.writes.add(("object", id(owner)))
        for thing in [answer, owner]:
            self.notes.link(thing, tensors)
        if isinstance(owner, nn.Module):
            self.notes.note_parts(owner)

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
                self.notes.flat_exits(Ref(index, (("item", count),)), item)
            count += 1
            node.answer = count
            yield item

    # --- what is noted ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _own(self) -> Iterator[None]:
        """Our own work: it is not recorded, and what fails in it stops the tape."""
        if time.process_time() > self.until and not self.broken:
            self.broken = f"the check does more than is recorded in {_PATIENCE:g} s"
            self.is_cut = True
        try:
            with self.deaf():
                yield
        except Enough as error:
            self.is_cut = self.is_cut or not self.broken
            self.broken = self.broken or str(error)
        except Unwritable as error:
            self.broken = self.broken or str(error)
        except Exception as error:
            self.broken = self.broken or f"it cannot be recorded: {type(error).__name__}: {error}"

    def _inside(self, function: Any, inputs: Any, keywords: Any) -> Any:
        with self.deaf():
            return function(*inputs, **keywords)

    def _has_stopped(self) -> bool:
        return bool(self.broken)


def _count(answer: Any) -> int:
    return sum(tensor.numel() for tensor in tensors_of(answer))


def _word(function: Any) -> str:
    """`add`; `.grad` for reading a property and `=grad` for writing one."""
    name = str(getattr(function, "__name__", ""))
    owner = getattr(function, "__self__", None)
    if name in ("__get__", "__set__") and owner is not None:
        return ("." if name == "__get__" else "=") + str(getattr(owner, "__name__", ""))
    return name
