"""The cases of a trial: planned, then drawn by Hypothesis; a failure is made small."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from hypothesis import HealthCheck, Phase, given, settings, target
from hypothesis import seed as seeded
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from dlcheck.checks.difference import explaining
from dlcheck.domains import Input
from dlcheck.errors import (
    DlcheckError,
    NotApplicable,
    SubjectError,
    SubjectRaised,
    TrialTimeout,
    UsageError,
)
from dlcheck.explanations import choices_of, explained
from dlcheck.inside import is_single_inside, widened
from dlcheck.isolation import seed_everything
from dlcheck.isolation.memory_limit import is_refusal
from dlcheck.isolation.texts import brief
from dlcheck.isolation.torch_state import as_at_the_start
from dlcheck.model import PROFILES, Evidence, Recipe, Subject, Trial, Verdict, worst
from dlcheck.overwriting import with_overwriting
from dlcheck.plans import planned_recipes
from dlcheck.registry import Live, catalogue
from dlcheck.scripts.script import Script, recorded
from dlcheck.sources import is_ours
from dlcheck.strategies import (
    Case,
    is_recipe_of,
    materialize,
    recipes,
    simpler,
    stream_seed,
    typical_recipe,
)
from dlcheck.subject_source import source_of_exception
from dlcheck.subjects import Implementation, build, tensors_in
from dlcheck.targets import load_target

DTYPES = "dtypes"  # the tag of a check that compares types
DOMAIN = "domain"  # the tag of the check that reports which inputs are refused


class _CaseFailed(Exception):
    """Tells Hypothesis that a case failed, so that it looks for a smaller one."""


@dataclass(slots=True)
class Seen:
    """What the cases of one trial came to so far."""

    evidence: list[Evidence] = field(default_factory=list)
    recipe: Recipe | None = None
    deciding: list[Evidence] = field(default_factory=list)
    cases: int = 0
    conclusive: int = 0
    skips: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    trying: Recipe | None = None  # the case that runs, or was running when time was up
    phase: str = ""
    phases: dict[str, int] = field(default_factory=dict)  # cases begun in each
    source: str = ""  # where the subject raised
    free: Mapping[str, str] = field(default_factory=dict)  # what of the recipe may be otherwise
    script: Script = field(default_factory=Script)


def claim_of(trial: Trial) -> str:
    """The name of the trial's random streams: it survives reordering and other suites."""
    return f"{trial.subject.name}::{trial.check.name}[{trial.point}]"


