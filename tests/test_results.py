"""What is recorded comes back unchanged, and a crash loses nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import OUTCOMES, outcome

from dlcheck.errors import UsageError
from dlcheck.model import Evidence, Outcome
from dlcheck.results import (
    RunWriter,
    decode,
    encode,
    environment,
    latest_run,
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


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.jsonl", {}) as writer:
        writer.append(outcome("first"))
        writer.append(outcome("second"))
    text = writer.path.read_text()
    for cut in range(1, 60, 7):
        writer.path.write_text(text[: -1 - cut])
        run = read_run(writer.path)
        assert [each.check for each in run.outcomes] == ["first"]
        assert "torn" in run.meta["note"]


def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    with RunWriter(tmp_path / "run.jsonl", {}) as writer:
        writer.append(outcome("first"))
        writer.append(outcome("second"))
    lines = writer.path.read_text().splitlines()
    writer.path.write_text("\n".join([lines[0], lines[1][:30], lines[2]]))
    with pytest.raises(UsageError, match=r"run\.jsonl:2: this is no outcome"):
        read_run(writer.path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "schema", '{"schema": "a", "meta": {}}', "3"])
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
    assert latest_run(tmp_path) is None
    for _ in range(3):
        with RunWriter(new_run_path(tmp_path), {}) as writer:
            pass
    assert latest_run(tmp_path) == writer.path


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
