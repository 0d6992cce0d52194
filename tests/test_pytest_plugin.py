"""Suite items are ordinary pytest items: everything that pytest does works on them."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest
import torch
from sessions import run_pytest as run

GOOD_AND_BAD = """
suite = "Plugin"
claim = "Everything that pytest does works on suite items."

[defaults]
matrix = { device = ["cpu"], dtype = ["float64"] }

[[subject]]
name = "good"
target = "subjects_of_the_test:good"
kind = "op"
inputs = { x = "float n" }
checks = ["leaves_inputs_unchanged"]

[[subject]]
name = "bad"
target = "subjects_of_the_test:bad"
kind = "op"
inputs = { x = "float n" }
checks = ["leaves_inputs_unchanged"]
tags = ["mine"]
"""

SUBJECTS = """
def good(x):
    return x * 2

def bad(x):
    return x.mul_(2)

def raises(x):
    raise ValueError("out of paper")

def none(x):
    return None
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DLCHECK_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with a suite of one good and one bad subject."""
    pytester.makepyfile(subjects_of_the_test=SUBJECTS)
    pytester.makefile(".toml", plugin=GOOD_AND_BAD)
    pytester.syspathinsert()
    return pytester


GOOD = "plugin.toml::good::leaves_inputs_unchanged"
BAD = "plugin.toml::bad::leaves_inputs_unchanged"


def test_collects_without_running(suite: pytest.Pytester) -> None:
    result = run(suite, "--collect-only", "-q", "plugin.toml")
    result.stdout.fnmatch_lines([f"{GOOD}[[]cpu-float64]", f"{BAD}[[]cpu-float64]"])
    assert result.ret == 0


def test_collects_from_a_folder(suite: pytest.Pytester) -> None:
    suite.makefile(".toml", other="[tool]\nname = 1\n")  # not a suite: its first key is another
    run(suite, "--collect-only", "-q").stdout.fnmatch_lines(["2 tests collected*"])


def test_one_passes_and_one_fails(suite: pytest.Pytester) -> None:
    result = run(suite, "plugin.toml")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1


SELECTIONS = {
    "-k good": (1, 0),
    "-k 'leaves and bad'": (0, 1),
    "-m mine": (0, 1),
    "-m 'not mine'": (1, 0),
    f"--deselect {BAD}": (1, 0),
    "-p no:cacheprovider": (1, 1),
    "--durations 2": (1, 1),
}


@pytest.mark.parametrize("arguments", SELECTIONS)
def test_selects(suite: pytest.Pytester, arguments: str) -> None:
    outcomes = run(suite, "plugin.toml", *shlex.split(arguments)).parseoutcomes()
    assert (outcomes.get("passed", 0), outcomes.get("failed", 0)) == SELECTIONS[arguments]


@pytest.mark.parametrize("node", [f"{GOOD}[cpu-float64]", GOOD, "plugin.toml::good"])
def test_node_ids_with_and_without_parameters(suite: pytest.Pytester, node: str) -> None:
    run(suite, node).assert_outcomes(passed=1)


def test_stops_at_the_first_failure(suite: pytest.Pytester) -> None:
    suite.makefile(".toml", plugin=GOOD_AND_BAD.replace('"good"', '"z"', 1))
    result = run(suite, "-x", f"{BAD}", "plugin.toml::z")
    assert result.parseoutcomes().get("failed") == 1
    assert "passed" not in result.parseoutcomes()


def test_last_failed_and_stepwise(suite: pytest.Pytester) -> None:
    run(suite, "plugin.toml")
    assert run(suite, "plugin.toml", "--lf").parseoutcomes().get("failed") == 1
    assert run(suite, "plugin.toml", "--sw").parseoutcomes().get("failed") == 1


def test_runs_in_two_processes(suite: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    result = run(suite, "-n", "2", "plugin.toml")
    result.assert_outcomes(passed=1, failed=1)
    records = list((suite.path / ".dlcheck" / "runs").glob("*.jsonl"))
    assert len(records) == 1
    lines = [json.loads(line) for line in records[0].read_text().splitlines()]
    assert len(lines) == 4  # the environment, two outcomes and the end
    assert lines[-1] == {"end": {"outcomes": 2, "lost": 0, "interrupted": False}}


def test_writes_junit(suite: pytest.Pytester) -> None:
    run(suite, "plugin.toml", "--junitxml", "junit.xml")
    text = (suite.path / "junit.xml").read_text()
    assert 'name="leaves_inputs_unchanged[cpu-float64]"' in text
    assert "changed elements of x" in text


def test_enters_the_debugger(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        debugger="""
        class Debugger:
            def __init__(self, *args, **kwargs): pass
            def reset(self): print("ENTERED")
            def interaction(self, *args): pass
        """
    )
    result = run(suite, BAD, "--pdb", "--pdbcls=debugger:Debugger", "-s")
    result.stdout.fnmatch_lines(["*ENTERED*"])


def test_fixtures_and_marks_reach_items(suite: pytest.Pytester) -> None:
    suite.makeconftest(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def note(request, record_property):
            record_property("suite", request.node.get_closest_marker("mine") is not None)

        def pytest_collection_modifyitems(items):
            for item in items:
                if item.get_closest_marker("mine"):
                    item.add_marker(pytest.mark.skip(reason="by a mark"))
        """
    )
    run(suite, "plugin.toml").assert_outcomes(passed=1, skipped=1)


