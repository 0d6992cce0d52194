"""Trial → outcome. Knows nothing of pytest, the terminal or files."""

from __future__ import annotations

import contextlib
import time
import traceback
from dataclasses import replace

import torch

from dlcheck.cases import DOMAIN, Cases, Seen
from dlcheck.errors import (
    DeviceUnavailable,
    NotApplicable,
    SubjectError,
    TrialTimeout,
    UsageError,
)
from dlcheck.isolation import contained, memory_limit, time_limit
from dlcheck.isolation.exits import refused_exits
from dlcheck.isolation.memory_limit import is_refusal
from dlcheck.lanes import waits_for_its_lane
from dlcheck.model import Outcome, Trial, Verdict
from dlcheck.raised import foreign_lines, told
from dlcheck.registry import live_check
from dlcheck.requirements import why_absent
from dlcheck.search import search_cases
from dlcheck.selection import applying
from dlcheck.subject_source import name_of, source_of, source_of_exception
from dlcheck.taken import inputs_of
from dlcheck.targets import load_target
from dlcheck.vacuity import doubts


def run_trial(trial: Trial) -> Outcome:
    """Run one trial and say what it came to. Never raises but for an interrupt.

    A subject that raises or breaks its contract has failed; a mistake of dlcheck's own, or a
    check that measures nothing, is an error; an absent device is a skip with its reason.
    """
    started, seen, notes = time.perf_counter(), Seen(), list[str]()
    if trial.expected_failure is not None:
        trial = replace(trial, minimal=False)  # known as it is: nobody waits for a smaller case
    try:
        if absent := why_absent(trial.subject.requires):
            raise NotApplicable(absent)
        live = live_check(trial.check)  # and what it imports, before the subject could change it
        device = usable_device(trial.device)
        _import_target(trial)
        with (
            contained(trial.subject.target) as notes,
            memory_limit(trial.memory, device),
            time_limit(trial.timeout),
        ):
            if device.type == "cpu" and "benchmark" not in trial.check.tags:
                # Cases are small: a second thread only waits, and changes the order of sums.
                torch.set_num_threads(1)
            search_cases(Cases(trial, live, inputs_of(trial.subject), device), seen)
        verdict, message = _judged(seen, trial)
    except (DeviceUnavailable, NotApplicable) as error:
        verdict, message = Verdict.SKIPPED, str(error)
    except SubjectError as error:
        verdict, message = Verdict.FAILED, told(error)
        if isinstance(error, TrialTimeout):
            seen.recipe = seen.trying
        seen.source = source_of_exception(error)
    except UsageError as error:
        verdict, message = Verdict.ERRORED, str(error)
    except Exception as error:
        verdict, message = _whose_fault(error, trial)
    verdict, message = _expected(trial, verdict, message)
    outcome = _outcome(trial, seen, verdict, message, time.perf_counter() - started)
    return replace(outcome, notes=(*outcome.notes, *notes))


def _import_target(trial: Trial) -> None:
    """Import it, and its reference, before the state is read that is put back: modules are
    imported once.

    What goes wrong is told where the subject is built. A subject with kernels is imported there,
    since its lane comes first.
    """
    subject = trial.subject
    if waits_for_its_lane(subject):
        return
    for target in (subject.target, subject.reference):
        if isinstance(target, str):
            with contextlib.suppress(UsageError), refused_exits(), time_limit(trial.timeout):
                load_target(target, near=subject.file)


def _whose_fault(error: Exception, trial: Trial) -> tuple[Verdict, str]:
    """The subject's, where the innermost code is neither ours nor a library's; else dlcheck's."""
    if (foreign := foreign_lines(error, trial.subject)) or is_refusal(error):
        said = "the subject raised while it was looked at:\n"
        return Verdict.FAILED, said + (foreign or traceback.format_exc().rstrip())
    return Verdict.ERRORED, "dlcheck itself failed:\n" + traceback.format_exc()


def unfinished(trial: Trial, reproduce: str = "", *, loads: bool = True) -> Outcome:
    """The outcome of a trial that never comes back: a failure without numbers.

    loads: import the target, to say where it is written; one with kernels never is.
    """
    source = ""
    if loads and not waits_for_its_lane(trial.subject):
        with contextlib.suppress(TrialTimeout), refused_exits(), time_limit(trial.timeout):
            source = source_of(trial.subject)
    made = _outcome(trial, Seen(), Verdict.SKIPPED, "", 0.0)
    return replace(made, verdict=Verdict.FAILED, source=source, reproduce=reproduce)


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


def _judged(seen: Seen, trial: Trial) -> tuple[Verdict, str]:
    if seen.deciding:
        return seen.deciding[0].verdict, ""
    if seen.empty:
        where = f"({trial.check.file}:{trial.check.line})"
        return Verdict.ERRORED, f"check {trial.check.name!r} {where} measured nothing"
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


def _source(trial: Trial, seen: Seen, verdict: Verdict) -> str:
    """Where the subject raised, or is written; nothing where nobody is to mend it."""
    if verdict in (Verdict.PASSED, Verdict.SKIPPED):
        return ""
    return (not seen.deciding and seen.source) or source_of(trial.subject)


def _outcome(trial: Trial, seen: Seen, verdict: Verdict, message: str, seconds: float) -> Outcome:
    subject, check = trial.subject, trial.check
    shown = verdict not in (Verdict.SKIPPED, Verdict.ERRORED)
    recipe = seen.recipe if shown and not check.once else None
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
        case=recipe.told(seen.free) if recipe else "",
        recipe=recipe,
        free=seen.free if recipe else {},
        cases=seen.cases,
        conclusive=seen.conclusive,
        phases=seen.phases if not check.once else {},
        message=message,
        notes=tuple(doubts(verdict, seen.cases, seen.conclusive, seen.refusals, seen.skips)),
        script=seen.script.text if shown else "",
        scriptless=seen.script.reason if shown and not seen.script.text else "",
        seconds=seconds,
        profile=trial.profile,
        seed=trial.seed,
        source=_source(trial, seen, verdict),
        target=name_of(subject.target),
        file=subject.file,
        line=subject.line,
        tags=tuple(sorted(check.tags | subject.tags)),
        textbook=check.textbook,
    )
