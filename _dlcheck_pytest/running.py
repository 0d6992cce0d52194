"""A trial as the body of a test, and its report."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.gpus import note_taken_gpus
from _dlcheck_pytest.state import BENCHMARK, OUTCOME, SENT, TREND, State, TrialFailed, state_of

if TYPE_CHECKING:
    from dlcheck.model import BenchmarkTrial, Outcome, Subject, Trial


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Import every target before the first trial: what source could not settle is settled here."""
    if session.config.option.collectonly or hasattr(session.config, "workerinput"):
        return
    trials = [trial for item in session.items if (trial := trial_of(item)) is not None]
    subjects = {(t.subject.target, t.subject.file): t.subject for t in trials
                if isinstance(t.subject.target, str)}  # fmt: skip
    problems = [text for subject in subjects.values() if (text := _unloadable(subject))]
    if problems:
        raise pytest.UsageError("\n".join(problems))
    if any(trial.device != "cpu" for trial in trials):
        note_taken_gpus(state_of(session.config))


def _unloadable(subject: Subject) -> str:
    from dlcheck.errors import Problem, TargetError
    from dlcheck.targets import load_target

    if subject.options.get("kernels"):  # imported by its trials, which set up its lane first
        return ""
    try:
        load_target(subject.target, near=subject.file)
    except TargetError as error:
        return str(Problem(str(error), subject.file, subject.line))
    return ""


def run_item(trial: Trial, node: pytest.Item | None) -> None:
    """Run a trial as the body of a test: returns, skips, xfails, or raises TrialFailed."""
    __tracebackhide__ = True
    from dlcheck.model import Verdict
    from dlcheck.runner import run_trial

    outcome = run_trial(_as_if_not_expected(trial, node))
    if node is not None:
        state = state_of(node.config)
        outcome = dataclasses.replace(
            _required(outcome, trial, state), reproduce=command_of(node, trial, state)
        )
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


def _as_if_not_expected(trial: Trial, node: pytest.Item | None) -> Trial:
    """With --runxfail what is declared to fail fails, and says how."""
    if node is None or not node.config.option.runxfail:
        return trial
    return dataclasses.replace(
        trial, subject=dataclasses.replace(trial.subject, expect_failures=())
    )


def _required(outcome: Outcome, trial: Trial, state: State) -> Outcome:
    from dlcheck.model import Verdict

    absent = outcome.verdict is Verdict.SKIPPED and not outcome.cases
    if absent and trial.device.partition(":")[0] in state.required:
        message = f"{outcome.message}, and --require {trial.device.partition(':')[0]} was given"
        return dataclasses.replace(outcome, verdict=Verdict.FAILED, message=message)
    return outcome


def command_of(node: pytest.Item, trial: Trial | BenchmarkTrial, state: State) -> str:
    """The exact command that runs this trial again, with every override that was in force."""
    place, _, inside = node.nodeid.partition("::")
    path = os.path.relpath(node.config.rootpath / place, state.root)
    arguments = ["pytest", f"{path}::{inside}"]
    target = state.overrides.targets.get(trial.subject.name)
    if target:
        arguments += ["--subject", f"{trial.subject.name}={target}"]
    if state.overrides.devices:
        arguments += ["--device", trial.device]
    if state.overrides.dtypes:
        arguments += ["--dtype", trial.dtype]
    if trial.profile != "default":
        arguments += ["--profile", trial.profile]
    if trial.seed:
        arguments += ["--seed", str(trial.seed)]
    if node.config.option.runxfail and getattr(trial, "expected_failure", None):
        arguments.append("--runxfail")
    return shlex.join(arguments)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    outcome, timed = item.stash.get(OUTCOME, None), item.stash.get(BENCHMARK, None)
    if (outcome is None and timed is None) or call.when != "call":
        return report
    from dlcheck.results import encode, environment, plain

    if outcome is not None:
        report.dlcheck = encode(outcome)
    if timed is not None:
        report.dlcheck_benchmark = timed.to_data()
        report.dlcheck_trend = item.stash.get(TREND, ("", ""))
    if hasattr(item.config, "workerinput") and SENT not in item.config.stash:
        # The controller never loads torch: what it knows of devices comes from a worker.
        item.config.stash[SENT] = True
        cut = state_of(item.config).cut
        report.dlcheck_environment = plain(environment(**({"shard": cut} if cut else {})))
    if call.excinfo is not None and isinstance(call.excinfo.value, TrialFailed):
        report.longrepr = str(call.excinfo.value)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    verdict = getattr(report, "dlcheck", {}).get("verdict")
    if report.skipped and (verdict == "inconclusive" or hasattr(report, "dlcheck_benchmark")):
        return "inconclusive", "?", ("INCONCLUSIVE", {"yellow": True})
    return None


def trial_of(item: pytest.Item) -> Trial | None:
    """The trial that a suite's item runs."""
    trial: Trial | None = getattr(getattr(item, "callspec", None), "params", {}).get("trial")
    return trial if hasattr(trial, "subject") else None
