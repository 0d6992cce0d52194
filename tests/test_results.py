"""What is recorded comes back unchanged, and a crash loses nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks_made import benchmark
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import OUTCOMES, outcome

from dlcheck.errors import UsageError
from dlcheck.history import runs
from dlcheck.model import Evidence, Outcome
from dlcheck.reporting.report import Report
from dlcheck.results import (
    RunWriter,
    decode,
    encode,
    environment,
    new_run_path,
    read_run,
)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@given(OUTCOMES)
def test_an_outcome_survives_strict_json(recorded: Outcome) -> None:
    line = json.dumps(encode(recorded), allow_nan=False)
    again = decode(json.loads(line, parse_constant=refuse))
    assert repr(again) == repr(recorded)  # == would call two NaN different
    assert again.verdict is recorded.verdict
    assert [piece.verdict for piece in again.evidence] == [p.verdict for p in recorded.evidence]


@settings(max_examples=30)
@given(st.lists(OUTCOMES, max_size=3))
def test_a_record_survives_any_text(
    tmp_path_factory: pytest.TempPathFactory, recorded: list[Outcome]
) -> None:
    with RunWriter(tmp_path_factory.mktemp("run") / "run.jsonl", {"seed": 1}) as writer:
        for each in recorded:
            writer.append(each)
    run = read_run(writer.path)
    assert repr(run.outcomes) == repr(recorded)
    assert (run.meta, run.path) == ({"seed": 1}, writer.path)


def test_foreign_numbers_are_written_as_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    torch = pytest.importorskip("torch")
    piece = Evidence(
        error=torch.tensor(0.5),  # type: ignore[arg-type]
        bound=numpy.float32(0.25),
        signal=1,
        got=torch.tensor([1.0]),  # type: ignore[arg-type]
        values={"n": numpy.int64(3), "lost": torch.tensor(math.nan), "row": torch.ones(2)},  # type: ignore[dict-item]
    )
    found = decode(encode(outcome(evidence=(piece,)))).evidence[0]
    assert (found.error, found.bound, found.values["n"]) == (0.5, 0.25, 3.0)
    assert math.isnan(float(found.values["lost"]))
    assert found.values["row"] == found.got.replace("[1.]", "[1., 1.]") == "tensor([1., 1.])"
    assert all(type(value) is float for value in (found.error, found.bound, found.signal))


def test_each_outcome_is_on_disk_before_the_next_runs(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run.jsonl", {})
    writer.append(outcome("first"))
    assert [each.check for each in read_run(writer.path).outcomes] == ["first"]
    writer.close()


def recorded(folder: Path, *names: str) -> Path:
    with RunWriter(folder / "run.jsonl", {"seed": 1}) as writer:
        for name in names:
            writer.append(outcome(name))
    return writer.path


def checks(path: Path) -> list[str]:
    return [each.check for each in read_run(path).outcomes]


def test_a_record_cut_anywhere_says_so_and_keeps_the_rest(tmp_path: Path) -> None:
    path = recorded(tmp_path, "first", "second")
    whole = path.read_bytes()
    assert "incomplete" not in read_run(path).meta
    ends = [k + 1 for k, byte in enumerate(whole) if byte == 10]
    for cut in range(ends[0], len(whole) - 1, 7):
        path.write_bytes(whole[:cut])
        run = read_run(path)
        # A line that lacks only its line break is whole.
        assert len(run.outcomes) == sum(cut >= end - 1 for end in ends[1:3])
        assert "cut off" in run.meta["incomplete"]
        assert not Report(run.outcomes, run.meta).passed


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ["a"]},
        {"sizes": [1]},
        {"sizes": {"n": "64"}},
        {"params": "x"},
        {"subject": {"target": "f", "peak_bytes": "inf"}},
        {"subject": {"target": "f", "peak_bytes": 10**400}},
        {"subject": {"target": "f", "calls": {}}},
        {"threads": True},
    ],
)
def test_a_benchmark_of_other_types_is_damaged(tmp_path: Path, wrong: dict[str, object]) -> None:
    with RunWriter(tmp_path / "run.jsonl", {}) as writer:
        writer.append(benchmark(against=None))
    lines = writer.path.read_text().splitlines()
    data = json.loads(lines[1])["benchmark"]
    lines.insert(1, json.dumps({"benchmark": {**data, **wrong}}))
    writer.path.write_text("\n".join(lines) + "\n")
    run = read_run(writer.path)
    assert len(run.benchmarks) == 1
    assert "1 line is damaged" in run.meta["incomplete"]


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    path = recorded(tmp_path, "first", "second", "third")
    lines = path.read_text().splitlines()
    foreign = ['{"loss": 0.1}', "[1, 2]", "3", "null", "\x00" * 20, "[" * 100_000, "ünlesbar"]
    foreign += [lines[2].replace('"l1"', "1"), lines[2].replace('"passed"', '"splendid"')]
    path.write_text("\n".join([*lines[:2], lines[2][:30], *lines[3:4], *foreign, *lines[4:], ""]))
    run = read_run(path)
    assert [each.check for each in run.outcomes] == ["first", "third"]
    assert "10 lines are damaged and left out (the first: line 3: " in run.meta["incomplete"]
    assert "cut off" not in run.meta["incomplete"]


def test_fields_of_a_later_dlcheck_are_left_out(tmp_path: Path) -> None:
    path = recorded(tmp_path, "first")
    path.write_text(path.read_text().replace('"check":', '"mood":"bright","check":'))
    assert checks(path) == ["first"]
    assert "incomplete" not in read_run(path).meta


def test_a_run_that_was_interrupted_says_so(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run.jsonl", {})
    writer.append(outcome("first"))
    writer.close(interrupted=True)
    assert "interrupted" in read_run(writer.path).meta["incomplete"]


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from outcomes import outcome
from dlcheck.results import RunWriter, read_run
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]  # a subject may have lowered it before
with RunWriter(Path("run.jsonl"), {{"seed": 1}}) as writer:
    for k in range(20):
        # Lines of several sizes: what does not fit is taken back, what fits again is kept.
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000 if k < 15 else most, most))
        writer.append(outcome(f"check_{{k}}", message="x" * (700 if k % 2 else 10)))
run = read_run(writer.path)
assert writer.lost == 20 - len(run.outcomes) > 3, writer.lost
assert "File too large" in writer.problem
assert {{f"check_{{k}}" for k in range(15, 20)}} <= {{each.check for each in run.outcomes}}
assert f"{{writer.lost}} outcomes could not be written" in run.meta["incomplete"]
assert "damaged" not in run.meta["incomplete"]
"""


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    code = FULL.format(tests=str(Path(__file__).parent))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    for text in ("", "\n", "  \n"):
        (tmp_path / "run.jsonl").write_text(text)
        with pytest.raises(UsageError, match="is empty: no run is recorded in it"):
            read_run(tmp_path / "run.jsonl")


