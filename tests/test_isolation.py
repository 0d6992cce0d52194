"""Whatever a subject does to its process, its trial is named rightly and the next one is honest."""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hostile
import pytest
from hostile import BEHAVIOURS, CHECK, HANGS, KINDS, MEMORY
from sessions import in_a_process, run_command, run_pytest

import dlcheck
from dlcheck import sentinel
from dlcheck.crashes import Running, frames_of, read_crash
from dlcheck.errors import UsageError
from dlcheck.expansion import Overrides
from dlcheck.failures import Failures
from dlcheck.isolation import last_resort, left_behind, memory_limit, time_limit
from dlcheck.isolation.memory_limit import file_limit
from dlcheck.model import Outcome, Trial
from dlcheck.runner import run_trial, unfinished
from dlcheck.settings import read_bytes
from dlcheck.sources import is_ours
from dlcheck.validation import trials_of

STAYS = [name for name, each in BEHAVIOURS.items() if not each.ends]
ENDS = [name for name, each in BEHAVIOURS.items() if each.ends]


def trial_of(kind: str, behaviour: str, timeout: float = 60.0) -> Trial:
    (trial,) = trials_of(
        subject=f"hostile:{kind}__{behaviour}",
        **KINDS[kind],
        checks=[CHECK],
        overrides=Overrides(
            profile="quick", devices=("cpu",), timeout=timeout, memory=read_bytes(MEMORY)
        ),
    )
    return replace(trial, minimal=False)


@pytest.fixture
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    hostile.let_go()


def said(outcome: Outcome) -> str:
    return outcome.message if outcome.verdict.value == "failed" else "\n".join(outcome.notes)


@pytest.mark.usefixtures("_alone")
@pytest.mark.filterwarnings("ignore:warning:UserWarning")
@pytest.mark.parametrize("behaviour", STAYS)
def test_it_is_named_and_the_next_trial_is_honest(behaviour: str) -> None:
    wanted = BEHAVIOURS[behaviour]
    kind = list(KINDS)[STAYS.index(behaviour) % len(KINDS)]
    outcome = run_trial(trial_of(kind, behaviour, 0.3 if wanted.words == HANGS else 60.0))
    assert outcome.verdict.value == wanted.verdict, outcome.message
    assert wanted.words in said(outcome)
    after = run_trial(trial_of(kind, "is_honest"))
    assert (after.verdict.value, after.notes) == ("passed", ()), after.message


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("behaviour", ["replaces_a_builtin", "replaces_isinstance"])
def test_a_replaced_builtin_spoils_no_check(behaviour: str) -> None:
    """What looks at an answer runs right after the call that replaced it."""
    trials = trials_of(
        subject=f"hostile:op__{behaviour}",
        **KINDS["op"],
        overrides=Overrides(profile="quick", devices=("cpu",)),
    )
    outcomes = [run_trial(trial) for trial in trials]
    assert {each.verdict.value for each in outcomes} <= {"passed", "skipped"}
    assert all(BEHAVIOURS[behaviour].words in "\n".join(each.notes)
               for each in outcomes if each.verdict.value == "passed")  # fmt: skip


def _run_watched(folder: str, behaviour: str) -> None:
    """In a process of its own, as a worker runs it."""
    os.chdir(folder)
    trial = trial_of("op", behaviour, 0.3)
    running = Running(Path("running.json"))
    running.begin("its::node", unfinished(trial), timeout=trial.timeout, expected="")
    faulthandler.enable(file=running.stack)
    with last_resort(running.stack):
        run_trial(trial)
    running.close()


@pytest.mark.parametrize("behaviour", ENDS)
def test_a_process_that_ends_is_one_failed_trial(behaviour: str, tmp_path: Path) -> None:
    status = in_a_process(_run_watched, str(tmp_path), behaviour)
    crash = read_crash(tmp_path / "running.json", status)
    assert crash is not None
    assert crash.node == "its::node"
    assert BEHAVIOURS[behaviour].words in crash.outcome.message, crash.outcome.message
    assert crash.outcome.verdict.value == "failed"


def test_a_process_that_ends_as_it_should_leaves_nothing(tmp_path: Path) -> None:
    assert in_a_process(_run_watched, str(tmp_path), "is_honest") == 0
    assert not list(tmp_path.iterdir())


