"""Two runs: what broke, what got slower, what cannot be said. Nothing is timed."""

from __future__ import annotations

import itertools
import math
import os
import random
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest
from benchmarks_made import benchmark
from outcomes import outcome
from scipy import stats
from sessions import run_pytest

from dlcheck.benchmark import Benchmark
from dlcheck.cli import main
from dlcheck.errors import UsageError
from dlcheck.gate import Gate
from dlcheck.history import baselines, find_run, set_baseline
from dlcheck.measure.self_test import SelfTest
from dlcheck.model import Outcome, Verdict
from dlcheck.processes import in_processes, tree
from dlcheck.ratio import Ratio
from dlcheck.regression import ALPHA, Shift, Trend, holm, processes_needed
from dlcheck.reporting.changes import Turn, changes
from dlcheck.results import RECORD, Run, RunWriter, read_run
from dlcheck.trends import Timed, processes_of, timed

MACHINE = {
    "cpu": {"model": "Testium", "cores": 2},
    "versions": {"torch": "2.14.0"},
    "python": "3.12.1",
}


# --- the test -----------------------------------------------------------------------------------


def drawn(seed: int, n: int, m: int, shift: float = 0.0) -> Shift:
    """Log times of processes with noise of 3 %."""
    noise = random.Random(seed)
    before, after = (tuple(noise.gauss(0, 0.03) for _ in range(k)) for k in (n, m))
    return Shift(before, tuple(t + shift for t in after))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (5, 4), (8, 8), (1, 9)])
def test_the_chance_is_that_of_mann_and_whitney(n: int, m: int) -> None:
    shift = drawn(n + m, n, m, 0.02)
    for found, way in ((shift.chance_slower, "greater"), (shift.chance_faster, "less")):
        known = stats.mannwhitneyu(shift.after, shift.before, alternative=way, method="exact")
        assert found == pytest.approx(known.pvalue, rel=1e-12)
    assert shift.least_chance == pytest.approx(1 / math.comb(n + m, n))


def test_ties_are_no_evidence() -> None:
    same = Shift((0.0,) * 8, (0.0,) * 8)
    assert same.chance_slower == 1.0
    assert same.ratio == 1.0
    assert same.trend(slower=1.0, faster=1.0) is Trend.SAME


def test_the_interval_holds_exactly() -> None:
    """Over every order of 4 + 4 values the interval misses no shift with more than 5 %."""
    missed = 0
    orders = list(itertools.combinations(range(8), 4))
    for chosen in orders:
        before = tuple(float(i) for i in chosen)
        after = tuple(float(i) for i in range(8) if i not in chosen)
        low, high = Shift(before, after).interval
        missed += not low <= 1.0 <= high
    assert missed / len(orders) <= ALPHA
    assert Shift((0.0, 1.0), (2.0, 3.0)).interval == (0.0, math.inf)


def test_holm_is_what_scipy_says() -> None:
    chances = [0.01, 0.04, 0.03, 0.005, 0.9]
    ordered = sorted(chances)
    steps = [min(1.0, (5 - i) * p) for i, p in enumerate(ordered)]
    known = dict(zip(ordered, itertools.accumulate(steps, max), strict=True))
    assert holm(chances) == pytest.approx([known[p] for p in chances])
    assert holm([]) == []


def test_false_alarms_and_misses_of_8_and_8_processes() -> None:
    """By the noise of 3 % that processes have here; benchmarks/regressions.py measures it."""

    def share(shift: float) -> float:
        found = [drawn(seed, 8, 8, math.log1p(shift)) for seed in range(300)]
        trends = [s.trend(slower=s.chance_slower, faster=s.chance_faster) for s in found]
        return trends.count(Trend.SLOWER) / len(trends)

    assert share(0.0) == 0.0
    assert share(0.20) >= 0.99


def test_so_many_processes_are_needed() -> None:
    assert [processes_needed(n) for n in (1, 10, 50, 500)] == [3, 5, 7, 8]


# --- benchmarks of two runs -----------------------------------------------------------------------


def processes(
    ratio: float = 1.0, *, k: int = 8, name: str = "softmax", seed: int = 0, **more: object
) -> list[Benchmark]:
    """Records of k processes with 1 % of noise between them."""
    noise = random.Random(f"{seed} {name}")
    return [benchmark(ratio * math.exp(noise.gauss(0, 0.01)), n=20, name=name, **more)
            for _ in range(k)]  # fmt: skip


