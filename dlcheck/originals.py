"""What a judge relies on, as it was before any subject was loaded: clocks, comparisons, torch.

A subject that replaces `torch.allclose` or `time.perf_counter` judges itself. The originals are
captured when this module is imported, which the engine does before it builds a subject; what has
been replaced is found by identity. Clocks and comparisons are put back around every trial.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional
import torch.testing

# What a verdict or a measurement is made of: nobody has a reason to replace it, at import either.
_OF_A_JUDGE: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (time, ("perf_counter", "perf_counter_ns", "monotonic", "process_time", "time", "sleep")),
    (torch, ("allclose", "equal", "isclose", "isnan", "isfinite", "manual_seed", "Generator")),
    (torch.testing, ("assert_close",)),
    (torch.cuda, ("synchronize", "Event", "max_memory_allocated")),
    (torch.cuda.Event, ("elapsed_time", "record", "synchronize")),
    (torch.autograd, ("grad", "backward", "gradcheck")),
    (torch.Tensor, ("backward", "__eq__", "__ne__", "__sub__", "allclose", "equal", "isclose",
                    "double", "clone", "detach", "max", "amax", "abs")),
    (math, ("isnan", "isfinite", "isinf", "sqrt", "log", "exp")),
    (random, ("seed", "random", "getstate", "setstate")),
)  # fmt: skip
_NAMESPACES: tuple[Any, ...] = (torch, torch.nn.functional, torch.Tensor, torch.nn.Module)


@dataclass(frozen=True, slots=True)
class Replaced:
    """A name that means something else than it did."""

    owner: Any
    name: str
    original: Any
    replacement: Any
    is_of_a_judge: bool

    def __str__(self) -> str:
        place = self.owner.__name__
        if not isinstance(self.owner, ModuleType):
            place = f"{self.owner.__module__}.{place}"
        return f"{place}.{self.name}"

    @property
    def module(self) -> str:
        """Where the replacement was written."""
        return getattr(self.replacement, "__module__", None) or ""


_MISSING = object()


def _captured() -> Iterator[tuple[Any, str, Any, bool]]:
    seen = set()
    for owner, names in _OF_A_JUDGE:
        for name in names:
            yield owner, name, getattr(owner, name, _MISSING), True
            seen.add((id(owner), name))
    for owner in _NAMESPACES:
        for name, value in vars(owner).items():
            if callable(value) and (id(owner), name) not in seen:
                yield owner, name, value, False


_ORIGINALS = tuple(_captured())
_LATELY: list[Replaced] = []


def replaced() -> list[Replaced]:
    """What has been replaced, since this module was loaded, by code that is not torch's own."""
    found = []
    for owner, name, original, of_a_judge in _ORIGINALS:
        now = getattr(owner, name, _MISSING) if of_a_judge else vars(owner).get(name, _MISSING)
        if now is not original and now is not _MISSING:
            entry = Replaced(owner, name, original, now, of_a_judge)
            if entry.module.split(".")[0] != "torch":
                found.append(entry)
    return found


def put_back(entry: Replaced) -> None:
    """Restore one original; an attribute that was inherited is inherited again."""
    if isinstance(entry.owner, type):
        delattr(entry.owner, entry.name)
    if getattr(entry.owner, entry.name, _MISSING) is not entry.original:
        setattr(entry.owner, entry.name, entry.original)


def restore_the_judge() -> None:
    """Put back what verdicts and measurements are made of, and note what was found."""
    for entry in replaced():
        if entry.is_of_a_judge:
            put_back(entry)
            _LATELY.append(entry)


def restored_lately() -> list[Replaced]:
    """What `restore_the_judge` found since this was last asked."""
    found = list(_LATELY)
    _LATELY.clear()
    return found
