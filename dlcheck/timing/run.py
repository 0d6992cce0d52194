"""One point of a benchmark → its record. Knows nothing of pytest, the terminal or files."""

from __future__ import annotations

import contextlib
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlcheck.benchmark import Benchmark, Side
from dlcheck.environment import cpu_model
from dlcheck.errors import SubjectError
from dlcheck.formulas import evaluate
from dlcheck.isolation import guarded, restored_state
from dlcheck.measure.clocks import Clock
from dlcheck.measure.device_clock import graph_seconds, launch_seconds
from dlcheck.measure.pairs import time_alone, time_pairs
from dlcheck.measure.resources import ceilings, peak_bytes, usage
from dlcheck.model import BenchmarkTrial
from dlcheck.ratio import median
from dlcheck.runner import usable_device
from dlcheck.subjects import Implementation
from dlcheck.timing.agreement import agreement
from dlcheck.timing.contest import Contest, Work, bare, prepare
from dlcheck.timing.doubts import does_nothing, doubt_before, remembers

# profile → seconds of timing
BUDGETS: Mapping[str, float] = {"quick": 1.5, "default": 6.0, "thorough": 60.0, "ci": 6.0}
_BUSY = 0.8  # of the wall: less processor time means that others had the core


class _Refused(Exception):
    """Why there is no verdict, and whose fault it is."""

    def __init__(self, reason: str, fault: str = "", grade: str = "") -> None:
        super().__init__(reason)
        self.reason, self.fault, self.grade = reason, fault, grade


def run_benchmark(trial: BenchmarkTrial, tensors: Mapping[str, Tensor] | None = None) -> Benchmark:
    """Measure one point. A subject that raises, or answers wrongly, is refused with the reason.

    tensors: the caller's own inputs, instead of ones made from the declaration. Raises UsageError
    for a declaration that does not fit, DeviceUnavailable for a device that is absent.
    """
    started = time.perf_counter()
    record = _blank(trial)
    with restored_state(trial.subject.target), warnings.catch_warnings():
        device = usable_device(trial.device)
        record = replace(record, device=trial.device, hardware=hardware(device))
        try:
            record = _measured(record, trial, tensors)
        except _Refused as refused:
            record = replace(
                record, refused=refused.reason, fault=refused.fault, grade=refused.grade
            )
        except SubjectError as error:
            record = replace(record, refused=_of_failure(error), fault="raised")
    return replace(record, took=time.perf_counter() - started)


def _blank(trial: BenchmarkTrial) -> Benchmark:
    plan, against = trial.plan, trial.subject.reference
    return Benchmark(
        name=plan.name,
        subject=Side(target=named(trial.subject.target)),
        against=Side(target=named(against)) if against is not None else None,
        suite=trial.suite,
        device=trial.device,
        dtype=trial.dtype,
        sizes=dict(trial.sizes),
        params=dict(trial.params),
        point=trial.point,
        threads=torch.get_num_threads(),
        profile=trial.profile,
        seed=trial.seed,
        file=plan.file,
        line=plan.line,
        item=plan.item,
        **_work(trial),
    )


def named(target: Any) -> str:
    """An import path as it is, an object by its name."""
    if isinstance(target, str):
        return target
    made = target if hasattr(target, "__qualname__") else type(target)
    return f"{made.__module__}:{made.__qualname__}"


def hardware(device: torch.device) -> str:
    """The model of a device."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return cpu_model() if device.type == "cpu" else device.type


def _work(trial: BenchmarkTrial) -> dict[str, Any]:
    """What is declared of a call, at these sizes. Raises DeclarationError for a wrong formula."""
    itemsize = getattr(torch, trial.dtype).itemsize
    names = {**trial.sizes, "itemsize": itemsize}
    found: dict[str, Any] = {}
    for key in ("items", "flops", "bytes"):
        formula = getattr(trial.plan, key)
        found[key] = None if formula is None else evaluate(formula, names)
    return found


def _measured(
    record: Benchmark, trial: BenchmarkTrial, tensors: Mapping[str, Tensor] | None
) -> Benchmark:
    contest = prepare(trial, tensors)
    clock = Clock(contest.case.device)
    with contextlib.nullcontext() if contest.backward else torch.no_grad():
        sides = {"subject": contest.subject, "against": contest.against}
        made = {name: side for name, side in sides.items() if side is not None}
        cold = {name: _first_call(name, side, contest, clock) for name, side in made.items()}
        works = {name: _work_of(name, side, contest) for name, side in made.items()}
        for name, work in works.items():
            if doubt := guarded(doubt_before, contest, work):
                raise _Refused(
                    doubt if name == "subject" else f"of what it is held against: {doubt}"
                )
        record = _agreed(record, contest)
        record = guarded(_timed, record, contest, works, clock, cold)
        late = guarded(remembers, contest, works["subject"], works.get("against"))
        late = late or does_nothing(contest, record.subject.median or 0.0, record.subject.calls)
        record = replace(record, refused=late)
    if record.flops or record.bytes:
        found = ceilings(clock.device, contest.case.dtype, torch.get_num_threads())
        record = replace(record, ceilings=found)
    return replace(record, notes=tuple(dict.fromkeys(_notes(record))))


def _first_call(name: str, made: Implementation, contest: Contest, clock: Clock) -> float:
    """Seconds of the first call; a reference that raises is a reason, not the subject's fault."""
    try:
        seconds: float = guarded(clock.seconds, bare(made), *contest.arguments)
        return seconds
    except SubjectError as error:
        if name == "subject":
            raise
        raise _Refused(f"what it is held against fails: {_of_failure(error)}") from None


