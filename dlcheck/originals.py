"""What a judge relies on, as it was before a subject ran: clocks, comparisons, torch, dlcheck.

A subject that replaces `torch.allclose` or `time.perf_counter` judges itself. The originals are
captured when this module is imported, which the engine does before it builds a subject; what has
been replaced is found by identity, and put back after every trial.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import is_
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
_OF_VERDICTS = tuple(entry for entry in _ORIGINALS if entry[3])


@dataclass(frozen=True, slots=True)
class _Noted:
    """What a namespace held, to see at a glance that nothing has been replaced."""

    there: dict[str, Any]
    names: tuple[str, ...]
    values: tuple[Any, ...]
    everything: tuple[Any, ...]

    @classmethod
    def of(cls, owner: Any, found: Mapping[str, Any]) -> _Noted:
        there = vars(owner)
        return cls(there, tuple(found), tuple(found.values()), tuple(there.values()))

    def is_untouched(self) -> bool:
        """What is new comes last, so the whole in its order is the quicker look."""
        there, everything = self.there, self.everything
        if len(there) >= len(everything) and all(map(is_, there.values(), everything)):
            return True
        return all(map(is_, map(there.get, self.names), self.values))


_BY_NAMESPACE = tuple(
    _Noted.of(owner, {n: v for o, n, v, judge in _ORIGINALS if o is owner and not judge})
    for owner in _NAMESPACES
)
_HOOKS: dict[str, dict[int, Any]] = {
    f"{name[len('_global_') :]} of every module": value
    for name, value in vars(torch.nn.modules.module).items()
    if name.startswith("_global_") and isinstance(value, dict)
}
_OWN: dict[str, tuple[ModuleType, _Noted]] = {}
_SEEN = [0]  # how many modules there were
_KEPT = 100
_LATELY: list[tuple[object, Replaced]] = []  # with the target whose trial it was
_TRIALS: list[object] = []  # targets of the trials that run now, one inside the other


def replaced() -> list[Replaced]:
    """What has been replaced, since this module was loaded, by code that is not torch's own."""
    untouched = all(noted.is_untouched() for noted in _BY_NAMESPACE)
    return _replaced((*(_OF_VERDICTS if untouched else _ORIGINALS), *_own_that_changed()))


def _own_that_changed() -> Iterator[tuple[Any, str, Any, bool]]:
    for module, noted in _OWN.values():
        if not noted.is_untouched():
            pairs = zip(noted.names, noted.values, strict=True)
            yield from ((module, name, value, False) for name, value in pairs)


def _note_own() -> None:
    """dlcheck's own functions and classes, of modules that are new."""
    known = len(sys.modules)
    if known == _SEEN[-1]:
        return
    _SEEN[:] = [known]
    for module, there in list(sys.modules.items()):
        if module.partition(".")[0] == "dlcheck" and module not in _OWN:
            own = {n: v for n, v in vars(there).items() if callable(v) and n[:2] != "__"}
            _OWN[module] = there, _Noted.of(there, own)


def _replaced(among: Iterable[tuple[Any, str, Any, bool]]) -> list[Replaced]:
    found = []
    for owner, name, original, of_a_judge in among:
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


@dataclass(frozen=True, slots=True)
class Standing:
    """How functions, hooks on all modules and modes on all calls stand."""

    replaced: frozenset[tuple[int, str]]
    hooks: Mapping[str, frozenset[int]]
    modes: int


def enter(target: object) -> Standing:
    """A trial of this target begins, or a part of the one that runs: as `restore_the_judge`.

    What is found replaced before the first was replaced by an import, or by other code.
    """
    standing = restore_the_judge()
    _TRIALS.append(target if target is not None or not _TRIALS else _TRIALS[-1])
    return standing


def leave(standing: Standing) -> list[str]:
    """It ends: everything is put back; what had been replaced, in words."""
    found = restore(standing)
    _TRIALS.pop()
    return found


def restore_the_judge() -> Standing:
    """Put clocks and comparisons back, note what was found, and tell how the rest stands."""
    _note_own()
    found = replaced()
    for entry in found:
        if entry.is_of_a_judge:
            _put_back_and_note(entry)
    others = frozenset((id(e.owner), e.name) for e in found if not e.is_of_a_judge)
    hooks = {name: frozenset(hooks) for name, hooks in _HOOKS.items()}
    return Standing(others, hooks, torch._C._len_torch_function_stack())


def restore(before: Standing) -> list[str]:
    """Put back what was replaced, hooked or pushed since; what it was, in words."""
    found = []
    for entry in replaced():
        if (id(entry.owner), entry.name) not in before.replaced:
            _put_back_and_note(entry)
            found.append(str(entry))
    for name, hooks in _HOOKS.items():
        for key in set(hooks) - before.hooks[name]:
            del hooks[key]
            found.append(name)
    while torch._C._len_torch_function_stack() > before.modes:
        torch._C._pop_torch_function_stack()
        found.append("modes of torch functions")
    return found


def _put_back_and_note(entry: Replaced) -> None:
    put_back(entry)
    _LATELY.append((_TRIALS[-1] if _TRIALS else None, entry))
    del _LATELY[:-_KEPT]


def restored_lately(target: object, package: str) -> list[Replaced]:
    """What was put back, since this was last asked, after it had been replaced in a trial of the
    target, or before any trial by code of the package."""
    found: list[tuple[object, Replaced]] = []
    others: list[tuple[object, Replaced]] = []
    for owner, entry in _LATELY:
        home = entry.module.partition(".")[0]
        same = owner is target or (isinstance(owner, str) and owner == target)
        mine = same if owner is not None else bool(home) and home == package
        (found if mine else others).append((owner, entry))
    _LATELY[:] = others
    return [entry for _, entry in found]
