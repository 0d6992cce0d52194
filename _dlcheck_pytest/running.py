"""A trial as the body of a test, and its report."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.commands import command_of
from _dlcheck_pytest.crashing import remember, watched, watched_import
from _dlcheck_pytest.gpus import note_taken_gpus
from _dlcheck_pytest.guarding import take_signals
from _dlcheck_pytest.resuming import recorded_outcome
from _dlcheck_pytest.state import (
    BENCHMARK,
    MENDED,
    OUTCOME,
    SENT,
    STALE,
    STATE,
    TREND,
    State,
    TrialFailed,
    dest_of,
    state_of,
)
from _dlcheck_pytest.trials import is_recorded, trial_of

if TYPE_CHECKING:
    from dlcheck.model import BenchmarkTrial, Outcome, Trial


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Import every target before the first trial: what source could not settle is settled here.

    With --ray the nodes do that, and run the items.
    """
    if session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return None
    if _has_trials(session):
        take_signals(session.config)
    if session.config.getoption(dest_of("--ray")):
        from _dlcheck_pytest.ray_loop import run_on_ray

        return run_on_ray(session, state_of(session.config).ray)
    trials = [trial for item in session.items if (trial := trial_of(item)) is not None]
    first = {(t.subject.target, t.subject.file): t for t in reversed(trials)
             if isinstance(t.subject.target, str)}  # fmt: skip
    problems = []
    for trial in reversed(first.values()):
        with watched_import(trial, session.config):
            problems += filter(None, [unloadable(trial)])
    if problems:
        raise pytest.UsageError("\n".join(problems))
    if any(trial.device != "cpu" for trial in trials):
        note_taken_gpus(state_of(session.config))
    return None


def _has_trials(session: pytest.Session) -> bool:
    """Here, or in workers: the controller of xdist collects nothing."""
    config = session.config
    in_workers = STATE in config.stash and state_of(config).workers > 0
    return in_workers or any(map(is_recorded, session.items))


def unloadable(trial: Trial | BenchmarkTrial) -> str:
    """Why the target cannot be imported, with the line of the suite; empty where it can."""
    from dlcheck.errors import Problem, TargetError, TrialTimeout
    from dlcheck.isolation import time_limit
    from dlcheck.isolation.exits import refused_exits
    from dlcheck.lanes import waits_for_its_lane
    from dlcheck.targets import load_target

    subject = trial.subject
    if waits_for_its_lane(subject):
        return ""
    try:
        with refused_exits(), time_limit(getattr(trial, "timeout", None)):
            load_target(subject.target, near=subject.file)
    except TrialTimeout as error:
        text = f"target {subject.target!r}: importing it {error}"
        return str(Problem(text, subject.file, subject.line))
    except TargetError as error:
        return str(Problem(str(error), subject.file, subject.line))
    return ""


def run_item(trial: Trial, node: pytest.Item | None) -> None:
    """Run a trial as the body of a test: returns, skips, xfails, or raises TrialFailed."""
    __tracebackhide__ = True
    from dlcheck.model import Verdict

    if node is None:
        from dlcheck.runner import run_trial

        outcome = run_trial(trial)
    else:
        outcome = _kept(trial, node)
        node.stash[OUTCOME] = outcome
    match outcome.verdict:
        case Verdict.PASSED:
            return
        case Verdict.SKIPPED:
            pytest.skip(outcome.message)
        case Verdict.INCONCLUSIVE:
            pytest.skip(f"inconclusive: {outcome.worst}")
        case Verdict.EXPECTED:
            pytest.xfail(outcome.message.splitlines()[0] if outcome.message else "as declared")
    from dlcheck.reporting.terminal import describe

    raise TrialFailed(outcome, describe(outcome))


def _as_if_not_expected(trial: Trial, node: pytest.Item) -> Trial:
    """With --runxfail what is declared to fail fails, and says how."""
    if not node.config.option.runxfail:
        return trial
    return dataclasses.replace(
        trial, subject=dataclasses.replace(trial.subject, expect_failures=())
    )


