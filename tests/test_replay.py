"""A failure is kept, tried first, run again alone, and forgotten when it is mended."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from outcomes import OUTCOMES
from sessions import run_command
from sessions import run_pytest as run

from dlcheck.cli import main
from dlcheck.encoding import decode, encode
from dlcheck.failures import Failure, Failures, failure_of, identity, with_replay
from dlcheck.model import PROFILES, ExpectedFailure, Outcome, Recipe, Subject, Trial, Verdict
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial
from dlcheck.settings import read_settings

SUITE = """
suite = "Mine"
[defaults]
matrix = { device = ["cpu"], dtype = ["float64"] }
[[subject]]
name = "doubled"
target = "mine.py:doubled"
kind = "op"
inputs = { x = "float n m" }
checks = ["leaves_inputs_unchanged"]
"""
WRONG = "def doubled(x):\n    return x.mul_(2)\n"
RIGHT = "def doubled(x):\n    return x * 2\n"
PYTHON = """
import dlcheck
from dlcheck import Subject, Suite

class Wrong:
    def __call__(self, x):
        return x.mul_(2)

declared = dict(kind="op", inputs={"x": "float n"}, checks=("leaves_inputs_unchanged",))
wrong = Subject(name="w", target=Wrong(), **declared)
MINE = Suite(name="mine", matrix={"device": ["cpu"]}, subjects=(wrong,))

@dlcheck.parametrize(Wrong(), **declared)
def test_wrong(check):
    check()
"""


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a suite whose one subject is wrong."""
    for name in ("PROFILE", "SEED", "DEVICE", "DTYPE", "TIMEOUT", "REQUIRE", "REPORT", "RECORD"):
        monkeypatch.delenv(f"DLCHECK_{name}", raising=False)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "")
    (pytester.path / "mine.toml").write_text(SUITE)
    (pytester.path / "mine.py").write_text(WRONG)
    return pytester


def printed(result: pytest.RunResult, field: str) -> str:
    """What the failure message says there."""
    told = re.findall(rf"^  {field} +(.+)$", result.stdout.str(), re.MULTILINE)
    (found,) = set(told)  # where CI is set, pytest's summary has the message once more
    return str(found)


def kept(folder: pytest.Pytester) -> list[Path]:
    return sorted((folder.path / ".dlcheck" / "failures").glob("*.json"))


