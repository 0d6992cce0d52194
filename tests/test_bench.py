"""Benchmarks: the record, the measurement, the command, suites and pytest-benchmark's storage."""

from __future__ import annotations

import gc
import json
import math
import mmap
import re
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import speed_subjects as subjects
import torch
from benchmarks_made import BENCHMARKS, benchmark
from hypothesis import given
from outcomes import outcome
from sessions import run_pytest
from torch import nn

from dlcheck.benchmark import Benchmark, Ceilings, Side
from dlcheck.cli import main
from dlcheck.errors import SuiteError, UsageError
from dlcheck.expansion import expand_benchmarks
from dlcheck.measure.clocks import Clock
from dlcheck.measure.pairs import time_alone, time_pairs, without_collection
from dlcheck.measure.resources import ceilings, peak_bytes, usage
from dlcheck.ratio import Speed
from dlcheck.reporting.comparison import Comparison
from dlcheck.results import RunWriter, read_run
from dlcheck.suite import read_suite, to_toml
from dlcheck.suite_schema import schema
from dlcheck.timing.compare import compare

CPU = Clock(torch.device("cpu"))

# --- the record ---------------------------------------------------------------------------------


@given(recorded=BENCHMARKS)
def test_a_benchmark_survives_strict_json(recorded: Benchmark) -> None:
    text = json.dumps(recorded.to_data(), allow_nan=False)
    again = Benchmark.from_data(json.loads(text))
    assert repr(again) == repr(recorded)  # NaN is equal to nothing
    assert again.to_data() == recorded.to_data()


def test_benchmarks_stand_beside_outcomes_in_a_record(tmp_path: Path) -> None:
    first, second = benchmark(), benchmark(ratio=2.0, refused="it changes its input x")
    with RunWriter(tmp_path / "run.jsonl", {}) as writer:
        for line in (first, outcome(), second):
            writer.append(line)
    run = read_run(writer.path)
    assert run.benchmarks == [first, second]
    assert run.outcomes == [outcome()]


def test_keys_of_a_later_version_are_left_out() -> None:
    data = benchmark().to_data()
    later = {**data, "joules": 3, "subject": {**data["subject"], "watts": 1}}
    assert Benchmark.from_data(later) == benchmark()


def test_a_record_of_the_first_schema_is_read(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.jsonl", {"seed": 1}) as writer:
        writer.append(outcome())
    text = writer.path.read_text("utf-8")
    writer.path.write_text(text.replace('"schema":2', '"schema":1', 1), "utf-8")
    assert read_run(writer.path).outcomes == [outcome()]


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.0, Speed.SAME), (1.05, Speed.SLOWER), (0.9, Speed.FASTER)]
)
def test_the_verdict_is_derived_from_the_pairs(ratio: float, verdict: Speed) -> None:
    made = benchmark(ratio)
    assert made.verdict is verdict
    assert made.ratio is not None
    assert made.ratio.interval[0] <= made.ratio.median <= made.ratio.interval[1]
    assert made.is_measured


def test_what_is_refused_has_no_verdict_but_keeps_its_times() -> None:
    made = benchmark(0.5, refused="its outputs are not the reference's", fault="disagrees")
    assert made.verdict is Speed.REFUSED
    assert made.disagrees
    assert not made.is_measured
    assert made.subject.median is not None


