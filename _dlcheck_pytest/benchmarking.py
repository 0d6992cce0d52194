"""A benchmark as the body of a test: measured, stored, held against an earlier run."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.commands import command_of
from _dlcheck_pytest.resuming import recorded_benchmark
from _dlcheck_pytest.state import BENCHMARK, TREND, State, TrialFailed, dest_of, state_of
from _dlcheck_pytest.trials import is_benchmark

if TYPE_CHECKING:
    from dlcheck.benchmark import Benchmark
    from dlcheck.model import BenchmarkTrial


def run_benchmark_item(trial: BenchmarkTrial, node: pytest.Item, fixture: Any) -> None:
    """Measure a point: returns, skips where it could not be measured, or raises TrialFailed."""
    __tracebackhide__ = True
    from dlcheck.errors import DeviceUnavailable, UsageError
    from dlcheck.reporting.comparison_shown import sentence
    from dlcheck.requirements import why_absent
    from dlcheck.timing.run import run_benchmark

    state = state_of(node.config)
    if absent := why_absent(trial.subject.requires):
        pytest.skip(absent)
    try:
        found = recorded_benchmark(trial, node) or run_benchmark(trial)
    except DeviceUnavailable as error:
        if trial.device.partition(":")[0] in state.required:
            pytest.fail(f"{error}, and --require was given", pytrace=False)
        pytest.skip(str(error))
    except UsageError as error:
        pytest.fail(str(error), pytrace=False)
    found = dataclasses.replace(found, reproduce=command_of(node, trial, state))
    node.stash[BENCHMARK] = found
    if fixture is not None:
        _store(fixture, found)
    if found.fault:
        raise TrialFailed(found, f"{sentence(found)}\nagain: {found.reproduce}")
    if not found.is_measured:
        pytest.skip(sentence(found))
    if state.baseline:
        _hold_against(found, node, state)


def _hold_against(found: Benchmark, node: pytest.Item, state: State) -> None:
    """Raises TrialFailed for a regression, skips where that cannot be told."""
    __tracebackhide__ = True
    from dlcheck.gate import Gate
    from dlcheck.results import environment, read_run

    if state.gate is None:
        name, given = Path(state.baseline), node.config.getoption(dest_of("--against"))
        state.gate = Gate(
            name=given, baseline=read_run(name), others=state.others, meta=environment()
        )
    timed = [item for item in node.session.items if is_benchmark(item)]
    judged = state.gate.judge(found, len(timed))
    told = f"{judged.trend.value} against {state.gate.name}: {judged.told}"
    node.stash[TREND] = ("unmeasured" if judged.is_unmeasured else judged.trend.value, told)
    if judged.is_regression:
        again = shlex.join(["dlcheck", "run", *shlex.split(found.reproduce)[1:]])
        again += f" --processes {judged.processes[1]} --against {shlex.quote(state.gate.name)}"
        raise TrialFailed(found, f"{told}\nagain: {again}")
    if judged.is_unmeasured:
        pytest.skip(told)


def _store(fixture: Any, found: Benchmark) -> None:
    """Our samples as those of pytest-benchmark, so that its storage and its tables hold them."""
    fixture.params = {"device": found.device, "dtype": found.dtype, **found.params}
    fixture.extra_info["dlcheck"] = {
        name: value
        for name, value in {
            "verdict": found.verdict.value if found.verdict else None,
            "against": found.against.target if found.against else None,
            "ratio": found.ratio.median if found.ratio else None,
            "interval": list(found.ratio.interval) if found.ratio else None,
            "pairs": len(found.subject.seconds),
            "throughput": found.throughput,
            "peak_bytes": found.subject.peak_bytes,
            "refused": found.refused,
        }.items()
        if value not in (None, "")
    }
    fixture.pedantic(_nothing, rounds=1, iterations=found.subject.calls)
    fixture.has_error = bool(found.refused)  # such times are stored nowhere
    if fixture.stats is not None:  # None where it is disabled, as under xdist
        fixture.stats.stats.data[:] = [] if found.refused else found.subject.seconds


def _nothing() -> None:
    """What pytest-benchmark times in place of what is timed already."""