def run(
    benchmarks: Sequence[Benchmark] = (), outcomes: Sequence[Outcome] = (), **meta: object
) -> Run:
    return Run({**MACHINE, "processes": 8, **meta}, list(outcomes), list(benchmarks))


def only(before: Run, after: Run) -> Timed:
    (found,) = timed(before, after)
    return found


def test_a_regression_beside_the_reference_is_found_at_another_hour() -> None:
    found = only(run(processes()), run(processes(1.3, seed=1)))
    assert found.trend is Trend.SLOWER
    assert found.ratio == pytest.approx(1.3, rel=0.03)
    assert "1.3" in found.told
    assert "beside torch.nn.functional:softmax" in found.told


@pytest.mark.parametrize(
    ("ratio", "trend"),
    [(1.0, Trend.SAME), (1.05, Trend.SAME), (1.2, Trend.SLOWER), (0.7, Trend.FASTER)],
)
def test_less_than_the_floor_is_no_regression(ratio: float, trend: Trend) -> None:
    assert only(run(processes()), run(processes(ratio, seed=1))).trend is trend


def test_one_process_a_side_is_compared_but_never_judged() -> None:
    found = only(run(processes(k=1)), run(processes(2.0, k=1)))
    assert found.ratio == pytest.approx(2.0, rel=0.05)
    assert found.trend is Trend.NO_VERDICT
    assert "one process a side: no verdict; measure with --processes 8" in found.told


def test_repeats_within_one_process_are_no_processes() -> None:
    one = {"processes": 1}
    found = only(run(processes(), **one), run(processes(2.0), **one))
    assert found.processes == (1, 1)
    assert not found.is_regression


def test_times_beside_nothing_need_to_be_taken_in_turn() -> None:
    alone = [replace(each, against=None) for each in processes()]
    slower = [replace(each, against=None) for each in processes(1.5, seed=1)]
    assert "measured at different times" in only(run(alone), run(slower)).told
    token = {"in turn": "a"}
    found = only(run(alone, **token), run(slower, **token))
    assert found.is_regression
    assert not found.beside


def test_in_turn_the_times_themselves_count() -> None:
    """The reference got slower too, by as much: beside it nothing would be seen."""
    before, after = processes(), processes(seed=1)
    slow = [
        replace(each, **{side: replace(getattr(each, side), seconds=tuple(
            1.4 * t for t in getattr(each, side).seconds)) for side in ("subject", "against")})
        for each in after
    ]  # fmt: skip
    assert not only(run(before), run(slow)).is_regression
    assert only(run(before, **{"in turn": "a"}), run(slow, **{"in turn": "a"})).is_regression


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"cpu": {"model": "Other", "cores": 2}}, "another processor, Testium → Other"),
        ({"cpu": {"model": "Testium", "cores": 8}}, "another number of cores, 2 → 8"),
        ({"versions": {"torch": "2.15.0"}}, "another torch, 2.14.0 → 2.15.0"),
        ({"versions": {}}, "another torch, 2.14.0 → unknown"),
        ({"python": "3.13.0"}, "another Python, 3.12 → 3.13"),
    ],
)
def test_runs_of_other_machines_have_no_ratio(meta: dict[str, object], said: str) -> None:
    found = only(run(processes()), run(processes(3.0), **meta))
    assert found.ratio is None
    assert found.told == f"not comparable: {said}"
    assert not found.is_regression


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("hardware", "H200", "other hardware, unknown → H200"),
        ("threads", 2, "other threads, 1 → 2"),
        ("sizes", {"n": 128}, "other sizes, n=64 → n=128"),
    ],
)
def test_other_conditions_have_no_ratio(field: str, value: object, said: str) -> None:
    found = only(run(processes()), run(processes(**{field: value})))
    assert found.told == f"not comparable: {said}"


def test_the_number_of_benchmarks_counts() -> None:
    """3 + 3 processes can show a regression of one benchmark, not among two."""
    names = ("softmax", "layer_norm")
    sides = [[b for name in names for b in processes(r, k=3, name=name, seed=s)]
             for r, s in ((1.0, 0), (2.0, 1))]  # fmt: skip
    assert only(*(run(side[:3]) for side in sides)).is_regression
    for found in timed(*map(run, sides)):
        assert found.trend is Trend.NO_VERDICT
        assert "3 + 3 processes cannot show a regression among 2 benchmarks" in found.told


