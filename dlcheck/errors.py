"""What dlcheck raises.

DlcheckError
├── UsageError               the person's input is wrong; one message, no traceback
│   ├── DeclarationError     a subject, check, reference or kind is declared wrongly
│   ├── SuiteError           a suite file is wrong; every problem of the file at once
│   └── TargetError          an import path does not resolve, or not to something callable
├── SubjectError             the subject broke its contract: a failed trial, not a bug of ours
│   ├── SubjectRaised        it raised; the cause is its own exception
│   └── TrialTimeout         it ran past its time
├── DeviceUnavailable        a device that this machine lacks: a skipped trial
├── NotApplicable            a check finds that its claim has no content here: a skipped trial
│   └── Unchecked            nothing can be differentiated here; the message says why
├── GradientMismatch         `check_gradient` found a wrong gradient; holds its evidence
└── ValidationFailed         `Report.raise_for_failures()`; its text is the terminal report

Warnings: GradientWarning, `check_gradient` could not decide; PluginWarning, an installed package
that extends dlcheck is broken.

A failed check is not an exception: it is an `Outcome` whose verdict is `FAILED`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class DlcheckError(Exception):
    """Anything that dlcheck itself raises."""


class UsageError(DlcheckError):
    """The person's input is wrong. Shown as one message without a traceback."""


class DeclarationError(UsageError):
    """A subject, check, reference or kind is declared wrongly."""


class TargetError(UsageError):
    """An import path does not resolve, or resolves to something that cannot be called."""


class SubjectError(DlcheckError):
    """The subject broke the contract of its kind."""


class SubjectRaised(SubjectError):
    """The subject raised; `__cause__` is its own exception with its own traceback."""


class TrialTimeout(SubjectError):
    """The trial ran past its timeout."""


class DeviceUnavailable(DlcheckError):
    """The device asked for is absent on this machine."""


class NotApplicable(DlcheckError):
    """The claim has no content for this subject; the message says what would give it one."""


class Unchecked(NotApplicable):
    """Nothing can be differentiated here; the message says why."""


class GradientMismatch(DlcheckError):
    """A gradient is not the derivative. `evidence` holds what was measured."""

    def __init__(self, message: str, evidence: object) -> None:
        self.evidence = evidence
        super().__init__(message)


class PluginWarning(UserWarning):
    """An installed package that extends dlcheck is broken; it is left out, and the rest works."""


class GradientWarning(UserWarning):
    """A gradient could be neither confirmed nor refuted; the message says why."""


class ValidationFailed(DlcheckError):
    """At least one check failed or stayed inconclusive."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a declaration, with the place where it stands."""

    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return where + _cut(self.message)


_LONGEST = 380  # characters of a message: what it quotes of the file may be of any length


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 101]} … {text[-98:]}"


class SuiteError(UsageError):
    """A suite file is wrong. Holds every problem that was found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def unknown(noun: str, name: object, known: Iterable[str], see: str = "") -> str:
    """`no check named 'gradient_match'. Did you mean 'gradient_matches_difference'?`"""
    names = sorted(known)
    spelled = {each.lower(): each for each in names}
    shown = name if len(repr(name)) <= 60 else f"{str(name)[:50]}…"
    close = difflib.get_close_matches(str(shown).lower(), spelled, n=1, cutoff=0.5)
    message = f"no {noun} named {shown!r}."
    if close:
        message += f" Did you mean {spelled[close[0]]!r}?"
    elif names and len(names) <= 12:
        message += f" Known: {', '.join(names)}."
    return f"{message} See: {see}" if see else message
