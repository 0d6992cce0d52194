"""Public names of Python as their source has them: signature, fields with their comments, words.

Read by `ast`, so that building the site loads no torch.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

from markup import code, page, prose

import dlcheck
from dlcheck.sources import definition, find_source

Function = ast.FunctionDef | ast.AsyncFunctionDef


def described(name: str) -> str:
    """The section of one name of `dlcheck.__all__`. Raises LookupError for one without words."""
    home = find_source(f"dlcheck.{dlcheck._HOME[name]}")
    found = definition(home, name) if home else None
    if found is None or not isinstance(found.node, Function | ast.ClassDef):
        raise LookupError(f"dlcheck.{name} is not defined where it is said to be: {home}")
    doc = ast.get_docstring(found.node)
    if not doc:
        raise LookupError(f"dlcheck.{name} has no docstring ({found.path}:{found.node.lineno})")
    lines = found.path.read_text(encoding="utf-8").splitlines()
    heading = f"## {code('dlcheck.' + name)} {{ #{name} }}"
    if isinstance(found.node, Function):
        return page(heading, _block(_signature(found.node, lines)), prose(doc))
    return page(heading, prose(doc), *_members(found.node, lines))


def error_tree() -> str:
    """The tree of exceptions, as the docstring of `dlcheck.errors` draws it."""
    path = find_source("dlcheck.errors")
    tree = ast.parse(Path(path or "").read_text(encoding="utf-8"))
    return f"```text\n{ast.get_docstring(tree)}\n```"


def _members(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """Fields as they stand, with what is said beside them; methods and properties."""
    fields = [line for each in node.body for line in _field(each, lines)]
    if fields:
        yield _block(textwrap.dedent("\n".join(fields)))
    for each in node.body:
        if isinstance(each, Function) and not each.name.startswith("_"):
            yield _block(_signature(each, lines))
            yield prose(ast.get_docstring(each) or "")


def _field(node: ast.stmt, lines: list[str]) -> list[str]:
    """The lines of a field or of a member of an enumeration, comments above it included."""
    if not isinstance(node, ast.AnnAssign | ast.Assign):
        return []
    first = node.lineno - 1
    while lines[first - 1].lstrip().startswith("#"):
        first -= 1
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    is_public = isinstance(target, ast.Name) and not target.id.startswith("_")
    return lines[first : node.end_lineno] if is_public else []


def _signature(node: Function, lines: list[str]) -> str:
    """From the decorators that change how it is used to the colon of its head."""
    head = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1]))
    head = head.rstrip().removesuffix(":")
    decorators = [ast.unparse(each) for each in node.decorator_list]
    shown = [f"@{each}" for each in decorators if each in ("property", "classmethod")]
    return "\n".join([*shown, head])


def _block(text: str) -> str:
    return f"```python\n{text}\n```"
