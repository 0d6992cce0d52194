"""Modules read as source: where they lie and which names they bind, without importing them.

At collection nothing is imported: torch stays unloaded and a thousand trials are collected in a
fraction of a second. Where reading cannot tell (compiled modules, names made while importing),
the answer is None, never a guess.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dlcheck.errors import DeclarationError, unknown

_OURS = os.path.dirname(__file__) + os.sep
OPAQUE = Path("<made while importing>")  # there is such a module, but no source to read


class NoModule(DeclarationError):
    """There is no module of that name."""


def is_ours(file: str) -> bool:
    """Is it a file of this package?"""
    return file.startswith(_OURS)


def find_source(module: str) -> Path | None:
    """The file of a module, its folder if it is a namespace package; None if there is none.

    OPAQUE where the module is built in, or made by its parent while that is imported.
    """
    try:
        return _found_source(module, tuple(sys.path), os.getcwd())
    except NoModule:
        return None


@functools.lru_cache(maxsize=4096)  # a failure is not kept: the module may be installed meanwhile
def _found_source(module: str, places: tuple[str, ...], folder: str) -> Path:
    if module in sys.builtin_module_names:
        return OPAQUE
    within: list[str] | None = [*places, folder]
    source = OPAQUE
    for name in _prefixes(module):
        spec = _spec_of(name, within) if within else None
        if spec is None and name in sys.modules:
            loaded = sys.modules[name]
            source = Path(getattr(loaded, "__file__", None) or OPAQUE)
            within = list(getattr(loaded, "__path__", []))
            continue
        if spec is None:
            if _may_make(name.rpartition(".")[2], source):
                return OPAQUE
            raise NoModule(_missing(name))
        within = list(spec.submodule_search_locations or [])
        source = Path(spec.origin or (within[0] if within else OPAQUE))
        if spec.origin in ("built-in", "frozen"):
            source = OPAQUE
    return source


def _prefixes(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def _spec_of(name: str, within: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    try:
        spec = importlib.machinery.PathFinder.find_spec(name, within)
        if spec is None and "." not in name:  # frozen, or by the finder of an editable install
            spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, OSError):
        return None
    return spec


def _may_make(name: str, source: Path) -> bool:
    """May importing this file make a module that lies nowhere, as `os` makes `os.path`?

    It may if it changes `__path__`, or writes to `sys.modules` and has the name in its text.
    """
    if source.suffix != ".py":
        return False
    try:
        text = source.read_text("utf-8", "replace")
    except OSError:
        return False
    if re.search(r"\b__path__\s*(=|\+=|\.\w+\()", text):
        return True
    return "sys.modules" in text and re.search(rf"\b{name}\b", text) is not None


def _missing(module: str) -> str:
    """No module of that name, with the module beside it that was perhaps meant."""
    parent, _, last = module.rpartition(".")
    if not parent:
        return f"there is no module {module!r}; install it, or run where it can be imported"
    source = find_source(parent)
    folder = source.parent if source and source.name == "__init__.py" else source
    beside: Iterable[str] = ()
    if folder and folder.is_dir():
        beside = [path.stem for path in folder.iterdir() if path.stem.isidentifier()]
    return f"{parent} has {unknown('module', last, [n for n in beside if n[0] != '_'])}"


def why_missing(module: str) -> str:
    """What to say about a module that cannot be found."""
    try:
        _found_source(module, tuple(sys.path), os.getcwd())
    except NoModule as error:
        return str(error)
    return ""


def parse_source(path: Path) -> ast.Module:
    """The syntax tree of a file. Raises DeclarationError where it cannot be read as Python."""
    try:
        status = path.stat()
        return _parsed(path, status.st_mtime_ns, status.st_size)
    except SyntaxError as error:
        place = f"{path}:{error.lineno}" if error.lineno else str(path)
        raise DeclarationError(f"{place}: this is not Python: {error.msg}") from None
    except (ValueError, OSError, RecursionError) as error:
        raise DeclarationError(f"{path} cannot be read as Python: {error}") from None


@functools.lru_cache(maxsize=1024)
def _parsed(path: Path, changed: int, size: int) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


# --- names ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Name:
    """A name that a module binds, and in which file; no `node` where to what is uncertain."""

    node: ast.AST | None
    path: Path


class _CannotTell(Exception):
    """The module makes names in a way that reading does not follow."""


def top_level_names(path: Path) -> dict[str, Name] | None:
    """Names that a module binds; None where reading cannot tell.

    Reading cannot tell with a module-level `__getattr__`, `globals()`, `setattr`, or a star import
    of something compiled. Raises DeclarationError for a file that is not Python.
    """
    status = path.stat()
    parse_source(path)
    return _names_of(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _names_of(path: Path, changed: int, size: int) -> dict[str, Name] | None:
    names: dict[str, Name] = {}
    try:
        _collect(parse_source(path).body, path, names, certain=True)
    except _CannotTell:
        return None
    return None if "__getattr__" in names else names


def names_in_class(node: ast.ClassDef, path: Path) -> dict[str, Name] | None:
    """Names that a class binds; None where bases, decorators or metaclasses may add some."""
    if node.bases or node.keywords or node.decorator_list:
        return None
    names: dict[str, Name] = {}
    try:
        _collect(node.body, path, names, certain=True)
    except _CannotTell:
        return None
    return None if {"__getattr__", "__slots__"} & set(names) else names


def _collect(body: list[ast.stmt], path: Path, names: dict[str, Name], *, certain: bool) -> None:
    """Add the names that statements bind. certain: they run, once, in this order."""

    def bind(name: str, node: ast.AST | None) -> None:
        names[name] = Name(node if certain or name not in names else None, path)

    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bind(node.name, node)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                _refuse_dynamic(node)
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets if node.value is not None else []:
                    for name, exact in _bound(target):
                        exact = exact and certain and not isinstance(node, ast.AugAssign)
                        bind(name, node.value if exact else None)
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                names.update(_starred(node, path))
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    top = (
                        alias.name if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
                    )
                    bind(alias.asname or top, node)
            case ast.If() if _is_for_types(node.test):
                _collect(node.orelse, path, names, certain=certain)
            case ast.If() | ast.Try() | ast.TryStar() | ast.With() | ast.For() | ast.While():
                for name, _ in _bound_by_header(node):
                    bind(name, None)
                for part in _branches(node):
                    _collect(part, path, names, certain=False)
            case ast.Match():
                raise _CannotTell
            case _:
                _refuse_dynamic(node)


_DYNAMIC = {"globals", "vars", "locals", "exec", "eval", "setattr"}


def _refuse_dynamic(node: ast.stmt) -> None:
    """Raise _CannotTell where a statement may bind names behind the reader's back."""
    suspects = _DYNAMIC | ({"__all__"} if isinstance(node, ast.Expr) else set())
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in suspects:
            raise _CannotTell
        if isinstance(part, ast.Attribute) and part.attr == "modules":
            raise _CannotTell


