"""A check that cannot fail is a defect: what each check must accept, and what it must reject.

The generic test and `dlcheck list checks --prove` run these trials.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlcheck.expansion import Overrides, with_params
from dlcheck.model import Check, Subject, Trial
from dlcheck.registry import catalogue, live_check
from dlcheck.suite import complete


def accepted(check: Check) -> Iterator[Trial]:
    """One trial per registered reference that the check applies to and per further subject."""
    references = [reference.subject() for reference in catalogue().references.values()]
    for subject in [*references, *map(complete, live_check(check).accepts)]:
        if not check.why_not(subject):
            yield trial_of(check, subject)


def rejected(check: Check) -> Iterator[Trial]:
    """One trial per mutant of every accepted subject, and per subject that is broken itself."""
    mutants = live_check(check).rejects
    for mutant in mutants:
        if isinstance(mutant, Subject):
            yield trial_of(check, complete(mutant))
    for trial in accepted(check):
        for mutant in mutants:
            if not isinstance(mutant, Subject):
                yield replace(trial, subject=mutant(trial.subject))


def rejected_in_turn(check: Check) -> Iterator[Trial]:
    """Every mutant, of one subject each in turn, so that most subjects are broken by some mutant.

    `dlcheck list checks --prove` runs the whole product, which takes an hour.
    """
    trials = list(rejected(check))
    subjects = len(list(accepted(check)))
    alone = sum(isinstance(mutant, Subject) for mutant in live_check(check).rejects)
    mutants = len(of_subjects := trials[alone:]) // max(subjects, 1)
    step = max(1, subjects)
    for position, trial in enumerate(of_subjects):
        subject, mutant = divmod(position, mutants)
        if (subject - mutant) % step == 0:
            yield trial
    yield from trials[:alone]


def trial_of(check: Check, subject: Subject, overrides: Overrides | None = None) -> Trial:
    """The check on the subject, on the CPU, at the first point of its own matrix."""
    overrides = overrides or Overrides()
    params = {
        axis: values[0]
        for axis, values in subject.matrix.items()
        if axis not in ("device", "dtype")
    }
    return Trial(
        suite="proof",
        subject=with_params(subject, params),
        check=check,
        device="cpu",
        dtype=(check.dtypes or ("float64",))[0],
        params=params,
        profile=overrides.profile,
        seed=overrides.seed,
    )