def test_a_refused_benchmark_is_not_compared() -> None:
    refused = [replace(each, refused="it is faster than the clock") for each in processes()]
    found = only(run(processes()), run(refused))
    assert found.told == "not timed in both: it is faster than the clock"
    assert found.is_unmeasured


# --- the verb ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def recorded(
    folder: Path, name: str, benchmarks: Sequence[Benchmark] = (),
    outcomes: Sequence[Outcome] = (), **meta: object,
) -> Path:  # fmt: skip
    path = folder / ".dlcheck" / "runs" / f"{name}.jsonl"
    with RunWriter(path, {**MACHINE, "processes": 8, **meta}) as writer:
        for each in (*outcomes, *benchmarks):
            writer.append(each)
    order = len(list(path.parent.iterdir()))
    os.utime(path, (1e9 + order, 1e9 + order))
    return path


PASSED, FAILED = (outcome("holds", verdict=verdict) for verdict in (Verdict.PASSED, Verdict.FAILED))


@pytest.mark.parametrize(
    ("before", "after", "ratio", "code"),
    [
        (PASSED, PASSED, 1.0, 0),
        (FAILED, PASSED, 0.7, 0),
        (FAILED, FAILED, 1.0, 0),
        (PASSED, PASSED, 1.4, 6),
        (FAILED, PASSED, 1.4, 6),
        (PASSED, FAILED, 1.4, 1),
        (PASSED, FAILED, 1.0, 1),
        (PASSED, replace(PASSED, verdict=Verdict.INCONCLUSIVE), 1.0, 7),
        (PASSED, replace(PASSED, verdict=Verdict.INCONCLUSIVE), 1.4, 6),
    ],
)
def test_the_exit_code_says_what_it_came_to(
    folder: Path, before: Outcome, after: Outcome, ratio: float, code: int
) -> None:
    recorded(folder, "one", processes(), [before])
    recorded(folder, "two", processes(ratio, seed=1), [after])
    assert main(["compare", "one", "two"]) == code
    assert main(["compare", "latest~1"]) == code


def test_a_new_trial_that_fails_and_a_wrong_subject_are_failures(folder: Path) -> None:
    recorded(folder, "one", processes(), [PASSED])
    recorded(folder, "two", processes(), [PASSED, replace(FAILED, check="new")])
    recorded(folder, "three", processes(refused="it raised", fault="raised"), [PASSED])
    assert main(["compare", "one", "two"]) == 1
    assert main(["compare", "one", "three"]) == 1
    assert main(["compare", "three", "three"]) == 7


def test_what_broke_stands_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(PASSED, check="other")
    recorded(folder, "one", processes(), [replace(other, verdict=Verdict.FAILED), PASSED])
    recorded(folder, "two", processes(1.5, seed=1), [other, FAILED])
    assert main(["compare", "one", "two"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "broke (1)"
    assert [line for line in told if line.startswith("slower: softmax")]
    assert told[-1].startswith("1 new failure, 1 regression: ")


def test_junit_has_an_item_for_each(folder: Path) -> None:
    odd = replace(FAILED, check="odd", message="half \ud800 of \x00 a pair")
    recorded(folder, "one", processes(), [PASSED])
    recorded(folder, "two", processes(1.5, seed=1), [FAILED, odd, replace(PASSED, check="fine")])
    assert main(["compare", "one", "two", "--junitxml", "out/junit.xml"]) == 1
    (suite,) = xml.parse(folder / "out" / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "3", "0")
    (slower,) = (item for item in suite if item.get("classname", "").endswith("benchmarks"))
    failure = slower.find("failure")
    assert failure is not None
    assert "regression: 1.5" in str(failure.get("message"))


def test_the_page_of_two_runs_shows_the_regression(folder: Path) -> None:
    recorded(folder, "one", processes())
    recorded(folder, "two", processes(1.5, seed=1))
    assert main(["compare", "one", "--report", "out"]) == 6
    for name in ("changes.html", "changes.md"):
        text = (folder / "out" / name).read_text()
        assert "1 regression" in text
        assert "beside torch.nn.functional:softmax" in text.replace("\\_", "_")


# --- names of runs --------------------------------------------------------------------------------


def test_a_run_is_found_by_each_of_its_names(folder: Path) -> None:
    first, second, third = (recorded(folder, name) for name in ("2026a", "2026b", "2027"))
    for name, path in {
        str(second): second,
        "2026a": first,
        "2027": third,
        "latest": third,
        "latest~0": third,
        "latest~2": first,
    }.items():
        assert find_run(name, folder).name == path.name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("2026", "2 records in .* begin with '2026': say more of it"),
        ("latest~3", "there are 3 runs in .*, so there is no latest~3"),
        ("2027x", "there is no record '2027x', neither as a file nor in "),
        ("mian", "Did you mean 'main'"),
    ],
)
def test_a_name_that_is_none_says_so(folder: Path, name: str, said: str) -> None:
    for record in ("2026a", "2026b", "2027"):
        path = recorded(folder, record)
    set_baseline("main", path, folder)
    with pytest.raises(UsageError, match=said):
        find_run(name, folder)


