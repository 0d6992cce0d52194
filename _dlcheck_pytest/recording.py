"""Every outcome written down as it comes, then the reports and the exit code."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.guarding import hold_to_lock, put_signals_back, told_of_interruption
from _dlcheck_pytest.resuming import note_stale
from _dlcheck_pytest.state import (
    COULD_NOT_MEASURE,
    ONLY_REGRESSIONS,
    STATE,
    State,
    overrides_of,
    state_of,
)

if TYPE_CHECKING:
    from dlcheck.benchmark import Benchmark
    from dlcheck.model import Outcome
    from dlcheck.results import Run


class FailureText(str):
    """The message of a failure: plain, as records and JUnit want it, in colour on a terminal."""

    outcome: Outcome

    def __new__(cls, text: str, outcome: Outcome) -> FailureText:
        made = super().__new__(cls, text)
        made.outcome = outcome
        return made

    def toterminal(self, writer: Any) -> None:
        """Called by pytest, whose --color decides."""
        from dlcheck.reporting.terminal import describe

        writer.line(describe(self.outcome, color=True) if writer.hasmarkup else self)


@dataclasses.dataclass(slots=True, eq=False)
class Recorder:
    """Writes down every outcome of one run, from whichever worker it comes.

    Registered once per configuration, and not in workers: a pytest inside pytest keeps its own.
    """

    config: pytest.Config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        encoded = getattr(report, "dlcheck", None)
        timed = getattr(report, "dlcheck_benchmark", None)
        if STATE in self.config.stash:
            state_of(self.config).failed += report.failed
        if encoded is None and timed is None:
            return
        from dlcheck.benchmark import Benchmark
        from dlcheck.results import decode

        state = state_of(self.config)
        line: Outcome | Benchmark
        if timed is not None:
            line = Benchmark.from_data(timed)
            state.benchmarks.append(line)
            state.trends.append((report.dlcheck_trend[0], report.dlcheck_trend[1]))
        else:
            line = decode(encoded)
            state.outcomes.append(line)
            if report.failed and isinstance(report.longrepr, str):
                report.longrepr = FailureText(report.longrepr, line)
        state.stale += getattr(report, "dlcheck_stale", False)
        if not state.meta:
            _begin(state, getattr(report, "dlcheck_environment", {}))
        if state.writer is not None:
            state.writer.append(line)
        if timed is None:
            self._keep(line, getattr(report, "dlcheck_mended", ""), state)

    def _keep(self, outcome: Any, mended: str, state: State) -> None:
        """Keep what failed, to be tried first next time; forget what is mended."""
        from dlcheck.errors import UsageError
        from dlcheck.failures import failure_of

        try:
            if mended:
                state.failures.remove(mended)
            if outcome.failure:
                commit = state.meta.get("git", {}).get("commit", "")
                date = state.meta.get("time", "")
                state.failures.put(failure_of(outcome, commit=commit, date=date))
        except (OSError, UsageError) as error:
            reason = getattr(error, "strerror", None) or error
            state.unkept.append(str(reason))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.failed:
            return
        state = state_of(self.config)
        state.failed += 1
        if getattr(report, "dlcheck_usage", False):
            state.usage_errors += 1
        else:
            state.only_usage_errors = False


def _begin(state: State, found: dict[str, Any]) -> None:
    """Open the record. Where that fails the run goes on, and its end says so."""
    from dlcheck.results import RunWriter, environment, new_run_path

    state.meta = {
        **environment(),
        **found,
        "command": state.command,
        "seed": state.overrides.seed,
        "profile": state.overrides.profile,
        "overrides": overrides_of(state),
    }
    if state.workers:
        state.meta["workers"] = state.workers
    if state.cluster:
        state.meta["ray"] = state.cluster
    if state.notes:
        state.meta["notes"] = list(state.notes)
    if state.cut:
        state.meta["shard"] = state.cut
    if state.earlier is not None and state.earlier.path is not None:
        state.meta["resumed"] = state.earlier.path.name
    others = [each for run in state.others for each in run.benchmarks]
    if others:
        state.meta["processes"] = 1 + int(state.others[0].meta.get("processes", 1))
    try:
        state.writer = RunWriter(new_run_path(state.root), state.meta)
        for each in others:
            state.writer.append(each)
    except OSError as error:
        state.problems.append(f"no record was written: {error}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if hasattr(config, "workerinput") or STATE not in config.stash:
        return
    state = state_of(config)
    put_signals_back(config)
    try:
        state.failures.make_room()
    except OSError as error:
        state.unkept.append(error.strerror or str(error))
    if state.unkept:
        state.problems.append(
            f"{len(state.unkept):,} changes of .dlcheck/failures were not written: "
            f"{state.unkept[0]}; dlcheck replay finds these failures in the record, with --run"
        )
    code = _exit_code(exitstatus, state)
    if code in (0, COULD_NOT_MEASURE) and hold_to_lock(config, state):
        code = int(pytest.ExitCode.TESTS_FAILED)
    note_stale(state)
    told_of_interruption(config, state, exitstatus)
    if state.cut.get("whole") and not state.meta:
        _begin(state, {})  # a shard without trials is recorded too
    if state.writer is not None:
        state.writer.close(
            interrupted=exitstatus == pytest.ExitCode.INTERRUPTED,
            exit_code=int(code) if state.shard is not None else None,
        )
    if state.outcomes or state.benchmarks or state.cut.get("whole"):
        _write_reports(state)
    session.exitstatus = code


def _exit_code(exitstatus: int, state: State) -> int:
    """pytest's, but for what a wrong suite, regressions alone or want of evidence come to."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and state.cut.get("whole"):
        return pytest.ExitCode.OK  # its trials are all in other shards
    trends = [trend for trend, _ in state.trends]
    if state.usage_errors and state.only_usage_errors and exitstatus in (1, 2):
        return pytest.ExitCode.USAGE_ERROR
    slower = trends.count("slower")
    if exitstatus == pytest.ExitCode.TESTS_FAILED and slower and state.failed == slower:
        return ONLY_REGRESSIONS
    if exitstatus == pytest.ExitCode.OK and (
        any(outcome.verdict.value == "inconclusive" for outcome in state.outcomes)
        or not all(benchmark.is_measured for benchmark in state.benchmarks)
        or "unmeasured" in trends
    ):
        return COULD_NOT_MEASURE
    return exitstatus


def _write_reports(state: State) -> None:
    """All that is asked for. What cannot be written is one line at the end, never a lost run."""
    summary_file = os.environ.get("GITHUB_STEP_SUMMARY")
    if not state.report and not summary_file:
        return
    run = _recorded(state)
    if summary_file:
        from dlcheck.reporting.markdown import render_markdown
        from dlcheck.reporting.report import Report

        text = render_markdown(Report.of(run)) + "\n"
        try:
            with open(summary_file, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            state.problems.append(f"no step summary was written: {error}")
    if not state.report:
        return
    from dlcheck.reporting import write_reports

    try:
        state.written = write_reports(run, state.root / state.report)
    except OSError as error:
        state.problems.append(f"no report was written to {state.report}: {error}")


def _recorded(state: State) -> Run:
    """The run from its record; from memory where the record lacks some of it."""
    from dlcheck.errors import UsageError
    from dlcheck.results import Run, read_run

    writer = state.writer
    if writer is not None and writer.lost:
        state.problems.append(
            f"{writer.lost:,} of {writer.written + writer.lost:,} outcomes are not in the record: "
            f"{writer.problem}"
        )
    elif writer is not None:
        with contextlib.suppress(UsageError):
            return read_run(writer.path)
    return Run(state.meta, state.outcomes, state.benchmarks)
