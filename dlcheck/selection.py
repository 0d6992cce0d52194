"""Which checks a subject goes through, and why the others do not apply. Loads no torch."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from dlcheck.model import Check, Subject, Suite
from dlcheck.registry import Catalogue, catalogue

_WILD = frozenset("*?[")


def complete(subject: Subject, known: Catalogue | None = None) -> Subject:
    """The subject with what its registered reference declares; what the author states wins."""
    known = known or catalogue()
    own = known.reference_at(subject.target)
    other = known.reference_at(subject.reference)
    for reference in (own, other):
        if reference is None:
            continue
        subject = replace(
            subject,
            kind=subject.kind or reference.kind,
            inputs=subject.inputs or reference.inputs,
            traits=subject.traits or reference.traits,
            options={**reference.options, **subject.options},
            args={**reference.args, **subject.args} if reference is own else subject.args,
        )
    return subject


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