def tell(folder: pytest.Pytester, **changes: object) -> None:
    """Change what is kept of the one failure."""
    (path,) = kept(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replay(*arguments: str) -> int:
    return main(["replay", *arguments])


# --- a life of a failure ------------------------------------------------------------------------


def test_is_kept_replayed_tried_first_and_forgotten(
    folder: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(folder, "mine.toml", "--profile", "quick")
    (path,) = kept(folder)
    assert printed(first, "replay") == f"dlcheck replay {path.stem}"
    assert replay() == 0
    assert re.search(rf"{path.stem} .*leaves_inputs_unchanged +doubled +n=2 m=2", _out(capsys))

    assert replay(path.stem[:4]) == 1
    told = _out(capsys)
    assert "changed elements of x" in told
    assert "(after 1 case)" in told

    again = run(folder, *shlex.split(printed(first, "again"))[1:])
    (seed,) = set(re.findall(r"seed=(\d+)", told))
    assert printed(again, "case").startswith(f"n=2 m=2, seed={seed} ")
    assert printed(again, "case").endswith("(after 1 case)")
    (folder.path / "mine.py").write_text(RIGHT)
    assert run(folder, "mine.toml", "--profile", "quick").ret == 0
    assert not kept(folder)
    assert replay(path.stem) == 2
    assert "None is: one is kept when a check fails" in capsys.readouterr().err


def test_says_that_it_is_mended_and_keeps_it_for_a_bisection(
    folder: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.path / "right.py").write_text(RIGHT)
    run(folder, "mine.toml", "--profile", "quick")
    tell(folder, swaps={"doubled": "right.py:doubled"})
    assert replay("--all") == 0
    assert "doubled: leaves_inputs_unchanged [cpu-float64] passes now" in _out(capsys)
    assert kept(folder)


def test_a_suite_and_a_test_in_python_are_found_again(
    folder: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.makepyfile(test_python=PYTHON)
    result = run(folder, "test_python.py", "--profile", "quick")
    result.assert_outcomes(failed=2)
    assert replay("--all") == 1
    assert _out(capsys).count("changed elements of x") == 2
    (folder.path / "test_python.py").unlink()
    assert replay("--all") == 2
    assert capsys.readouterr().err.count("test_python.py::") == 2  # is not here


def test_a_record_of_another_machine_is_enough(
    folder: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, "mine.toml", "--profile", "quick")
    (path,) = kept(folder)
    for gone in (path, folder.path / "mine.toml"):  # a suite that is elsewhere, too
        gone.unlink()
    assert replay("--run", "latest") == 0
    assert path.stem in _out(capsys)
    assert replay(path.stem, "--run", "latest") == 1
    assert "changed elements of x" in _out(capsys)


def test_validate_keeps_its_failures_too(
    folder: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["validate", "mine.py:doubled", "--kind", "op", "--input", "x=float n m"]
    narrow = ["--device", "cpu", "--check", "leaves_in*", "--profile=quick", "--json"]
    assert main([*call, *narrow]) == 1
    (outcome,) = json.loads(_out(capsys))["outcomes"]
    exact = ["--check", "leaves_inputs_unchanged", "--device", "cpu", "--profile", "quick"]
    assert shlex.split(outcome["reproduce"]) == ["dlcheck", *call, *exact]
    assert replay(outcome["failure"]) == 1
    assert main([*call, *exact]) == 1
    assert f"dlcheck replay {outcome['failure']}" in _out(capsys)
    assert main([*call, *exact, "--option", "sizes={ n = [3, 3] }"]) == 1  # another declaration
    assert len(kept(folder)) == 2


def fails_alone(folder: pytest.Pytester, script: str) -> bool:
    """Does a script end with its own assertion, in a process that has not seen dlcheck?"""
    path = folder.path / "alone.py"
    path.write_text(script)
    ended = run_command(folder, ["python", str(path)])
    return ended.ret != 0 and "AssertionError" in ended.stderr.str()


def test_replay_prints_the_script_of_a_failure(
    folder: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder, "mine.toml", "--profile", "quick")
    (path,) = kept(folder)
    script = json.loads(path.read_text())["script"]
    assert replay(path.stem, "--script") == 0
    assert _out(capsys) == script
    assert "dlcheck" not in script
    assert fails_alone(folder, script)
    (folder.path / "mine.py").write_text(RIGHT)
    assert not fails_alone(folder, script)
    tell(folder, script="", scriptless="it takes\x1b[2J too long")
    assert replay("--all", "--script") == 2
    assert "has no script: it takes too long" in capsys.readouterr().err
    assert replay("--script") == 4


def test_validate_writes_the_script_of_a_failure(
    folder: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["validate", "mine.py:doubled", "--kind", "op", "--input", "x=float n m"]
    assert main([*call, "--device", "cpu", "--check", "leaves_in*", "--profile=quick"]) == 1
    (path,) = re.findall(r"^  script +(\S+)$", _out(capsys), re.MULTILINE)
    assert fails_alone(folder, (folder.path / path).read_text())


# --- what cannot be replayed, and why -----------------------------------------------------------


def _changed(**changes: object) -> object:
    return lambda folder: tell(folder, **changes)


def _suite(old: str, new: str) -> object:
    return lambda folder: (folder.path / "mine.toml").write_text(SUITE.replace(old, new))


CANNOT = {
    "schema": (_changed(schema=99), "of schema 99, newer than this dlcheck reads"),
    "damaged": (_changed(recipe={"sizes": 1}), "is damaged"),
    "torn": (lambda folder: kept(folder)[0].write_text('{"schema'), "is no JSON table"),
    "check": (_changed(check="leaves_inputs_unchange"), "Did you mean 'leaves_inputs_unchanged'?"),
    "device": (_changed(device="cuda:7", point="cuda:7-float64"), "cuda:7 is absent"),
    "subject": (_suite('"doubled"', '"double"'), "no subject named 'doubled'. Did you mean"),
    "left out": (_suite("leaves_inputs_unchanged", "leaves_other*"), "is not run on doubled any"),
    "inputs": (_suite("float n m", "float n k"), "the case n=2 m=2, seed="),
    "target": (lambda folder: (folder.path / "mine.py").unlink(), "there is no file mine.py"),
}


@pytest.mark.parametrize("what", CANNOT)
def test_what_cannot_be_replayed_is_told(
    kept_once: pytest.Pytester, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, told = CANNOT[what]
    name = kept(kept_once)[0].stem
    spoil(kept_once)
    assert replay(name) == 2
    out, err = capsys.readouterr()
    assert told in err
    assert not out
    assert "Traceback" not in err


@pytest.fixture
def kept_once(folder: pytest.Pytester) -> pytest.Pytester:
    """A folder with the failure that a run would keep, kept without one."""
    from dlcheck.expansion import Overrides, expand
    from dlcheck.suite import read_suite

    quick = Overrides(profile="quick")
    (trial,) = expand(read_suite(folder.path / "mine.toml"), quick, "mine.toml")
    failures = Failures(folder.path)
    name = failures.name_of(identity(trial, "mine.toml"))
    recipe = Recipe(
        sizes={"n": 2, "m": 2}, regimes={"x": "normal"}, layouts={"x": "contiguous"}, seed=3
    )
    outcome = _outcome(trial, recipe=recipe, case=str(recipe))
    failures.put(failure_of(with_replay(outcome, trial, name, "mine.toml")))
    return folder


def _outcome(trial: Trial, **more: object) -> Outcome:
    return Outcome(
        suite=trial.suite, subject=trial.subject.name, kind="op", check=trial.check.name, claim="",
        device=trial.device, dtype=trial.dtype, point=trial.point,
        **{"verdict": Verdict.FAILED, **more},
    )  # fmt: skip


def test_an_unknown_id_is_told_with_those_that_are_near(
    kept_once: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    name = kept(kept_once)[0].stem
    assert replay(name[:-1] + ("0" if name[-1] != "0" else "1")) == 2
    assert f"Near it:\nID        last seen  check{' ' * 20}subject  case\n{name}" in (
        capsys.readouterr().err
    )
    assert replay("--all", name) == 4  # a mistake in the call


def test_pruning_forgets_what_is_gone(
    kept_once: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay("--prune") == 0
    assert "0 forgotten, 1 kept" in _out(capsys)
    (kept_once.path / "mine.toml").write_text(SUITE.replace('"doubled"', '"other"'))
    assert replay("--prune") == 0
    assert "1 forgotten, 0 kept" in _out(capsys)
    assert not kept(kept_once)


BROKEN_NOW = {
    "a line that is no TOML": (_suite("[defaults]", "[defaults"), "not TOML"),
    "an absent package": (_suite("[[subject]]", '[[subject]]\nrequires = ["absent_"]'), "absent_"),
    "an absent plugin": (_changed(plugins=["absent_"]), "--plugin absent_ names no"),
}


@pytest.mark.parametrize("what", BROKEN_NOW)
def test_pruning_keeps_what_is_only_broken_for_now(
    kept_once: pytest.Pytester, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, told = BROKEN_NOW[what]
    spoil(kept_once)
    assert replay("--prune") == 0
    out, err = capsys.readouterr()
    assert "0 forgotten, 1 kept" in out
    assert told in err
    assert kept(kept_once)


def test_the_ceiling_of_memory_holds_again(
    kept_once: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    (kept_once.path / "mine.py").write_text(
        "import torch\ndef doubled(x):\n    torch.empty(2**29)\n    return x * 2\n"
    )
    tell(kept_once, memory=2**28)
    assert replay("--all") == 1
    assert "a trial may allocate 256.0 MiB" in _out(capsys)


THEIRS = """
from dlcheck import Evidence, check
from dlcheck.mutants import around

@around
def twice(original, x):
    return 2 * original(x)

@check(kind="op", rejects=[twice])
def theirs_changes_nothing(subject, case):
    \"\"\"The plugin's own claim.\"\"\"
    return Evidence(error=1.0, bound=0.0, signal=1.0, what="what it measured")
"""


def test_a_check_of_a_named_plugin_is_found_again(folder: pytest.Pytester) -> None:
    (folder.path / "theirs.py").write_text(THEIRS)
    (folder.path / "mine.toml").write_text(SUITE.replace("leaves_inputs_unchanged", "theirs_*"))
    result = run(folder, "mine.toml", "--profile", "quick", "--plugin", "theirs")
    assert "--plugin theirs" in printed(result, "again")
    again = run_command(folder, shlex.split(printed(result, "replay")))
    assert again.ret == 1, again.stderr.str()
    again.stdout.fnmatch_lines(["*what it measured*"])


def test_a_folder_that_cannot_be_written_loses_no_run(folder: pytest.Pytester) -> None:
    (folder.path / ".dlcheck").mkdir()
    (folder.path / ".dlcheck" / "failures").write_text("a file in its place")
    result = run(folder, "mine.toml", "--profile", "quick")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["dlcheck: 1 changes of .dlcheck/failures were not written: *"])
    assert list((folder.path / ".dlcheck" / "runs").glob("*.jsonl"))


# --- the command --------------------------------------------------------------------------------


def test_the_command_has_every_override_wherever_it_was_said(
    folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "other.py").write_text(WRONG)
    (folder.path / "pyproject.toml").write_text('[tool.dlcheck]\nrequire = ["cpu"]\ntimeout = 50\n')
    (folder.path / "my.ini").write_text("[pytest]\n")
    monkeypatch.setenv("DLCHECK_SEED", "7")
    monkeypatch.setenv("DLCHECK_DEVICE", "cpu")
    surroundings = ["-c", "my.ini", "--rootdir=.", "-p", "no:cacheprovider"]
    result = run(folder, *surroundings, "-o", "junit_family=xunit2", "-q", "mine.toml",
                 "--profile", "quick", "--subject", "doubled=other.py:doubled",
                 "--dtype", "float32", "--dtype", "float64", "-k", "float32")  # fmt: skip
    assert shlex.split(printed(result, "again")) == [
        *("pytest", "mine.toml::doubled::leaves_inputs_unchanged[cpu-float32]"),
        *("--subject", "doubled=other.py:doubled", "--device", "cpu", "--dtype", "float32"),
        *("--profile", "quick", "--seed", "7", "--trial-timeout", "50", "--require", "cpu"),
        *("-p", "no:randomly", *surroundings),
    ]


def test_hypothesis_statistics_tell_of_our_cases(folder: pytest.Pytester) -> None:
    result = run(folder, "mine.toml", "--profile", "quick", "--hypothesis-show-statistics")
    result.stdout.fnmatch_lines(
        [
            "*Hypothesis Statistics*",
            "mine.toml::doubled::leaves_inputs_unchanged[[]cpu-float64]:",
            "  - planned: 1 case",
            "  - made smaller: * cases",
            "  - * seconds; failed",
        ]
    )


# --- profiles -----------------------------------------------------------------------------------


def test_nightly_draws_its_seed_unless_one_is_given(tmp_path: Path) -> None:
    seeds = {read_settings({"profile": "nightly"}, tmp_path)["seed"].value for _ in range(3)}
    assert len(seeds) == 3
    assert read_settings({"profile": "nightly", "seed": 5}, tmp_path)["seed"].value == 5
    assert read_settings({"profile": "thorough"}, tmp_path)["seed"].value == 0
    assert PROFILES["nightly"].examples > PROFILES["thorough"].examples


def test_hypothesis_knows_the_same_profiles() -> None:
    from hypothesis import settings

    assert all(settings.get_profile(name) for name in PROFILES)


# --- trials, identities, records ----------------------------------------------------------------

CHECK = catalogue().checks["leaves_inputs_unchanged"]


def overwrites(x: object) -> object:
    return x.mul_(2)  # type: ignore[attr-defined]


def trial(**more: object) -> Trial:
    subject = Subject(name="s", target=overwrites, kind="op", inputs={"x": "float n m"})
    given = {"suite": "s", "subject": subject, "check": CHECK, "device": "cpu", "dtype": "float64"}
    return Trial(**{**given, **more})  # type: ignore[arg-type]


def test_a_witness_that_fails_is_all_that_runs() -> None:
    first = run_trial(trial())
    assert first.phases["made smaller"]
    again = run_trial(trial(witness=first.recipe))
    assert (again.verdict, again.recipe, again.cases) == (Verdict.FAILED, first.recipe, 1)
    of_other_inputs = Recipe(sizes={"k": 3}, regimes={}, layouts={}, seed=0)
    assert run_trial(trial(witness=of_other_inputs)).phases == first.phases


def test_an_expected_failure_is_never_made_small() -> None:
    expected = ExpectedFailure(check="leaves_*", reason="known")
    subject = replace(trial().subject, expect_failures=(expected,))
    outcome = run_trial(trial(subject=subject))
    assert (outcome.verdict, outcome.phases) == (Verdict.EXPECTED, {"planned": 1})
    again = run_trial(trial(subject=subject, witness=outcome.recipe))
    assert again.phases == {"the case of last time": 1}


def test_an_identity_is_of_what_failed_not_of_how_it_was_searched() -> None:
    mine = identity(trial(), "a.toml")
    assert mine == identity(trial(profile="quick", seed=3, minimal=False), "a.toml")
    other = replace(trial().subject, name="t")
    different = [
        identity(trial(), "b.toml"),
        identity(trial(subject=other), "a.toml"),
        identity(trial(subject=replace(trial().subject, target="m:f")), "a.toml"),
        identity(trial(dtype="float32"), "a.toml"),
        identity(trial(params={"bias": True}), "a.toml"),
    ]
    assert len({mine, *different}) == 6


def test_two_failures_never_share_an_id(tmp_path: Path) -> None:
    failures = Failures(tmp_path)
    outcome = with_replay(_outcome(trial()), trial(), "12345678", "a.toml")
    failures.put(replace(failure_of(outcome), identity="12345678" + "a" * 56))
    assert Failures(tmp_path).name_of("12345678" + "a" * 56) == "12345678"
    assert Failures(tmp_path).name_of("12345678" + "b" * 56) == "12345678bbbb"


def test_no_more_are_kept_than_a_person_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlcheck.failures.MOST", 3)
    failures = Failures(tmp_path)
    for number in range(5):
        outcome = with_replay(_outcome(trial()), trial(), f"{number:08x}", "a.toml")
        verdict = Verdict.EXPECTED if number in (0, 3) else Verdict.FAILED
        failures.put(failure_of(replace(outcome, verdict=verdict)))
    failures.make_room()  # expected ones first, then the oldest
    assert sorted(path.stem[-1] for path in failures.folder.iterdir()) == ["1", "2", "4"]


@given(OUTCOMES)
def test_what_is_kept_reads_back_as_it_was(outcome: Outcome) -> None:
    outcome = replace(outcome, verdict=Verdict.FAILED, subject="s", check="c", point="p",
                      device="d", dtype="e")  # fmt: skip
    told = with_replay(outcome, trial(), "12345678", "a.toml", {"s": "m:f"})
    assert decode(json.loads(json.dumps(encode(told)))).replay == told.replay
    failure = failure_of(told)
    assert Failure.from_data(json.loads(json.dumps(failure.to_data())), "x") == failure


def _out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out
