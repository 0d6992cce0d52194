"""A run that ends early leaves a whole record and goes on; one that checks less says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sessions import run_pytest

from dlcheck.arguments import without
from dlcheck.model import Verdict
from dlcheck.results import read_run
from dlcheck.suite_lock import counts, grown, read_lock, shrunk, write_lock
from dlcheck.vacuity import doubts

MINE = """
import os, time, torch

def right(x):
    with open("calls.txt", "a") as file:
        file.write("right\\n")
    return 2 * x

def wrong(x):
    return x.add_(1)

def slow(x):
    if os.path.exists("wait"):
        open("started", "w").close()
        time.sleep(60)
    return 3 * x
"""
SUITE = """
suite = "Mine"
defaults = { matrix = { device = ["cpu", "cuda"] } }
"""
SUBJECT = """
[[subject]]
name = "{0}"
target = "mine.py:{0}"
kind = "op"
inputs = {{ x = "float n" }}
checks = ["repeats_exactly", "leaves_inputs_unchanged", "takes_its_declared_inputs"]
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(mine=MINE)
    names = ("right", "wrong", "slow")
    pytester.makefile(".toml", mine=SUITE + "".join(map(SUBJECT.format, names)))
    return pytester


def records(folder: Path) -> list[Path]:
    return sorted((folder / ".dlcheck" / "runs").glob("*.jsonl"), key=lambda p: p.stat().st_mtime)


def cut_off(record: Path, outcomes: int) -> None:
    """As a run leaves it that was killed after so many outcomes."""
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[: 1 + outcomes]) + lines[1 + outcomes][:40])


def substance(record: Path) -> list[tuple[str, Verdict, object]]:
    return [(o.id, o.verdict, o.evidence) for o in read_run(record).outcomes]


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param((), id="one"),
        pytest.param(("-n", "2"), id="two", marks=pytest.mark.nightly),
    ],
)
def test_a_killed_run_goes_on_to_the_same_end(
    suite: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    whole = run_pytest(suite, "mine.toml", *workers)
    assert whole.ret == 1
    (first,) = records(suite.path)
    before = sorted(substance(first))
    cut_off(first, 5)
    (suite.path / "calls.txt").unlink()
    resumed = run_pytest(suite, "mine.toml", "--resume=latest", *workers)
    last = records(suite.path)[-1]
    assert last != first
    assert sorted(substance(last)) == before
    assert resumed.ret == whole.ret
    assert resumed.parseoutcomes() == whole.parseoutcomes()
    if not workers:  # in this order those of `right` were recorded
        assert not (suite.path / "calls.txt").exists(), "what was recorded ran again"


def test_a_run_does_not_go_on_with_other_overrides(suite: pytest.Pytester) -> None:
    run_pytest(suite, "mine.toml", "-k", "right")
    for given, said in {
        "--seed=7": "seed 0 and 7",
        "--profile=quick": "profile default and quick",
        "--dtype=float32": "--dtype none and float32",
    }.items():
        result = run_pytest(suite, "mine.toml", "--resume=latest", given)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --resume: *{said}*"])


def test_a_run_that_was_drawn_goes_on_with_its_seed(suite: pytest.Pytester) -> None:
    run_pytest(suite, "mine.toml", "-k", "right", "--seed=12345")
    run_pytest(suite, "mine.toml", "--resume=latest")
    assert {o.seed for o in read_run(records(suite.path)[-1]).outcomes} == {12345}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_a_signal_ends_the_run_with_a_whole_record(suite: pytest.Pytester, name: str) -> None:
    (suite.path / "wait").touch()
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "mine.toml", "--report", "out"],
        cwd=suite.path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    patience = time.monotonic() + 100
    while not (suite.path / "started").exists() and time.monotonic() < patience:
        time.sleep(0.05)
    child.send_signal(getattr(signal, name))
    said, _ = child.communicate(timeout=60)
    (record,) = records(suite.path)
    run = read_run(record)
    assert len(run.outcomes) >= 6
    if name == "SIGKILL":
        (suite.path / "wait").unlink()
        resumed = run_pytest(suite, "mine.toml", "--resume=latest")
        resumed.stdout.fnmatch_lines(["*mine.toml::slow::*was running when that process ended*"])
        assert len(read_run(records(suite.path)[-1]).outcomes) == 18
        assert not list((suite.path / ".dlcheck" / "running").glob("*"))
        return
    assert child.returncode == pytest.ExitCode.INTERRUPTED
    assert "interrupted" in run.meta["incomplete"]
    assert f"--resume={record.stem}" in said
    assert (suite.path / "out" / "index.html").exists()


def test_what_is_locked_must_run_again(suite: pytest.Pytester) -> None:
    (suite.path / "mine.toml").write_text(SUITE + SUBJECT.format("right") + SUBJECT.format("slow"))
    assert run_pytest(suite, "mine.toml", "--lock").ret == 0
    lock = suite.path / "suite.lock"
    assert read_lock(lock)["suites"]["mine"] == {"right": 3, "slow": 3}
    assert run_pytest(suite, "mine.toml").ret == 0
    assert run_pytest(suite, "mine.toml", "-k", "right").ret == 0, "a part is not held to it"
    (suite.path / "mine.toml").write_text(SUITE + SUBJECT.format("right"))
    result = run_pytest(suite, "mine.toml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*suite.lock: mine: 3 trials that are locked did not run: slow 0 of 3*--lock*"]
    )
    assert (
        run_pytest(suite, "mine.toml", "-k", "right", "--lock").ret == pytest.ExitCode.TESTS_FAILED
    )
    assert run_pytest(suite, "mine.toml", "--lock").ret == 0
    assert read_lock(lock)["suites"]["mine"] == {"right": 3}