def test_a_failure_says_what_where_and_how_to_run_it_again(suite: pytest.Pytester) -> None:
    result = run(suite, "plugin.toml", "--profile", "quick", "--seed", "7")
    text = result.stdout.str()
    assert "A call changes none of its inputs, in train and in evaluation." in text
    assert "changed elements of x" in text
    assert f"pytest '{BAD}[cpu-float64]' --profile quick --seed 7" in text
    assert "Traceback" not in text


def test_the_printed_command_fails_again(suite: pytest.Pytester) -> None:
    text = run(suite, "plugin.toml", "--profile", "quick").stdout.str()
    (line,) = {line for line in text.splitlines() if line.startswith("  again ")}
    again = run(suite, *shlex.split(line)[2:])
    assert again.parseoutcomes().get("failed") == 1


def test_swaps_a_subject(suite: pytest.Pytester) -> None:
    result = run(suite, "plugin.toml", "--subject", "bad=subjects_of_the_test:good")
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        ("bat=subjects_of_the_test:good", "*no subject named 'bat'. Did you mean 'bad'?*"),
        ("bad=subjects_of_the_test:goof", "*Did you mean 'good'?*"),
        ("bad", "*--subject takes NAME=TARGET*"),
    ],
)
def test_refuses_a_wrong_swap(suite: pytest.Pytester, swap: str, message: str) -> None:
    result = run(suite, "plugin.toml", "--subject", swap)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "quik"], "*no profile named 'quik'. Did you mean 'quick'?*"),
        (["--device", "cuda0"], "*no device named 'cuda0'. Did you mean 'cuda'?*"),
        (["--dtype", "float46"], "*no dtype named 'float46'. Did you mean 'float64'?*"),
        (["--seed", "many"], "*seed is an integer or 'random', not 'many'*"),
        (["--trial-timeout", "-1"], "*a timeout is positive*"),
        (["--trial-timeout", "inf"], "*a timeout is positive, at most 100,000,000 s, not 'inf'*"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refuses_a_wrong_option(suite: pytest.Pytester, arguments: list[str], message: str) -> None:
    result = run(suite, "plugin.toml", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_wrong_suite_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makefile(".toml", wrong='suite = "x"\n[[subject]]\nname = "a"\ntarge = "b:c"\n')
    result = run(pytester, "wrong.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*wrong.toml:4: no key named 'targe'. Did you mean 'target'?*"])
    assert "Traceback" not in result.stdout.str()


def test_a_folder_is_no_suite(pytester: pytest.Pytester) -> None:
    (pytester.path / "folder.toml").mkdir()
    result = run(pytester, "folder.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*folder.toml:1: this is a folder, not a suite file*"])


