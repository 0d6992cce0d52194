"""Functions and small classes of a check as the text that defines them, for a script that has no
dlcheck."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dlcheck.scripts.literals import literal
from dlcheck.scripts.tape import Unwritable, is_plain

MOST = 14  # lines of all definitions that one object needs
_WIDE = 100
_KNOWN = ("torch", "numpy", *sys.stdlib_module_names)  # what a script may import
_NO_BASES = ("Protocol", "Generic", "object")


@dataclass(slots=True)
class Definitions:
    """What stands above the program: imports, constants, functions and classes by their names."""

    texts: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        return [line for text in self.texts.values() for line in text.split("\n")]

    def function(self, function: types.FunctionType) -> tuple[str, list[Any]]:
        """(what is called, values of its closure that it takes first)."""
        tree = _parsed(function)
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if any(isinstance(part, ast.Nonlocal) for part in ast.walk(tree)):
            raise _too_much(function)
        held = {name: cell.cell_contents for name, cell in cells.items()}
        self._names(tree, {**function.__globals__, **held}, without=held)
        values = list(held.values())
        given = [ast.arg(arg=name) for name in held]
        if isinstance(tree, ast.Lambda):
            text = ast.unparse(tree)
            return (f"(lambda {', '.join(held)}: {text})" if held else f"({text})"), values
        tree.args.args[:0] = given
        self._add(tree.name, tree)
        return tree.name, values

    def of_class(self, kind: type) -> str:
        """The name of a class whose text is above."""
        name = kind.__name__
        if name in self.texts:
            return name
        tree = _parsed(kind)
        assert isinstance(tree, ast.ClassDef)
        names = vars(sys.modules[kind.__module__])
        tree.decorator_list = []
        tree.keywords = []
        tree.bases = [b for b in tree.bases if not ast.unparse(b).startswith(_NO_BASES)]
        tree.bases = [b.value if isinstance(b, ast.Subscript) else b for b in tree.bases]
        tree.body = [part for part in tree.body if not _is_left_out(part)] or [ast.Pass()]
        self._names(tree, names, without=(name,))
        self._add(name, tree)
        return name

    def _add(self, name: str, tree: ast.AST) -> None:
        text = _joined(ast.unparse(ast.fix_missing_locations(tree)))
        if self.texts.setdefault(name, text) != text:
            raise Unwritable(f"it is given two things called {name}")
        if len(self.lines) > MOST:
            raise Unwritable(f"it is given {name}, which takes more than {MOST} lines")

    def _names(self, tree: ast.AST, known: Mapping[str, Any], without: Any) -> None:
        """Defines what the text refers to."""
        for name in _free(tree):
            if name in without or (name not in known and hasattr(builtins, name)):
                continue
            if name not in known:
                raise Unwritable(f"it refers to {name}, which is not found")
            self._name(name, known[name])

    def _name(self, name: str, value: Any) -> None:
        if name in self.texts:
            return
        module = getattr(value, "__module__", None) or ""
        if isinstance(value, types.ModuleType):
            self._import(name, value.__name__, "")
        elif is_plain(value) and not isinstance(value, type):
            self.texts[name] = f"{name} = {literal(value)}"
        elif str(module).split(".")[0] in _KNOWN:
            self._import(name, str(module), getattr(value, "__qualname__", name))
        elif isinstance(value, type):
            self.of_class(value)
        elif isinstance(value, types.FunctionType) and not value.__closure__:
            self.function(value)
        else:
            raise Unwritable(f"it refers to {name}, a {type(value).__qualname__}")

    def _import(self, name: str, module: str, inner: str) -> None:
        if module.split(".")[0] not in _KNOWN or "." in inner:
            raise Unwritable(f"it refers to {name} of {module}")
        if name == "torch":
            return
        if not inner:
            self.texts[name] = f"import {module}" + (f" as {name}" if name != module else "")
        else:
            self.texts[name] = f"from {module} import {inner}" + (
                f" as {name}" if name != inner else ""
            )


def assigns_only(kind: type) -> list[str] | None:
    """The parameters of a constructor that does nothing but `self.x = x`; None of others."""
    try:
        tree = _parsed(kind.__init__)  # type: ignore[misc]
    except Unwritable:
        return None
    if not isinstance(tree, ast.FunctionDef) or tree.args.kwonlyargs or tree.args.vararg:
        return None
    _, *names = [argument.arg for argument in tree.args.args]
    wanted = {f"self.{name} = {name}" for name in names}
    done = {ast.unparse(part) for part in tree.body}
    pairs = {f"self.{', self.'.join(names)} = {', '.join(names)}"}
    return names if done in (wanted, pairs) or {f"({x})" for x in done} == pairs else None


@functools.lru_cache(maxsize=256)
def _source(thing: Any) -> str:
    return textwrap.dedent(inspect.getsource(thing))


def _parsed(thing: Any) -> Any:
    """The definition without docstrings and annotations."""
    try:
        text = _source(thing)
    except (OSError, TypeError):
        raise _too_much(thing) from None
    if getattr(thing, "__name__", "") == "<lambda>":
        return _Bare().visit(_lambda_in(text, thing))
    try:
        (tree,) = ast.parse(text).body
    except (SyntaxError, ValueError):
        raise _too_much(thing) from None
    return _Bare().visit(tree)


def _lambda_in(text: str, thing: types.FunctionType) -> ast.Lambda:
    """The lambda among those of a statement, of which a line may be the middle."""
    for start in range(len(text)):
        if not text.startswith("lambda", start):
            continue
        for end in range(len(text), start, -1):
            try:
                tree = ast.parse(f"({text[start:end]})", mode="eval").body
            except (SyntaxError, ValueError):
                continue
            if isinstance(tree, ast.Lambda) and _compiles_to(tree, thing):
                return tree
    raise _too_much(thing)


def _compiles_to(tree: ast.Lambda, thing: types.FunctionType) -> bool:
    code = thing.__code__
    names = [a.arg for a in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs)]
    free = set(_free(tree)) - set(dir(builtins))
    return list(code.co_varnames[: len(names)]) == names and free <= {
        *code.co_names, *code.co_freevars,
        *(n for c in code.co_consts if isinstance(c, types.CodeType)
          for n in (*c.co_names, *c.co_freevars)),
    }  # fmt: skip


def _too_much(thing: Any) -> Unwritable:
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    return Unwritable(f"it is given {name}, whose text is not found")


class _Bare(ast.NodeTransformer):
    """Takes docstrings, annotations and the marks of linters away."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        node.body = _without_docstring(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = _without_docstring(node.body)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return node
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (body[1:] or [ast.Pass()]) if is_text else body