def test_the_99th_percentile_needs_100_samples() -> None:
    few, many = (Side(target="f", seconds=tuple(map(float, range(1, n + 1)))) for n in (99, 100))
    assert set(few.percentiles) == {"p50", "p90", "p95"}
    assert many.percentiles == {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
    assert Side(target="f").percentiles == {}


def test_throughput_and_the_roofline_follow_from_what_is_declared() -> None:
    side = Side(target="f", seconds=(2e-3,) * 3)
    made = replace(
        benchmark(),
        subject=side,
        against=None,
        items=64.0,
        item="row",
        flops=1e6,
        bytes=4e6,
        ceilings=Ceilings(copy=1e10, matmul=1e11),
    )
    assert made.verdict is None
    assert made.throughput == pytest.approx(32_000)
    assert made.intensity == pytest.approx(0.25)
    assert made.attainable == pytest.approx(4e-4)  # by its bytes: 10 μs by its FLOPs
    assert made.roofline == pytest.approx(20)
    assert replace(made, flops=None, bytes=None).roofline is None
    assert math.isclose(made.subject.percentiles["p50"], 2e-3)


# --- the measurement ----------------------------------------------------------------------------


def test_pairs_keep_the_samples_of_both_sides() -> None:
    x = torch.rand(64, 64)
    pairs = time_pairs(torch.mm, torch.mm, CPU, buffers=[(x, x)], most=30, block=10, precision=0)
    assert len(pairs.first) == len(pairs.second) == 30
    assert pairs.logs[3] == pytest.approx(math.log(pairs.second[3] / pairs.first[3]))
    assert all(0 < seconds < 1 for seconds in (*pairs.first, *pairs.second))


def test_the_budget_bounds_what_slow_work_takes() -> None:
    calls = []

    def slow() -> None:
        calls.append(time.sleep(0.02))

    started = time.perf_counter()
    pairs = time_pairs(slow, slow, CPU, precision=0, budget=0.3)
    assert time.perf_counter() - started < 3
    assert len(pairs.first) >= 6  # fewer have no interval
    seconds, _ = time_alone(slow, CPU, precision=0, budget=0.1)
    assert len(seconds) >= 6


def test_garbage_is_collected_again_after_timing() -> None:
    assert gc.isenabled()
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_memory_is_what_the_allocator_gave_at_one_time() -> None:
    x = torch.rand(256, 1024)  # 1 MiB

    def two_at_a_time(x: torch.Tensor) -> torch.Tensor:
        return (x + 1).exp().sum()

    assert peak_bytes(two_at_a_time, (x,), CPU.device) == pytest.approx(2**21, abs=4096)
    assert peak_bytes(torch.Tensor.exp_, (x,), CPU.device) == 0


def test_processor_time_and_page_faults_are_those_of_a_call() -> None:
    def touch() -> None:
        with mmap.mmap(-1, 2**22) as fresh:  # no allocator keeps these pages
            fresh[:: mmap.PAGESIZE] = bytes(2**22 // mmap.PAGESIZE)

    used = usage(touch, (), 5e-3, CPU.device)
    assert 0 < used.cpu < 4 * used.wall + 1e-3
    assert used.page_faults is None or used.page_faults > 0

    asleep = usage(lambda: time.sleep(0.01), (), 0.01, CPU.device)
    assert asleep.cpu < 0.5 * asleep.wall


def test_the_ceilings_are_measured_once_a_run() -> None:
    found = ceilings(CPU.device, torch.float32, 1)
    assert found.copy > 1e8
    assert found.matmul > 1e8
    assert ceilings(CPU.device, torch.float32, 1) is found


# --- compare ------------------------------------------------------------------------------------

ROWS = {"inputs": {"x": "float b n"}, "sizes": {"b": 32, "n": 256}, "device": "cpu"}


def compared(subject: object, against: object = subjects.softmax, **more: object) -> Comparison:
    subjects._KEPT.clear()
    return compare(subject, against, **{**ROWS, "profile": "quick", **more})


def test_slower_code_is_found_slower_and_its_outputs_are_graded() -> None:
    found = compared(subjects.thrice, flops="5 * b * n", bytes="2*b*n*itemsize", items="b")
    only = found.only
    assert found.verdict is Speed.SLOWER
    assert found.ratio is not None
    assert found.ratio.interval[0] > 1.5
    assert only.grade in ("A", "B")
    assert only.throughput == pytest.approx(32 / (only.subject.median or 0))
    assert only.bytes == 2 * 32 * 256 * 4
    assert only.roofline is not None
    assert only.subject.peak_bytes
    assert only.subject.cold
    assert found.measured
    assert not found.failed
    again = Comparison.from_json(found.to_json())
    assert again.benchmarks == found.benchmarks
    for text in (str(found), str(again), found._repr_html_()):
        assert "slower" in text
        assert "grade" in text


def test_one_alone_is_timed_without_a_verdict() -> None:
    found = compare(subjects.softmax, **ROWS, profile="quick")  # type: ignore[arg-type]
    assert found.verdict is None
    assert found.measured
    assert "a call" in str(found)
    assert repr(found) == "<Comparison: times>"


def test_a_sweep_measures_every_point() -> None:
    found = compared(subjects.by_hand, sizes={"b": 8}, sweep={"n": [4, 64]}, dtype="float64")
    assert [each.sizes for each in found.benchmarks] == [{"b": 8, "n": 4}, {"b": 8, "n": 64}]
    assert [each.point for each in found.benchmarks] == ["cpu-float64-n=4", "cpu-float64-n=64"]
    with pytest.raises(UsageError, match=r"has 2 points"):
        _ = found.verdict


def test_tensors_are_taken_as_inputs_and_left_alone() -> None:
    x = torch.rand(16, 64)
    before = x.clone()
    found = compared(subjects.by_hand, inputs={"x": x}, sizes={})
    assert found.only.grade in ("A", "B")
    assert found.only.subject.seconds
    assert torch.equal(x, before)


def test_modules_share_their_parameters_and_gradients_are_timed() -> None:
    shape = {"inputs": {"x": "float b n"}, "sizes": {"b": 4, "n": 32}}
    built = {"args": {"n": {"dim": "n"}}, "backward": True}
    found = compared(subjects.Scaled, subjects.Scaled, **shape, **built)
    assert found.only.grade in ("A", "B")  # two draws of parameters would differ
    assert not found.only.refused


def test_layers_are_timed_and_graded_in_evaluation() -> None:
    shape = {"inputs": {"x": "float b 16"}, "sizes": {"b": 32}}
    found = compared(nn.BatchNorm1d(16), nn.BatchNorm1d(16), **shape)
    assert found.only.grade == "A", found.only.refused


def test_a_reference_that_knows_one_type_only_is_held_to_its_values() -> None:
    fixed = torch.rand(32, 64)
    assert compared(lambda x: fixed.sin(), lambda x: fixed.sin()).only.grade == "A"
    assert compared(lambda x: fixed.cos(), lambda x: fixed.sin()).only.disagrees


def test_whole_numbers_are_compared_one_by_one() -> None:
    assert compared(subjects.largest, lambda x: x.max(-1).indices).only.grade == "A"
    wrong = compared(lambda x: x.argmin(-1), subjects.largest)
    assert wrong.only.disagrees


@pytest.mark.parametrize(
    ("subject", "against", "reason", "fault"),
    [
        (subjects.slightly_wrong, subjects.softmax, "outputs are not the reference's", "disagrees"),
        (subjects.of_one_row, subjects.softmax, r"returns shape \(1, 256\), where", "disagrees"),
        (subjects.raises, subjects.softmax, "ValueError: no rows of 256 here", "raised"),
        (subjects.raises_later, subjects.softmax, "RuntimeError: worn out", "raised"),
        (subjects.softmax, subjects.raises, "held against fails: .*no rows of 256", ""),
        (subjects.in_place, subjects.softmax, "changes its input x", ""),
        (subjects.by_pointer, subjects.softmax, "answered before: a cache", ""),
        (subjects.by_value, subjects.softmax, "times longer on new values", ""),
        (subjects.by_a_thread, subjects.softmax, "changes after it has returned", ""),
        (subjects.lazily, subjects.softmax, "returns an iterator", ""),
        (subjects.in_a_wrapper, subjects.softmax, r"returns .*Deferred", ""),
        (subjects.nothing, subjects.nothing_either, "cannot tell it from no work", ""),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:12],
)
def test_what_cannot_be_believed_is_refused(
    subject: object, against: object, reason: str, fault: str
) -> None:
    found = compared(subject, against, sizes={"b": 64, "n": 256})
    assert found.verdict is Speed.REFUSED
    assert re.search(reason, found.only.refused), found.only.refused
    assert found.only.fault == fault
    assert found.failed is bool(fault)
    assert not found.measured
    assert "\n" not in found.only.refused


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"inputs": None, "sizes": {}}, "does not say what it takes"),
        ({"sizes": {"b": 2}}, r"dim 'n' of its inputs has no size; give sizes = \{ n = 64 \}"),
        ({"sizes": {"b": 2, "n": 0}}, "size of n is a whole number from 1 on, not 0"),
        ({"sizes": {"b": 2, "n": 3, "m": 4}}, "no dim of the inputs named 'm'"),
        ({"sizes": {"b": 10**6, "n": 10**7}}, "GiB are there: give smaller sizes"),
        ({"sweep": {"k": [1]}}, "no axis named 'k'|does not take|dim of the inputs named 'k'"),
        ({"flops": "5 * q"}, "flops: no dim of the inputs named 'q'"),
        ({"dtype": "float31"}, "no dtype named 'float31'"),
        ({"device": "cuda:99"}, "cuda:99 is absent"),
        ({"profile": "slow"}, "no profile named 'slow'"),
        ({"inputs": 3}, "inputs are a table"),
        ({"against": 3}, "what it is timed against cannot be built"),
        ({"args": {"dim": 3}}, "no argument of .*softmax named 'dim'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_declaration_is_one_message(declared: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        compared(f"{Path(subjects.__file__)}:softmax", **declared)
    assert str(caught.value).count("\n") == 0


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "code", "told"),
    [("thrice", 0, "slower"), ("slightly_wrong", 1, "disagrees"), ("in_place", 7, "no verdict")],
)
def test_the_command_prints_records_and_says_by_its_code(
    target: str,
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    subjects._KEPT.clear()
    path = Path(subjects.__file__)
    words = [f"{path}:{target}", "--against", f"{path}:softmax", "--input", "x=float b n"]
    words += ["--size", "b=32,n=256", "--device", "cpu", "--profile", "quick"]
    assert main(["bench", *words]) == code
    assert told in capsys.readouterr().out
    (record,) = (tmp_path / ".dlcheck" / "runs").iterdir()
    (benchmark,) = read_run(record).benchmarks
    assert benchmark.reproduce.startswith("dlcheck bench ")


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["torch:exp", "--input", "x=float n", "--sweep", "n=16,256", "--profile", "quick"]
    assert main(["bench", *words, "--device", "cpu", "--no-record", "--json"]) == 0
    found = Comparison.from_json(capsys.readouterr().out)
    assert [each.sizes["n"] for each in found.benchmarks] == [16, 256]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["torch:exp"], "does not say what it takes"),
        (["torch:expo", "--input", "x=float n", "--size", "n=4"], "Did you mean"),
        (["torch:exp", "--input", "x=float n", "--size", "n:4"], "--size takes DIM=N"),
        (["torch:exp", "--input", "x=float n", "--sweep", "n"], "--sweep takes AXIS=VALUE"),
        (["torch:exp", "--input", "x=flot n", "--size", "n=4"], "no element named 'flot'"),
    ],
)
def test_mistakes_in_the_call_are_usage_errors(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words, "--device", "cpu", "--no-record"]) == 4
    assert message in capsys.readouterr().err