def test_what_only_an_import_can_tell_is_a_usage_error(suite: pytest.Pytester) -> None:
    suite.makefile(".toml", pi=GOOD_AND_BAD.replace("subjects_of_the_test:good", "math:pi"))
    result = run(suite, "pi.toml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pi.toml:7: target 'math:pi' is float*cannot be called*"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_an_absent_device_is_skipped_unless_required(suite: pytest.Pytester) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    run(suite, GOOD, "--device", "cuda").assert_outcomes(skipped=1)
    run(suite, GOOD, "--device", "cuda", "--require", "cuda").assert_outcomes(failed=1)


def one_subject(
    suite: pytest.Pytester, target: str, more: str = "", *options: str
) -> pytest.RunResult:
    suite.makefile(
        ".toml",
        one=f'''
suite = "One"
[[subject]]
name = "one"
target = "{target}"
kind = "op"
inputs = {{ x = "float n" }}
matrix = {{ device = ["cpu"] }}
checks = ["leaves_inputs_unchanged"]
{more}
''',
    )
    return run(suite, "one.toml", *options)


def test_a_subject_that_raises_fails_with_its_own_traceback(suite: pytest.Pytester) -> None:
    result = one_subject(suite, "subjects_of_the_test:raises")
    result.assert_outcomes(failed=1)
    said = " ".join(result.stdout.str().split())
    assert re.search(r'subjects_of_the_test\.py", line \d+, in raises .*out of paper', said)
    assert "dlcheck/runner.py" not in result.stdout.str()


def test_expected_failures_are_strict(suite: pytest.Pytester) -> None:
    more = '[[subject.expect_failure]]\ncheck = "leaves_inputs_unchanged"\nreason = "known"\n'
    one_subject(suite, "subjects_of_the_test:bad", more).assert_outcomes(xfailed=1)
    result = one_subject(suite, "subjects_of_the_test:good", more)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*passed, though it is declared to fail (known)*"])
    result = one_subject(suite, "subjects_of_the_test:bad", more, "--runxfail")
    result.assert_outcomes(failed=1)  # and says how, as if it were not declared
    result.stdout.fnmatch_lines(["FAILED one: leaves_inputs_unchanged*", "*again *--runxfail*"])


def test_a_suite_in_python(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_python="""
        from dlcheck import Subject, Suite

        MINE = Suite(
            name="mine",
            subjects=(
                Subject(name="good", target="subjects_of_the_test:good", kind="op",
                        inputs={"x": "float n"}, checks=("leaves_inputs_unchanged",)),
            ),
            matrix={"device": ["cpu"]},
        )
        """
    )
    result = run(suite, "test_python.py", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*::MINE::good::leaves_inputs_unchanged[[]cpu-float64]*"])


def test_parametrize_in_an_ordinary_test(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_ordinary="""
        import dlcheck
        from subjects_of_the_test import bad, good

        declared = {"inputs": {"x": "float n"}, "checks": ["leaves_inputs_unchanged"]}

        @dlcheck.parametrize(good, kind="op", **declared)
        def test_good(check):
            check()

        @dlcheck.parametrize(bad, kind="op", **declared)
        def test_bad(check):
            check()
        """
    )
    result = run(suite, "test_ordinary.py", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_good[[]leaves_inputs_unchanged]*PASSED*"])
    result.stdout.fnmatch_lines(["*changed elements of x*"])


def test_the_record_holds_every_outcome(suite: pytest.Pytester) -> None:
    run(suite, "plugin.toml", "--report", "out")
    (record,) = (suite.path / ".dlcheck" / "runs").glob("*.jsonl")
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert lines[0]["meta"]["seed"] == 0
    assert sorted(line["verdict"] for line in lines[1:-1]) == ["failed", "passed"]
    assert "leaves_inputs_unchanged" in Path(suite.path / "out" / "index.html").read_text()


@pytest.mark.skipif(os.name == "nt", reason="no alarms")
@pytest.mark.parametrize(
    ("top", "message"),
    [
        ("os._exit(0)", "*os._exit(0) ends the process that runs it*"),
        ("while True: pass", "*importing it ran past its timeout of 0.5 s*"),
    ],
)
def test_a_target_that_never_comes_back_is_a_usage_error(
    suite: pytest.Pytester, top: str, message: str
) -> None:
    suite.makepyfile(ends=f"import os\n{top}\ndef good(x): return x")
    result = run(suite, "plugin.toml", "--subject", "good=ends.py:good", "--trial-timeout", "0.5")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
