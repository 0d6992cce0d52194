"""Trial → outcome. Knows nothing of pytest, the terminal or files."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from hypothesis import HealthCheck, Phase, given, settings, target
from hypothesis import seed as seeded
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from dlcheck.domains import Input
from dlcheck.errors import (
    DeviceUnavailable,
    DlcheckError,
    NotApplicable,
    SubjectError,
    SubjectRaised,
    TrialTimeout,
    UsageError,
)
from dlcheck.inside import is_single_inside, widened
from dlcheck.isolation import restored_state, seed_everything, time_limit
from dlcheck.model import PROFILES, Evidence, Outcome, Recipe, Subject, Trial, Verdict, worst
from dlcheck.plans import planned_recipes
from dlcheck.registry import Live, catalogue, live_check
from dlcheck.requirements import why_absent
from dlcheck.selection import applying
from dlcheck.strategies import (
    Case,
    materialize,
    recipes,
    simpler,
    stream_seed,
    typical_recipe,
)
from dlcheck.subjects import Implementation, build, tensors_in
from dlcheck.taken import inputs_of


class _CaseFailed(Exception):
    """Tells Hypothesis that a case failed, so that it looks for a smaller one."""


@dataclass(slots=True)
class _Seen:
    """What the cases of one trial came to so far."""

    evidence: list[Evidence] = field(default_factory=list)
    recipe: Recipe | None = None
    deciding: list[Evidence] = field(default_factory=list)
    cases: int = 0
    conclusive: int = 0
    skips: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def run_trial(trial: Trial) -> Outcome:
    """Run one trial and say what it came to. Never raises but for an interrupt.

    A subject that raises or breaks its contract has failed; a mistake of dlcheck's own, or a
    check that measures nothing, is an error; an absent device is a skip with its reason.
    """
    started, seen = time.perf_counter(), _Seen()
    try:
        if absent := why_absent(trial.subject.requires):
            raise NotApplicable(absent)
        live = live_check(trial.check)  # and what it imports, before the subject could change it
        with restored_state(trial.subject.target), time_limit(trial.timeout):
            device = usable_device(trial.device)
            if device.type == "cpu" and "benchmark" not in trial.check.tags:
                # Cases are small: a second thread only waits, and changes the order of sums.
                torch.set_num_threads(1)
            specs = inputs_of(trial.subject)
            _search(trial, live, specs, device, seen)
        verdict, message = _judged(seen, trial)
    except (DeviceUnavailable, NotApplicable) as error:
        verdict, message = Verdict.SKIPPED, str(error)
    except SubjectError as error:
        verdict, message = Verdict.FAILED, told(error)
    except UsageError as error:
        verdict, message = Verdict.ERRORED, str(error)
    except Exception:
        verdict, message = Verdict.ERRORED, "dlcheck itself failed:\n" + traceback.format_exc()
    verdict, message = _expected(trial, verdict, message)
    return _outcome(trial, seen, verdict, message, time.perf_counter() - started)


def usable_device(name: str) -> torch.device:
    """The device of that name. Raises DeviceUnavailable with what is missing."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            built = "no CUDA device is visible" if torch.version.cuda else "torch has no CUDA"
            raise DeviceUnavailable(f"{name} is absent: {built}")
        if (device.index or 0) >= torch.cuda.device_count():
            raise DeviceUnavailable(f"{name} is absent: {torch.cuda.device_count()} are visible")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceUnavailable("mps is absent")
    elif device.type == "xpu" and not torch.xpu.is_available():
        raise DeviceUnavailable("xpu is absent")
    return device


def claim_of(trial: Trial) -> str:
    """The name of the trial's random streams: it survives reordering and other suites."""
    return f"{trial.subject.name}::{trial.check.name}[{trial.point}]"


