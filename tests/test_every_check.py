"""A check that cannot fail is a defect: each passes what is right and rejects what is broken.

Every check × every registered reference and further subject that it applies to must pass, and
every mutant of the check must fail by its evidence, not by raising. What the shipped suites hold to
the same check too, which .ci/run does next, is left to .ci/nightly, but for the first of a check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dlcheck.expansion import expand
from dlcheck.lanes import ABSENT
from dlcheck.model import Check, Outcome, Subject, Trial, Verdict
from dlcheck.proof import accepted, rejected_in_turn
from dlcheck.registry import catalogue, live_check, place_of
from dlcheck.runner import run_trial
from dlcheck.shipped import is_optional, suite_paths
from dlcheck.suite import read_suite

CHECKS = [catalogue().checks[name] for name in sorted(catalogue().checks)]


def right() -> Iterator[pytest.param]:
    """Every trial, and whether it is the first of its check."""
    shipped = {key(trial) for trial in of_the_shipped_suites()}
    for check in CHECKS:
        for place, trial in enumerate(accepted(check)):
            twice = [pytest.mark.nightly] if place and key(trial) in shipped else []
            name = f"{check.name}-{trial.subject.name}"
            yield pytest.param(trial, place == 0, marks=twice, id=name)


def of_the_shipped_suites() -> Iterator[Trial]:
    for path in suite_paths().values():
        if not is_optional(path):
            yield from expand(read_suite(path))


def key(trial: Trial) -> tuple[str, object]:
    """What is the same where one reference is held to one check twice, with whatever arguments."""
    target = trial.subject.target
    return trial.check.name, target if isinstance(target, str) else id(target)


def broken() -> Iterator[pytest.param]:
    for check in CHECKS:
        for trial in rejected_in_turn(check):
            yield pytest.param(trial, id=f"{check.name}-{trial.subject.name}")


def skip_inapplicable(outcome: Outcome) -> None:
    """A claim may have no content for a subject, as one about parameters for a function."""
    if outcome.verdict is Verdict.SKIPPED:
        pytest.skip(outcome.message)


def assert_has_content(check: Check) -> None:
    """A claim that has no content for any subject accepts nothing."""
    trials = (replace(trial, profile="quick") for trial in accepted(check))
    assert any(run_trial(trial).verdict is not Verdict.SKIPPED for trial in trials)


def skip_unmeasured(outcome: Outcome) -> None:
    """A timing on a busy machine may come to nothing, which is neither right nor wrong."""
    if outcome.verdict is Verdict.INCONCLUSIVE and "benchmark" in outcome.tags:
        pytest.skip(f"could not measure: {outcome.worst}")


@pytest.mark.parametrize(("trial", "is_first"), list(right()))
def test_passes_what_is_right(trial: Trial, is_first: bool) -> None:  # noqa: FBT001
    outcome = run_trial(replace(trial, profile="quick"))
    if outcome.verdict is Verdict.INCONCLUSIVE:  # five cases may all have said nothing
        outcome = run_trial(replace(trial, profile="default"))
    if is_first and outcome.verdict is Verdict.SKIPPED and not trial.check.once:
        assert_has_content(trial.check)
    skip_inapplicable(outcome)
    skip_unmeasured(outcome)
    assert outcome.verdict is Verdict.PASSED, f"{outcome.case}: {outcome.worst} {outcome.message}"


def original_of(trial: Trial) -> Subject | None:
    """The right subject of which a mutant was made."""
    name = trial.subject.name.rpartition(":")[0]
    found = (right.subject for right in accepted(trial.check) if right.subject.name == name)
    return next(found, None)


@pytest.mark.parametrize("trial", list(broken()))
def test_rejects_what_is_broken(trial: Trial) -> None:
    trial = replace(trial, minimal=False)
    outcome = run_trial(replace(trial, profile="quick"))
    if outcome.verdict in (Verdict.PASSED, Verdict.INCONCLUSIVE) and not trial.check.once:
        outcome = run_trial(replace(trial, profile="default"))
    original = original_of(trial)
    if original is not None and outcome.verdict is not Verdict.FAILED:
        skip_inapplicable(run_trial(replace(trial, subject=original, profile="quick")))
    skip_unmeasured(outcome)
    if outcome.message == ABSENT:
        pytest.skip(ABSENT)
    assert outcome.verdict is Verdict.FAILED, f"{outcome.worst} {outcome.message}"
    assert outcome.evidence, f"failed by raising: {outcome.message}"
    assert outcome.worst is not None
    assert outcome.worst.verdict is Verdict.FAILED


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_has_something_to_accept(check: Check) -> None:
    assert list(accepted(check)), "no reference and no subject of `accepts`"
    assert check.rejects


FIELDS = ("name", "claim", "kinds", "function", "file", "line", "doc", "needs", "forbids",
          "options", "dtypes", "regimes", "tags", "once", "textbook")  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_is_read_as_it_is_declared(check: Check) -> None:
    live = live_check(check).declared
    assert place_of(live) == check.function
    for field in FIELDS:
        assert getattr(live, field) == getattr(check, field), field