SUITE = """
suite = "Crashes"
[defaults]
matrix = { device = ["cpu"] }
"""
SUBJECT = """
[[subject]]
name = "{name}"
target = "crashing_subjects:{name}"
kind = "op"
inputs = {{ x = "float n" }}
checks = ["leaves_inputs_unchanged"]
"""
CRASHING = """
import ctypes

def first(x):
    return x * 2

def crashes(x):
    return ctypes.string_at(0)

def crashes_as_declared(x):
    ctypes.CDLL(None)._exit(3)

def last(x):
    return x * 3
"""
EXPECTED = """
[[subject.expect_failure]]
check = "leaves_inputs_unchanged"
reason = "issue 12"
"""


def test_under_xdist_a_crash_is_one_failure_and_the_run_goes_on(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xdist")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    names = ("first", "crashes", "crashes_as_declared", "last")
    suite = SUITE + "".join(
        SUBJECT.format(name=name) + EXPECTED * (name == "crashes_as_declared") for name in names
    )
    pytester.makepyfile(crashing_subjects=CRASHING)
    pytester.makefile(".toml", crashes=suite)
    result = run_pytest(pytester, "crashes.toml", "-n", "1", "--junitxml", "junit.xml", seconds=300)
    result.assert_outcomes(passed=2, failed=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*crashes.leaves_inputs_unchanged*",
            "*FAILED crashes: leaves_inputs_unchanged*",
            "*the process ended while it ran: SIGSEGV, a segmentation fault*",
            "*again *pytest 'crashes.toml::crashes::leaves_inputs_unchanged*",
            "*1 failed, 2 passed, 1 failed as expected*",
        ]
    )
    assert "line 7, in crashes" in " ".join(result.stdout.str().split())
    (record,) = (pytester.path / ".dlcheck" / "runs").glob("*.jsonl")
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert {line["subject"]: line["verdict"] for line in lines[1:-1]} == {
        "first": "passed", "crashes": "failed", "crashes_as_declared": "expected", "last": "passed",
    }  # fmt: skip
    assert lines[-1]["end"]["outcomes"] == 4
    assert not (pytester.path / ".dlcheck" / "running").exists()
    assert "SIGSEGV" in (pytester.path / "junit.xml").read_text()
    failures = Failures(pytester.path)
    assert {failures.get(name).subject for name in failures.names} == {
        "crashes", "crashes_as_declared",
    }  # fmt: skip
    (kept,) = [each for each in map(failures.get, failures.names) if each.verdict == "failed"]
    again = run_command(pytester, ["dlcheck", "replay", kept.id])
    assert again.ret == -signal.SIGSEGV
    assert "crashing_subjects.py" in again.stderr.str()


@pytest.mark.parametrize("word", [b"\n", b""], ids=["ends as it should", "ends without a word"])
def test_the_sentinel_names_the_trial_of_a_process_that_ended(tmp_path: Path, word: bytes) -> None:
    file = tmp_path / "running.json"
    file.write_text(json.dumps({"node": "suite.toml::mine::check", "record": "runs/1.jsonl"}))
    with subprocess.Popen(["sleep", "30"]) as watched:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", sentinel.__file__, str(file), str(watched.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if not word:
            watched.kill()
            watched.wait()
        _, text = guard.communicate(word or None, timeout=10)
        watched.kill()
    assert (b"ended while it ran\n  suite.toml::mine::check\n" in text) is not bool(word)
    assert (b"runs/1.jsonl" in text) is not bool(word)


def test_a_package_whose_name_begins_as_ours_is_the_subject_s() -> None:
    package = Path(dlcheck.__file__).parent
    assert is_ours(str(package / "runner.py"))
    assert not is_ours(f"{package}_losses/mine.py")


