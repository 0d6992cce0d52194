"""One case of a trial: its subject built, the check run, its evidence judged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dlcheck.checks.difference import explaining
from dlcheck.domains import Input
from dlcheck.errors import DlcheckError, NotApplicable, SubjectError
from dlcheck.inside import is_single_inside, widened
from dlcheck.isolation import seed_everything
from dlcheck.isolation.memory_limit import is_refusal
from dlcheck.isolation.torch_state import as_at_the_start
from dlcheck.model import PROFILES, Evidence, Recipe, Trial, Verdict, worst
from dlcheck.raised import told
from dlcheck.registry import Live, catalogue
from dlcheck.scripts.script import Script
from dlcheck.strategies import Case, materialize
from dlcheck.subject_source import source_of_exception
from dlcheck.subjects import Implementation, build, tensors_in

DTYPES = "dtypes"  # the tag of a check that compares types
DOMAIN = "domain"  # the tag of the check that reports which inputs are refused


@dataclass(slots=True)
class Seen:
    """What the cases of one trial came to so far."""

    evidence: list[Evidence] = field(default_factory=list)
    recipe: Recipe | None = None
    deciding: list[Evidence] = field(default_factory=list)
    cases: int = 0
    conclusive: int = 0
    empty: int = 0  # cases in which the check measured nothing
    skips: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    trying: Recipe | None = None  # the case that runs, or was running when time was up
    phase: str = ""
    phases: dict[str, int] = field(default_factory=dict)  # cases begun in each
    source: str = ""  # where the subject raised
    free: Mapping[str, str] = field(default_factory=dict)  # what of the recipe may be otherwise
    script: Script = field(default_factory=Script)

    def take(self, recipe: Recipe, deciding: Evidence, pieces: Sequence[Evidence]) -> None:
        """Note a case that was judged, and keep it where it is the gravest so far."""
        self.cases += 1
        self.conclusive += deciding.verdict is not Verdict.INCONCLUSIVE
        if not self.deciding or _graver(deciding, self.deciding[0]):
            # The deciding piece first, then those that carry figures or values.
            self.deciding = [deciding, *(piece for piece in pieces if piece is not deciding)]
            self.evidence, self.recipe = self.deciding, recipe


@dataclass(frozen=True, slots=True)
class Cases:
    """How each case of a trial is made and judged. specs: of the subject's inputs."""

    trial: Trial
    live: Live
    specs: Mapping[str, Input]
    device: torch.device

    @property
    def claim(self) -> str:
        """The name of the trial's random streams: it survives reordering and other suites."""
        return f"{self.trial.subject.name}::{self.trial.check.name}[{self.trial.point}]"

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.trial.dtype)  # type: ignore[no-any-return]

    def inputs(self, recipe: Recipe) -> dict[str, Tensor]:
        return materialize(recipe, self.specs, self.device, self.dtype)

    def made(self, recipe: Recipe, *, explains: bool = False) -> tuple[Implementation, Case]:
        """The subject and the case of a recipe."""
        subject = self._built(recipe)
        case = Case(
            recipe=recipe,
            specs=self.specs,
            inputs=self.inputs(recipe),
            device=self.device,
            dtype=self.dtype,
            profile=PROFILES[self.trial.profile],
            root=self.trial.seed,
            claim=self.claim,
            explains=explains,
        )
        return subject, case

    def run(
        self,
        recipe: Recipe,
        seen: Seen,
        *,
        explains: bool = False,
        watch: AbstractContextManager[object] | None = None,
    ) -> Evidence | None:
        """Run one case and note what it came to; the deciding evidence, or None if skipped."""
        as_at_the_start()
        seen.trying = recipe
        seen.phases[seen.phase] = seen.phases.get(seen.phase, 0) + 1
        made: tuple[Implementation, Case] | None = None
        try:
            with watch or contextlib.nullcontext():
                made = subject, case = self.made(recipe, explains=explains)
                says_more = (explains or self.trial.check.once) and not watch
                pieces = self._judged(subject, case, says_more=says_more)
        except NotApplicable as error:
            seen.skips.append(str(error))
            return None
        except SubjectError as error:
            seen.recipe = recipe
            if is_refusal(error.__cause__):
                raise  # nor what takes all the memory
            if not self._is_outside(recipe, made):
                raise
            seen.refusals.append(told(error))
            seen.source = source_of_exception(error)
            return None
        if not pieces:
            seen.empty += 1
            return None
        deciding = worst(pieces)
        if deciding.verdict is Verdict.FAILED and self._may_be_single_inside(case):
            again = self._once_more_in_float64(recipe, case)
            pieces, deciding = (again, worst(again)) if again else (pieces, deciding)
        seen.take(recipe, deciding, pieces)
        return deciding

    def _built(self, recipe: Recipe) -> Implementation:
        seed_everything(recipe.seed)
        return build(self.trial.subject, recipe.sizes, self.device, self.dtype, recipe.seed)

    def _judged(self, subject: Implementation, case: Case, *, says_more: bool) -> list[Evidence]:
        """What the check says of a case."""
        seed_everything(case.recipe.seed)
        with explaining(case) if says_more else contextlib.nullcontext():
            return list(_pieces(self.live.function(subject, case), self.trial))

    def _is_outside(self, recipe: Recipe, made: tuple[Implementation, Case] | None) -> bool:
        """Is a case in which the subject raised outside what it takes?

        Another check reports that; the one that does is judged by every case.
        """
        if DOMAIN in self.trial.check.tags:
            return False
        return self._refuses(recipe) or (made is not None and _refuses_a_step(*made))

    def _refuses(self, recipe: Recipe) -> bool:
        """Does a plain call of the subject raise in this case, whatever a check does with it?

        Then the case lies outside what the subject takes: `takes_its_declared_inputs` says so,
        once, and the other checks are judged on the cases that are left.
        """
        if not catalogue().kind(self.trial.subject.kind).returns_tensors:
            return False
        try:
            self._built(recipe)(*self.inputs(recipe).values())
        except SubjectError:
            return True
        return False

    def _may_be_single_inside(self, case: Case) -> bool:
        """Is it a claim of float64 about a subject that computes in float32 inside?"""
        if case.dtype != torch.float64 or DTYPES in self.trial.check.tags:
            return False

        def answer() -> list[Tensor]:
            made = self._built(case.recipe)
            seed_everything(case.recipe.seed)
            with torch.no_grad():
                return list(tensors_in(made(*case.fresh())))

        if not catalogue().kind(self.trial.subject.kind).returns_tensors:
            return False
        try:
            return is_single_inside(answer)
        except Exception:  # the failure stands as it is
            return False

    def _once_more_in_float64(self, recipe: Recipe, case: Case) -> list[Evidence]:
        """What the check says where float32 inside is widened; nothing if that does not run."""
        try:
            with widened():
                return self._judged(self._built(recipe), case, says_more=case.explains)
        except Exception:  # the failure stands as it is
            return []