def _search(
    trial: Trial, live: Live, specs: dict[str, Input], device: torch.device, seen: _Seen
) -> None:
    """Cases that are planned, then cases that Hypothesis draws; a failure is made small."""
    root = stream_seed(trial.seed, claim_of(trial))
    if trial.check.once:
        recipe = typical_recipe(trial.subject, specs, root % 2**31)
        _run_case(trial, live, specs, device, recipe, seen)
        return

    def run(recipe: Recipe) -> Evidence | None:
        return _run_case(trial, live, specs, device, recipe, seen)

    examples = PROFILES[trial.profile].examples
    count = min(examples, max(_PLANNED, examples // 2))
    for recipe in planned_recipes(trial.subject, specs, trial.check.regimes, root, count):
        nearby = simpler(recipe, trial.subject, specs)
        try:
            found = run(recipe)
        except TrialTimeout:
            raise  # what hangs once is not tried again
        except SubjectError:
            if trial.minimal:
                _draw(run, nearby, _SIMPLER, root)
            raise  # unless a simpler case raised
        if found is not None and found.verdict is Verdict.FAILED:
            if trial.minimal:
                _draw(run, nearby, _SIMPLER, root)
                _explain(trial, live, specs, device, seen)
            return
    drawn = recipes(trial.subject, specs, trial.check.regimes)
    failed = examples > count and _draw(run, drawn, examples - count, root, shrinks=trial.minimal)
    if failed and trial.minimal:
        _explain(trial, live, specs, device, seen)


_PLANNED = 10  # cases that are planned, of which the quick profile runs the first
_SIMPLER = 40  # cases that may be tried to make a failure small


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
    trial: Trial, live: Live, specs: dict[str, Input], device: torch.device, seen: _Seen
) -> None:
    """Run the smallest case that failed once more, for a check that can say more of it."""
    if seen.recipe is None:
        return
    again = _Seen()
    with contextlib.suppress(SubjectError):
        _run_case(trial, live, specs, device, seen.recipe, again, explains=True)
    if again.deciding and again.deciding[0].verdict is Verdict.FAILED:
        seen.deciding = seen.evidence = again.deciding


def _run_case(
    trial: Trial,
    live: Live,
    specs: dict[str, Input],
    device: torch.device,
    recipe: Recipe,
    seen: _Seen,
    *,
    explains: bool = False,
) -> Evidence | None:
    """Run one case and note what it came to; the deciding evidence, or None if skipped."""
    dtype = getattr(torch, trial.dtype)
    made: tuple[Implementation, Case] | None = None
    try:
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
        made = subject, case
        seed_everything(recipe.seed)
        pieces = list(_pieces(live.function(subject, case), trial))
    except NotApplicable as error:
        seen.skips.append(str(error))
        return None
    except SubjectError as error:
        seen.recipe = recipe
        if DOMAIN in trial.check.tags or not (
            refuses(trial.subject, recipe, specs, device, dtype)
            or (made is not None and _refuses_a_step(*made))
        ):
            raise
        seen.refusals.append(told(error))
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


def _judged(seen: _Seen, trial: Trial) -> tuple[Verdict, str]:
    if seen.deciding:
        return seen.deciding[0].verdict, ""
    if seen.refusals:
        if _is_told_elsewhere(trial):
            last = seen.refusals[-1].splitlines()[-1]
            takes = (
                "a plain step" if trial.subject.kind == "optimizer" else "all inputs of its domain"
            )
            return Verdict.SKIPPED, f"it refuses {takes}: {last}"
        return Verdict.FAILED, seen.refusals[-1]
    if seen.skips:
        return Verdict.SKIPPED, seen.skips[-1]
    return Verdict.ERRORED, "the check ran no case"


def _is_told_elsewhere(trial: Trial) -> bool:
    """Does another check of this subject report what it refuses?"""
    return any(DOMAIN in check.tags for check in applying(trial.subject) if check != trial.check)


DTYPES = "dtypes"  # the tag of a check that compares types
DOMAIN = "domain"  # the tag of the check that reports which inputs are refused


def told(error: SubjectError) -> str:
    """What the subject did wrong: in our words, or its own traceback from where it began."""
    cause = error.__cause__ if isinstance(error, SubjectRaised) else None
    if cause is None:
        return str(error)
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_HERE)]
    lines = traceback.format_list(own)
    lines += traceback.format_exception_only(type(cause), cause)
    return "the subject raised:\n" + "".join(lines).rstrip()


_HERE = __file__.rpartition("/")[0]


def _expected(trial: Trial, verdict: Verdict, message: str) -> tuple[Verdict, str]:
    """Strict: what is declared to fail and fails is good; what is declared and passes is not."""
    expected = trial.expected_failure
    if expected is None:
        return verdict, message
    if verdict is Verdict.FAILED:
        return Verdict.EXPECTED, "\n".join(part for part in (expected.reason, message) if part)
    if verdict is Verdict.PASSED:
        return Verdict.FAILED, (
            f"passed, though it is declared to fail ({expected.reason}); if it is mended, remove "
            f"the expect_failure of {trial.subject.name!r}"
        )
    return verdict, message


def _outcome(trial: Trial, seen: _Seen, verdict: Verdict, message: str, seconds: float) -> Outcome:
    subject, check = trial.subject, trial.check
    shown = verdict not in (Verdict.SKIPPED, Verdict.ERRORED)
    return Outcome(
        suite=trial.suite,
        subject=subject.name,
        kind=subject.kind,
        check=check.name,
        claim=check.claim,
        device=trial.device,
        dtype=trial.dtype,
        point=trial.point,
        verdict=verdict,
        evidence=tuple(seen.evidence),
        case=str(seen.recipe) if shown and seen.recipe and not check.once else "",
        cases=seen.cases,
        conclusive=seen.conclusive,
        message=message,
        seconds=seconds,
        profile=trial.profile,
        seed=trial.seed,
        target=subject.target if isinstance(subject.target, str) else _name(subject.target),
        file=subject.file,
        line=subject.line,
        tags=tuple(sorted(check.tags | subject.tags)),
        textbook=check.textbook,
    )


def _name(target: object) -> str:
    owner = target if hasattr(target, "__qualname__") else type(target)
    return f"{owner.__module__}.{owner.__qualname__}"
