"""A trial that ends its process: under xdist one failed trial, else a last line that names it."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from _dlcheck_pytest.state import State, state_of

if TYPE_CHECKING:
    from dlcheck.model import BenchmarkTrial, Outcome, Trial

_PATIENCE = 5.0  # seconds for the exit status of a worker whose pipe is closed


@contextlib.contextmanager
def watched(trial: Trial, node: pytest.Item, state: State, crashed: Outcome) -> Iterator[None]:
    """Say on the disk what runs, and end the process where the trial does not stop in time.

    crashed: the outcome where the process ends, but for how it ended.
    """
    from dlcheck.isolation import last_resort

    running = _running(node.config, state)
    expected = trial.expected_failure
    try:
        running.begin(
            node.nodeid,
            crashed,
            timeout=trial.timeout,
            expected=expected.reason if expected else "",
        )
        stack = running.stack if hasattr(node.config, "workerinput") else None
    except OSError:  # no space, no permission: it runs unwatched
        yield
        return
    terminal = _terminal_of(node.config)
    if stack is not None:
        os.ftruncate(stack, 0)
        faulthandler.enable(file=stack)
    try:
        with last_resort(terminal if stack is None else stack):
            yield
    finally:
        if stack is not None:
            faulthandler.enable(file=terminal)
        running.end()


@contextlib.contextmanager
def watched_import(trial: Trial | BenchmarkTrial, config: pytest.Config) -> Iterator[None]:
    """Say on the disk whose target is imported: that too may end the process, or never come back.

    A benchmark has no limit of time; its target is imported as long as it takes.
    """
    from dlcheck.isolation import last_resort
    from dlcheck.model import Trial

    if not isinstance(trial, Trial):
        yield
        return
    from dlcheck.runner import unfinished

    running = _running(config, state_of(config))
    try:
        running.begin(
            f"import of {trial.subject.target}",
            unfinished(trial, loads=False),
            timeout=trial.timeout,
            expected="",
        )
    except OSError:  # no space, no permission: unwatched
        yield
        return
    try:
        with last_resort(_terminal_of(config)):
            yield
    finally:
        running.end()


def _running(config: pytest.Config, state: State) -> Any:
    """The file of this process, made for its first trial."""
    if state.running is None:
        from dlcheck.crashes import FOLDER, Running

        config.add_cleanup(partial(end_watch, state))
        worker = getattr(config, "workerinput", None)
        if worker is not None and "dlcheck_running" in worker:
            state.running = Running(_file_of(worker["dlcheck_running"], worker["workerid"]))
        else:
            path = state.root / FOLDER / f"{os.getpid()}.json"
            state.running = Running(path)
            if worker is None:
                state.sentinel = _sentinel(path, _terminal_of(config))
    if state.writer is not None and not state.running.record:
        state.running.record = os.path.relpath(state.writer.path, state.root)
    return state.running


def place_of(config: pytest.Config) -> str:
    """The folder and the process of a controller, by which its workers say what they run."""
    return str(config.invocation_params.dir.absolute() / str(os.getpid()))


def _file_of(controller: str, worker: str) -> Path:
    from dlcheck.crashes import FOLDER

    place = Path(controller)
    return place.parent / FOLDER / f"{place.name}-{worker}.json"


def _terminal_of(config: pytest.Config) -> int:
    """Where faults of ordinary tests are told: pytest's copy of stderr, which it captures."""
    from _pytest import faulthandler as pytests

    key = getattr(pytests, "fault_handler_stderr_fd_key", None)
    return config.stash.get(key, 2) if key is not None else 2


def _sentinel(path: Path, terminal: int) -> subprocess.Popen[bytes] | None:
    from dlcheck import sentinel

    if os.name == "nt":  # its pipes cannot be waited for
        return None
    with contextlib.suppress(OSError):
        return subprocess.Popen(
            [sys.executable, "-I", "-S", sentinel.__file__, str(path), str(os.getpid())],
            stdin=subprocess.PIPE,
            stderr=terminal,
            start_new_session=True,
        )
    return None


def remember(outcome: Outcome, state: State) -> None:
    """Who left something running is a suspect where the process ends later."""
    if state.running is not None:
        state.running.suspects += [
            f"{outcome.id} {note}"
            for note in outcome.notes
            if note.startswith("left") and ("running" in note or "child process" in note)
        ]


def end_watch(state: State) -> None:
    """Say that this process ends as it should."""
    if state.running is not None:
        state.running.close()
    if state.sentinel is not None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            state.sentinel.communicate(b"\n", timeout=_PATIENCE)


@pytest.hookimpl(tryfirst=True)
def pytest_enter_pdb() -> None:
    """A person who looks around takes longer than a trial may."""
    if "dlcheck.isolation" in sys.modules:  # else no trial runs
        from dlcheck.isolation import no_time_limit

        no_time_limit()


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    """A worker ended: what it ran is a failed trial like any other."""
    config, worker = sched.config, report.node
    path = _file_of(worker.workerinput["dlcheck_running"], worker.workerinput["workerid"])
    from dlcheck.crashes import forget, read_crash

    crash = read_crash(path, _status_of(worker))
    forget(path)
    if crash is None or crash.node != crashitem:
        return
    from dlcheck.model import Verdict
    from dlcheck.reporting.terminal import describe
    from dlcheck.results import encode

    found = crash.outcome
    report.location = (
        report.location[0],
        found.line,
        f"{found.subject}.{found.check}[{found.point}]",
    )
    report.when = "call"
    report.duration = crash.outcome.seconds
    report.dlcheck = encode(crash.outcome)
    report.longrepr = describe(crash.outcome)
    if crash.outcome.verdict is Verdict.EXPECTED:
        report.outcome, report.wasxfail = "skipped", crash.outcome.message.splitlines()[0]
    _allow_one_more(config)


def _status_of(worker: Any) -> int | None:
    """The exit status of a worker on this machine."""
    process = getattr(getattr(worker.gateway, "_io", None), "popen", None)
    if process is None:
        return None
    with contextlib.suppress(subprocess.TimeoutExpired):
        return int(process.wait(timeout=_PATIENCE))
    return None


def _allow_one_more(config: pytest.Config) -> None:
    """xdist gives up after so many crashes; those that a trial is to blame for do not count."""
    session = config.pluginmanager.getplugin("dsession")
    if config.getoption("maxworkerrestart", None) is None and session is not None:
        allowed = getattr(session, "_max_worker_restart", None)
        if allowed is not None:
            session._max_worker_restart = allowed + 1