def test_frames_are_those_of_the_subject_innermost_last() -> None:
    ours = str(Path(dlcheck.__file__).parent / "isolation" / "calls.py")
    stack = (
        "Fatal Python error: Segmentation fault\n\n"
        'Thread 0x1 (most recent call first):\n  File "/lib/threading.py", line 1 in wait\n\n'
        'Current thread 0x2 (most recent call first):\n  File "/a.py", line 7 in inner\n'
        f'  File "/a.py", line 3 in outer\n  File "{ours}", line 9 in guarded\n'
        '  File "/b.py", line 1 in main\n'
    )
    assert frames_of(stack) == [("/a.py", 3, "outer"), ("/a.py", 7, "inner")]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("4GiB", 2**32), ("1.5 MB", 1_500_000), (1024, 1024), ("none", 0), (0, 0), ("7b", 7)],
)
def test_an_amount_of_memory_is_read(given: object, meant: int) -> None:
    assert read_bytes(given) == meant


@pytest.mark.parametrize("given", ["much", "-1GiB", "4 GiBs", True, [1]])
def test_what_is_no_amount_of_memory_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match=r"an amount like '4GiB'"):
        read_bytes(given)
    with pytest.raises(UsageError, match=r"an amount like '4GiB'"):
        dlcheck.validate(abs, kind="op", inputs={"x": "float n"}, memory=given)  # type: ignore[arg-type]


def test_a_limit_of_memory_is_lifted_again() -> None:
    import resource

    import torch

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limit(2**28, torch.device("cpu")), pytest.raises(MemoryError):
        bytearray(2**30)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    bytearray(2**29)


def test_time_is_up_again_where_the_first_bell_was_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dlcheck.errors import TrialTimeout
    from dlcheck.isolation import time_limit as module

    monkeypatch.setattr(sys.modules[module.__module__], "_AGAIN", 0.05)
    heard = []

    def deaf() -> None:
        while True:
            try:
                while True:
                    pass
            except BaseException as bell:
                heard.append(bell)
                if len(heard) > 2:
                    raise

    with pytest.raises(TrialTimeout), time_limit(0.05):
        deaf()
    assert len(heard) == 3


def test_a_limit_within_a_limit_that_is_due_sooner() -> None:
    """Another's alarm, as of pytest-timeout, rings in time; a limit of ours names its own."""
    from dlcheck.errors import TrialTimeout

    with (
        pytest.raises(TrialTimeout, match=r"its timeout of 0\.1 s"),
        time_limit(0.1),
        time_limit(60),
    ):
        time.sleep(5)

    def theirs(number: int, frame: object) -> None:
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, theirs)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(ZeroDivisionError), time_limit(60):
            time.sleep(5)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_alone")
def test_a_child_of_the_same_interpreter_is_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two command lines are told apart beyond the part that is shown."""
    monkeypatch.setattr(left_behind, "_LONGEST", 4)
    standing = left_behind.Standing()
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert "left a child process: " in "\n".join(standing.told())
        assert child.poll() is None
        child.communicate(b"\n")
    assert child.returncode == 0


def test_a_small_temporary_folder_makes_no_small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    usage = shutil.disk_usage(".")._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with file_limit():
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 2**30
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before


def test_what_runs_is_written_where_a_subject_took_the_descriptor(tmp_path: Path) -> None:
    trial = trial_of("op", "is_honest")
    running = Running(tmp_path / "running.json")
    running.begin("first", unfinished(trial), timeout=1.0, expected="")
    theirs = os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT)
    os.write(theirs, b"theirs")
    os.dup2(theirs, running._file.number)
    running.end()
    running.begin("second", unfinished(trial), timeout=1.0, expected="")
    crash = read_crash(tmp_path / "running.json")
    assert crash is not None
    assert crash.node == "second"
    running.close()
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    os.close(theirs)


WINDOWS = """
import importlib.util, os, signal, sys
absent = {"fcntl", "resource"}
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in absent else found(name, *more)
for name in absent:
    sys.modules[name] = None
for name in ("pwrite", "getpgrp", "pidfd_open", "fork"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGXFSZ", "setitimer", "getitimer",
             "ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"):
    delattr(signal, name)
import dlcheck.crashes
from dlcheck import validate
report = validate(abs, kind="op", inputs={"x": "float n"}, profile="quick",
                  checks=["leaves_inputs_unchanged"])
assert report.passed, report
"""


def test_it_imports_and_runs_without_what_only_posix_has() -> None:
    done = subprocess.run([sys.executable, "-c", WINDOWS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
