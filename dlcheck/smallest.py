"""The smallest case that failed: what of it matters, and the script that shows it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from dlcheck.cases import Cases, Seen
from dlcheck.errors import SubjectError
from dlcheck.explanations import choices_of, explained
from dlcheck.model import Evidence, Recipe, Verdict
from dlcheck.overwriting import with_overwriting
from dlcheck.scripts.script import Script, recorded


def explain(cases: Cases, seen: Seen) -> None:
    """Say of the smallest case that failed all that can be said, and write its script."""
    _tell_more(cases, seen)
    record(cases, seen)


def _tell_more(cases: Cases, seen: Seen) -> None:
    """Run the smallest case that failed once more, for a check that can say more of it, and vary
    it, to tell what of it matters."""
    trial, recipe = cases.trial, seen.recipe
    if recipe is None:
        return

    def run(recipe: Recipe, *, explains: bool) -> list[Evidence]:
        again = Seen()
        try:
            cases.run(recipe, again, explains=explains)
        except SubjectError:
            return [_RAISED] if raised else []
        return again.deciding

    raised = not seen.deciding or seen.deciding[0].verdict is not Verdict.FAILED
    known = not raised and bool(seen.deciding[0].cause)
    started = time.process_time()
    again = [_RAISED] if raised else run(recipe, explains=True)
    took = time.process_time() - started
    if not again or again[0].verdict is not Verdict.FAILED:
        return
    choices = choices_of(trial.subject, cases.specs, recipe, trial.check.regimes)
    found = explained(recipe, again, choices, run, known=known, took=took)
    seen.free = found.free
    if not raised:
        made = cases.made(recipe)
        seen.deciding = with_overwriting(trial.check.name, found.evidence, *made)
        seen.evidence = seen.deciding


# What stands for the exception of a subject where cases are varied.
_RAISED = Evidence(error=1.0, bound=0.0, signal=1.0)


def record(cases: Cases, seen: Seen, seconds: float = 0.0) -> None:
    """Run what failed once more and write down what was done with the subject."""
    recipe = seen.recipe
    if recipe is None or not cases.trial.minimal or not cases.trial.scripted:
        return
    if seconds > _SLOW:
        seen.script = Script(reason=f"the check takes {seconds:.0f} s")
        return

    def run(watch: AbstractContextManager[object]) -> list[Evidence]:
        again = Seen()
        cases.run(recipe, again, watch=watch)
        return again.deciding

    inputs = cases.inputs(recipe)
    seen.script = recorded(cases.trial, inputs, run)


_SLOW = 5.0  # seconds of a run that is not repeated for the sake of a script
