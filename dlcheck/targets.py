"""Import paths: what `"package.module:attribute"` and `"path/file.py:attribute"` stand for.

At collection a path is followed by reading source, never by importing it: torch stays unloaded
and a thousand trials are collected in a fraction of a second. What source cannot settle (compiled
modules, names made at import) is settled when the trial runs, with the same messages.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dlcheck.errors import DeclarationError, TargetError, unknown

_LITERALS = (ast.Constant, ast.Dict, ast.Set, ast.JoinedStr)


def split_target(target: str) -> tuple[str, str]:
    """`"pkg.mod:Attr"` → ("pkg.mod", "Attr"). Raises TargetError."""
    module, colon, attribute = target.rpartition(":")
    parts = attribute.split(".")
    if not colon or not module or not all(part.isidentifier() for part in parts):
        raise TargetError(
            f"{target!r} is no import path: write 'package.module:attribute' "
            f"or 'path/file.py:attribute'"
        )
    return module, attribute


def is_file(module: str) -> bool:
    return module.endswith(".py")


def load_target(target: Any, near: str = "") -> Any:
    """The object that an import path names; an object is returned as it is.

    `near` is the file whose folder relative file paths start from, after the working directory.
    Raises TargetError with what was found instead.
    """
    if not isinstance(target, str):
        return target
    module_name, attribute = split_target(target)
    module = _import(module_name, target, near)
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise TargetError(_lacks(target, getattr(value, "__name__", value), part, dir(value)))
        value = getattr(value, part)
    if not callable(value):
        raise TargetError(f"target {target!r} is {type(value).__name__}, which cannot be called")
    return value


def _import(name: str, target: str, near: str) -> ModuleType:
    if is_file(name):
        return _import_file(_existing_file(name, target, near))
    _see_working_directory()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise TargetError(_no_module(target, name)) from None
        raise TargetError(
            f"target {target!r}: importing {name} needs {error.name!r}, which is not installed"
        ) from error
    except Exception as error:
        raise TargetError(
            f"target {target!r}: importing {name} raised {type(error).__name__}: {error}"
        ) from error


def _see_working_directory() -> None:
    """`dlcheck validate mypkg:Layer` finds mypkg in the working directory, as python -m does."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def _existing_file(name: str, target: str, near: str) -> Path:
    places = [Path(name)]
    if near and not Path(name).is_absolute():
        places.append(Path(near).parent / name)
    for place in places:
        if place.is_file():
            return place.resolve()
    raise TargetError(f"target {target!r}: there is no file {name}")


def _import_file(path: Path) -> ModuleType:
    # Named after the path, so that two files of one stem do not share a module, and kept in
    # sys.modules, so that a target is imported once and pickles by reference.
    name = f"_dlcheck_target_{path.stem}_{hashlib.sha1(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise TargetError(f"importing {path} raised {type(error).__name__}: {error}") from error
    return module


# --- the same, by reading ---------------------------------------------------------------------


def problem_with(target: str, near: str = "") -> str:
    """Why an import path cannot work, as far as source tells; empty if nothing is wrong."""
    try:
        module, attribute = split_target(target)
        path = _existing_file(module, target, near) if is_file(module) else find_source(module)
    except TargetError as error:
        return str(error)
    if path is None:
        return _no_module(target, module)
    if path.suffix != ".py":
        return ""
    first = attribute.split(".")[0]
    names = top_level_names(path)
    if names is None or first in names:
        return _not_callable(target, first, names)
    if find_source(f"{module}.{first}") is not None and not is_file(module):
        return f"target {target!r} is a module, which cannot be called"
    return _lacks(target, module, first, names)


def _not_callable(target: str, first: str, names: dict[str, Name] | None) -> str:
    bound = (names or {}).get(first)
    node = bound.node if bound else None
    if (
        isinstance(node, _LITERALS)
        and isinstance(node, ast.expr)
        and "." not in target.rpartition(":")[2]
    ):
        return f"target {target!r} is {ast.unparse(node)[:40]}, which cannot be called"
    return ""


def _lacks(target: str, owner: object, name: str, known: Any) -> str:
    public = [key for key in known if not key.startswith("_")]
    return f"target {target!r}: {owner} has {unknown('attribute', name, public)}"


def _no_module(target: str, module: str) -> str:
    return (
        f"target {target!r}: there is no module {module!r}; install it, "
        "or run where it can be imported"
    )


@functools.cache
def find_source(module: str) -> Path | None:
    """The file of a module, found without importing it or its parents; None if there is none."""
    if module in sys.builtin_module_names:
        return Path(module)
    places: list[str] | None = [str(Path.cwd()), *sys.path]
    spec = None
    for part in _prefixes(module):
        try:
            spec = importlib.machinery.PathFinder.find_spec(part, places)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return _by_import_hooks(module)
        places = list(spec.submodule_search_locations or [])
    if spec is None:
        return None
    if spec.origin is None:  # a namespace package
        return Path(places[0]) if places else None
    return Path(spec.origin)


