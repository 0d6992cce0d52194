"""A program as lines of Python."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlcheck.scripts.literals import literal, tensor_text
from dlcheck.scripts.operations import INFIX, PREFIX, operation_text
from dlcheck.scripts.program import Program, refs_in, refs_of
from dlcheck.scripts.slopes import AGAIN
from dlcheck.scripts.tape import Node, Ref, Unwritable

_WIDE = 100


@dataclass(slots=True)
class Words:
    """The lines of a program, and what each node is called in them."""

    program: Program
    subject: str  # the name that it is imported by
    built: str  # what its instance is called
    known: Mapping[int, str] = field(default_factory=dict)  # node → a name of its own
    collects: frozenset[int] = frozenset()
    compact: bool = False  # is what is used once written where it is used?
    uses: dict[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    lines: list[tuple[bool, str]] = field(default_factory=list)  # is grad on, the line
    imports: set[str] = field(default_factory=set)
    sources: list[str] = field(default_factory=list)  # of what is no one's but the check's
    graded: bool = False
    taken: set[str] = field(default_factory=set)
    asked: dict[str, str] = field(default_factory=dict)  # name of an answer → its call
    _said: dict[str, tuple[str, set[Any]]] = field(default_factory=dict)  # literal → name
    _changed: set[Any] = field(default_factory=set)
    _users: dict[int, int] = field(default_factory=dict)  # node → place of the first that uses it
    _order: list[int] = field(default_factory=list)

    def written(self, wanted: Sequence[Ref]) -> list[tuple[bool, str]]:
        """The lines, such that what is wanted can be named."""
        nodes = self.program.nodes
        self._order = list(nodes)
        for node in nodes.values():
            for ref in refs_of(node):
                self.uses[ref.node] = self.uses.get(ref.node, 0) + 1
        for ref in wanted:
            if ref.node not in self.collects or ref.steps:
                self.uses[ref.node] = self.uses.get(ref.node, 0) + 1
        for place, node in enumerate(nodes.values()):
            self._changed |= node.writes - node.creates
            for ref in refs_of(node):
                self._users.setdefault(ref.node, place)
        self.graded = any(n.word in ("grad", "backward") for n in nodes.values())
        self.taken |= {self.subject, "torch", "copy", "np", "random", "plain", "answers"}
        self._define()
        for place, index in enumerate(self._order):
            self._write(place, index, nodes[index])
        return self.lines

    def _define(self) -> None:
        """The definitions above the program of what it is given."""
        known: dict[str, str] = {}
        for node in self.program.nodes.values():
            if node.kind == "value" and node.word == "object" and node.answer:
                for name, text in node.answer.sources:
                    if known.setdefault(name, text) != text or name == self.subject:
                        raise Unwritable(f"it is given two things called {name}")
        self.taken |= set(known)
        self.imports |= {text for text in known.values() if text.startswith(("import ", "from "))}
        self.sources = [text for text in known.values() if text not in self.imports]

    def with_calls(self, lines: list[str]) -> list[str]:
        """The lines with the call itself where an answer is to be asked for again."""
        return [
            re.sub(rf"{AGAIN}(\w+)", lambda found: self.asked[found.group(1)], line)
            for line in lines
        ]

    def _write(self, place: int, index: int, node: Node) -> None:
        if node.kind == "seed":
            self._seed(place, node)
            return
        if node.kind == "value" and not self.uses.get(index):
            return
        text = self._expression(node)
        if text is None or self._joins_the_line_before(node, text):
            return
        if self._is_statement(node):
            self._line(node, text)
            if self.uses.get(index):
                self.names[index] = self._value_of_statement(node)
            return
        if self._goes_inside(place, index, node, text):
            self.names[index] = text
            return
        if not self.uses.get(index):
            self._line(node, f"answers.append(plain({text}))" if index in self.collects else text)
            return
        name = self._new_name(index, node)
        self.names[index] = name
        if node.word == "tensor" and not node.keywords.get("requires_grad"):
            self._said.setdefault(text, (name, node.creates))
        self._line(node, f"{name} = {text}")
        if node.kind == "call":
            self.asked[name] = text
        if index in self.collects:
            self._line(node, f"answers.append(plain({name}))")

    def _line(self, node: Node, text: str) -> None:
        self.lines.append((node.grad, text))

    def _joins_the_line_before(self, node: Node, text: str) -> bool:
        """`layer = Layer()` and `layer.to(…)` are one line."""
        if node.kind != "call" or node.word != ".to" or not self.lines or node.state is None:
            return False
        owner, (grad, last) = self._ref(node.state), self.lines[-1]
        if not last.startswith(f"{owner} = "):
            return False
        self.lines[-1] = grad, last + text.removeprefix(owner)
        return True

    def _is_statement(self, node: Node) -> bool:
        return node.word.startswith("=") or node.word in ("__setitem__", "modes", "part") or (
            node.kind == "torch" and node.word.startswith("__i") and node.word not in PREFIX
            and node.word[3:-2] in INFIX
        )  # fmt: skip

    def _value_of_statement(self, node: Node) -> str:
        return self.text(node.args[0])

    def _goes_inside(self, place: int, index: int, node: Node, text: str) -> bool:
        """Is it short, used once, and the same where it is used as here?"""
        if index in self.known or self.uses.get(index) != 1 or node.kind == "call":
            return False
        is_made = self.compact and node.word == "object" and node.answer.text
        if self._changed & node.creates and not is_made:
            return False
        end = self._users.get(index, len(self._order))
        between = [self.program.nodes[i] for i in self._order[place + 1 : end]]
        user = self.program.nodes[self._order[end]] if end < len(self._order) else None
        if user is not None and user.kind == "value":
            return len(text) <= _WIDE
        is_literal = node.kind == "value" and node.word == "tensor"
        widest = 2 * _WIDE if user is None or self.compact else _WIDE - 30
        if len(text) > widest and not (is_literal and self.compact):
            return False
        if user is not None and self.graded and user.grad != node.grad:
            return False
        if is_made:
            return not any(other.writes & node.reads for other in between)
        if node.kind == "value":
            return node.word != "object" and not node.keywords.get("requires_grad")
        if node.writes - node.creates or any(r[0] == "stream" for r in node.reads):
            return False
        return not any(other.writes & node.reads for other in between)

    # --- names -----------------------------------------------------------------------------------

    def _new_name(self, index: int, node: Node) -> str:
        if index in self.known:
            wished = self.known[index]
        elif node.kind == "call":
            is_made = self._builds(node) or (
                self.program.kind.form == "factory" and not node.word and not node.args[1:]
            )
            wished = self.built if is_made else "y"
        elif node.kind == "value":
            wished = {"array": "rows", "object": _noun(node)}.get(node.word, "x")
        else:
            wished = "g" if node.word == "grad" else "z"
        name, count = wished, 1
        while name in self.taken:
            count += 1
            name = f"{wished}{count}"
        self.taken.add(name)
        return name

    def _builds(self, node: Node) -> bool:
        return node.word in ("", "copy") and not node.args

    def text(self, value: Any) -> str:
        """An argument as it is written."""
        if isinstance(value, Ref):
            return self._ref(value)
        if next(refs_in(value), None) is None:
            return literal(value)
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{k!r}: {self.text(v)}" for k, v in value.items()) + "}"
        parts = ", ".join(self.text(part) for part in value)
        if isinstance(value, tuple):
            return f"({parts}{',' if len(value) == 1 else ''})"
        return f"[{parts}]"

    def _ref(self, ref: Ref) -> str:
        text = self.names[ref.node]
        if ref.steps and not re.fullmatch(r"[\w.]+(\(.*\))?", text):
            text = f"({text})"
        for way, key in ref.steps:
            if way == "item":
                text += f"[{key!r}]"
            elif way == "path" and all(part.isidentifier() for part in key.split(".")):
                text += f".{key}"
            elif way == "path":
                text += _path(key)
            else:
                text += f".{key}"
        return text

    # --- expressions -----------------------------------------------------------------------------

    def _seed(self, place: int, node: Node) -> None:
        """Of the three generators those that are drawn from before the next seed."""
        seed = node.args[0]
        drawn: set[Any] = set()
        for index in self._order[place + 1 :]:
            later = self.program.nodes[index]
            if later.kind == "seed":
                break
            drawn |= {resource[1] for resource in later.reads if resource[0] == "stream"}
        words = []
        if "torch" in drawn:
            words.append(f"torch.manual_seed({seed})")
        if "numpy" in drawn:
            self.imports.add("import numpy as np")
            words.append(f"np.random.seed({seed % 2**32})")
        if "random" in drawn:
            self.imports.add("import random")
            words.append(f"random.seed({seed})")
        if words:
            self._line(node, "; ".join(words))

    def _expression(self, node: Node) -> str | None:
        if node.kind == "value":
            return self._value(node)
        if node.kind == "call":
            return self._call(node)
        return operation_text(self, node)

    def _value(self, node: Node) -> str:
        if node.word == "tensor":
            return self._literal(node)
        if node.word == "array":
            self.imports.add("import numpy as np")
            rows = node.args[0]
            if rows.dtype == object or rows.size > 1500:
                raise Unwritable(f"it needs an array of {rows.size} {rows.dtype}")
            return f'np.array({literal(rows.tolist())}, dtype="{rows.dtype}")'
        if node.function is None:
            raise Unwritable(node.answer.reason)
        text: str = node.answer.text.format(*map(self.text, node.args))
        return text

    def _literal(self, node: Node) -> str:
        """The numbers, or a copy of a variable that has them already."""
        text = tensor_text(node.args[0], **node.keywords)
        if len(text) < _WIDE - 30:
            return text
        name, places = self._said.get(text, ("", set()))
        return f"{name}.clone()" if name and not places & self._changed else text

    def given(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> str:
        if not all(name.isidentifier() for name in keywords):
            raise Unwritable("it is given a keyword that is no name")
        words = [self.text(value) for value in args]
        words += [f"{name}={self.text(value)}" for name, value in keywords.items()]
        return ", ".join(words)

    def _call(self, node: Node) -> str | None:
        word = node.word.rstrip("*!")
        owner = self.subject if node.state is None else self._ref(node.state)
        if word == "modes":
            return self._modes(node, owner)
        if word == "part":
            return f"{owner}{_path(node.args[0])} = {self.text(node.args[1])}"
        if word == "iter":
            self.imports.add("from itertools import islice")
            return f"list(islice({owner}, {node.answer}))"
        if word == "copy":
            self.imports.add("import copy")
            return f"copy.deepcopy({owner})"
        keywords = node.keywords
        if word == ".to" and str(keywords.get("device")) == "cpu":
            keywords = {name: value for name, value in keywords.items() if name != "device"}
        given = self.given(node.args, keywords)
        if word.startswith(">"):
            text = self._through(word[1:].split(), owner, given, node)
        elif word.startswith("."):
            text = f"{owner}{word}({given})"
        else:
            text = f"{owner}({given})"
        if node.word.endswith("*!") or node.word == "*!":
            return f"list({text})"
        if node.word.endswith("*"):
            self.imports.add("from itertools import islice")
            return f"list(islice({text}, {node.answer or 0}))"
        return text

    def _through(self, methods: list[str], owner: str, given: str, node: Node) -> str:
        if len(methods) == 1:
            return f"{owner}.{methods[0]}({given})"
        train, test = (self.text(value) for value in node.args)
        self._line(node, f"{owner}.fit({train})")
        return f"{owner}.transform({train}), {owner}.transform({test})"

    def _modes(self, node: Node, owner: str) -> str:
        (modes,) = node.args
        if len(set(modes)) > 1:
            raise Unwritable("its modules are in different modes")
        return f"{owner}.train()" if modes[0] else f"{owner}.eval()"


_NOUNS = {
    "torch.utils.data.DataLoader": "batches", "torch.utils.data.": "rows",
    "torch.optim.lr": "rates", "torch.optim.": "optimizer",
    "torch.Generator": "generator", "torch.nn.Sequential": "model",
}  # fmt: skip


def _noun(node: Node) -> str:
    """What an object is called, by what constructs it."""
    text = node.answer.text if node.answer is not None else ""
    return next((noun for start, noun in _NOUNS.items() if text.startswith(start)), "given")


def _path(path: str) -> str:
    """`.bias`, or `[0].weight` where a part is a number."""
    return "".join(f".{p}" if p.isidentifier() else f"[{p}]" for p in path.split("."))
