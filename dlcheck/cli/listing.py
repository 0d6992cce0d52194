"""`dlcheck list`: what there is, by name. Reads sources only; loads no torch."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dlcheck import kinds
from dlcheck.cli import Parser
from dlcheck.domains import ELEMENTS
from dlcheck.model import PROFILES, Check, Statement
from dlcheck.registry import catalogue

WHAT = (
    "checks", "kinds", "traits", "options", "references", "suites", "elements", "profiles",
    "statements",
)  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Print a list; returns the exit code."""
    parser = Parser(prog="dlcheck list", description="List what dlcheck knows.")
    parser.add_argument("what", nargs="?", default="checks", choices=WHAT)
    parser.add_argument("--kind", help="only what concerns this kind")
    parser.add_argument("--mutants", action="store_true", help="checks: the broken subjects that "
                        "each must reject")  # fmt: skip
    parser.add_argument("--prove", action="store_true", help="run every check on every mutant now "
                        "and print the kill table")  # fmt: skip
    given = parser.parse_args(arguments)
    if given.kind:
        catalogue().kind(given.kind)  # an unknown kind is a usage error
    if given.what == "checks" and (given.mutants or given.prove):
        from dlcheck.cli.mutants import kill_table

        return kill_table(_checks(given.kind), prove=given.prove)
    for line in _LISTS[given.what](given.kind):
        print(line)
    return 0


def _checks(kind: str | None) -> list[Check]:
    return [
        check
        for check in sorted(catalogue().checks.values(), key=lambda check: check.name)
        if not kind or kind in check.kinds or "*" in check.kinds
    ]


def _list_checks(kind: str | None) -> Iterator[str]:
    names: dict[str, list[Check]] = {}
    for check in _checks(kind):
        shown = kind or ", ".join(check.kinds)
        names.setdefault("every kind" if shown == "*" else shown, []).append(check)
    for group in sorted(names):
        yield group
        yield from entries({check.name: check.claim for check in names[group]})


def _list_kinds(kind: str | None) -> Iterator[str]:
    known = catalogue().kinds
    yield from entries(
        {
            name: f"{known[name].call}: {known[name].summary}"
            for name in known
            if not kind or name == kind
        }
    )


def _list_traits(kind: str | None) -> Iterator[str]:
    yield from _common_and_own(kinds.COMMON_TRAITS, kind, "traits")


def _list_options(kind: str | None) -> Iterator[str]:
    yield from _common_and_own(kinds.COMMON_OPTIONS, kind, "options")


def _common_and_own(common: Mapping[str, str], kind: str | None, field: str) -> Iterator[str]:
    yield "every kind"
    yield from entries(common)
    for name, known in catalogue().kinds.items():
        own = getattr(known, field)
        if own and (not kind or name == kind):
            yield name
            yield from entries(own)


def _list_references(kind: str | None) -> Iterator[str]:
    for reference in sorted(catalogue().references.values(), key=lambda r: (r.kind, r.name)):
        if not kind or reference.kind == kind:
            yield from entries({reference.name: f"{reference.kind}: {reference.formula}"})
            yield from entries({"": f"{reference.target} ({reference.source})"})


def _list_suites(kind: str | None) -> Iterator[str]:
    from dlcheck.shipped import suite_paths
    from dlcheck.suite import read_suite

    yield from entries(
        {name: f"{read_suite(path).claim} ({path})" for name, path in suite_paths().items()}
    )


def _list_elements(kind: str | None) -> Iterator[str]:
    yield from entries({name: meaning for name, (_, _, meaning) in ELEMENTS.items()})


def _list_profiles(kind: str | None) -> Iterator[str]:
    yield from entries(
        {p.name: f"{p.examples} cases a trial, effort × {p.effort}" for p in PROFILES.values()}
    )


def _list_statements(kind: str | None) -> Iterator[str]:
    """What the textbook says, how far it is so, and by which checks."""
    found: dict[Statement, list[str]] = {}
    for check in _checks(kind):
        if check.textbook:
            found.setdefault(check.textbook, []).append(check.name)
    for statement in sorted(found, key=lambda each: each.place):
        yield from entries({statement.id: f"{statement.says}: {statement.ruling}."})
        yield from entries({"": ", ".join(found[statement])})


_LISTS = {
    "checks": _list_checks,
    "kinds": _list_kinds,
    "traits": _list_traits,
    "options": _list_options,
    "references": _list_references,
    "suites": _list_suites,
    "elements": _list_elements,
    "profiles": _list_profiles,
    "statements": _list_statements,
}


def entries(named: Mapping[str, str]) -> Iterable[str]:
    """Name and meaning in two columns, the meaning wrapped to the terminal."""
    if not named:
        return
    width = max(shutil.get_terminal_size((100, 24)).columns, 60)
    column = min(max(len(name) for name in named) + 4, 40)
    for name, meaning in named.items():
        lines = textwrap.wrap(meaning, width - column) or [""]
        if len(name) + 2 >= column:
            yield f"  {name}"
            name = ""
        yield f"  {name:<{column - 2}}{lines[0]}"
        yield from (" " * column + line for line in lines[1:])