def _refuses_a_step(subject: Implementation, case: Case) -> bool:
    """Does an optimizer raise in a plain step? `takes_a_plain_step` says so, once."""
    if subject.kind.name != "optimizer":
        return False
    from dlcheck.checks.optimizer.plain_step import refusal

    return refusal(subject, case) is not None


def _graver(new: Evidence, old: Evidence) -> bool:
    """Does new decide over old? A failure always: the last one is Hypothesis's smallest.

    A conclusive pass decides over an inconclusive case, whose bound says nothing.
    """
    order = (Verdict.INCONCLUSIVE, Verdict.PASSED, Verdict.FAILED)
    rank = order.index(new.verdict) - order.index(old.verdict)
    if rank == 0:
        return new.verdict is Verdict.FAILED or new.tightness > old.tightness
    return rank > 0


def _pieces(result: object, trial: Trial) -> Iterator[Evidence]:
    """What a check returned or yields, held to be evidence."""
    pieces = [result] if isinstance(result, Evidence) else result
    for piece in pieces if isinstance(pieces, Iterable) else [pieces]:
        if not isinstance(piece, Evidence):
            raise DlcheckError(
                f"check {trial.check.name!r} ({trial.check.file}:{trial.check.line}) gave "
                f"{type(piece).__name__}; a check returns or yields Evidence"
            )
        yield piece