def _is_for_types(test: ast.expr) -> bool:
    return ast.unparse(test).split(".")[-1] == "TYPE_CHECKING"


def _branches(node: ast.stmt) -> list[list[ast.stmt]]:
    parts = [getattr(node, field, []) for field in ("body", "orelse", "finalbody")]
    return parts + [handler.body for handler in getattr(node, "handlers", [])]


def _bound_by_header(node: ast.stmt) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.For):
        yield from _bound(node.target)
    for item in node.items if isinstance(node, ast.With) else []:
        if item.optional_vars is not None:
            yield from _bound(item.optional_vars)


def _bound(target: ast.expr) -> Iterator[tuple[str, bool]]:
    """The names that an assignment binds; True where one gets the whole value."""
    if isinstance(target, ast.Name):
        yield target.id, True
    for part in target.elts if isinstance(target, (ast.Tuple, ast.List)) else []:
        inner = part.value if isinstance(part, ast.Starred) else part
        yield from ((name, False) for name, _ in _bound(inner))


def _starred(node: ast.ImportFrom, path: Path) -> dict[str, Name]:
    source = imported_from(node, path)
    if source is None or source.suffix != ".py" or source == path:
        raise _CannotTell
    try:
        found = top_level_names(source)
    except (DeclarationError, OSError, RecursionError):  # two files may star-import each other
        found = None
    if found is None:
        raise _CannotTell
    listed = found.get("__all__")
    if listed is None:
        return {name: at for name, at in found.items() if not name.startswith("_")}
    try:
        public = ast.literal_eval(listed.node)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise _CannotTell from None
    return {name: found.get(name, Name(None, source)) for name in public}


def imported_from(node: ast.ImportFrom, path: Path) -> Path | None:
    """The file of the module that `from … import` names."""
    if not node.level:
        return find_source(node.module or "")
    if node.level > len(path.parents):
        return None
    folder = path.parents[node.level - 1]
    inner = folder.joinpath(*(node.module or "").split("."))
    for candidate in (inner.with_suffix(".py"), inner / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def definition(path: Path, name: str, hops: int = 6) -> Name | None:
    """What a name of a module is bound to, followed through imports; None if that is uncertain."""
    if path.suffix != ".py" or not hops:
        return None
    try:
        bound = (top_level_names(path) or {}).get(name)
    except (DeclarationError, OSError):
        return None
    if bound is None or not isinstance(bound.node, ast.ImportFrom):
        return bound
    renamed = {alias.asname or alias.name: alias.name for alias in bound.node.names}
    source = imported_from(bound.node, bound.path)
    if source is None or source == bound.path:
        return None
    return definition(source, renamed.get(name, name), hops - 1)
