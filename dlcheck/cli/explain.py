"""`dlcheck explain NAME`: a check, kind, trait, element or reference in full. Loads no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from dlcheck import kinds
from dlcheck.cli import Parser
from dlcheck.cli.listing import entries
from dlcheck.domains import ELEMENTS
from dlcheck.errors import UsageError, unknown
from dlcheck.model import Check, Kind, Reference
from dlcheck.registry import Catalogue, catalogue


def main(arguments: Sequence[str]) -> int:
    """Print everything that is known under a name; returns the exit code."""
    parser = Parser(prog="dlcheck explain", description="Explain a name in full.")
    parser.add_argument("name", help="a check, kind, trait, option, element or reference")
    name = parser.parse_args(arguments).name
    found = list(_explanations(name, catalogue()))
    if not found:
        raise UsageError(unknown("name", name, _names(catalogue()), see="dlcheck list"))
    print("\n\n".join(found))
    return 0


def _names(known: Catalogue) -> list[str]:
    return [*known.checks, *known.kinds, *known.references, *kinds.COMMON_TRAITS,
            *kinds.COMMON_OPTIONS, *ELEMENTS]  # fmt: skip


def _explanations(name: str, known: Catalogue) -> Iterator[str]:
    if name in known.checks:
        yield _check(known.checks[name], known)
    if name in known.kinds:
        yield _kind(known.kinds[name], known)
    if name in known.references:
        yield _reference(known.references[name], known)
    if name in ELEMENTS:
        yield f"element {name}\n\n{ELEMENTS[name][2]}"
    for noun, common, field in (
        ("trait", kinds.COMMON_TRAITS, "traits"),
        ("option", kinds.COMMON_OPTIONS, "options"),
    ):
        meanings = {"every kind": common.get(name)}
        meanings |= {kind.name: getattr(kind, field).get(name) for kind in known.kinds.values()}
        shown = {owner: meaning for owner, meaning in meanings.items() if meaning}
        if shown:
            yield "\n".join([f"{noun} {name}", "", *entries(shown), *_users(name, noun, known)])


def _users(name: str, noun: str, known: Catalogue) -> list[str]:
    users = {
        check.name: check.claim
        for check in known.checks.values()
        if name in (check.needs if noun == "trait" else check.options)
    }
    return ["", f"Checks that need it ({len(users)}):", *entries(users)] if users else []


def _check(check: Check, known: Catalogue) -> str:
    facts = {
        "kind": "every kind" if check.kinds == ("*",) else ", ".join(check.kinds),
        "needs": ", ".join(sorted(check.needs)),
        "does not apply with": ", ".join(sorted(check.forbids)),
        "options": ", ".join(f"{key} = {value}" for key, value in check.options.items()),
        "dtypes": ", ".join(check.dtypes),
        "regimes": ", ".join(check.regimes),
        "runs": "once a trial" if check.once else "on cases that Hypothesis draws",
        "tags": ", ".join(sorted(check.tags)),
        "textbook": f"{check.textbook.id}, {check.textbook.says}: {check.textbook.ruling}"
        if check.textbook
        else "",
        "source": f"{check.file}:{check.line}",
    }
    subjects = [r.name for r in known.references.values() if not check.why_not(r.subject())]
    return "\n".join(
        [
            f"check {check.name}",
            "",
            check.doc,
            "",
            *entries({key: value for key, value in facts.items() if value}),
            "",
            "Must reject:",
            *(f"  ✗ {mutant}" for mutant in check.rejects),
            "Must accept:",
            *(f"  ✓ {name}" for name in [*subjects, *check.accepts]),
        ]
    )


def _kind(kind: Kind, known: Catalogue) -> str:
    lines = [f"kind {kind.name}", "", f"{kind.call}: {kind.summary}."]
    tasks = {f"task {task}": _inputs(inputs) for task, inputs in kind.by_task.items()}
    inputs = {"inputs": _inputs(kind.inputs)} if kind.inputs else {}
    required = {"needs": ", ".join(sorted(kind.required))} if kind.required else {}
    lines += ["", *entries({**inputs, **tasks, **required})] if inputs or tasks or required else []
    for title, named in (("Options:", kind.options), ("Traits:", kind.traits)):
        if named:
            lines += ["", title, *entries(named)]
    checks = {c.name: c.claim for c in known.checks.values() if {kind.name, "*"} & set(c.kinds)}
    lines += ["", f"Checks ({len(checks)}):", *entries(dict(sorted(checks.items())))]
    lines += ["", f"Begin a suite: dlcheck new {kind.name}"]
    return "\n".join(lines)


def _inputs(inputs: object) -> str:
    return ", ".join(f'{name} = "{text}"' for name, text in dict(inputs).items())  # type: ignore[call-overload]


def _reference(reference: Reference, known: Catalogue) -> str:
    facts = {
        "kind": reference.kind,
        "formula": reference.formula,
        "source": reference.source,
        "target": reference.target,
        "inputs": _inputs(reference.inputs),
        "traits": ", ".join(sorted(reference.traits)),
        "options": ", ".join(f"{key} = {value!r}" for key, value in reference.options.items()),
        "defined in": f"{reference.file}:{reference.line}",
    }
    doc = textwrap.dedent(reference.doc)
    shown = entries({key: value for key, value in facts.items() if value})
    return "\n".join([f"reference {reference.name}", "", doc, "", *shown])