# --- suites -------------------------------------------------------------------------------------

SUITE = """\
suite = "Speed"

[[subject]]
name = "soft"
target = "speed_subjects.py:by_hand"
kind = "op"
inputs = { x = "float b n" }
reference = "speed_subjects.py:softmax"

[[benchmark]]
name = "of_a_subject"
subject = "soft"
sizes = { b = 16, n = 64 }
matrix = { device = ["cpu"], dtype = ["float32", "float64"] }

[[benchmark]]
name = "by_hand"
target = "speed_subjects.py:by_hand"
against = "speed_subjects.py:softmax"
inputs = { x = "float b n" }
sizes = { b = 16 }
matrix = { device = ["cpu"], n = [16, 64] }
flops = "5 * b * n"
items = 16
item = "row"
tags = ["slow"]

[[benchmark]]
name = "wrong"
target = "speed_subjects.py:slightly_wrong"
against = "speed_subjects.py:softmax"
inputs = { x = "float b n" }
sizes = { b = 16, n = 64 }
matrix = { device = ["cpu"] }

[[benchmark]]
name = "in_place"
target = "speed_subjects.py:in_place"
against = "speed_subjects.py:softmax"
inputs = { x = "float b n" }
sizes = { b = 16, n = 64 }
matrix = { device = ["cpu"] }
"""


