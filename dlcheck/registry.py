"""`@check` and `@reference`: how one file becomes known to every suite.

What a decorator declares is literal, so it is *read* from the source of every module of
`dlcheck.checks` and `dlcheck.references` (and of the packages that entry points of those two
names point to) without importing any: listing and collecting load no torch. The code is imported
when a trial runs. A decorator that runs outside those packages (a notebook, a test file)
registers what it declares at once.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from dlcheck import kinds
from dlcheck.declarations import (
    make_check,
    make_reference,
    place_of,
    read_package,
    refuse_unknown_names,
)
from dlcheck.errors import DeclarationError, PluginWarning, UsageError, unknown
from dlcheck.model import NOTHING, Check, Kind, Mutant, Reference, Subject
from dlcheck.sources import NoModule

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Plugin:
    """A package that extends dlcheck, by entry points or by `--plugin`, and what it adds."""

    name: str
    version: str = ""
    kinds: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    problem: str = ""  # why it is left out


@dataclass(slots=True)
class Catalogue:
    """Everything that is known by name."""

    checks: dict[str, Check] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=lambda: dict(kinds.BUILT_IN))
    plugins: list[Plugin] = field(default_factory=list)
    _by_target: dict[str, Reference] = field(default_factory=dict, repr=False)
    _by_kind: dict[str, tuple[Check, ...]] = field(default_factory=dict, repr=False)

    def kind(self, name: str) -> Kind:
        if name not in self.kinds:
            raise DeclarationError(unknown("kind", name, self.kinds, see="dlcheck list kinds"))
        return self.kinds[name]

    def check(self, name: str) -> Check:
        if name not in self.checks:
            raise DeclarationError(unknown("check", name, self.checks, see="dlcheck list checks"))
        return self.checks[name]

    def reference_at(self, target: object) -> Reference | None:
        """The reference that an import path names, if one is registered there."""
        return self._by_target.get(target) if isinstance(target, str) else None

    def checks_of(self, kind: str) -> tuple[Check, ...]:
        """The checks of a kind and of every kind, most general first, then in order of name.

        What a general claim finds often breaks the special ones too.
        """
        if kind not in self._by_kind:
            found = (c for c in self.checks.values() if kind in c.kinds or "*" in c.kinds)
            self._by_kind[kind] = tuple(sorted(found, key=_generality))
        return self._by_kind[kind]

    def refuse_double(self, entry: Check | Reference) -> None:
        """Raise DeclarationError where another check or reference has the name."""
        known: dict[str, Any] = self.checks if isinstance(entry, Check) else self.references
        noun = "check" if isinstance(entry, Check) else "reference"
        other = known.get(entry.name)
        if other is not None and place_of(other) != place_of(entry):
            raise DeclarationError(
                f"{entry.file}:{entry.line}: {noun} {entry.name!r} is already defined in "
                f"{other.file}:{other.line}; choose another name"
            )

    def add(self, entry: Check | Reference) -> None:
        self.refuse_double(entry)
        known: dict[str, Any] = self.checks if isinstance(entry, Check) else self.references
        known[entry.name] = entry
        self._by_kind.clear()
        if isinstance(entry, Reference):
            self._by_target[entry.target] = entry


@functools.cache
def catalogue() -> Catalogue:
    """What ships with dlcheck, what installed packages add, and what `--plugin` names.

    An installed package that is broken is left out with one PluginWarning. Raises UsageError for
    a module that the person named and that is broken.
    """
    found = Catalogue()
    for group in _GROUPS[1:]:
        for declared in read_package(group):
            found.add(declared)
    for name, version, entries in _installed():
        try:
            plugin = _extended(found, name, version, entries)
        except UsageError as error:
            plugin = Plugin(name, version, problem=str(error))
            warnings.warn(
                f"{name} {version} extends dlcheck and is broken, so it is left out: {error}",
                PluginWarning,
                stacklevel=2,
            )
        found.plugins.append(plugin)
    for module in named_plugins():
        entry = EntryPoint(module, module, _GROUPS[1])
        found.plugins.append(_extended(found, module, "", [entry], said=f"--plugin {module}"))
    for live in _LIVE.values():
        found.add(live.declared)
    for check in found.checks.values():
        refuse_unknown_names(check, found.kinds)
    for reference in found.references.values():
        refuse_unknown_names(reference, found.kinds)
    return found


_GROUPS = ("dlcheck.kinds", "dlcheck.checks", "dlcheck.references")
_NAMED: list[str] = []


def use_plugins(modules: Iterable[str]) -> None:
    """Read the checks and references of these modules too, as if entry points named them."""
    fresh = [module for module in modules if module not in _NAMED]
    if fresh:
        _NAMED.extend(fresh)
        catalogue.cache_clear()


def try_plugins(modules: Iterable[str]) -> None:
    """Read these modules too, or none of them. Raises UsageError where one is broken."""
    before = list(_NAMED)
    use_plugins(modules)
    try:
        catalogue()
    except UsageError:
        _NAMED[:] = before
        catalogue.cache_clear()
        raise


def named_plugins() -> list[str]:
    """The modules that `--plugin`, DLCHECK_PLUGIN or `[tool.dlcheck]` name."""
    from dlcheck.configured import is_configured
    from dlcheck.settings import read_settings

    here = Path.cwd()
    told = read_settings({}, here)["plugin"].value if is_configured(here) else ()
    return list(dict.fromkeys([*_NAMED, *told]))


def _installed() -> Iterator[tuple[str, str, list[EntryPoint]]]:
    """(name, version, entry points) of every distribution that extends dlcheck."""
    found = [entry for group in _GROUPS for entry in entry_points(group=group)]
    owned = sorted(
        ((entry.dist.name, entry.dist.version) if entry.dist else ("a distribution", ""), k)
        for k, entry in enumerate(found)
    )
    for (name, version), entries in groupby(owned, key=lambda each: each[0]):
        yield name, version, [found[k] for _, k in entries]


def _extended(
    found: Catalogue, name: str, version: str, entries: Sequence[EntryPoint], said: str = ""
) -> Plugin:
    """Add all that a distribution declares, or nothing where any of it is broken."""
    known = dict(found.kinds)
    for entry in entries:
        if entry.group == _GROUPS[0]:
            _add_kind(known, entry)
    declared: dict[str, Check | Reference] = {}
    for entry in entries:
        if entry.group != _GROUPS[0]:
            # The same module may stand behind both groups.
            declared |= {place_of(each): each for each in _read_entry(entry, said)}
    for each in declared.values():
        refuse_unknown_names(each, known)
        found.refuse_double(each)
    plugin = Plugin(
        name,
        version,
        kinds=tuple(sorted(known.keys() - found.kinds.keys())),
        checks=tuple(each.name for each in declared.values() if isinstance(each, Check)),
        references=tuple(each.name for each in declared.values() if isinstance(each, Reference)),
    )
    found.kinds.update(known)
    for each in declared.values():
        found.add(each)
    return plugin


def _add_kind(known: dict[str, Kind], entry: EntryPoint) -> None:
    try:
        kind = entry.load()
    except Exception as error:
        raise _broken(entry, f"does not load: {type(error).__name__}: {error}") from error
    if not isinstance(kind, Kind):
        raise _broken(entry, f"is {type(kind).__name__}, not a dlcheck.Kind")
    if known.get(kind.name, kind) != kind:
        raise _broken(entry, f"redefines the kind {kind.name!r}; choose another name")
    known[kind.name] = kind


def _read_entry(entry: EntryPoint, said: str = "") -> list[Check | Reference]:
    if not all(part.isidentifier() for part in entry.value.split(".")):
        raise _broken(entry, "is no module or package: write package.module", said)
    try:
        return list(read_package(entry.value))
    except NoModule as error:
        raise _broken(entry, f"names no module: {error}", said) from None


def _broken(entry: EntryPoint, message: str, said: str = "") -> DeclarationError:
    if said:
        return DeclarationError(f"{said} {message}")
    owner = f" of {entry.dist.name}" if entry.dist is not None else ""
    return DeclarationError(
        f"entry point {entry.group}{owner}: {entry.name} = {entry.value!r} {message}"
    )


# --- the decorators ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Live:
    """A declaration together with its code, its mutants and further references as objects."""

    declared: Check | Reference
    function: Callable[..., Any]
    rejects: tuple[Mutant | Subject, ...] = ()
    accepts: tuple[Subject, ...] = ()


_LIVE: dict[tuple[str, str], Live] = {}


def check(
    *,
    kind: str | Sequence[str],
    rejects: Sequence[Mutant | Subject],
    accepts: Sequence[Subject] = (),
    needs: Iterable[str] = (),
    forbids: Iterable[str] = (),
    options: Mapping[str, Any] = NOTHING,
    dtypes: Sequence[str] = (),
    regimes: Sequence[str] = (),
    tags: Iterable[str] = (),
    once: bool = False,
    textbook: Mapping[str, str] = NOTHING,
) -> Callable[[Function], Function]:
    """Declare a claim. The function is `f(subject, case)` → Evidence, or yields several.

    kind: one name, several, "tensors" (every kind whose subjects return tensors), or "*".
    needs, forbids: traits. options: {name: True} needs the option, {name: False} its absence,
    {name: [values]} one of those values. dtypes, regimes: those in which the claim can be judged,
    all by default. once: one case per trial (the check
    samples or trains by itself) instead of a Hypothesis search. rejects: mutants, each a
    function Subject → broken Subject or a broken Subject, that the check must fail. accepts:
    correct subjects, beside every registered reference that it applies to, that must pass.
    tags: marks in pytest. A check of the tag "experiment" trains for seconds and runs only where a
    suite names it in `checks`; one of the tag "opt_in" need not have its options declared there.
    textbook: {"id": "R1", "says": …, "verdict": "true", "true if" or "false when", "condition": …}
    where the check is (a part of) the experiment behind a statement of the textbook.

    Every argument but `rejects` and `accepts` must be a literal.
    Raises DeclarationError for a check without a docstring or without mutants.
    """

    def register(function: Function) -> Function:
        declared = make_check(
            doc=inspect.getdoc(function) or "",
            rejects=[
                getattr(mutant, "__name__", getattr(mutant, "name", "")) for mutant in rejects
            ],
            accepts=[subject.name for subject in accepts],
            kind=kind,
            needs=needs,
            forbids=forbids,
            options=options,
            dtypes=dtypes,
            regimes=regimes,
            tags=tags,
            once=once,
            textbook=textbook,
            **_place(function),
        )
        _enlist(Live(declared, function, tuple(rejects), tuple(accepts)))
        return function

    return register


def reference(
    *,
    kind: str,
    formula: str,
    source: str,
    inputs: Mapping[str, str] = NOTHING,
    args: Mapping[str, Any] = NOTHING,
    traits: Iterable[str] = (),
    options: Mapping[str, Any] = NOTHING,
) -> Callable[[Function], Function]:
    """Declare a trusted implementation, a function or a class, under its own name.

    formula: in the notation of the source. source: paper and section. inputs, args, traits,
    options: as in a suite. Every argument must be a literal.
    """

    def register(function: Function) -> Function:
        declared = make_reference(
            doc=inspect.getdoc(function) or "",
            kind=kind,
            formula=formula,
            source=source,
            inputs=inputs,
            args=args,
            traits=traits,
            options=options,
            **_place(function),
        )
        _enlist(Live(declared, function))
        return function

    return register


def _place(function: Callable[..., Any]) -> dict[str, Any]:
    """Name, import path, file and line of what is decorated."""
    try:
        file, line = inspect.getsourcefile(function) or "", inspect.getsourcelines(function)[1]
    except (OSError, TypeError):  # typed at a prompt
        file, line = "", 0
    name = function.__name__
    return {"name": name, "where": f"{function.__module__}:{name}", "file": file, "line": line}


def _enlist(live: Live) -> None:
    """Make a decorated function known; a cell that is run again replaces what it declared."""
    declared = live.declared
    noun = "check" if isinstance(declared, Check) else "reference"
    if catalogue.cache_info().currsize and not _is_read(declared):
        refuse_unknown_names(declared, catalogue().kinds)
        catalogue().add(declared)
    _LIVE[noun, declared.name] = live


def _generality(check: Check) -> tuple[float, str]:
    return (-math.inf if "*" in check.kinds else -len(check.kinds)), check.name


def _is_read(declared: Check | Reference) -> bool:
    """Did reading the source find the same? Then its record is kept: equal trials stay equal."""
    if isinstance(declared, Reference):
        return catalogue().references.get(declared.name) == declared
    other = catalogue().checks.get(declared.name)
    if other is None:
        return False
    return replace(declared, rejects=other.rejects, accepts=other.accepts) == other


def live_check(declared: Check) -> Live:
    """The check's code, imported now, with its mutants. Raises UsageError if it cannot be."""
    module, _, name = declared.function.rpartition(":")
    live = _LIVE.get(("check", name))
    if live is None or place_of(live.declared) != declared.function:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(
                f"check {declared.name!r} ({declared.file}:{declared.line}) cannot be imported: "
                f"{error}"
            ) from error
        live = _LIVE.get(("check", name))
    if live is None or place_of(live.declared) != declared.function:
        raise UsageError(
            f"check {declared.name!r} ({declared.file}:{declared.line}) is decorated with another "
            "check than dlcheck.check"
        )
    return live
