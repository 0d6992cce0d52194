"""A run in shards: every trial in one of them, and together what one run would have been."""

from __future__ import annotations

import os
import random
import shlex
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks_made import benchmark
from outcomes import outcome
from sessions import run_pytest
from test_pytest_plugin import GOOD_AND_BAD, SUBJECTS

from dlcheck.cli import main
from dlcheck.errors import UsageError
from dlcheck.merging import merge
from dlcheck.model import Verdict
from dlcheck.results import Run, RunWriter, read_run
from dlcheck.shards import Shard, cut, read_shard

SUITE = (
    GOOD_AND_BAD
    + """
[[subject]]
name = "third"
target = "subjects_of_the_test:good"
kind = "op"
inputs = { x = "float n" }
checks = ["leaves_inputs_unchanged", "answers_when_it_returns", "backward_can_repeat"]
matrix = { dtype = ["float64", "float32"] }
"""
)


@pytest.mark.parametrize("of", [1, 2, 3, 7, 40])
def test_every_trial_is_in_one_shard_and_the_shards_are_even(of: int) -> None:
    drawn = random.Random(of)
    units = {f"s.toml::a::c[{i}]": [f"s.toml::a::c[{i}]"] for i in range(31)}
    units["s.toml::benchmarks::b"] = [f"s.toml::benchmarks::b[{n}]" for n in range(4)]
    nodes = [node for unit in units.values() for node in unit]
    seconds = {node: drawn.expovariate(1) for node in nodes[::2]}
    shuffled = dict(drawn.sample(list(units.items()), len(units)))
    for known in ({}, seconds):
        cuts = [cut(units, Shard(k, of), known) for k in range(1, of + 1)]
        assert sorted(node for each in cuts for node in each.own) == sorted(nodes)
        assert len({each.digest for each in cuts}) == 1
        assert [cut(shuffled, Shard(k, of), known) for k in range(1, of + 1)] == cuts
        whole = set(units["s.toml::benchmarks::b"])
        assert sum(bool(whole & each.own) for each in cuts) == 1
    usual = statistics.median(seconds.values())
    longest = max(sum(seconds.get(node, usual) for node in unit) for unit in units.values())
    loads = [sum(seconds.get(node, usual) for node in each.own) for each in cuts]
    assert max(loads) - min(loads) <= longest + 1e-9  # as of every greedy cut


