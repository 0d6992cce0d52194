"""`validate` and `parametrize`: checks on an implementation that stands in no suite."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dlcheck import kinds
from dlcheck.errors import DeclarationError, SuiteError, UsageError, unknown
from dlcheck.expansion import Overrides, expand
from dlcheck.model import NOTHING, PROFILES, ExpectedFailure, Subject, Suite, Trial
from dlcheck.registry import catalogue
from dlcheck.reporting.report import Report
from dlcheck.selection import unchecked
from dlcheck.settings import read_bytes, read_seconds
from dlcheck.suite import check_suite, complete

Function = TypeVar("Function", bound=Callable[..., Any])


def validate(
    subject: Any,
    kind: str | None = None,
    *,
    args: Mapping[str, Any] = NOTHING,
    inputs: Mapping[str, str] | None = None,
    matrix: Mapping[str, Sequence[Any]] = NOTHING,
    reference: Any = None,
    reference_args: Mapping[str, Any] = NOTHING,
    traits: Iterable[str] = (),
    options: Mapping[str, Any] = NOTHING,
    checks: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    expect_failures: Mapping[str, str] = NOTHING,
    device: str = "auto",
    dtype: str | None = None,
    profile: str = "default",
    seed: int = 0,
    timeout: float | None = None,
    memory: int | str | None = None,
    **more: Any,
) -> Report:
    """Run every check that applies to an implementation, and report.

    subject: an object, a class, a function, or an import path "pkg.mod:Attr" or
    "path/file.py:Attr"; an object is copied, never changed. kind: inferred for nn.Module (layer)
    and Optimizer (optimizer) classes and instances and for registered references, else required.
    args: how to build it, `Attr(**args)`; fixed keyword arguments of a function. inputs: in the
    input language, {"x": "float b n"}; read from jaxtyping annotations when absent. matrix:
    constructor arguments to vary. reference: anything called the same way. traits, options: what
    the author declares. checks, skip: globs over check names. expect_failures: {check: reason}.
    device: "auto" is a GPU where there is one. dtype: float64 unless told. timeout: seconds per
    trial. memory: what a trial may allocate, "4GiB" or "none"; most of what is available unless
    told. Further keywords are options too: `task="classification"`.

    Raises UsageError for a wrong declaration; a failing check is in the report, not raised.
    """
    trials = trials_of(
        subject=subject,
        kind=kind,
        args=args,
        inputs=inputs,
        matrix=matrix,
        reference=reference,
        reference_args=reference_args,
        traits=traits,
        options={**options, **more},
        checks=checks,
        skip=skip,
        expect_failures=expect_failures,
        overrides=Overrides(
            devices=(found_device(device),),
            dtypes=(dtype,) if dtype else (),
            profile=_known_profile(profile),
            seed=seed,
            timeout=_known_timeout(timeout),
            memory=_known_memory(memory),
        ),
        where="validate",
    )
    return run_report(trials)


def found_device(name: str) -> str:
    """What "auto" is on this machine: a GPU where there is one. Other names stay."""
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def run_report(
    trials: Sequence[Trial], progress: Callable[[int, int, str], None] | None = None
) -> Report:
    """Run trials one after the other. progress: called with (done, total, name of the next)."""
    from dlcheck.results import environment
    from dlcheck.runner import run_trial

    started, outcomes = time.perf_counter(), []
    for done, trial in enumerate(trials):
        if progress is not None:
            progress(done, len(trials), trial.check.name)
        outcomes.append(run_trial(trial))
    meta = environment(seconds=time.perf_counter() - started)
    if trials and not trials[0].subject.checks:
        meta["unchecked"] = unchecked(trials[0].subject)
    return Report(outcomes, meta)


def parametrize(subject: Any, kind: str | None = None, **declared: Any) -> Callable[..., Any]:
    """Make an ordinary test function one test per check that applies to an implementation.

        @dlcheck.parametrize(MyLoss(), kind="loss", task="classification")
        def test_my_loss(check):
            check()

    Takes what `validate` takes but device, profile, seed, timeout and memory, which the command
    line gives (`--device`, `--profile`, `--seed`, `--trial-timeout`, `--trial-memory`); devices
    defaults to "auto".
    """
    known = set(inspect.signature(trials_of).parameters) - {"overrides", "where"}
    options = {name: declared.pop(name) for name in list(declared) if name not in known}
    declared["options"] = {**declared.get("options", {}), **options}

    def mark(function: Function) -> Function:
        function.__dlcheck_parametrize__ = {  # type: ignore[attr-defined]
            "subject": subject,
            "kind": kind,
            **declared,
        }
        return function

    return mark


def trials_of(
    *,
    subject: Any,
    kind: str | None = None,
    args: Mapping[str, Any] = NOTHING,
    inputs: Mapping[str, str] | None = None,
    matrix: Mapping[str, Sequence[Any]] = NOTHING,
    reference: Any = None,
    reference_args: Mapping[str, Any] = NOTHING,
    traits: Iterable[str] = (),
    options: Mapping[str, Any] = NOTHING,
    checks: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    expect_failures: Mapping[str, str] = NOTHING,
    dtype: str | None = None,
    overrides: Overrides,
    where: str = "",
) -> list[Trial]:
    """The trials of one implementation. Raises UsageError where the declaration is wrong."""
    declared = Subject(
        name=_name_of(subject),
        target=subject,
        kind=kind or "",
        args=args,
        inputs=inputs or {},
        matrix=matrix,
        reference=reference,
        reference_args=reference_args,
        traits=frozenset(_strings("traits", traits)),
        options=options,
        checks=tuple(_strings("checks", checks or ())),
        skip=tuple(_strings("skip", skip)),
        expect_failures=tuple(
            ExpectedFailure(check=check, reason=reason) for check, reason in expect_failures.items()
        ),
    )
    declared = complete(declared)
    if not declared.kind:
        declared = complete(_with_kind(declared))
    try:
        check_suite(Suite(name="validate", subjects=(declared,)))
    except SuiteError as error:
        raise DeclarationError("\n".join(problem.message for problem in error.problems)) from None
    if not kinds.inputs_of(catalogue().kind(declared.kind), declared.inputs, declared.options):
        from dlcheck.taken import inputs_of

        inputs_of(declared)  # nothing to go by is a usage error, here and not in every trial
    axes = {"device": ["auto"], "dtype": [dtype or "float64"]}
    return list(expand(Suite(name="validate", subjects=(declared,), matrix=axes), overrides, where))


def _with_kind(subject: Subject) -> Subject:
    kind = inferred_kind(subject.target, near=subject.file)
    if not kind:
        known = ", ".join(sorted(catalogue().kinds))
        raise DeclarationError(
            f"what kind of subject is {subject.name}? Say kind = one of {known}; "
            "see: dlcheck list kinds"
        )
    return replace(subject, kind=kind)


def inferred_kind(target: Any, near: str = "") -> str:
    """layer for nn.Module, optimizer for Optimizer, classes and instances; empty otherwise."""
    import torch

    from dlcheck.targets import load_target

    value = load_target(target, near=near)
    made = value if inspect.isclass(value) else type(value)
    if issubclass(made, torch.optim.Optimizer):
        return "optimizer"
    if issubclass(made, torch.nn.modules.loss._Loss):
        return "loss"
    return "layer" if issubclass(made, torch.nn.Module) else ""


def _name_of(subject: Any) -> str:
    if isinstance(subject, str):
        return subject.rpartition(":")[2] or subject
    name = getattr(subject, "__name__", type(subject).__name__)
    return "".join(letter if letter.isalnum() or letter in "_.+-" else "_" for letter in name)


def _strings(what: str, given: Iterable[str]) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"{what} are strings, not {name!r}")
    return names


def _known_timeout(seconds: float | None) -> float | None:
    if not seconds:
        return None
    try:
        return read_seconds(seconds)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _known_memory(memory: int | str | None) -> int | None:
    if memory is None:
        return None
    try:
        return read_bytes(memory)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _known_profile(profile: str) -> str:
    if profile not in PROFILES:
        raise UsageError(unknown("profile", profile, PROFILES))
    return profile