def test_nothing_is_recorded_yet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "latest~1", "latest"]) == 4
    assert "nothing is recorded" in capsys.readouterr().err
    assert main(["baseline"]) == 0
    assert "no baseline yet" in capsys.readouterr().out


def test_a_baseline_names_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(folder, "one", processes())
    assert main(["baseline", "main"]) == 0
    recorded(folder, "two", processes(1.5, seed=1))
    assert main(["compare", "main"]) == 6
    assert main(["baseline", "good", "main"]) == 0
    assert baselines(folder) == {"main": "one.jsonl", "good": "one.jsonl"}
    assert main(["baseline", "main", "--remove"]) == 0
    capsys.readouterr()
    assert main(["baseline"]) == 0
    assert capsys.readouterr().out.split() == ["good", "one.jsonl"]
    (folder / ".dlcheck" / "runs" / "one.jsonl").unlink()
    assert main(["compare", "good"]) == 4
    assert "stands for one.jsonl, which is gone" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["latest", "../x", "", "-x", "a b"])
def test_a_baseline_has_a_plain_name(folder: Path, name: str) -> None:
    path = recorded(folder, "one")
    with pytest.raises(UsageError, match="cannot name a baseline"):
        set_baseline(name, path, folder)


# --- bad records --------------------------------------------------------------------------------


def test_runs_without_a_common_trial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(folder, "one", outcomes=[PASSED])
    recorded(folder, "two", outcomes=[replace(PASSED, suite="suites/other.toml")])
    assert main(["compare", "one", "two"]) == 7
    told = capsys.readouterr()
    assert "No trial is in both runs" in told.out
    assert "the runs have no trial and no benchmark in common" in told.err