def test_neighbours_are_not_dealt_out_in_turn() -> None:
    """Or one of two shards would have all trials on cuda, which are skipped."""
    units = {
        f"s.toml::{i:02d}::c[{device}]": [f"s.toml::{i:02d}::c[{device}]"]
        for i in range(50)
        for device in ("cpu", "cuda")
    }
    own = cut(units, Shard(1, 2), {}).own
    assert 15 <= sum("cpu" in node for node in own) <= 35


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("3/2", "the shards of 2 are 1/2 to 2/2"),
        ("0/2", "the shards of 2 are 1/2 to 2/2"),
        ("1/0", "there is no 0th part"),
        ("2", "takes k/N"),
        ("-1/2", "takes k/N"),
        ("one/two", "takes k/N"),
    ],
)
def test_refuses_what_is_no_shard(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read_shard(text)


def run(**more: object) -> Run:
    meta = {"git": {"commit": "abc"}, "seed": 0, "profile": "quick", "time": "2026-01-01"}
    return Run({**meta, **more}, [outcome()])


def shard(number: int, of: int = 2, digest: str = "d", **more: object) -> Run:
    each = {"number": number, "of": of, "trials": 1, "whole": of, "digest": digest}
    made = run(shard=each, exit=0, **more)
    made.outcomes = [outcome(f"check_{number}")]
    return made


REFUSED = {
    "shards 2/3, 3/3": ([shard(1, 3)], "2 of 3 shards are missing: 2/3, 3/3"),
    "other commit": ([shard(1), shard(2, git={"commit": "def"})], "commit abc and def"),
    "other seed": ([shard(1), shard(2, seed=7)], "seed 0 and 7"),
    "other versions": (
        [run(versions={"torch": "2.9"}), run(versions={"torch": "2.10"})],
        "torch 2.9 and 2.10",
    ),
    "other subject": (
        [run(overrides={"subject": {"l1": "a:b"}}), run(overrides={"subject": {}})],
        "--subject l1=a:b and none",
    ),
    "other number": ([shard(1), shard(2, 3)], "cut differently: into 2 parts, into 3 parts"),
    "other list": ([shard(1), shard(2, digest="e")], "cut differently: from another list"),
    "no shard": ([shard(1), run()], "is no shard, others are"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_to_merge(name: str) -> None:
    runs, told = REFUSED[name]
    with pytest.raises(UsageError, match=told):
        merge(runs)
    forced = merge(runs, force=True)
    assert any(told in each for each in forced.told)
    assert any(told in each for each in forced.run.meta["merged with"])


def test_outcomes_that_are_there_twice() -> None:
    same = merge([run(), run()])
    assert len(same.run.outcomes) == 1
    assert not same.told
    slower = run()
    slower.outcomes = [replace(outcome(), seconds=9.0)]
    assert not merge([run(), slower]).told
    failed = run()
    failed.outcomes = [outcome(verdict=Verdict.FAILED)]
    for runs in ([run(), failed], [failed, run()]):
        found = merge(runs)
        assert [each.verdict for each in found.run.outcomes] == [Verdict.FAILED]
        assert "is there twice and differs" in found.told[0]
        assert found.exit == 1


def test_benchmarks_that_are_there_twice() -> None:
    one, two = Run({}, [], [benchmark()] * 3), Run({}, [], [benchmark(1.5)])
    again = Run({}, [], [benchmark()])
    assert len(merge([one, again]).run.benchmarks) == 3
    found = merge([one, two])
    assert len(found.run.benchmarks) == 3
    assert "is there twice" in found.told[0]


@pytest.mark.parametrize(
    ("codes", "whole"),
    [((0, 0), 0), ((0, 7), 7), ((6, 7), 6), ((6, 1), 1), ((7, 1), 1), ((1, 2), 2), ((4, 1), 4)],
)
def test_the_exit_code_is_that_of_one_run(codes: tuple[int, int], whole: int) -> None:
    runs = [shard(1), shard(2)]
    for each, code in zip(runs, codes, strict=True):
        each.meta["exit"] = code
    assert merge(runs).exit == whole


def test_a_shard_that_lost_outcomes_is_told() -> None:
    lost = shard(2)
    lost.outcomes = []
    assert merge([shard(1), lost]).told == ("shard 2/2 recorded 0 of its 1 trials",)
    lost.meta["incomplete"] = "the record b.jsonl is not whole"
    found = merge([shard(1), lost])
    assert found.exit == 1
    assert "not whole" in found.run.meta["incomplete"]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(subjects_of_the_test=SUBJECTS)
    pytester.makefile(".toml", plugin=SUITE)
    return pytester


def records(suite: pytest.Pytester) -> list[Path]:
    return sorted((suite.path / ".dlcheck" / "runs").glob("*.jsonl"))


def substance(path: Path) -> list[object]:
    found = read_run(path).outcomes
    return sorted(((o.id, o.verdict, o.evidence, o.recipe) for o in found), key=str)


def test_shards_merge_to_what_one_run_records(
    suite: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_pytest(suite, "plugin.toml", "--profile", "quick")
    (alone,) = records(suite)
    codes = []
    for k, more in ((1, ""), (2, f"--balance {alone}"), (3, "-n 2")):
        options = ["--profile", "quick", "--shard", f"{k}/3", *shlex.split(more)]
        codes.append(int(run_pytest(suite, "plugin.toml", *options).ret))
    shards = [str(path) for path in records(suite) if path != alone]
    assert main(["merge", *shards, "-o", "merged.jsonl"]) == 4  # the second was cut differently
    assert "cut differently" in capsys.readouterr().err
    codes[1] = int(run_pytest(suite, "plugin.toml", "--profile", "quick", "--shard", "2/3").ret)
    assert sorted(codes) == [0, 0, 1]
    (again,) = {str(path) for path in records(suite)} - {*shards, str(alone)}
    shards[1] = again
    assert main(["merge", *shards, "-o", "merged.jsonl", "--report", "out"]) == int(whole.ret)
    assert substance(suite.path / "merged.jsonl") == substance(alone)
    out = capsys.readouterr().out
    assert "1 failed, 7 passed" in out
    assert "FAILED plugin.toml::bad::leaves_inputs_unchanged[cpu-float64]" in out
    assert (suite.path / "out" / "index.html").exists()
    command = read_run(suite.path / "merged.jsonl").meta["command"]
    assert command == read_run(alone).meta["command"]


def test_a_shard_without_trials_passes_and_is_recorded(suite: pytest.Pytester) -> None:
    node = "plugin.toml::good"
    codes = [run_pytest(suite, node, "--shard", f"{k}/2").ret for k in (1, 2)]
    codes.append(run_pytest(suite, node, "--shard", "2/3", "-n", "2").ret)
    assert codes == [0, 0, 0]
    counts = [len(read_run(path).outcomes) for path in records(suite)]
    assert sorted(counts) in ([0, 0, 1], [0, 1, 1])
    assert all("shard" in read_run(path).meta for path in records(suite))


def test_refuses_a_wrong_shard(suite: pytest.Pytester) -> None:
    for options, told in (
        (("--shard", "3/2"), "*--shard 3/2: the shards of 2 are 1/2 to 2/2*"),
        (("--balance", "latest"), "*give --shard k/N too*"),
    ):
        result = run_pytest(suite, "plugin.toml", *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([told])


def test_merge_takes_a_folder_and_refuses_one_without_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for k in (1, 2):
        made = shard(k)
        with RunWriter(tmp_path / f"from-{k}" / "run-of-ci.jsonl", made.meta) as writer:
            writer.append(made.outcomes[0])
    assert main(["merge", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "2 passed" in out
    assert ".dlcheck/runs" in out
    (tmp_path / "empty").mkdir()
    assert main(["merge", "empty"]) == 4
    assert "no record (*.jsonl) in the folder empty" in capsys.readouterr().err


@pytest.mark.nightly
def test_the_array_of_slurm_is_a_loop(suite: pytest.Pytester) -> None:
    """The script of the documentation, once for each task, and the merge behind it."""
    script = Path(__file__).parents[1] / "docs" / "slurm" / "array.sh"
    (suite.path / "suites").mkdir()
    (suite.path / "plugin.toml").rename(suite.path / "suites" / "plugin.toml")
    loop = f"""
        dlcheck() {{ {sys.executable} -m dlcheck "$@"; }}; export -f dlcheck
        for k in 1 2; do
            SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_ID=$k bash {script} --profile quick || exit 9
        done
        dlcheck merge parts --report reports
    """
    path = os.pathsep.join([str(script.parents[2]), str(suite.path)])
    done = subprocess.run(
        ["bash", "-c", loop],
        cwd=suite.path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 7 passed" in done.stdout
    assert (suite.path / "reports" / "index.html").exists()
