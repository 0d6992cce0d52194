"""What the source of a class or function proves: that an argument is never read."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

_SHOWN_ONLY = {"extra_repr", "__repr__", "__str__"}


def is_never_read(target: Any, name: str) -> bool:
    """Does the source prove that an argument is idle: never read, or only stored?

    False where there is doubt: no source, `locals()`, `getattr`, a subclass of something unseen.
    """
    if not inspect.isclass(target):
        tree = _source(target)
        return tree is not None and not _loads(tree, name) and not _is_doubtful(tree)
    trees = [_source(owner) for owner in target.__mro__ if owner not in (nn.Module, object)]
    if any(tree is None or _is_doubtful(tree) for tree in trees):
        return False
    maker = _constructor(trees)
    if maker is None:
        return False
    stored = {
        target.attr
        for node in ast.walk(maker)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)
        and node.value.id == name
        for target in node.targets
        if isinstance(target, ast.Attribute)
    }  # fmt: skip
    if _loads(maker, name) > len(stored):
        return False
    return not any(
        _reads_attribute(tree, attribute) for tree in trees if tree for attribute in stored
    )


def compared_with(target: Any, name: str) -> list[str]:
    """The strings that the source compares an argument with, or its annotation lists."""
    owners = (
        [o for o in target.__mro__ if o not in (nn.Module, object)]
        if inspect.isclass(target)
        else [target]
    )
    trees = [tree for tree in map(_source, owners) if tree is not None]
    found: dict[str, None] = {}
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        if isinstance(node, ast.arg) and node.arg == name and node.annotation is not None:
            found |= dict.fromkeys(_strings(node.annotation))
        elif isinstance(node, ast.Compare) and _is_argument(node.left, name):
            for other in node.comparators:
                found |= dict.fromkeys(_strings(other))
        elif isinstance(node, ast.Match) and _is_argument(node.subject, name):
            for case in node.cases:
                found |= dict.fromkeys(_strings(case.pattern))
    return list(found)


def _is_argument(node: ast.AST, name: str) -> bool:
    """Is it the argument, or what `self.name = name` stored, in lower case or not?"""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value
    if isinstance(node, ast.Attribute):
        return node.attr.lstrip("_") == name
    return isinstance(node, ast.Name) and node.id == name


def _strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@functools.cache
def _source(thing: Any) -> ast.Module | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return None


def _constructor(trees: Sequence[ast.Module | None]) -> ast.FunctionDef | None:
    for tree in trees:
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return node
    return None


def _loads(tree: ast.AST, name: str) -> int:
    return sum(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for node in ast.walk(tree)
    )


def _is_doubtful(tree: ast.AST) -> bool:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return bool({"locals", "vars", "getattr", "eval", "exec"} & names) or "__dict__" in attributes


def _reads_attribute(tree: ast.AST, attribute: str) -> bool:
    shown = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in _SHOWN_ONLY
    ]  # fmt: skip
    hidden = {id(inner) for node in shown for inner in ast.walk(node)}
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.ctx, ast.Load)
        and id(node) not in hidden
        for node in ast.walk(tree)
    )
