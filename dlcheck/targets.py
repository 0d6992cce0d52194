"""Import paths: what `"package.module:attribute"` and `"path/file.py:attribute"` stand for.

At collection a path is followed by reading source, never by importing it: torch stays unloaded
and a thousand trials are collected in a fraction of a second. What source cannot settle (compiled
modules, names made at import) is settled when the trial runs, with the same messages.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from dlcheck import sources
from dlcheck.errors import DeclarationError, TargetError, unknown
from dlcheck.sources import definition, find_source, parse_source

__all__ = [
    "argument_names",
    "find_source",
    "import_file",
    "is_file",
    "load_target",
    "parse_source",
    "problem_with",
    "split_target",
]

_DISPLAYS = (ast.Dict, ast.Set, ast.List, ast.Tuple, ast.ListComp, ast.SetComp, ast.DictComp)
_VALUES = (ast.Constant, ast.JoinedStr, *_DISPLAYS)


def split_target(target: str) -> tuple[str, str]:
    """`"pkg.mod:Attr"` → ("pkg.mod", "Attr"). Raises TargetError."""
    module, colon, attribute = target.rpartition(":")
    parts = attribute.split(".")
    if not is_file(module) and not all(part.isidentifier() for part in module.split(".")):
        module = ""
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
        return import_file(_existing_file(name, target, near))
    _see_working_directory()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise TargetError(f"target {target!r}: {sources.why_missing(name) or error}") from None
        raise TargetError(
            f"target {target!r}: importing {name} needs {error.name!r}, which is not installed"
        ) from error
    except (Exception, SystemExit) as error:
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
        try:
            if place.is_file():
                return place.resolve()
        except (OSError, ValueError):  # a name that no file can have
            break
    raise TargetError(f"target {target!r}: there is no file {name}")


def import_file(path: Path) -> ModuleType:
    """The module in a file. Raises TargetError where importing it raises."""
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
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise TargetError(f"importing {path} raised {type(error).__name__}: {error}") from error
    return module


# --- the same, by reading ---------------------------------------------------------------------


def source_of(module: str, target: str, near: str = "") -> Path | None:
    """The file in which a module stands; None without one. Raises TargetError for a lost file."""
    return _existing_file(module, target, near) if is_file(module) else find_source(module)


def problem_with(target: str, near: str = "") -> str:
    """Why an import path cannot work, as far as source tells; empty if nothing is wrong."""
    try:
        module, attribute = split_target(target)
        path = source_of(module, target, near)
    except TargetError as error:
        return str(error)
    if path is None:
        return f"target {target!r}: {sources.why_missing(module)}"
    if path.suffix != ".py" and not path.is_dir():
        return ""
    try:
        names = {} if path.is_dir() else sources.top_level_names(path)
    except DeclarationError as error:
        return f"target {target!r}: {error}"
    except OSError:  # inside a zip file
        return ""
    first, *inner = attribute.split(".")
    if names is None:
        return ""
    if first in names:
        return _problem_inside(target, path, first, inner)
    if not is_file(module) and find_source(f"{module}.{first}") is not None:
        return "" if inner else f"target {target!r} is a module, which cannot be called"
    return _lacks(target, module, first, names)


def _problem_inside(target: str, path: Path, first: str, inner: list[str]) -> str:
    found = definition(path, first)
    node = found.node if found else None
    if found is None or node is None:
        return ""
    if not inner:
        return _not_callable(target, node)
    if isinstance(node, ast.ClassDef):
        names = sources.names_in_class(node, found.path)
        if names is not None and inner[0] not in names and not hasattr(type, inner[0]):
            return _lacks(target, first, inner[0], names)
    return ""


def _not_callable(target: str, node: ast.AST) -> str:
    if isinstance(node, ast.Import):
        return f"target {target!r} is a module, which cannot be called"
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    if isinstance(node, _VALUES):
        return f"target {target!r} is {ast.unparse(node)[:40]}, which cannot be called"
    return ""


def _lacks(target: str, owner: object, name: str, known: Iterable[str]) -> str:
    public = [key for key in known if not key.startswith("_")]
    return f"target {target!r}: {owner} has {unknown('attribute', name, public)}"


def argument_names(target: object, near: str = "") -> list[str] | None:
    """The arguments that a target takes by name; None where that cannot be told.

    Of a path they are read from its source, of an object from its signature.
    """
    if not isinstance(target, str):
        return _in_signature(target) if callable(target) else None
    try:
        module, attribute = split_target(target)
        path = source_of(module, target, near)
    except TargetError:
        return None
    if path is None or "." in attribute:
        return None
    found = definition(path, attribute)
    match found.node if found else None:
        case ast.ClassDef() as node:
            return _constructor_arguments(node)
        case ast.FunctionDef(decorator_list=decorators) as node:
            registered = all(_is_registration(decorator) for decorator in decorators)
            return _plain_arguments(node, skip=0) if registered else None
    return None


def _in_signature(target: Callable[..., Any]) -> list[str] | None:
    try:
        parameters = inspect.signature(target).parameters.values()
    except Exception:  # none is known, or the target's own attributes raise
        return None
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in by_name]


def _constructor_arguments(node: ast.ClassDef) -> list[str] | None:
    made = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    plain = not node.keywords and all(map(_is_registration, node.decorator_list))
    if not plain or "__new__" in made or "__init__" not in made:
        return None
    return _plain_arguments(made["__init__"], skip=1)


def _is_registration(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).split(".")[-1] in ("reference", "check")


def _plain_arguments(node: ast.FunctionDef, skip: int) -> list[str] | None:
    """The arguments that may be given by name; None if any name may be."""
    given = node.args
    if given.kwarg is not None or (node.decorator_list and skip):
        return None
    ordinary = [*given.posonlyargs, *given.args][skip:]
    named = [argument.arg for argument in ordinary if argument not in given.posonlyargs]
    return named + [argument.arg for argument in given.kwonlyargs]
