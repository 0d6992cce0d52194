"""`@check` and `@reference`: how one file becomes known to every suite.

What a decorator declares is literal, so it is *read* from the source of every module of
`dlcheck.checks` and `dlcheck.references` (and of the packages that entry points of those two
names point to) without importing any: listing and collecting load no torch. The code is imported
when a trial runs. A decorator that runs outside those packages (a notebook, a test file)
registers what it declares at once.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from dlcheck import domains, kinds, targets
from dlcheck.errors import DeclarationError, UsageError, unknown
from dlcheck.model import NOTHING, Check, Kind, Mutant, Reference, Subject

Function = TypeVar("Function", bound=Callable[..., Any])

_CHECK_LITERALS = ("kind", "needs", "forbids", "options", "dtypes", "regimes", "tags", "once")
_REFERENCE_LITERALS = ("kind", "formula", "source", "inputs", "args", "traits", "options")


@dataclass(slots=True)
class Catalogue:
    """Everything that is known by name."""

    checks: dict[str, Check] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=lambda: dict(kinds.BUILT_IN))
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
        """The checks of a kind and of every kind, in order of name."""
        if kind not in self._by_kind:
            found = (c for c in self.checks.values() if kind in c.kinds or "*" in c.kinds)
            self._by_kind[kind] = tuple(sorted(found, key=lambda check: check.name))
        return self._by_kind[kind]

    def add(self, entry: Check | Reference) -> None:
        known: dict[str, Any] = self.checks if isinstance(entry, Check) else self.references
        noun = "check" if isinstance(entry, Check) else "reference"
        other = known.get(entry.name)
        if other is not None and (other.file, other.line) != (entry.file, entry.line):
            raise DeclarationError(
                f"{entry.file}:{entry.line}: {noun} {entry.name!r} is already defined in "
                f"{other.file}:{other.line}; choose another name"
            )
        known[entry.name] = entry
        self._by_kind.clear()
        if isinstance(entry, Reference):
            self._by_target[entry.target] = entry


@functools.cache
def catalogue() -> Catalogue:
    """What ships with dlcheck and what installed packages add to it."""
    found = Catalogue()
    for entry in entry_points(group="dlcheck.kinds"):
        kind = _load_entry(entry)
        if not isinstance(kind, Kind):
            raise DeclarationError(
                f"entry point dlcheck.kinds {entry.name!r} is {type(kind).__name__}, not a Kind"
            )
        found.kinds[kind.name] = kind
    for package in ("dlcheck.checks", "dlcheck.references"):
        added = [entry.value for entry in entry_points(group=package)]
        for source in dict.fromkeys([package, *added]):
            for declared in read_package(source):
                found.add(declared)
    for live in _LIVE.values():
        found.add(live.declared)
    return found


def _load_entry(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:
        raise DeclarationError(
            f"entry point {entry.group} {entry.name!r} = {entry.value!r} does not load: "
            f"{type(error).__name__}: {error}"
        ) from error


# --- reading declarations ---------------------------------------------------------------------


def read_package(name: str) -> Iterator[Check | Reference]:
    """Every check and reference declared in a module, or below a package, in order of path."""
    source = targets.find_source(name)
    if source is None:
        raise DeclarationError(f"there is no module {name!r} to read checks or references from")
    if source.name != "__init__.py":
        yield from read_module(name, source)
        return
    root = source.parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join([name, *(part for part in parts if part != "__init__")])
        yield from read_module(module, path)


def read_module(module: str, path: Path) -> Iterator[Check | Reference]:
    """Every check and reference declared in one file."""
    for node in targets.parse_source(path).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and (noun := _called(decorator.func)):
                yield _read(noun, node, decorator, module, path)


def _called(function: ast.expr) -> str:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name if name in ("check", "reference") else ""


def _read(
    noun: str, node: ast.FunctionDef | ast.ClassDef, call: ast.Call, module: str, path: Path
) -> Check | Reference:
    names = _CHECK_LITERALS if noun == "check" else _REFERENCE_LITERALS
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg in ("rejects", "accepts"):
            arguments[keyword.arg] = _names_of(keyword.value)
        elif keyword.arg in names:
            arguments[keyword.arg] = _literal(keyword, path)
        else:
            message = unknown(f"argument of @{noun}", keyword.arg, [*names, "rejects", "accepts"])
            raise DeclarationError(f"{path}:{keyword.value.lineno}: {message}")
    make = _make_check if noun == "check" else _make_reference
    line = min(decorator.lineno for decorator in node.decorator_list)
    return make(
        name=node.name,
        doc=ast.get_docstring(node) or "",
        where=f"{module}:{node.name}",
        file=str(path),
        line=line,
        **arguments,
    )


def _literal(keyword: ast.keyword, path: Path) -> Any:
    try:
        return ast.literal_eval(keyword.value)
    except ValueError:
        raise DeclarationError(
            f"{path}:{keyword.value.lineno}: {keyword.arg} must be a literal, for it is read "
            f"without importing the file; found {ast.unparse(keyword.value)}"
        ) from None


def _names_of(node: ast.expr) -> tuple[str, ...]:
    parts = node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]
    return tuple(ast.unparse(part) for part in parts)


def _make_check(
    *,
    name: str,
    doc: str,
    where: str,
    file: str,
    line: int,
    kind: str | Sequence[str],
    rejects: Sequence[str] = (),
    accepts: Sequence[str] = (),
    needs: Iterable[str] = (),
    forbids: Iterable[str] = (),
    options: Mapping[str, Any] = NOTHING,
    dtypes: Sequence[str] = (),
    regimes: Sequence[str] = (),
    tags: Iterable[str] = (),
    once: bool = False,
) -> Check:
    if not doc:
        raise DeclarationError(f"{file}:{line}: check {name!r} needs a docstring: its claim")
    if not rejects:
        raise DeclarationError(
            f"{file}:{line}: check {name!r} rejects nothing: name at least one mutant that it "
            "must reject, for a check that cannot fail is no check"
        )
    return Check(
        name=name,
        claim=first_line(doc),
        kinds=(kind,) if isinstance(kind, str) else tuple(kind),
        function=where,
        file=file,
        line=line,
        doc=doc,
        needs=frozenset(needs),
        forbids=frozenset(forbids),
        options=options,
        dtypes=tuple(dtypes),
        regimes=tuple(regimes),
        tags=frozenset(tags),
        once=once,
        rejects=tuple(rejects),
        accepts=tuple(accepts),
    )


def _make_reference(
    *,
    name: str,
    doc: str,
    where: str,
    file: str,
    line: int,
    kind: str,
    formula: str,
    source: str,
    inputs: Mapping[str, str] = NOTHING,
    args: Mapping[str, Any] = NOTHING,
    traits: Iterable[str] = (),
    options: Mapping[str, Any] = NOTHING,
) -> Reference:
    for path, message in domains.problems_of(inputs, args, options):
        raise DeclarationError(f"{file}:{line}: reference {name!r}, {'.'.join(path)}: {message}")
    return Reference(
        name=name,
        kind=kind,
        target=where,
        formula=formula,
        source=source,
        file=file,
        line=line,
        inputs=inputs,
        args=args,
        traits=frozenset(traits),
        options=options,
        doc=doc,
    )


def first_line(doc: str) -> str:
    """The first sentence-line of a docstring: a check's claim."""
    paragraph = doc.strip().split("\n\n")[0]
    return " ".join(part.strip() for part in paragraph.splitlines())


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
) -> Callable[[Function], Function]:
    """Declare a claim. The function is `f(subject, case)` → Evidence, or yields several.

    kind: one name, several, or "*". needs, forbids: traits. options: {name: True} needs the
    option, {name: False} its absence, {name: [values]} one of those values. dtypes, regimes:
    those in which the claim can be judged, all by default. once: one case per trial (the check
    samples or trains by itself) instead of a Hypothesis search. rejects: mutants, each a
    function Subject → broken Subject or a broken Subject, that the check must fail. accepts:
    correct subjects, beside every registered reference that it applies to, that must pass.

    Every argument but `rejects` and `accepts` must be a literal.
    Raises DeclarationError for a check without a docstring or without mutants.
    """

    def register(function: Function) -> Function:
        declared = _make_check(
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
        declared = _make_reference(
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
    declared = live.declared
    noun = "check" if isinstance(declared, Check) else "reference"
    _LIVE[noun, declared.name] = live
    if catalogue.cache_info().currsize and not _is_read(declared):
        catalogue().add(declared)


def _is_read(declared: Check | Reference) -> bool:
    """Did reading the packages find it already?"""
    found: Mapping[str, Any] = (
        catalogue().checks if isinstance(declared, Check) else catalogue().references
    )
    here = declared.function if isinstance(declared, Check) else declared.target
    other = found.get(declared.name)
    if other is None:
        return False
    return here == (other.function if isinstance(other, Check) else other.target)


def live_check(declared: Check) -> Live:
    """The check's code, imported now, with its mutants. Raises UsageError if it cannot be."""
    module, _, name = declared.function.rpartition(":")
    live = _LIVE.get(("check", name))
    if live is None or live.declared.function != declared.function:  # type: ignore[union-attr]
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(
                f"check {declared.name!r} ({declared.file}:{declared.line}) cannot be imported: "
                f"{error}"
            ) from error
        live = _LIVE[("check", name)]
    return live
