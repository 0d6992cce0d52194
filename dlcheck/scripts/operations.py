"""Operations of torch as Python writes them: `a + b`, `x.sum(0)`, `torch.cat(…)`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.overrides import resolve_name

from dlcheck.scripts.literals import subscript
from dlcheck.scripts.program import refs_in
from dlcheck.scripts.tape import Node, Unwritable

INFIX = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "matmul": "@", "eq": "==",
    "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "&", "or": "|", "xor": "^",
    "mod": "%", "floordiv": "//",
}  # fmt: skip
PREFIX = {"__neg__": "-", "__invert__": "~"}


class Names(Protocol):
    """What values are called."""

    imports: set[str]

    def text(self, value: Any) -> str: ...

    def given(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> str: ...


def operation_text(words: Names, node: Node) -> str:
    word, args = node.word, node.args
    if word.startswith("."):
        return f"{_operand(words, args[0])}{word}"
    if word.startswith("="):
        return f"{words.text(args[0])}.{word[1:]} = {words.text(args[1])}"
    if word == "__getitem__":
        return f"{_operand(words, args[0])}[{_index(words, args[1])}]"
    if word == "__setitem__":
        return f"{words.text(args[0])}[{_index(words, args[1])}] = {words.text(args[2])}"
    if word == "__deepcopy__":
        words.imports.add("import copy")
        return f"copy.deepcopy({words.text(args[0])})"
    if word in PREFIX:
        return f"{PREFIX[word]}{_operand(words, args[0])}"
    if (infix := _infix(words, word, args)) is not None:
        return infix
    return _named(words, node)


def _infix(words: Names, word: str, args: Sequence[Any]) -> str | None:
    inner = word.strip("_")
    if not word.startswith("__") or len(args) != 2:
        return None
    a, b = args
    if inner in INFIX:
        return f"{_operand(words, a)} {INFIX[inner]} {_operand(words, b)}"
    if inner[:1] == "r" and inner[1:] in INFIX:
        return f"{_operand(words, b)} {INFIX[inner[1:]]} {_operand(words, a)}"
    if inner[:1] == "i" and inner[1:] in INFIX:
        return f"{words.text(a)} {INFIX[inner[1:]]}= {words.text(b)}"
    return None


def _index(words: Names, value: Any) -> str:
    if next(refs_in(value), None) is None:
        return subscript(value)
    if isinstance(value, tuple):
        return ", ".join(_index(words, part) for part in value)
    return words.text(value)


def _named(words: Names, node: Node) -> str:
    name = _public_name(node.function, node.word)
    if node.word == "grad":
        asked = {k: v for k, v in node.keywords.items() if v is not None and v is not False}
        asked.pop("only_inputs", None)
        return f"{name}({words.given(node.args, asked)})"
    if name.startswith("."):
        given = words.given(node.args[1:], node.keywords)
        return f"{_operand(words, node.args[0])}{name}({given})"
    return f"{name}({words.given(node.args, node.keywords)})"


def _operand(words: Names, value: Any) -> str:
    text = words.text(value)
    return text if re.fullmatch(r"-?[\w.]+(\([^()]*\)|\[[^\[\]]*\])*", text) else f"({text})"


def _public_name(function: Callable[..., Any], word: str) -> str:
    """`.add` for a method of tensors, else the path of a function of torch."""
    if getattr(torch.Tensor, word, None) is function:
        return f".{word}"
    if getattr(torch, word, None) is function:
        return f"torch.{word}"
    if getattr(torch.nn.functional, word, None) is function:
        return f"torch.nn.functional.{word}"
    if word == "grad" and function is torch.autograd.grad:
        return "torch.autograd.grad"
    if word == "backward" and function is torch.autograd.backward:
        return "torch.autograd.backward"
    if getattr(torch.linalg, word.removeprefix("linalg_"), None) is function:
        return f"torch.linalg.{word.removeprefix('linalg_')}"
    name = resolve_name(function) or ""
    if name.startswith("torch.Tensor."):
        return name.removeprefix("torch.Tensor")
    if not name:
        raise Unwritable(f"it calls {word}, which has no public name")
    return name