def _is_left_out(part: ast.stmt) -> bool:
    """Is it a field, or another way to construct it?"""
    marks = [ast.unparse(mark) for mark in getattr(part, "decorator_list", ())]
    return isinstance(part, ast.AnnAssign) or "classmethod" in marks


def _free(tree: ast.AST) -> Iterator[str]:
    """The names that are read and never bound inside, once each."""
    bound: set[str] = set()
    read: dict[str, None] = {}
    for part in ast.walk(tree):
        if isinstance(part, ast.Name):
            if isinstance(part.ctx, ast.Load):
                read[part.id] = None
            else:
                bound.add(part.id)
        elif isinstance(part, ast.arg):
            bound.add(part.arg)
        elif isinstance(part, (ast.FunctionDef, ast.ClassDef)) and part is not tree:
            bound.add(part.name)
        elif isinstance(part, ast.alias):
            bound.add((part.asname or part.name).split(".")[0])
        elif isinstance(part, ast.ExceptHandler) and part.name:
            bound.add(part.name)
    return (name for name in read if name not in bound)


def _joined(text: str) -> str:
    """The same with bodies of one short line behind their heads, and without empty lines."""
    lines = [line for line in text.split("\n") if line.strip()]
    found: list[str] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        depth = _depth(line)
        following = lines[place + 1 : place + 3]
        is_head = line.endswith(":") and line.lstrip().startswith(("def ", "class ", "if "))
        is_single = bool(following) and (len(following) < 2 or _depth(following[1]) <= depth)
        if is_head and is_single and _fits_behind(line, following[0].strip()):
            found.append(f"{line} {following[0].strip()}")
            place += 2
            continue
        found.append(line)
        place += 1
    return "\n".join(found)


def _fits_behind(head: str, body: str) -> bool:
    is_simple = not body.startswith(("@", "def ", "if ", "for ", "with ", "while ", "try"))
    return is_simple and len(head) + len(body) < _WIDE


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


ASSEMBLE = (
    "def made(kind, **state): thing = kind.__new__(kind); vars(thing).update(state); return thing"
)


def assembled(kind: type, names: tuple[str, ...]) -> Callable[..., Any]:
    """What makes an instance with these attributes, without its constructor."""

    def make(*values: Any) -> Any:
        thing: Any = object.__new__(kind)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(thing, name, value)
        return thing

    return make


def with_cells(function: types.FunctionType) -> Callable[..., Any]:
    """What makes the function again around other values."""

    def make(*values: Any) -> Any:
        cells = tuple(map(types.CellType, values))
        made = types.FunctionType(
            function.__code__, function.__globals__, function.__name__,
            function.__defaults__, cells or None,
        )  # fmt: skip
        made.__kwdefaults__ = function.__kwdefaults__
        return made

    return make
