"""Declarations that an author need not repeat: on the class itself, or those of its reference.

    class MyNorm(nn.Module):
        dlcheck = {"kind": "normalization", "inputs": {"x": "float b d"}, "options": {"axes": [-1]}}

What a suite or a call states wins over the attribute, and the attribute over the reference. Both
are read without importing anything where the subject is named by an import path.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dlcheck import targets
from dlcheck.errors import DeclarationError, TargetError, unknown
from dlcheck.model import Subject
from dlcheck.sources import Name, definition

ATTRIBUTE = "dlcheck"
_KEYS = ("kind", "args", "inputs", "traits", "options", "matrix", "reference", "reference_args")


def attached(subject: Subject) -> Mapping[str, Any]:
    """What the attribute `dlcheck` of a class or function declares; empty without one.

    Raises DeclarationError where it is no table of declarations.
    """
    found: Any = None
    if isinstance(subject.target, str):
        found, where = _read(subject.target, subject.file)
    else:
        found = getattr(subject.target, ATTRIBUTE, None)
        where = f"the attribute {ATTRIBUTE} of {subject.name}"
    if found is None or callable(found):
        return {}
    if not isinstance(found, Mapping):
        raise DeclarationError(f"{where} is a table of declarations, not {found!r}")
    for key in found:
        if key not in _KEYS:
            raise DeclarationError(f"{where}: {unknown('key', str(key), _KEYS)}")
    return found


def _read(target: str, near: str) -> tuple[Any, str]:
    """The attribute as it is written in the source, and its place; None where there is none."""
    try:
        module, attribute = targets.split_target(target)
        path = targets.source_of(module, target, near)
    except TargetError:
        return None, ""
    found = definition(path, attribute) if path is not None and "." not in attribute else None
    value = _assigned(found, attribute) if found is not None else None
    if found is None or value is None:
        return None, ""
    where = f"{found.path}:{value.lineno}: {ATTRIBUTE} of {attribute}"
    try:
        return ast.literal_eval(value), where
    except ValueError:
        raise DeclarationError(
            f"{where} must be a literal, for it is read without importing the file; found "
            f"{ast.unparse(value)[:60]}"
        ) from None


def _assigned(found: Name, name: str) -> ast.expr | None:
    """`dlcheck = …` in the body of a class, `name.dlcheck = …` beside a function."""
    if isinstance(found.node, ast.ClassDef):
        body, wanted = found.node.body, ATTRIBUTE
    elif isinstance(found.node, ast.FunctionDef):
        body, wanted = targets.parse_source(found.path).body, f"{name}.{ATTRIBUTE}"
    else:
        return None
    for node in body:
        if isinstance(node, ast.Assign) and wanted in [ast.unparse(t) for t in node.targets]:
            return node.value
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == wanted:
            return node.value
    return None


def of_component(target: Any) -> Subject | None:
    """What the installed suites declare about a component: `"torch.nn:LayerNorm"`, or the class.

    Layouts, which are a weakness of that component, are left out.
    """
    key = _key(target)
    found = _declared().get(key) if key is not None else None
    if found is None:
        return None
    return replace(found, options={k: v for k, v in found.options.items() if k != "layouts"})


def _key(target: Any) -> tuple[str, str] | None:
    """The package and the name: "torch.nn:Linear" and torch.nn.modules.linear.Linear are one."""
    if isinstance(target, str):
        module, _, name = target.rpartition(":")
        return (module.partition(".")[0], name) if module and name else None
    owner = getattr(target, "__module__", None) or ""
    named = getattr(target, "__qualname__", None) or ""
    return (owner.partition(".")[0], named) if owner and named else None


@functools.cache
def _declared() -> Mapping[tuple[str, str], Subject]:
    """Every subject of the installed suites by its target, of several the one with all checks."""
    import tomllib

    from dlcheck.shipped import suite_paths
    from dlcheck.suite_records import parse_suite

    found: dict[tuple[str, str], Subject] = {}
    for path in suite_paths().values():
        try:
            data = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError):  # reading that suite says what is wrong with it
            continue
        for subject in parse_suite(data, file=str(path)).suite.subjects:
            key = _key(subject.target)
            if key is not None and (key not in found or found[key].checks) and not subject.checks:
                found[key] = subject
    return found