@pytest.fixture
def speed_suite(tmp_path: Path) -> Path:
    (tmp_path / "speed_subjects.py").write_bytes(Path(subjects.__file__).read_bytes())
    path = tmp_path / "speed.toml"
    path.write_text(SUITE, "utf-8")
    return path


def test_a_suite_of_benchmarks_reads_back_from_what_it_writes(speed_suite: Path) -> None:
    suite = read_suite(speed_suite)
    again = speed_suite.with_name("again.toml")
    again.write_text(to_toml(suite), "utf-8")
    assert read_suite(again) == suite
    jsonschema.validate(tomllib.loads(to_toml(suite)), schema())


def test_each_point_is_a_trial(speed_suite: Path) -> None:
    found = list(expand_benchmarks(read_suite(speed_suite)))
    assert [f"{each.plan.name}[{each.point}]" for each in found[:4]] == [
        "of_a_subject[cpu-float32]",
        "of_a_subject[cpu-float64]",
        "by_hand[cpu-float32-n=16]",
        "by_hand[cpu-float32-n=64]",
    ]
    assert found[0].subject.reference == "speed_subjects.py:softmax"
    assert found[3].sizes == {"b": 16, "n": 64}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('against = "speed', 'agains = "speed', 19, "Did you mean 'against'?"),
        ('subject = "soft"', 'subject = "sofd"', 12, "no subject in this suite named 'sofd'"),
        ('py:by_hand"\nagainst', 'py:by_hants"\nagainst', 18, "Did you mean 'by_hand'?"),
        ("sizes = { b = 16 }", "sizes = { b = 16, m = 3 }", 21, "no dim of the inputs named 'm'"),
        ("n = [16, 64] }", "n = [16, 0] }", 22, "the size of n is a whole number"),
        ("n = [16, 64] }", "m = [16, 64] }", 16, "dim 'n' of its inputs has no size"),
        ('"5 * b * n"', '"5 * b * k"', 23, "flops: no dim of the inputs named 'k'"),
        ('"5 * b * n"', '"5 *"', 23, "is no formula"),
        ("items = 16", "items = [16]", 24, "items of benchmark 'by_hand' is a number or a formula"),
        ('name = "by_hand"', 'name = "by hand"', 17, "cannot be a name"),
        ('name = "by_hand"', 'name = "wrong"', 29, "two benchmarks are named 'wrong'"),
        ('name = "soft"', 'name = "Benchmarks"', 4, "is the name of the suite's benchmarks"),
    ],
)
def test_mistakes_in_a_benchmark_come_with_their_line(
    old: str, new: str, line: int, message: str, speed_suite: Path
) -> None:
    speed_suite.write_text(SUITE.replace(old, new, 1), "utf-8")
    with pytest.raises(SuiteError) as caught:
        read_suite(speed_suite)
    found = [(problem.line, problem.message) for problem in caught.value.problems]
    assert [at for at, said in found if message in said] == [line], found


