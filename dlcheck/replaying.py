"""A failure that was kept → its trial, declared as it is today, → its case run again."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dlcheck.errors import UsageError, unknown
from dlcheck.expansion import Overrides, expand, expand_subject
from dlcheck.failures import STRICT, Failure
from dlcheck.model import Outcome, Subject, Suite, Trial
from dlcheck.registry import catalogue, try_plugins
from dlcheck.requirements import why_absent
from dlcheck.suite import check_suite, complete, parse_suite, read_suite


class CannotReplay(UsageError):
    """What failed cannot be had here, or now; the message says what and why."""


class Gone(CannotReplay):
    """Nothing declares it any more: its suite, its subject, its check or its point."""


def run_again(failure: Failure, root: Path) -> Outcome:
    """Run the case of a failure, on what is declared now. Raises CannotReplay.

    The verdict is FAILED where it fails as before, whether or not that is expected, and PASSED
    where it is mended; any other says that this cannot be told.
    """
    from dlcheck.runner import run_trial

    outcome = run_trial(trial_of(failure, root))
    return replace(outcome, reproduce=failure.command, failure=failure.id, target=failure.target)


def trial_of(failure: Failure, root: Path) -> Trial:
    """The trial that failed, with its case as the only one. Raises CannotReplay.

    It is declared as the suite says now; as it was then where that file is not here, as that of
    another machine, or where it stands in none.
    """
    _read_plugins(failure, root)
    if failure.check not in (checks := catalogue().checks):
        broken = [each.problem for each in catalogue().plugins if each.problem]
        why = unknown("check", failure.check, checks, see="dlcheck list checks")
        raise CannotReplay("\n".join([why, *broken])) if broken else Gone(why)
    trials = list(_trials(failure, root))
    for trial in trials:
        if (trial.check.name, trial.point) == (failure.check, failure.point):
            break
    else:
        raise Gone(_why_gone(failure, trials))
    if failure.verdict != STRICT:
        trial = replace(trial, subject=replace(trial.subject, expect_failures=()))
    only = failure.recipe is not None
    return replace(trial, witness=failure.recipe, only_witness=only, scripted=True)


def _read_plugins(failure: Failure, root: Path) -> None:
    if failure.plugins:
        _see(root)
    try:
        try_plugins(failure.plugins)
    except UsageError as error:
        raise CannotReplay(str(error)) from None


def _trials(failure: Failure, root: Path) -> Iterator[Trial]:
    """Those of the subject, at the point's device and dtype."""
    overrides = Overrides(
        targets=failure.swaps,
        devices=(failure.device,),
        dtypes=(failure.dtype,),
        profile=failure.profile,
        seed=failure.seed,
        timeout=failure.timeout,
        memory=failure.memory,
    )
    file, _, inside = failure.place.partition("::")
    path = root / file
    try:
        if path.suffix == ".toml" and path.is_file():
            yield from _of_suite(read_suite(path), failure, overrides)
        elif path.suffix == ".py" and path.is_file():
            yield from _of_python(path, inside, root, failure, overrides)
        else:
            yield from _as_declared(failure, overrides)
    except CannotReplay:
        raise
    except UsageError as error:
        raise CannotReplay(str(error)) from None


def _of_suite(suite: Suite, failure: Failure, overrides: Overrides) -> Iterator[Trial]:
    names = [subject.name for subject in suite.subjects]
    if failure.subject not in names:
        raise Gone(f"{failure.place}: {unknown('subject', failure.subject, names)}")
    subject = complete(suite.subjects[names.index(failure.subject)])
    if absent := why_absent(subject.requires):
        raise CannotReplay(absent)
    alone = replace(suite, subjects=(subject,), benchmarks=())
    yield from expand(alone, overrides, failure.place)


def _as_declared(failure: Failure, overrides: Overrides) -> Iterator[Trial]:
    if not failure.declaration:
        raise Gone(
            f"{failure.place or 'what declares it'} is not here, and it could not be written down: "
            f"{failure.undeclared or 'nothing is known of it'}"
        )
    file = failure.place.partition("::")[0]
    try:
        parsed = parse_suite(tomllib.loads(failure.declaration), file=file)
    except (ValueError, RecursionError) as error:
        raise CannotReplay(f"what was kept of its declaration is no TOML: {error}") from None
    if parsed.wrong or len(parsed.suite.subjects) != 1:
        wrong = parsed.wrong[0][1] if parsed.wrong else "it declares no single subject"
        raise CannotReplay(f"what was kept of its declaration is damaged: {wrong}")
    # Completed already, when it was written; another implementation may stand in its place.
    yield from expand_subject(parsed.suite.subjects[0], parsed.suite, overrides, failure.place)


# --- suites and tests in Python -----------------------------------------------------------------


def _of_python(
    path: Path, inside: str, root: Path, failure: Failure, overrides: Overrides
) -> Iterator[Trial]:
    found = _found(path, inside, root)
    declared = getattr(found, "__dlcheck_parametrize__", None)
    if isinstance(found, Suite):
        check_suite(replace(found, file=found.file or str(path)))
        yield from _of_suite(found, failure, overrides)
    elif isinstance(declared, Mapping):
        from dlcheck.validation import trials_of

        for trial in trials_of(**declared, overrides=overrides, where=failure.place):
            if trial.subject.name == failure.subject:
                yield trial
    else:
        raise CannotReplay(f"{failure.place} is no suite, and no test of dlcheck.parametrize")


def _found(path: Path, inside: str, root: Path) -> Any:
    """What stands in a file under names as node ids write them."""
    from dlcheck.targets import import_file

    _see(root, _outside_packages(path.resolve().parent))
    found: Any = import_file(path.resolve())
    for name in inside.split("::"):
        if not hasattr(found, name):
            owner = getattr(found, "__file__", None) or getattr(found, "__name__", found)
            raise Gone(f"{owner} has {unknown('suite or test', name, vars(found))}")
        found = getattr(found, name)
    return found


def _outside_packages(folder: Path) -> Path:
    """The folder from which pytest imports a test file: the first that is no package."""
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder


def _see(*folders: Path) -> None:
    for folder in folders:
        if (place := os.fspath(folder)) not in sys.path:
            sys.path.insert(0, place)


# --- what is gone -------------------------------------------------------------------------------


def _why_gone(failure: Failure, trials: Sequence[Trial]) -> str:
    where = failure.place or "its declaration"
    points = [trial.point for trial in trials if trial.check.name == failure.check]
    if points:
        return f"{where}: {unknown('point', failure.point, points)}"
    subject = trials[0].subject if trials else None
    why = _why_not(subject, failure.check) if subject else "no check applies to it"
    return f"{where}: {failure.check} is not run on {failure.subject} any more: {why}"


def _why_not(subject: Subject, check: str) -> str:
    reason = catalogue().checks[check].why_not(subject)
    return f"it {reason}" if reason else "its checks or skip leave it out"
