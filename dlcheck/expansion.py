"""Suite → trials, in declaration order. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from dlcheck.benchmark_plans import size_axes, timed_subject
from dlcheck.errors import UsageError, unknown
from dlcheck.model import NOTHING, BenchmarkTrial, Subject, Suite, Trial
from dlcheck.requirements import why_absent
from dlcheck.suite import applying, complete, matrix_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the command line changes in every suite of a run."""

    targets: Mapping[str, str] = field(default_factory=lambda: NOTHING)  # subject → import path
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    profile: str = "default"
    seed: int = 0
    timeout: float | None = None
    memory: int | None = None  # bytes; 0 is no limit, None most of what is available


def expand(suite: Suite, overrides: Overrides | None = None, where: str = "") -> Iterator[Trial]:
    """The suite's trials. `where` is the suite's part of the node ids: its file, or its name."""
    overrides = overrides or Overrides()
    for raw in suite.subjects:
        subject = swapped(complete(raw), overrides.targets)
        yield from expand_subject(subject, suite, overrides, where)


def expand_subject(
    subject: Subject, suite: Suite, overrides: Overrides, where: str = ""
) -> Iterator[Trial]:
    """The trials of one completed subject: check × axes.

    Where something that it requires is not installed: one trial, that the runner skips.
    """
    matrix = dict(matrix_of(subject, suite))
    matrix["device"] = tuple(dict.fromkeys(overrides.devices)) or matrix["device"]
    matrix["dtype"] = tuple(dict.fromkeys(overrides.dtypes)) or matrix["dtype"]
    axes = [axis for axis in matrix if axis not in ("device", "dtype")]
    checks = applying(subject)
    if why_absent(subject.requires):
        checks = checks[:1]
        matrix = {axis: values[:1] for axis, values in matrix.items()}
    for check in checks:
        dtypes: Sequence[str] = [
            dtype for dtype in matrix["dtype"] if not check.dtypes or dtype in check.dtypes
        ] or check.dtypes[:1]
        for device, dtype, *values in product(
            matrix["device"], dtypes, *(matrix[axis] for axis in axes)
        ):
            params = dict(zip(axes, values, strict=True))
            yield Trial(
                suite=where or suite.name,
                subject=with_params(subject, params),
                check=check,
                device=device,
                dtype=dtype,
                params=params,
                profile=overrides.profile,
                seed=overrides.seed,
                timeout=overrides.timeout,
                memory=overrides.memory,
            )


def expand_benchmarks(
    suite: Suite, overrides: Overrides | None = None, where: str = ""
) -> Iterator[BenchmarkTrial]:
    """The points of the suite's benchmarks: device × dtype × the axes of each."""
    overrides = overrides or Overrides()
    for plan in suite.benchmarks:
        subject = swapped(timed_subject(plan, suite), overrides.targets)
        matrix = {"device": ["cpu", "cuda"], "dtype": ["float32"], **suite.matrix, **plan.matrix}
        matrix["device"] = tuple(dict.fromkeys(overrides.devices)) or matrix["device"]
        matrix["dtype"] = tuple(dict.fromkeys(overrides.dtypes)) or matrix["dtype"]
        axes = [axis for axis in matrix if axis not in ("device", "dtype")]
        dims = size_axes(axes, plan, subject)
        for device, dtype, *values in product(
            matrix["device"], matrix["dtype"], *(matrix[axis] for axis in axes)
        ):
            params = dict(zip(axes, values, strict=True))
            swept = {axis: value for axis, value in params.items() if axis in dims}
            others = {axis: value for axis, value in params.items() if axis not in dims}
            yield BenchmarkTrial(
                suite=where or suite.name,
                plan=plan,
                subject=with_params(subject, others),
                device=device,
                dtype=dtype,
                sizes={**plan.sizes, **swept},
                params=params,
                profile=overrides.profile,
                seed=overrides.seed,
            )


def with_params(subject: Subject, params: Mapping[str, Any]) -> Subject:
    """The subject built with one point of its matrix."""
    return replace(subject, args={**subject.args, **params}) if params else subject


def swapped(subject: Subject, targets: Mapping[str, str]) -> Subject:
    """The subject with the implementation that the command line puts in its place."""
    target = targets.get(subject.name)
    if target is None:
        return subject
    return replace(subject, target=target)


def parse_swaps(given: Sequence[str]) -> dict[str, str]:
    """`["l1=mypkg:L1"]` → {"l1": "mypkg:L1"}. Raises UsageError."""
    found = {}
    for text in given:
        name, equals, target = text.partition("=")
        if not equals or not name or not target:
            raise UsageError(
                f"--subject takes NAME=TARGET, like l1=mypkg.penalties:L1, not {text!r}"
            )
        found[name] = target
    return found


def refuse_unknown_swaps(targets: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise UsageError if a swap names no subject of the run."""
    for name in targets:
        if name not in names:
            raise UsageError("--subject: " + unknown("subject", name, names))