def _of_failure(error: SubjectError) -> str:
    """What it raised and where, in one line."""
    cause = error.__cause__
    if cause is None:
        return str(error)
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if "dlcheck" not in Path(frame.filename).parts]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    return f"it raised {str(error).splitlines()[0]}{where}"


def _work_of(name: str, made: Implementation, contest: Contest) -> Work:
    try:
        work: Work = guarded(contest.work, made)
        return work
    except SubjectError as error:
        fault = "raised" if name == "subject" else ""
        raise _Refused(f"no gradients of the {name}: {_of_failure(error)}", fault) from None


def _agreed(record: Benchmark, contest: Contest) -> Benchmark:
    if contest.against is None:
        return record
    with torch.enable_grad():
        found = agreement(contest.subject, contest.against, contest.case)
    if found.grade == "C":
        raise _Refused(f"its outputs are not the reference's: {found.words}", "disagrees", "C")
    if not found.grade:
        raise _Refused(f"its outputs cannot be checked: it {found.words}")
    return replace(record, grade=found.grade, agreement=found.words)


def _timed(
    record: Benchmark,
    contest: Contest,
    works: Mapping[str, Work],
    clock: Clock,
    cold: Mapping[str, float],
) -> Benchmark:
    budget, buffers = BUDGETS[record.profile], [contest.arguments]
    if record.against is None:
        seconds, calls = time_alone(works["subject"], clock, buffers=buffers, budget=budget)
        samples = {"subject": (seconds, calls)}
    else:
        pairs = time_pairs(
            works["against"],
            works["subject"],
            clock,
            buffers=buffers,
            budget=budget,
            seed=record.seed,
        )
        samples = {
            "against": (pairs.first, pairs.calls[0]),
            "subject": (pairs.second, pairs.calls[1]),
        }
    sides: dict[str, Any] = {}
    for name, (seconds, calls) in samples.items():
        side = replace(getattr(record, name), seconds=seconds, calls=calls, cold=cold[name])
        sides[name] = _with_resources(side, works[name], contest)
    return replace(record, **sides)


def _with_resources(side: Side, work: Work, contest: Contest) -> Side:
    device, arguments = contest.case.device, contest.arguments
    used = usage(work, arguments, median(side.seconds), device)
    side = replace(
        side,
        cpu=used.cpu,
        wall=used.wall,
        page_faults=used.page_faults,
        peak_bytes=peak_bytes(work, arguments, device),
    )
    if device.type != "cuda":
        return side
    clock = Clock(device)
    return replace(
        side,
        launch=launch_seconds(work, arguments, device),
        graph=None if contest.backward else graph_seconds(work, arguments, device),
        uncleared=clock.seconds(work, *arguments, calls=20),
    )


def _notes(record: Benchmark) -> Iterator[str]:
    sides = {"the subject": record.subject, "the reference": record.against}
    for name, side in sides.items():
        if side is None or not side.seconds:
            continue
        if record.device == "cpu" and side.cpu and side.wall and side.cpu < _BUSY * side.wall:
            yield "others use this machine: a call has no processor for a part of its time"
        if side.page_faults and side.page_faults >= 16:
            yield (
                f"{name} takes {side.page_faults:,.0f} page faults a call: it waits for the system "
                "to hand out memory"
            )
    if record.roofline is not None and record.roofline > 110:
        yield (
            f"{record.roofline:.0f} % of the roofline: its data stay in a cache, or more work is "
            "declared than is done"
        )