def search_cases(
    trial: Trial, live: Live, specs: dict[str, Input], device: torch.device, seen: Seen
) -> None:
    """Cases that are planned, then cases that Hypothesis draws; a failure is made small."""
    root = stream_seed(trial.seed, claim_of(trial))
    if trial.check.once:
        recipe = typical_recipe(trial.subject, specs, root % 2**31)
        started = time.perf_counter()
        try:
            found = _run_case(trial, live, specs, device, recipe, seen)
        except TrialTimeout:
            raise
        except SubjectError:
            _record(trial, live, specs, device, seen, time.perf_counter() - started)
            raise
        if found is not None and found.verdict is Verdict.FAILED:
            _record(trial, live, specs, device, seen, time.perf_counter() - started)
        return

    def run(recipe: Recipe) -> Evidence | None:
        try:
            found = _run_case(trial, live, specs, device, recipe, seen)
        except SubjectError:
            seen.phase = SHRINKING
            raise
        if found is not None and found.verdict is Verdict.FAILED:
            seen.phase = SHRINKING
        return found

    def make_small(nearby: SearchStrategy[Recipe]) -> None:
        try:
            _draw(run, nearby, _SIMPLER, root)
        except SubjectError:
            _explain(trial, live, specs, device, seen)
            raise
        _explain(trial, live, specs, device, seen)

    seen.phase = WITNESS
    try:
        is_failing_still = _fails_as_before(trial, specs, run)
    except TrialTimeout:
        raise
    except SubjectError:
        _record(trial, live, specs, device, seen)
        raise
    if is_failing_still:
        if trial.minimal:
            _explain(trial, live, specs, device, seen)
        return
    if trial.only_witness:
        return
    examples = PROFILES[trial.profile].examples
    count = min(examples, max(_PLANNED, examples // 2))
    seen.phase = PLANNED
    for recipe in planned_recipes(trial.subject, specs, trial.check.regimes, root, count):
        nearby = simpler(recipe, trial.subject, specs)
        try:
            found = run(recipe)
        except TrialTimeout:
            raise  # what hangs once is not tried again
        except SubjectError as error:
            if trial.minimal and not is_refusal(error.__cause__):
                make_small(nearby)
            raise  # unless a simpler case raised
        if found is not None and found.verdict is Verdict.FAILED:
            if trial.minimal:
                make_small(nearby)
            return
    seen.phase = DRAWN
    drawn = recipes(trial.subject, specs, trial.check.regimes)
    failed = examples > count and _draw(run, drawn, examples - count, root, shrinks=trial.minimal)
    if failed and trial.minimal:
        _explain(trial, live, specs, device, seen)


# The phases of a search, in their order.
WITNESS, PLANNED, DRAWN, SHRINKING = "the case of last time", "planned", "drawn", "made smaller"
_PLANNED = 10  # cases that are planned, of which the quick profile runs the first
_SIMPLER = 40  # cases that may be tried to make a failure small


def _fails_as_before(
    trial: Trial, specs: dict[str, Input], run: Callable[[Recipe], Evidence | None]
) -> bool:
    """Does the case that failed last time fail again? It is small already."""
    witness = trial.witness
    if witness is None:
        return False
    if is_recipe_of(witness, trial.subject, specs, trial.check.regimes):
        found = run(witness)
        return found is not None and found.verdict is Verdict.FAILED
    if trial.only_witness:
        raise NotApplicable(
            f"the case {witness} cannot be made: the subject is declared with other inputs, sizes "
            "or layouts than when it failed"
        )
    return False


def _draw(
    run: Callable[[Recipe], Evidence | None],
    drawn: SearchStrategy[Recipe],
    examples: int,
    root: int,
    *,
    shrinks: bool = True,
) -> bool:
    """Did a drawn case fail? The last one that ran is then the smallest that Hypothesis found."""
    phases = [Phase.explicit, Phase.generate, Phase.target, *([Phase.shrink] if shrinks else [])]

    @seeded(root)
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
        found = run(recipe)
        if found is not None and found.verdict is Verdict.FAILED:
            raise _CaseFailed
        if found is not None and 0 < found.tightness < float("inf"):
            target(found.tightness)

    try:
        search()
    except (_CaseFailed, Flaky):
        return True
    return False


def _explain(
    trial: Trial, live: Live, specs: dict[str, Input], device: torch.device, seen: Seen
) -> None:
    """Say of the smallest case that failed all that can be said, and write its script."""
    _tell_more(trial, live, specs, device, seen)
    _record(trial, live, specs, device, seen)


def _tell_more(
    trial: Trial, live: Live, specs: dict[str, Input], device: torch.device, seen: Seen
) -> None:
    """Run the smallest case that failed once more, for a check that can say more of it, and vary
    it, to tell what of it matters."""
    recipe = seen.recipe
    if recipe is None:
        return

    def run(recipe: Recipe, *, explains: bool) -> list[Evidence]:
        again = Seen()
        try:
            _run_case(trial, live, specs, device, recipe, again, explains=explains)
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
    choices = choices_of(trial.subject, specs, recipe, trial.check.regimes)
    found = explained(recipe, again, choices, run, known=known, took=took)
    seen.free = found.free
    if not raised:
        made = _made(trial, specs, device, recipe)
        seen.deciding = with_overwriting(trial.check.name, found.evidence, *made)
        seen.evidence = seen.deciding


# What stands for the exception of a subject where cases are varied.
_RAISED = Evidence(error=1.0, bound=0.0, signal=1.0)
_SLOW = 5.0  # seconds of a run that is not repeated for the sake of a script


def _record(
    trial: Trial,
    live: Live,
    specs: dict[str, Input],
    device: torch.device,
    seen: Seen,
    seconds: float = 0.0,
) -> None:
    """Run what failed once more and write down what was done with the subject."""
    recipe = seen.recipe
    if recipe is None or not trial.minimal or not trial.scripted:
        return
    if seconds > _SLOW:
        seen.script = Script(reason=f"the check takes {seconds:.0f} s")
        return

    def run(watch: AbstractContextManager[object]) -> list[Evidence]:
        again = Seen()
        _run_case(trial, live, specs, device, recipe, again, watch=watch)
        return again.deciding

    inputs = materialize(recipe, specs, device, getattr(torch, trial.dtype))
    seen.script = recorded(trial, inputs, run)


def _run_case(
    trial: Trial,
    live: Live,
    specs: dict[str, Input],
    device: torch.device,
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
    dtype = getattr(torch, trial.dtype)
    made: tuple[Implementation, Case] | None = None
    try:
        with watch or contextlib.nullcontext():
            made = subject, case = _made(trial, specs, device, recipe, explains=explains)
            seed_everything(recipe.seed)
            says_more = (explains or trial.check.once) and not watch
            with explaining(case) if says_more else contextlib.nullcontext():
                pieces = list(_pieces(live.function(subject, case), trial))
    except NotApplicable as error:
        seen.skips.append(str(error))
        return None
    except SubjectError as error:
        seen.recipe = recipe
        if is_refusal(error.__cause__):
            raise  # nor what takes all the memory
        if DOMAIN in trial.check.tags or not (
            refuses(trial.subject, recipe, specs, device, dtype)
            or (made is not None and _refuses_a_step(*made))
        ):
            raise
        seen.refusals.append(told(error))
        seen.source = source_of_exception(error)
        return None
    deciding = worst(pieces)
    if deciding.verdict is Verdict.FAILED and _may_be_single_inside(trial, case):
        again = _once_more_in_float64(trial, live, recipe, case)
        pieces, deciding = (again, worst(again)) if again else (pieces, deciding)
    seen.cases += 1
    seen.conclusive += deciding.verdict is not Verdict.INCONCLUSIVE
    if not seen.deciding or _graver(deciding, seen.deciding[0]):
        # The deciding piece first, then those that carry figures or values.
        rest = [piece for piece in pieces if piece is not deciding]
        seen.deciding = [deciding, *rest]
        seen.evidence = seen.deciding
        seen.recipe = recipe
    return deciding


def _made(
    trial: Trial,
    specs: dict[str, Input],
    device: torch.device,
    recipe: Recipe,
    *,
    explains: bool = False,
) -> tuple[Implementation, Case]:
    """The subject and the case of a recipe."""
    dtype = getattr(torch, trial.dtype)
    subject = _built(trial, recipe, device, dtype)
    case = Case(
        recipe=recipe,
        specs=specs,
        inputs=materialize(recipe, specs, device, dtype),
        device=device,
        dtype=dtype,
        profile=PROFILES[trial.profile],
        root=trial.seed,
        claim=claim_of(trial),
        explains=explains,
    )
    return subject, case


def _may_be_single_inside(trial: Trial, case: Case) -> bool:
    """Is it a claim of float64 about a subject that computes in float32 inside?"""
    if case.dtype != torch.float64 or DTYPES in trial.check.tags:
        return False

    def answer() -> list[Tensor]:
        made = _built(trial, case.recipe, case.device, case.dtype)
        seed_everything(case.recipe.seed)
        with torch.no_grad():
            return list(tensors_in(made(*case.fresh())))

    if not catalogue().kind(trial.subject.kind).returns_tensors:
        return False
    try:
        return is_single_inside(answer)
    except Exception:  # the failure stands as it is
        return False


def _once_more_in_float64(trial: Trial, live: Live, recipe: Recipe, case: Case) -> list[Evidence]:
    """What the check says where float32 inside is widened; nothing where that does not run."""
    try:
        with widened():
            subject = _built(trial, recipe, case.device, case.dtype)
            seed_everything(recipe.seed)
            with explaining(case) if case.explains else contextlib.nullcontext():
                return list(_pieces(live.function(subject, case), trial))
    except Exception:  # the failure stands as it is
        return []


def _built(
    trial: Trial, recipe: Recipe, device: torch.device, dtype: torch.dtype
) -> Implementation:
    seed_everything(recipe.seed)
    return build(trial.subject, recipe.sizes, device, dtype, recipe.seed)


def refuses(
    subject: Subject,
    recipe: Recipe,
    specs: Mapping[str, Input],
    device: torch.device,
    dtype: torch.dtype,
) -> bool:
    """Does a plain call of the subject raise in this case, whatever a check does with it?

    Then the case lies outside what the subject takes: the check `takes_its_declared_inputs` says
    so, once, and the others are judged on the cases that are left.
    """
    kind = catalogue().kind(subject.kind)
    if not kind.returns_tensors:
        return False
    try:
        seed_everything(recipe.seed)
        made = build(subject, recipe.sizes, device, dtype, recipe.seed)
        made(*materialize(recipe, specs, device, dtype).values())
    except SubjectError:
        return True
    return False


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
    count = 0
    for piece in pieces if isinstance(pieces, Iterable) else [pieces]:
        if not isinstance(piece, Evidence):
            raise DlcheckError(
                f"check {trial.check.name!r} ({trial.check.file}:{trial.check.line}) gave "
                f"{type(piece).__name__}; a check returns or yields Evidence"
            )
        count += 1
        yield piece
    if not count:
        raise DlcheckError(f"check {trial.check.name!r} measured nothing")


def told(error: SubjectError) -> str:
    """What the subject did wrong: in our words, or its own traceback from where it began."""
    cause = error.__cause__ if isinstance(error, SubjectRaised) else None
    if cause is None:
        return str(error)
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if not is_ours(frame.filename)]
    lines = traceback.format_list(own)
    lines += _exception_lines(cause)
    return "the subject raised:\n" + "".join(lines).rstrip()


def foreign_lines(error: BaseException, subject: Subject) -> str:
    """The traceback from where code of the subject ran outside a call: a property, `__eq__`.

    Empty where none did after the last of dlcheck's own lines.
    """
    frames = traceback.extract_tb(error.__traceback__)
    last = max((k for k, f in enumerate(frames) if is_ours(f.filename)), default=-1)
    after = frames[last + 1 :]
    where = _file_of(subject.target)
    if not any(frame.filename == where for frame in after):
        return ""
    return "".join([*traceback.format_list(after), *_exception_lines(error)]).rstrip()


def _file_of(target: object) -> str | None:
    """The source file of a target: of its module, as it is loaded."""
    if isinstance(target, str):
        try:
            target = load_target(target)
        except UsageError:
            return None
    owner = target if hasattr(target, "__module__") else type(target)
    module = sys.modules.get(getattr(owner, "__module__", None) or "")
    return getattr(module, "__file__", None)


def _exception_lines(error: BaseException) -> list[str]:
    """`ValueError: its text` and its notes; of a long text the beginning."""
    try:
        return [_clipped(line) for line in traceback.format_exception_only(type(error), error)]
    except Exception:  # its class or its notes raise
        return [brief(error) + "\n"]


def _clipped(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}… ({len(line):,} characters)\n"


_LONGEST = 2000  # characters of a line of an exception