def test_benchmarks_run_and_pytest_benchmark_reads_what_they_store(
    speed_suite: Path, pytester: pytest.Pytester
) -> None:
    for path in speed_suite.parent.glob("speed*"):
        shutil.copy(path, pytester.path)
    result = run_pytest(
        pytester, "speed.toml", "--profile", "quick", "--benchmark-autosave",
        "--benchmark-json", "stored.json", "-m", "benchmark", "-p", "no:cacheprovider",
    )  # fmt: skip
    text = result.stdout.str()
    assert result.ret == 1, text + result.stderr.str()
    assert "Benchmarks::wrong" in text, result.stderr.str()
    assert "outputs are not the reference's" in text
    assert "no verdict: it changes its input x" in text
    assert "1 disagrees" in text
    assert "not used at all" not in text
    (record,) = (pytester.path / ".dlcheck" / "runs").iterdir()
    recorded = {each.id: each for each in read_run(record).benchmarks}
    assert len(recorded) == 6
    point = "speed.toml::Benchmarks::by_hand[cpu-float32-n=64]"
    stored = json.loads((pytester.path / "stored.json").read_text())["benchmarks"]
    assert {each["fullname"] for each in stored} == {
        name for name, each in recorded.items() if not each.refused
    }
    (one,) = (each for each in stored if each["fullname"] == point)
    assert one["stats"]["data"] == list(recorded[point].subject.seconds)
    assert one["stats"]["iterations"] == recorded[point].subject.calls
    assert one["extra_info"]["dlcheck"]["verdict"] == "slower"
    compared = subprocess.run(
        [str(Path(sys.executable).with_name("pytest-benchmark")), "compare", "--columns=median"],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "by_hand[cpu-float32-n=64]" in compared.stdout


def test_benchmarks_are_measured_under_xdist_and_without_the_plugin(
    speed_suite: Path, pytester: pytest.Pytester
) -> None:
    for path in speed_suite.parent.glob("speed*"):
        shutil.copy(path, pytester.path)
    words = [f"speed.toml::Benchmarks::{name}" for name in ("in_place", "of_a_subject")]
    words += ["--profile", "quick", "-p", "no:cacheprovider"]
    for more in (["-n", "1"], ["-p", "no:benchmark"]):
        result = run_pytest(pytester, *words, *more)
        assert result.ret == 7, result.stdout.str()
        newest = max((pytester.path / ".dlcheck" / "runs").iterdir())
        found = [each.is_measured for each in read_run(newest).benchmarks]
        assert sorted(found) == [False, True, True]
