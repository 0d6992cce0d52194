"""The cases of a trial: planned, then drawn by Hypothesis; a failure is made small."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, settings, target
from hypothesis import seed as seeded
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from dlcheck.cases import Cases, Seen
from dlcheck.errors import NotApplicable, SubjectError, TrialTimeout
from dlcheck.isolation.memory_limit import is_refusal
from dlcheck.model import PROFILES, Evidence, Recipe, Verdict
from dlcheck.plans import planned_recipes
from dlcheck.smallest import explain, record
from dlcheck.strategies import is_recipe_of, recipes, simpler, stream_seed, typical_recipe

# The phases of a search, in their order.
WITNESS, PLANNED, DRAWN, SHRINKING = "the case of last time", "planned", "drawn", "made smaller"
_PLANNED = 10  # cases that are planned, of which the quick profile runs the first
_SIMPLER = 40  # cases that may be tried to make a failure small


class _CaseFailed(Exception):
    """Tells Hypothesis that a case failed, so that it looks for a smaller one."""


def search_cases(cases: Cases, seen: Seen) -> None:
    """Cases that are planned, then cases that Hypothesis draws; a failure is made small."""
    root = stream_seed(cases.trial.seed, cases.claim)
    if cases.trial.check.once:
        _run_the_typical_one(cases, seen, root)
    elif not _fails_as_before(cases, seen) and not cases.trial.only_witness:
        _Search(cases, seen, root).run_all()


def _run_the_typical_one(cases: Cases, seen: Seen, root: int) -> None:
    recipe = typical_recipe(cases.trial.subject, cases.specs, root % 2**31)
    started = time.perf_counter()
    try:
        failed = _is_failure(cases.run(recipe, seen))
    except TrialTimeout:
        raise
    except SubjectError:
        record(cases, seen, time.perf_counter() - started)
        raise
    if failed:
        record(cases, seen, time.perf_counter() - started)


def _fails_as_before(cases: Cases, seen: Seen) -> bool:
    """Does the case that failed last time fail again? It is small already."""
    trial, seen.phase = cases.trial, WITNESS
    if trial.witness is None:
        return False
    if is_recipe_of(trial.witness, trial.subject, cases.specs, trial.check.regimes):
        try:
            failed = _is_failure(cases.run(trial.witness, seen))
        except TrialTimeout:
            raise
        except SubjectError:
            record(cases, seen)
            raise
        if failed and trial.minimal:
            explain(cases, seen)
        return failed
    if trial.only_witness:
        raise NotApplicable(
            f"the case {trial.witness} cannot be made: the subject is declared with other inputs, "
            "sizes or layouts than when it failed"
        )
    return False


def _is_failure(found: Evidence | None) -> bool:
    return found is not None and found.verdict is Verdict.FAILED


@dataclass(frozen=True, slots=True)
class _Search:
    """The cases of a trial that was never run, or whose last failure is mended."""

    cases: Cases
    seen: Seen
    root: int  # of its random numbers

    def run_all(self) -> None:
        trial, specs = self.cases.trial, self.cases.specs
        examples = PROFILES[trial.profile].examples
        count = min(examples, max(_PLANNED, examples // 2))
        self.seen.phase = PLANNED
        planned = planned_recipes(trial.subject, specs, trial.check.regimes, self.root, count)
        if any(map(self._fails, planned)) or examples <= count:
            return
        self.seen.phase = DRAWN
        drawn = recipes(trial.subject, specs, trial.check.regimes)
        if self._draw(drawn, examples - count, shrinks=trial.minimal) and trial.minimal:
            explain(self.cases, self.seen)

    def _fails(self, recipe: Recipe) -> bool:
        """Does a planned case fail? It is made small then."""
        minimal = self.cases.trial.minimal
        try:
            failed = _is_failure(self._run(recipe))
        except TrialTimeout:
            raise  # what hangs once is not tried again
        except SubjectError as error:
            if minimal and not is_refusal(error.__cause__):
                self._make_small(recipe)
            raise  # unless a simpler case raised
        if failed and minimal:
            self._make_small(recipe)
        return failed

    def _make_small(self, recipe: Recipe) -> None:
        try:
            self._draw(simpler(recipe, self.cases.trial.subject, self.cases.specs), _SIMPLER)
        except SubjectError:
            explain(self.cases, self.seen)
            raise
        explain(self.cases, self.seen)

    def _run(self, recipe: Recipe) -> Evidence | None:
        try:
            found = self.cases.run(recipe, self.seen)
        except SubjectError:
            self.seen.phase = SHRINKING
            raise
        if _is_failure(found):
            self.seen.phase = SHRINKING
        return found

    def _draw(self, drawn: SearchStrategy[Recipe], examples: int, *, shrinks: bool = True) -> bool:
        """Did a drawn case fail? The last one that ran is then Hypothesis's smallest."""
        phases = [Phase.explicit, Phase.generate, Phase.target, *[Phase.shrink] * shrinks]

        @seeded(self.root)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        @given(drawn)
        def search(recipe: Recipe) -> None:
            found = self._run(recipe)
            if _is_failure(found):
                raise _CaseFailed
            if found is not None and 0 < found.tightness < float("inf"):
                target(found.tightness)

        try:
            search()
        except (_CaseFailed, Flaky):
            return True
        return False
