"""What the checks of some modules say of a subject, each in one trial."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from dlcheck import Subject
from dlcheck.expansion import Overrides
from dlcheck.model import Trial, Verdict
from dlcheck.proof import trial_of
from dlcheck.runner import run_trial
from dlcheck.selection import applying


def trials(subject: Subject, functions: Sequence[str], profile: str) -> Iterator[Trial]:
    """Of each check that applies and whose function matches one of the patterns."""
    overrides = Overrides(profile=profile, seed=0)
    for check in applying(subject):
        if any(fnmatchcase(check.function, own) for own in functions):
            yield trial_of(check, subject, overrides)


def verdicts(
    subject: Subject, functions: Sequence[str], profile: str = "quick"
) -> dict[str, Verdict]:
    """By name of the check."""
    return {t.check.name: run_trial(t).verdict for t in trials(subject, functions, profile)}


def is_found(subject: Subject, functions: Sequence[str]) -> bool:
    """Does any check fail, in the quick profile or, where none does, in the default one?"""
    return any(
        run_trial(replace(trial, minimal=False)).verdict is Verdict.FAILED
        for profile in ("quick", "default")
        for trial in trials(subject, functions, profile)
    )
