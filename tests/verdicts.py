"""What the checks of some modules say of a subject, each in one trial."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from dlcheck import Subject
from dlcheck.expansion import Overrides
from dlcheck.model import Verdict
from dlcheck.proof import trial_of
from dlcheck.runner import run_trial
from dlcheck.selection import applying


def verdicts(
    subject: Subject, functions: Sequence[str], profile: str = "quick"
) -> dict[str, Verdict]:
    """By name, of each check that applies and whose function matches one of the patterns."""
    checks = [
        check
        for check in applying(subject)
        if any(fnmatchcase(check.function, own) for own in functions)
    ]
    overrides = Overrides(profile=profile, seed=0)
    return {check.name: run_trial(trial_of(check, subject, overrides)).verdict for check in checks}
