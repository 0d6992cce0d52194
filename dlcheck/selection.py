"""Which checks a subject goes through, and why the others do not apply. Loads no torch."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dlcheck.inherited import attached, of_component
from dlcheck.model import Check, Kind, Subject, Suite
from dlcheck.registry import Catalogue, catalogue
from dlcheck.targets import argument_names

_WILD = frozenset("*?[")


def complete(subject: Subject, known: Catalogue | None = None) -> Subject:
    """The subject with what its class, itself as a reference, its reference and its kind declare.

    What the author states wins, then the attribute `dlcheck`, then the reference. Raises
    DeclarationError where the attribute is no declaration.
    """
    known = known or catalogue()
    subject = _with_attached(subject)
    own = known.reference_at(subject.target)
    if own is not None:
        subject = _with_declared(subject, own.subject(), args=own.args)
    other = known.reference_at(subject.reference)
    beside = other.subject() if other is not None else of_component(subject.reference)
    if beside is not None and subject.kind in ("", beside.kind):
        stated = subject.options
        subject = _with_declared(subject, beside, args=_shared_args(subject, beside))
        subject = _without_foreign_names(subject, stated, known.kinds.get(subject.kind))
    kind = known.kinds.get(subject.kind)
    if kind is not None and not kind.implies <= subject.traits:
        subject = replace(subject, traits=subject.traits | kind.implies)
    return subject


def _without_foreign_names(
    subject: Subject, stated: Mapping[str, Any], kind: Kind | None
) -> Subject:
    """Without what the reference declares by naming an argument that the subject does not take."""
    if kind is None:
        return subject
    inherited = (kind.named - kind.numbers) & set(subject.options) - set(stated)
    foreign = {option for option in inherited if means_nothing(subject, kind, option)}
    kept = {option: said for option, said in subject.options.items() if option not in foreign}
    return replace(subject, options=kept) if foreign else subject


def means_nothing(subject: Subject, kind: Kind, option: str) -> bool:
    """Is it a text that is none of the option's words, nor names an argument where it may?"""
    said = subject.options.get(option)
    if not isinstance(said, str) or said in kind.values.get(option, ()):
        return False
    if option not in kind.named:
        return True
    taken = argument_names(subject.target, near=subject.file)
    return taken is not None and said not in taken


def _with_attached(subject: Subject) -> Subject:
    declared = attached(subject)
    if not declared:
        return subject
    return replace(
        subject,
        kind=subject.kind or declared.get("kind", ""),
        inputs=subject.inputs or declared.get("inputs", {}),
        traits=subject.traits or frozenset(declared.get("traits", ())),
        options={**declared.get("options", {}), **subject.options},
        args={**declared.get("args", {}), **subject.args},
        matrix=subject.matrix or declared.get("matrix", {}),
        reference=declared.get("reference") if subject.reference is None else subject.reference,
        reference_args=subject.reference_args or declared.get("reference_args", {}),
    )


def _with_declared(subject: Subject, other: Subject, args: Mapping[str, Any]) -> Subject:
    """With the other's declaration where the subject has none; sizes go with the inputs."""
    options = dict(other.options)
    if subject.inputs and dict(subject.inputs) != dict(other.inputs):
        options.pop("sizes", None)
    return replace(
        subject,
        kind=subject.kind or other.kind,
        inputs=subject.inputs or other.inputs,
        traits=subject.traits or other.traits,
        options={**options, **subject.options},
        args={**args, **subject.args},
    )


def _shared_args(subject: Subject, other: Subject) -> Mapping[str, Any]:
    """The arguments with which the reference is built, where the subject takes the same ones."""
    taken = argument_names(subject.target, near=subject.file)
    if subject.args or subject.inputs or taken is None or not set(other.args) <= set(taken):
        return {}
    return other.args


def unchecked(subject: Subject, known: Catalogue | None = None) -> dict[str, list[str]]:
    """What would be checked if it were declared: "trait causal" → the checks that need it.

    Of a completed subject; only where one declaration is missing. A trait that exempts from other
    checks is no such declaration: it would be one that the subject is otherwise.
    """
    known = known or catalogue()
    of_kind = known.checks_of(subject.kind)
    exempting = {trait for check in of_kind for trait in check.forbids}
    found: dict[str, list[str]] = {}
    for check in of_kind:
        if check.forbids & subject.traits or check.needs & (exempting - subject.traits):
            continue
        lacking = [f"trait {trait}" for trait in sorted(check.needs - subject.traits)]
        for option, allowed in check.options.items():
            given = subject.reference is not None if option == "reference" else None
            given = option in subject.options if given is None else given
            if not given and allowed is not False and None not in _choices(allowed):
                lacking.append("a reference" if option == "reference" else f"option {option}")
        if len(lacking) == 1:
            found.setdefault(lacking[0], []).append(check.name)
    return dict(sorted(found.items()))


def _choices(allowed: Any) -> list[Any]:
    return list(allowed) if isinstance(allowed, (list, tuple, set, frozenset)) else [allowed]


def matching(glob: str, checks: Iterable[Check]) -> list[Check]:
    """The checks whose name a glob matches."""
    if not _WILD & set(glob):
        return [check for check in checks if check.name == glob]
    return [check for check in checks if fnmatch.fnmatchcase(check.name, glob)]


def applying(subject: Subject, known: Catalogue | None = None) -> list[Check]:
    """The checks that a completed subject goes through, in order of name."""
    known = known or catalogue()
    of_kind = known.checks_of(subject.kind)
    chosen: Iterable[Check] = of_kind
    if subject.checks:
        wanted = {check.name for glob in subject.checks for check in matching(glob, of_kind)}
        chosen = [check for check in of_kind if check.name in wanted]
    skipped = {check.name for glob in subject.skip for check in matching(glob, of_kind)}
    return [check for check in chosen if check.name not in skipped and not check.why_not(subject)]


def nothing_applies(subject: Subject, known: Catalogue) -> str:
    """Why a subject meets no check: what the checks of its kind would need."""
    of_kind = known.checks_of(subject.kind)
    message = f"no check applies to subject {subject.name!r} of kind {subject.kind!r}"
    if not of_kind:
        return f"{message}: this kind has no checks yet; see: dlcheck list checks"
    reasons = [f"{check.name} {why}" for check in of_kind if (why := check.why_not(subject))]
    if len(reasons) < len(of_kind):
        message += " that its checks and skip leave"
    return ": ".join([message, "; ".join(reasons[:3])]) if reasons else message


def matrix_of(subject: Subject, suite: Suite) -> dict[str, Sequence[Any]]:
    """The axes of a subject: the suite's, then its own; device and dtype always there."""
    return {"device": ["cpu", "cuda"], "dtype": ["float64"], **suite.matrix, **subject.matrix}