def _kept(trial: Trial, node: pytest.Item) -> Outcome:
    """Run the trial, the case that failed last time first; with what it takes to run it again."""
    state = state_of(node.config)
    if (earlier := recorded_outcome(trial, node)) is not None:
        return _required(earlier, trial, state)
    from dlcheck.failures import identity
    from dlcheck.reporting.again import statistics
    from dlcheck.runner import run_trial, unfinished

    name = state.failures.name_of(identity(trial, _place(trial, node, state)))
    tried = _as_if_not_expected(trial, node)
    witness = state.failures.witness(name, expected=tried.expected_failure is not None)
    command = command_of(node, trial, state)
    crashed = replayable(unfinished(trial, reproduce=command), trial, node, state)
    with watched(tried, node, state, crashed):
        outcome = run_trial(dataclasses.replace(tried, witness=witness, scripted=True))
    remember(outcome, state)
    outcome = replayable(outcome, trial, node, state)
    if outcome.verdict.value == "passed" and name in state.failures.names:
        node.stash[MENDED] = name
    # The plugin of Hypothesis prints it with --hypothesis-show-statistics, and puts it into JUnit.
    node.hypothesis_statistics = statistics(node.nodeid, outcome)  # type: ignore[attr-defined]
    return dataclasses.replace(_required(outcome, trial, state), reproduce=command)


def replayable(outcome: Outcome, trial: Trial, node: pytest.Item, state: State) -> Outcome:
    """The outcome with what it takes to run the trial again, where it failed."""
    from dlcheck.failures import identity, with_replay

    place = _place(trial, node, state)
    name = state.failures.name_of(identity(trial, place))
    swapped = state.overrides.targets.get(trial.subject.name)
    swaps = {trial.subject.name: swapped} if swapped else {}
    return with_replay(outcome, trial, name, place, swaps, plugins=state.plugins)


def _place(trial: Trial, node: pytest.Item, state: State) -> str:
    """The file that declares the subject, with the name of a Python suite or test in it."""
    file = Path(os.path.relpath(node.path, state.root)).as_posix()
    inside = trial.suite.partition("::")[2]
    return f"{file}::{inside}" if inside else file


def _required(outcome: Outcome, trial: Trial, state: State) -> Outcome:
    from dlcheck.model import Verdict

    absent = outcome.verdict is Verdict.SKIPPED and not outcome.cases
    if absent and trial.device.partition(":")[0] in state.required:
        message = f"{outcome.message}, and --require {trial.device.partition(':')[0]} was given"
        return dataclasses.replace(outcome, verdict=Verdict.FAILED, message=message)
    return outcome


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    outcome, timed = item.stash.get(OUTCOME, None), item.stash.get(BENCHMARK, None)
    if (outcome is None and timed is None) or call.when != "call":
        return report
    from dlcheck.results import encode, environment, plain

    report.dlcheck_stale = item.stash.get(STALE, False)
    if outcome is not None:
        report.dlcheck = _sendable(encode(outcome))
        report.sections = [(name, _tame(text)) for name, text in report.sections]
        report.dlcheck_mended = item.stash.get(MENDED, "")
    if timed is not None:
        report.dlcheck_benchmark = timed.to_data()
        report.dlcheck_trend = item.stash.get(TREND, ("", ""))
    if hasattr(item.config, "workerinput") and SENT not in item.config.stash:
        # The controller never loads torch: what it knows of devices comes from a worker.
        item.config.stash[SENT] = True
        cut = state_of(item.config).cut
        report.dlcheck_environment = plain(environment(**({"shard": cut} if cut else {})))
    if call.excinfo is not None and isinstance(call.excinfo.value, TrialFailed):
        report.longrepr = _as_utf8(str(call.excinfo.value))
    return report


_LOUD = 2**16  # characters of a trial's output that a report keeps


def _tame(output: str) -> str:
    """What a subject printed, without what a terminal would obey, and not too long."""
    from dlcheck.reporting.markup import clean, clipped

    return clipped(clean(output[-16 * _LOUD :]), _LOUD)


def _sendable(encoded: dict[str, Any]) -> dict[str, Any]:
    """Half a surrogate pair in a stranger's text must not keep a report from its journey."""
    text = json.dumps(encoded, ensure_ascii=False)
    return encoded if _as_utf8(text) is text else dict(json.loads(_as_utf8(text)))


def _as_utf8(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    verdict = getattr(report, "dlcheck", {}).get("verdict")
    if report.skipped and (verdict == "inconclusive" or hasattr(report, "dlcheck_benchmark")):
        return "inconclusive", "?", ("INCONCLUSIVE", {"yellow": True})
    return None