@pytest.mark.parametrize(
    "text", ["{}", "[]", "schema", '{"schema": "a", "meta": {}}', "3", "\x00\x7f", "[" * 99999]
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match="no record of dlcheck"):
        read_run(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text('{"schema": 3, "meta": {}}\n{"verdict": "splendid"}\n')
    with pytest.raises(UsageError, match=r"schema 3 is newer .* upgrade dlcheck"):
        read_run(path)
    path.write_text('{"schema": 0, "meta": {}}\n')
    with pytest.raises(UsageError, match="there is no schema 0"):
        read_run(path)


def test_an_absent_record_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_run(tmp_path / "nowhere.jsonl")


def test_records_never_write_over_each_other(tmp_path: Path) -> None:
    path = new_run_path(tmp_path)
    assert (path.parent, path.suffix) == (tmp_path / ".dlcheck" / "runs", ".jsonl")
    with RunWriter(path, {}) as one, RunWriter(path, {}) as two:
        one.append(outcome("one"))
        two.append(outcome("two"))
    assert one.path != two.path
    assert [read_run(w.path).outcomes[0].check for w in (one, two)] == ["one", "two"]


def test_the_latest_record_is_found(tmp_path: Path) -> None:
    assert runs(tmp_path) == []
    for _ in range(3):
        with RunWriter(new_run_path(tmp_path), {}) as writer:
            pass
    assert runs(tmp_path)[0] == writer.path


def test_the_environment_can_be_recorded(tmp_path: Path) -> None:
    found = environment(command="pytest", seed=3, profile="quick", odd=tmp_path)
    assert (found["command"], found["seed"], found["profile"]) == ("pytest", 3, "quick")
    assert found["versions"]["dlcheck"]
    with RunWriter(tmp_path / "run.jsonl", found) as writer:
        pass
    assert read_run(writer.path).meta == {**found, "odd": str(tmp_path)}


def test_the_environment_loads_nothing() -> None:
    code = (
        "import sys; from dlcheck.results import environment; found = environment();"
        "assert 'devices' not in found; bad = {'torch', 'numpy', 'pytest', 'hypothesis'};"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_environment_names_the_devices_once_torch_is_there() -> None:
    torch = pytest.importorskip("torch")
    found = environment()
    assert found["devices"]["cpu"]["threads"] == torch.get_num_threads()
    assert found["switches"]["float32 matmul"] == torch.get_float32_matmul_precision()