def test_a_lock_names_what_vanished_and_counts_what_is_new() -> None:
    lock = {"profile": "quick", "suites": {"a": {"x": 3, "y": 2}, "b": {"z": 1}}}
    assert list(shrunk(lock, {"a": {"x": 3, "y": 2}})) == []
    assert list(shrunk(lock, {"a": {"x": 1, "new": 9}})) == [
        "a: 4 trials that are locked did not run: x 1 of 3, y 0 of 2"
    ]
    assert grown(lock, {"a": {"x": 4, "new": 9}, "unlocked": {"q": 5}}) == 10


def test_a_lock_keeps_the_suites_that_did_not_run(tmp_path: Path) -> None:
    path, run = tmp_path / "suite.lock", {"profile": "quick", "seed": 0}
    write_lock(path, run, {"profile": {"x": 3, "none ran": 0}, "b": {"a name": 1}})
    write_lock(path, run, {"profile": {"x": 4}})
    assert read_lock(path) == {**run, "suites": {"profile": {"x": 4}, "b": {"a name": 1}}}
    other = {**run, "seed": 1}
    write_lock(path, other, {"c": {"y": 2}})
    assert read_lock(path) == {**other, "suites": {"c": {"y": 2}}}, "two kinds of run in one lock"


def test_a_run_tells_in_one_line_what_did_not_run(suite: pytest.Pytester) -> None:
    result = run_pytest(suite, "mine.toml", "-k", "right")
    result.stdout.fnmatch_lines(["not run: cuda is absent: no CUDA device is visible (3)"])


@pytest.mark.parametrize(
    ("cases", "conclusive", "refusals", "skips", "said"),
    [
        (20, 20, [], [], []),
        (
            5,
            5,
            ["no zeros"] * 15,
            [],
            ["the subject refused 15 of 20 cases of its declared inputs: no zeros"],
        ),
        (5, 5, [], ["n is 1"] * 6, ["the claim has no content in 6 of 11 cases: n is 1"]),
        (20, 9, [], [], ["in 11 of 20 cases the bound was too wide to say anything"]),
        (1, 1, [], ["one"], []),
    ],
)
def test_a_pass_that_means_little_says_why(
    cases: int, conclusive: int, refusals: list[str], skips: list[str], said: list[str]
) -> None:
    assert list(doubts(Verdict.PASSED, cases, conclusive, refusals, skips)) == said
    assert not list(doubts(Verdict.FAILED, cases, conclusive, refusals, skips))


def test_only_trials_on_the_cpu_are_locked() -> None:
    from outcomes import outcome

    assert counts([outcome()]) != {}


def test_what_was_edited_since_runs_again(suite: pytest.Pytester) -> None:
    (suite.path / "mine.toml").write_text(SUITE + SUBJECT.format("right"))
    suite.makepyfile(mine=MINE)
    run_pytest(suite, "mine.toml")
    calls = suite.path / "calls.txt"
    calls.unlink()
    later = time.time() + 5
    os.utime(suite.path / "mine.py", (later, later))
    result = run_pytest(suite, "mine.toml", "--resume", "latest", "--require", "cuda")
    assert calls.exists()
    result.stdout.fnmatch_lines(["*6 trials that were recorded ran again: edited since*"])
    result.assert_outcomes(passed=3, failed=3)
    # what was taken over is required too
    past = time.time() - 50
    for name in ("mine.py", "mine.toml"):
        os.utime(suite.path / name, (past, past))
    run_pytest(suite, "mine.toml", "--resume=latest", "--require", "cuda").assert_outcomes(
        passed=3, failed=3
    )


CHOOSES = """
def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=[each for each in items if "slow" in each.nodeid])
    items[:] = [each for each in items if "slow" not in each.nodeid]
"""


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param((), id="here"),
        pytest.param(("-n", "1"), id="worker", marks=pytest.mark.nightly),
    ],
)
def test_a_run_that_something_reduces_is_no_whole_one(
    suite: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    (suite.path / "mine.toml").write_text(SUITE + SUBJECT.format("right") + SUBJECT.format("slow"))
    assert run_pytest(suite, "mine.toml", "--lock").ret == 0
    suite.makeconftest(CHOOSES)
    assert run_pytest(suite, "mine.toml", *workers).ret == 0
    result = run_pytest(suite, "mine.toml", "--lock", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*this run is partial: 6 trials were deselected*"])


@pytest.mark.parametrize("given", ["--seed=random", "--profile=nightly"])
def test_a_drawn_seed_is_not_locked(suite: pytest.Pytester, given: str) -> None:
    result = run_pytest(suite, "mine.toml", "--lock", given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--lock*this run draws its seed: give --seed N"])


def test_the_command_that_goes_on_names_one_run() -> None:
    words = ["pytest", "mine.toml", "--resume", "latest", "--dlcheck-resume=a", "-x"]
    assert without(words, ("--resume", "--dlcheck-resume")) == ["pytest", "mine.toml", "-x"]
