"""Benchmarks: the record, the measurement, the command, suites and pytest-benchmark's storage."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks_made import BENCHMARKS, benchmark
from hypothesis import given
from outcomes import outcome

from dlcheck.benchmark import Benchmark, Ceilings, Side
from dlcheck.ratio import Speed
from dlcheck.results import RunWriter, read_run

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
