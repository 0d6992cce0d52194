"""Does what a suite says make sense? Names, globs, import paths, inputs, arguments, axes.

Every problem is given with the path of the key that it stands at, and with a suggestion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlcheck import domains, kinds, targets
from dlcheck.errors import DeclarationError, unknown
from dlcheck.model import Check, ExpectedFailure, Kind, Subject, Suite
from dlcheck.registry import Catalogue, catalogue
from dlcheck.requirements import why_absent
from dlcheck.selection import (
    applying,
    complete,
    matching,
    matrix_of,
    means_nothing,
    nothing_applies,
)
from dlcheck.suite_records import Found

_OWN_AXES = ("device", "dtype")
_ROLES = ("prediction", "target", "data")


def problems_of(suite: Suite, whole: Sequence[bool] = ()) -> Found:
    """What is wrong with what a suite says. whole: subjects whose form is right, all by default.

    A subject of which a part is missing is not told that no check applies to it.
    """
    known = catalogue()
    for i, declared in enumerate(suite.subjects):
        subject = complete(declared, known)
        found = _of_subject(subject, suite, known, is_whole=not whole or whole[i])
        yield from ((("subject", i, *path), message) for path, message in found)


def _of_subject(subject: Subject, suite: Suite, known: Catalogue, *, is_whole: bool) -> Found:
    yield from _of_paths(subject)
    kind = known.kinds.get(subject.kind)
    if kind is None:
        if subject.kind:
            yield ("kind",), unknown("kind", subject.kind, known.kinds, see="dlcheck list kinds")
        elif is_whole:
            yield (), f"subject {subject.name!r} needs a kind; see: dlcheck list kinds"
        return
    yield from _of_names(subject, kind)
    inputs = kinds.inputs_of(kind, subject.inputs, subject.options)
    yield from domains.problems_of(inputs, subject.args, subject.options)
    yield from _of_input_names(subject, inputs)
    yield from _of_numbers(subject, kind, inputs)
    yield from _of_roles(subject, inputs)
    yield from _of_globs(subject, known)
    if is_whole:
        yield from _of_requirements(subject, kind)
        applicable = applying(subject, known)
        if not applicable:
            yield (), nothing_applies(subject, known)
        yield from _of_expectations(subject, suite, applicable, known)


def _of_paths(subject: Subject) -> Found:
    if why_absent(subject.requires):
        return  # it is not run, and says why
    for key, given in (("target", "args"), ("reference", "reference_args")):
        path = getattr(subject, key)
        if path and isinstance(path, str) and (problem := targets.problem_with(path, subject.file)):
            yield (key,), problem
            continue
        accepted = targets.argument_names(path, near=subject.file)
        if accepted is None:
            continue
        for name in getattr(subject, given):
            if name not in accepted:
                yield (given, name), unknown(f"argument of {_named(path)}", name, accepted)
        for name in subject.matrix if key == "target" else ():
            if name not in accepted and name not in _OWN_AXES:
                yield ("matrix", name), unknown("axis", name, [*_OWN_AXES, *accepted])


def _named(target: object) -> str:
    return target if isinstance(target, str) else getattr(target, "__qualname__", "the target")


def _of_names(subject: Subject, kind: Kind) -> Found:
    traits, options = kinds.traits_of(kind), kinds.options_of(kind)
    for trait in sorted(subject.traits):
        if trait not in traits:
            yield ("traits",), unknown("trait", trait, traits, see="dlcheck list traits")
    for option in subject.options:
        if option not in options:
            noun = f"option of kind {kind.name}"
            yield ("options", option), unknown(noun, option, options, see="dlcheck list options")
    yield from _of_values(subject, kind)
    task = subject.options.get("task")
    if kind.by_task and task is not None and task not in list(kind.by_task):
        yield ("options", "task"), unknown("task", task, kind.by_task)


def _of_values(subject: Subject, kind: Kind) -> Found:
    """Options whose text is one of a few words, or, some of them, the name of an argument."""
    for option, words in kind.values.items():
        if not means_nothing(subject, kind, option):
            continue
        named = targets.argument_names(subject.target, near=subject.file)
        known = [*words, *(named or ())] if option in kind.named else list(words)
        yield ("options", option), unknown(f"value of {option}", subject.options[option], known)


def _of_numbers(subject: Subject, kind: Kind, inputs: Mapping[str, str]) -> Found:
    """Options that are a number or, some of them, the name of a dim or an argument."""
    for option in sorted(kind.numbers & set(subject.options)):
        said = subject.options[option]
        if isinstance(said, str) and option in kind.named:
            accepted = targets.argument_names(subject.target, near=subject.file)
            dims = _dims_of(inputs)
            is_right = accepted is None or said in {*accepted, *dims, *kinds.INFINITE}
        elif isinstance(said, str):
            is_right = said in kinds.INFINITE
        else:
            is_right = isinstance(said, (int, float)) and not isinstance(said, bool)
        if not is_right:
            named = ", or names a dim or an argument" * (option in kind.named)
            message = f"{option} is a number, 'inf' or '-inf'{named}, not {said!r}"
            yield ("options", option), message


def _dims_of(inputs: Mapping[str, str]) -> set[str]:
    """Names of the dims of inputs; what cannot be read is told elsewhere."""
    found: set[str] = set()
    for text in inputs.values():
        with contextlib.suppress(DeclarationError):
            found |= domains.parse_input(text).names
    return found


def _of_requirements(subject: Subject, kind: Kind) -> Found:
    for option in sorted(kind.required - set(subject.options)):
        meaning = kinds.options_of(kind).get(option, "")
        yield ("options",), f"kind {kind.name!r} needs the option {option}: {meaning}"
    if kind.by_task and "task" not in subject.options and not subject.inputs:
        tasks = ", ".join(kind.by_task)
        yield ("options",), f"kind {kind.name!r} needs inputs, or the option task, one of: {tasks}"


def _of_input_names(subject: Subject, inputs: Mapping[str, str]) -> Found:
    """Options that name inputs."""
    for option in ("wrt", "stop_gradient", "state", "reset"):
        given = subject.options.get(option, [])
        for name in [given] if isinstance(given, str) else given if isinstance(given, list) else []:
            if inputs and name not in list(inputs):
                yield ("options", option), unknown("input", name, inputs)


def _of_roles(subject: Subject, inputs: Mapping[str, str]) -> Found:
    """`roles = { prediction, target, data }` name inputs."""
    roles = subject.options.get("roles", {})
    for role, given in roles.items() if isinstance(roles, Mapping) else ():
        if role not in _ROLES:
            yield ("options", "roles", role), unknown("role", role, _ROLES)
        names = given if isinstance(given, list) else [given]
        if wrong := [name for name in names if not isinstance(name, str)]:
            message = f"the role {role!r} names an input, or a list of them, not {wrong[0]!r}"
            yield ("options", "roles", role), message
            continue
        for name in names:
            if inputs and name not in inputs:
                yield ("options", "roles", role), unknown("input", name, inputs)


def _of_globs(subject: Subject, known: Catalogue) -> Found:
    for key in ("checks", "skip"):
        for glob in getattr(subject, key):
            matched = matching(glob, known.checks.values())
            if not matched:
                yield (key,), _no_check(glob, known)
            elif key == "checks" and (reasons := _all_reasons(matched, subject)):
                message = f"{glob!r} matches no check that applies to {subject.name!r}: {reasons}"
                yield (key,), message


def _no_check(glob: str, known: Catalogue) -> str:
    if any(wild in glob for wild in "*?["):
        return f"{glob!r} matches no check. See: dlcheck list checks"
    return unknown("check", glob, known.checks, see="dlcheck list checks")


def _all_reasons(checks: Sequence[Check], subject: Subject) -> str:
    """Why none of the checks applies; empty if one does."""
    reasons = {f"{check.name} {check.why_not(subject)}": check for check in checks}
    if any(not check.why_not(subject) for check in checks):
        return ""
    return "; ".join(sorted(reasons)[:3])


def _of_expectations(
    subject: Subject, suite: Suite, applicable: Sequence[Check], known: Catalogue
) -> Found:
    matrix = matrix_of(subject, suite)
    for i, expected in enumerate(subject.expect_failures):
        for path, message in _of_expected(expected, subject, matrix, applicable, known):
            yield ("expect_failure", i, *path), message


def _of_expected(
    expected: ExpectedFailure,
    subject: Subject,
    matrix: Mapping[str, Sequence[Any]],
    applicable: Sequence[Check],
    known: Catalogue,
) -> Iterator[tuple[tuple[str, ...], str]]:
    matched = matching(expected.check, known.checks.values())
    if not matched:
        yield ("check",), _no_check(expected.check, known)
    elif applicable and not matching(expected.check, applicable):
        why = _all_reasons(matched, subject) or "its checks and skip leave it out"
        yield ("check",), f"{expected.check!r} expects a check that is not run here: {why}"
    for axis, value in expected.when.items():
        if axis not in matrix:
            yield ("when", axis), unknown("axis", axis, matrix)
        elif not any(value is taken or value == taken for taken in matrix[axis]):
            values = ", ".join(map(repr, matrix[axis]))
            yield ("when", axis), f"when {axis} = {value!r} matches nothing; it takes {values}"
