"""The lines that import a subject, and what stands for it where they are not run."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dlcheck.constructors import Remade
from dlcheck.model import Kind
from dlcheck.scripts.tape import Unwritable
from dlcheck.subjects import _make
from dlcheck.targets import is_file, split_target


@dataclass(frozen=True, slots=True)
class Import:
    """lines: what imports it. name: what it is called then, with dots where it is inside."""

    lines: tuple[str, ...]
    name: str

    def standing_for(self, target: Any, kind: Kind) -> dict[str, Any]:
        """The names that the lines would give, with the target itself."""
        if isinstance(target, Remade):
            target = functools.partial(_remade, kind, target)
        first, *inner = self.name.split(".")
        for part in reversed(inner):
            target = types.SimpleNamespace(**{part: target})
        return {first: target}


def _remade(kind: Kind, target: Remade, **args: Any) -> Any:
    return _make(kind, target, args)


def import_of(target: Any) -> Import:
    """How a target is imported.

    Raises Unwritable for an object that no module holds by name.
    """
    if isinstance(target, str):
        module, attribute = split_target(target)
        first, *inner = attribute.split(".")
        name = ".".join([first, *inner])
        if is_file(module):
            lines = (
                "import importlib.util",
                f"spec = importlib.util.spec_from_file_location('subject', {module!r})",
                "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)",
            )
            return Import(lines, f"module.{name}")
        return Import((f"from {module} import {first}",), name)
    for module, name in _places(target):
        held: Any = sys.modules.get(module)
        first = name.split(".")[0]
        for part in name.split("."):
            held = getattr(held, part, None)
        if held is target and module != "__main__" and first.isidentifier():
            return Import((f"from {module} import {first}",), name)
    raise Unwritable("the subject is an object that no module holds by name")


def _places(target: Any) -> Iterator[tuple[str, str]]:
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if module and name and "<" not in name:
        yield module, name
    with contextlib.suppress(RuntimeError):
        for module, held in list(sys.modules.items()):
            if module.startswith("torch"):
                continue
            for name, value in list(getattr(held, "__dict__", {}).items()):
                if value is target:
                    yield module, name