def test_a_record_of_another_schema(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(folder, "one")
    path = recorded(folder, "two")
    path.write_text(path.read_text().replace('"schema":', '"schema":9', 1))
    assert main(["compare", "one", "two"]) == 4
    assert "upgrade dlcheck" in capsys.readouterr().err


def test_a_record_that_was_cut_off_settles_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(folder, "one", processes(), [PASSED])
    path = recorded(folder, "two", processes(), [PASSED])
    path.write_bytes(path.read_bytes()[:-400])
    assert read_run(path).meta["incomplete"]
    assert main(["compare", "one", "two"]) == 7
    assert "the run was cut off" in capsys.readouterr().err


def test_verdicts_of_another_machine_are_compared_all_the_same() -> None:
    other = run(processes(), [FAILED], cpu={"model": "Other", "cores": 2})
    found = changes(run(processes(), [PASSED]), other)
    assert list(found.turned) == [Turn.BROKE]
    assert found.benchmarks[0].told.startswith("not comparable")


# --- fresh processes ----------------------------------------------------------------------------


@pytest.fixture
def processes_made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Processes that record at once; the folders in which they ran, in their order."""
    ran: list[Path] = []

    def run_one(command: Sequence[str], **more: object) -> subprocess.CompletedProcess[str]:
        told = more.get("env")
        if not isinstance(told, dict) or RECORD not in told:  # git
            return real(command, **more)  # type: ignore[call-overload,no-any-return]
        folder = Path(str(more["cwd"]))
        ran.append(folder)
        slower = 1.5 if "slow" in folder.name else 1.0
        noise = random.Random(len(ran)).gauss(0, 0.01)
        if "silent" not in command:
            with RunWriter(Path(told[RECORD]), MACHINE) as writer:
                writer.append(benchmark(slower * math.exp(noise), n=20))
        return subprocess.CompletedProcess(command, 3, "out", "what went wrong")

    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", run_one)
    return ran


def test_processes_run_by_turns_and_are_one_record_a_side(
    folder: Path, processes_made: list[Path]
) -> None:
    sides = [folder / "fast", folder / "slow"]
    before, after = in_processes(["bench", "x"], sides, 8, command="dlcheck bench x")
    assert processes_made == sides * 8
    assert [len(run.benchmarks) for run in (before, after)] == [8, 8]
    assert before.meta["processes"] == 8
    assert before.meta["command"] == "dlcheck bench x"
    assert before.meta["in turn"] == after.meta["in turn"]
    found = only(before, after)
    assert found.is_regression
    assert not found.beside
    assert changes(before, after).regressions == [found]


def test_a_process_that_records_nothing_says_why(folder: Path, processes_made: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"recorded nothing \(exit code 3\)(.|\n)*went wrong"):
        in_processes(["bench", "silent"], [folder], 2)
    assert len(processes_made) == 1


def test_bench_since_a_folder_ends_with_6(folder: Path, processes_made: list[Path]) -> None:
    (folder / "slow").mkdir()
    assert main(["bench", "ops:f", "--since", "slow", "--processes", "4"]) == 0  # faster now
    assert processes_made == [folder / "slow", folder] * 4
    os.chdir(folder / "slow")
    assert main(["bench", "ops:f", "--since", str(folder), "--processes", "4"]) == 6
    assert len(list((folder / "slow" / ".dlcheck" / "runs").iterdir())) == 2


def test_bench_in_processes_prints_their_spread(
    folder: Path, processes_made: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "ops:f", "--processes", "3"]) == 0
    assert processes_made == [folder] * 3
    assert "medians of 3 processes from" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "f", "--processes", "0"], "a number from 1 to 1000, not 0"),
        (["bench", "f", "--processes", "2", "--json"], "--json is for one process"),
        (["bench", "f", "--since", "no-such"], "'no-such' is no folder and no commit"),
        (["bench", "f", "--since", "."], "--since . is this folder itself"),
        (["run", "--processes", "many"], "--processes takes a number, as 8, not 'many'"),
        (["run", "--since", ".", "--against", "main"], "give one"),
    ],
)
def test_a_wrong_call_says_so(
    folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 4
    assert said in capsys.readouterr().err


def committed(folder: Path) -> None:
    """A repository with one commit, of the file x."""
    (folder / "x").write_text("old")
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-b", "main"], ["add", "x"], [*own, "commit", "-m", "one"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


def test_a_commit_is_checked_out_for_the_while(folder: Path) -> None:
    committed(folder)
    (folder / "x").write_text("new")
    with tree("HEAD") as there:
        assert (there / "x").read_text() == "old"
    assert not there.exists()
    assert (folder / "x").read_text() == "new"


def test_a_commit_without_the_working_folder_says_so(folder: Path) -> None:
    committed(folder)
    (folder / "later").mkdir()
    os.chdir(folder / "later")
    with pytest.raises(UsageError, match="HEAD has no folder later"), tree("HEAD"):
        pass


def test_what_is_a_folder_and_a_commit_is_told_apart(folder: Path) -> None:
    committed(folder)
    (folder / "main").mkdir()
    with pytest.raises(UsageError, match=r"\./main for the folder, or main.0 for"), tree("main"):
        pass
    with tree("./main") as there:
        assert there == folder / "main"
    with tree("main^0") as there:
        assert (there / "x").read_text() == "old"


# --- a run against a baseline ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "many", "trend"),
    [(1.5, 1, Trend.SLOWER), (1.0, 1, Trend.SAME), (1.5, 10_000, Trend.NO_VERDICT)],
)
def test_the_gate_counts_every_benchmark(ratio: float, many: int, trend: Trend) -> None:
    first, *rest = processes(ratio, seed=1)
    gate = Gate(name="main", baseline=run(processes()), others=[run(rest)], meta=MACHINE)
    assert gate.judge(first, many).trend is trend


def test_the_gate_lets_new_benchmarks_pass() -> None:
    gate = Gate(name="main", baseline=run(processes()), meta=MACHINE)
    judged = gate.judge(benchmark(name="new"), 1)
    assert judged.told == "new"
    assert not judged.is_unmeasured


SUITE = """
suite = "Speed"
[[benchmark]]
name = "soft"
target = "torch:softmax"
against = "torch.nn.functional:softmax"
inputs = { x = "float b n" }
args = { dim = -1 }
against_args = { dim = -1 }
sizes = { b = 2, n = 3 }
matrix = { device = ["cpu"], dtype = ["float32"] }
"""
MEASURED = """
import pytest
from dataclasses import replace
import dlcheck.environment, dlcheck.results, dlcheck.timing.run

@pytest.fixture(autouse=True)
def measured(monkeypatch):
    from benchmarks_made import benchmark
    blank = dlcheck.timing.run._blank
    def run_benchmark(trial):
        return replace(blank(trial), subject=benchmark({ratio}).subject, threads=1,
                       against=replace(blank(trial).against, seconds=benchmark().against.seconds))
    monkeypatch.setattr(dlcheck.timing.run, "run_benchmark", run_benchmark)
    monkeypatch.setattr(dlcheck.results, "environment", lambda **more: {machine!r})
"""


@pytest.mark.parametrize(
    ("ratio", "others", "code", "said"),
    [
        (1.5, ["replicas"], 6, "slower against main: 1.50"),
        (1.0, ["replicas"], 0, "same against main: 1.00"),
        (1.5, [], 7, "one process a side: no verdict; measure with --processes 8"),
    ],
)
def test_a_regression_fails_its_item(
    pytester: pytest.Pytester, ratio: float, others: list[str], code: int, said: str
) -> None:
    folder = pytester.path
    (folder / "speed.toml").write_text(SUITE)
    pytester.syspathinsert(Path(__file__).parent)
    source = MEASURED.replace("{ratio}", str(ratio)).replace("{machine!r}", repr(MACHINE))
    (folder / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n{source}"
    )
    named = {
        "suite": "speed.toml::Benchmarks",
        "name": "soft",
        "point": "cpu-float32",
        "sizes": {"b": 2, "n": 3},
        "hardware": "",
    }
    sides = {
        "main": processes(k=8, **named),
        "replicas": processes(ratio, k=7, seed=1, **named),
    }
    for name, made in sides.items():
        recorded(folder, name, made, processes=len(made))
    set_baseline("main", folder / ".dlcheck" / "runs" / "main.jsonl", folder)
    given = [f"--replicas={folder / '.dlcheck' / 'runs' / name}.jsonl" for name in others]
    found = run_pytest(pytester, "-p", "no:benchmark", "--against", "main", "--junitxml=junit.xml",
                       *given, "speed.toml")  # fmt: skip
    told = "\n".join(found.outlines)
    assert found.ret == code, told
    assert said in told
    (item,) = xml.parse(folder / "junit.xml").getroot().iter("testcase")
    assert (item.find("failure") is not None) == (code == 6)
    if others:
        record = find_run("latest", folder)
        assert [len(each) for each in processes_of(read_run(record)).values()] == [8]


def test_a_baseline_that_is_none_is_one_message(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("speed.toml").write_text(SUITE)
    found = run_pytest(pytester, "--against", "nope", "speed.toml")
    assert found.ret == 4
    assert "there is no record 'nope'" in "\n".join(found.errlines)
    assert not any("collecting" in line or "Error" in line for line in found.outlines)


# --- the machine ----------------------------------------------------------------------------------


def test_the_self_test_says_what_it_cannot_exclude() -> None:
    same = Ratio(logs=(0.001, -0.001) * 30)
    slower = Ratio(logs=(0.05,) * 60)
    found = SelfTest((same,) * 19 + (slower,))
    assert found.false_alarms == 1
    assert found.most_false_alarms == pytest.approx(stats.beta.ppf(0.95, 2, 19), rel=1e-9)
    assert found.noise == pytest.approx(0.001)
    assert found.resolution == pytest.approx(0.02 + 0.00102, abs=1e-5)