def _by_import_hooks(module: str) -> Path | None:
    """Editable installs may register a finder of their own; only a top name is asked for."""
    if "." in module:
        return None
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def _prefixes(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


@functools.cache
def parse_source(path: Path) -> ast.Module:
    """The syntax tree of a file. Raises DeclarationError where it cannot be read."""
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, OSError) as error:
        raise DeclarationError(f"{path} cannot be read as Python: {error}") from None


@dataclass(frozen=True, slots=True)
class Name:
    """A name that a module binds: to what, and in which file."""

    node: ast.AST
    path: Path


@functools.cache
def top_level_names(path: Path) -> dict[str, Name] | None:
    """Names that a module binds; None where reading cannot tell.

    Reading cannot tell with a module-level `__getattr__`, a loop, `globals()`, or a star import
    of something compiled.
    """
    try:
        tree = parse_source(path)
    except DeclarationError:
        return None
    names: dict[str, Name] = {}
    return names if _collect(tree.body, path, names) else None


def _collect(body: list[ast.stmt], path: Path, names: dict[str, Name]) -> bool:
    for node in body:
        match node:
            case ast.FunctionDef(name="__getattr__"):
                return False
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names[node.name] = Name(node, path)
            case ast.Assign():
                for target in node.targets:
                    _bind(target, Name(node.value, path), names)
            case ast.AnnAssign() if node.value is not None:
                _bind(node.target, Name(node.value, path), names)
            case ast.Import():
                for alias in node.names:
                    names[alias.asname or alias.name.split(".")[0]] = Name(node, path)
            case ast.ImportFrom() if node.names[0].name == "*":
                if not _collect_star(node, path, names):
                    return False
            case ast.ImportFrom():
                for alias in node.names:
                    names[alias.asname or alias.name] = Name(node, path)
            case ast.If() | ast.Try() | ast.With():
                if not all(_collect(part, path, names) for part in _branches(node)):
                    return False
            case ast.For() | ast.While():
                return False
            case ast.Expr(value=ast.Call(func=ast.Name(id="exec"))):
                return False
            case _ if "globals" in ast.dump(node):
                return False
    return True


def _branches(node: ast.If | ast.Try | ast.With) -> list[list[ast.stmt]]:
    parts = [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
    return parts + [handler.body for handler in getattr(node, "handlers", [])]


def _bind(target: ast.expr, value: Name, names: dict[str, Name]) -> None:
    if isinstance(target, ast.Name):
        names[target.id] = value
    elif isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:  # unpacked: what each name gets is not known
            _bind(part, Name(target, value.path), names)


def _collect_star(node: ast.ImportFrom, path: Path, names: dict[str, Name]) -> bool:
    source = _star_source(node, path)
    if source is None or source.suffix != ".py" or source == path:
        return False
    found = top_level_names(source)
    if found is None:
        return False
    listed = found.get("__all__")
    if listed is None:
        names.update({name: at for name, at in found.items() if not name.startswith("_")})
        return True
    try:
        public = ast.literal_eval(listed.node)  # type: ignore[arg-type]
    except ValueError:
        return False
    names.update({name: found.get(name, Name(node, source)) for name in public})
    return True


def _star_source(node: ast.ImportFrom, path: Path) -> Path | None:
    if not node.level:
        return find_source(node.module or "")
    folder = path.parents[node.level - 1]
    inner = folder.joinpath(*(node.module or "").split("."))
    for candidate in (inner.with_suffix(".py"), inner / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def argument_names(target: object, near: str = "") -> list[str] | None:
    """The arguments that a target takes, read from its source; None where that cannot tell."""
    if not isinstance(target, str):
        return None
    try:
        module, attribute = split_target(target)
        path = _existing_file(module, target, near) if is_file(module) else find_source(module)
    except TargetError:
        return None
    if path is None or "." in attribute:
        return None
    return _arguments(path, attribute, hops=4)


def _arguments(path: Path, name: str, hops: int) -> list[str] | None:
    names = top_level_names(path) if path.suffix == ".py" and hops else None
    bound = (names or {}).get(name)
    if bound is None:
        return None
    node, path = bound.node, bound.path
    if isinstance(node, ast.ClassDef):
        inside = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        made = {part.name: part for part in inside}
        if node.decorator_list or "__new__" in made or "__init__" not in made:
            return None
        return _plain_arguments(made["__init__"], skip=1)
    if isinstance(node, ast.FunctionDef):
        if all(_is_registration(decorator) for decorator in node.decorator_list):
            return _plain_arguments(node, skip=0)
        return None
    if isinstance(node, ast.ImportFrom):
        source = _star_source(node, path)
        renamed = {alias.asname or alias.name: alias.name for alias in node.names}
        if source is not None and source != path:
            return _arguments(source, renamed.get(name, name), hops - 1)
    return None


def _is_registration(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).split(".")[-1] in ("reference", "check")


def _plain_arguments(node: ast.FunctionDef, skip: int) -> list[str] | None:
    given = node.args
    if given.kwarg is not None:
        return None
    ordinary = [argument.arg for argument in (*given.posonlyargs, *given.args)][skip:]
    return ordinary + [argument.arg for argument in given.kwonlyargs]
