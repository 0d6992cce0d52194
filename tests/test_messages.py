"""What a failure says of itself, wherever it is read."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import failing_subjects
import pytest
import torch
from outcomes import outcome
from sessions import run_pytest

from dlcheck.checks.difference import Fitted
from dlcheck.explanations import explained
from dlcheck.model import Evidence, Outcome, Recipe, Subject, Trial, Verdict
from dlcheck.proof import rejected, trial_of
from dlcheck.registry import catalogue
from dlcheck.reporting.annotations import workflow_commands
from dlcheck.reporting.changes import changes
from dlcheck.reporting.html import render_html
from dlcheck.reporting.junit import write_junit
from dlcheck.reporting.markdown import render_markdown
from dlcheck.reporting.report import Report
from dlcheck.reporting.terminal import describe
from dlcheck.runner import run_trial
from dlcheck.subject_source import source_of

HERE = Path(__file__).parent


def trial(target: Any, reference: Any = None, check: str = "matches_reference") -> Trial:
    subject = Subject(
        name="mine", target=target, kind="op", inputs={"x": "float b n"}, reference=reference
    )
    return trial_of(catalogue().check(check), subject)


@pytest.fixture(scope="module")
def wrong_where_negative() -> Outcome:
    return run_trial(trial(failing_subjects.negative_only, failing_subjects.identity))


# --- what does not matter -----------------------------------------------------------------------


def test_a_part_that_may_be_anything_is_marked_as_such() -> None:
    found = run_trial(trial(failing_subjects.long_rows_only, failing_subjects.identity))
    assert found.recipe is not None
    assert found.recipe.sizes["n"] == 5
    assert found.free["sizes.b"] == "any"
    assert found.free["sizes.n"] == "or more"
    assert re.match(r"b=\d \(any\) n=5 \(or more\), seed=\d+ \(any\)", found.case)


def test_where_every_part_may_be_anything_the_case_says_so_once() -> None:
    recipe = Recipe(sizes={"b": 2, "n": 1}, regimes={"x": "large"}, layouts={}, seed=7)
    free = {"sizes.b": "any", "sizes.n": "any", "regimes.x": "any", "seed": "any"}
    assert recipe.told(free) == "b=2 n=1, x: large, seed=7 (or any other)"
    assert recipe.told(free | {"sizes.n": "or more"}) == (
        "b=2 (any) n=1 (or more), x: large (any), seed=7 (any)"
    )
    assert recipe.told() == str(recipe) == "b=2 n=1, x: large, seed=7"


def test_an_expected_failure_is_not_varied() -> None:
    from dataclasses import replace

    from dlcheck.model import ExpectedFailure

    asked = trial(failing_subjects.negative_only, failing_subjects.identity)
    known = ExpectedFailure(check="*", reason="known")
    found = run_trial(replace(asked, subject=replace(asked.subject, expect_failures=(known,))))
    assert found.verdict is Verdict.EXPECTED
    assert not found.free


# --- where, and why -----------------------------------------------------------------------------


def test_the_place_is_that_of_a_larger_case_than_the_smallest(
    wrong_where_negative: Outcome,
) -> None:
    worst = wrong_where_negative.worst
    assert worst is not None
    assert "only where x < 0" in worst.where
    assert worst.cause == "there it is 3 times what it should be"
    assert worst.expected
    assert worst.got


def test_a_sum_for_a_mean_is_told_by_the_size_that_makes_it() -> None:
    found = run_trial(trial(failing_subjects.summed, failing_subjects.averaged)).worst
    assert found is not None
    assert "n times too large: a sum where a mean is meant (n = 5)" in found.cause
    assert "factor 2" not in found.cause  # n = 2 in the smallest case


def test_numbers_that_the_evidence_tells_are_related_over_the_cases() -> None:
    check = catalogue().check("a_set_is_at_distance_zero_from_itself")
    mutants = {
        t.subject.name: t for t in rejected(catalogue().check("a_shift_costs_its_squared_length"))
    }
    root = run_trial(mutants["frechet_distance:returns_the_square_root"]).worst
    assert check
    assert root is not None
    assert re.fullmatch(r"in each of \d+ cases it is the root of what it should be: .*", root.cause)


# --- the line of the subject's source -----------------------------------------------------------

WRITTEN: dict[str, tuple[str, Callable[..., Any] | type]] = {
    "negative_only": ("op", failing_subjects.negative_only),
    "decorated": ("op", inspect.unwrap(failing_subjects.decorated)),
    "fixed": ("op", failing_subjects.negative_only),
    "anonymous": ("op", failing_subjects.anonymous),
    "bound": ("op", failing_subjects.Metric.bound),
    "Layer": ("layer", failing_subjects.Layer.forward),
    "Inherits": ("layer", failing_subjects.Inherits),
    "Halves": ("op", failing_subjects.Halves.forward),
    "Descent": ("optimizer", failing_subjects.Descent.step),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_line_of_the_subject_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    kind, code = WRITTEN[name]
    line = inspect.getsourcelines(inspect.unwrap(code))[1]
    subject = Subject(name="mine", target=getattr(failing_subjects, name), kind=kind)
    assert source_of(subject) == f"failing_subjects.py:{line}"


def test_what_is_built_in_or_lies_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    sine = Subject(name="mine", target=torch.sin, kind="op")
    mine = Subject(name="mine", target="failing_subjects:identity", kind="op")
    assert source_of(sine) == ""
    assert source_of(mine).startswith(f"{HERE}/failing_subjects.py:")


def test_an_exception_of_the_subject_is_told_by_its_own_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(HERE)
    found = run_trial(trial(failing_subjects.raises_deep_inside, check="takes_its_declared_inputs"))
    line = next(
        number
        for number, text in enumerate(inspect.getsource(failing_subjects).splitlines(), 1)
        if "the line that is told" in text
    )
    assert found.verdict is Verdict.FAILED
    assert f"failing_subjects.py:{line}" in describe(found)


# --- the same facts everywhere ------------------------------------------------------------------


def test_every_rendering_tells_the_same(wrong_where_negative: Outcome, tmp_path: Path) -> None:
    from dataclasses import replace

    failed = replace(wrong_where_negative, suite="s.toml", reproduce="pytest s.toml::mine")
    worst = failed.worst
    assert worst is not None
    report = Report([failed], {})
    write_junit(changes(Report([replace(failed, verdict=Verdict.PASSED)], {}), report),
                tmp_path / "junit.xml")  # fmt: skip
    (command,) = workflow_commands([failed], tmp_path)
    renderings = {
        "terminal": describe(failed),
        "JUnit": (tmp_path / "junit.xml").read_text("utf-8"),
        "JSON": json.dumps(json.loads(report.to_json()), ensure_ascii=False),
        "HTML": re.sub(r"<.*?>", "", render_html(report)),
        "Markdown": render_markdown(report),
        "GitHub": command,
    }
    facts = (
        *(failed.claim, worst.expected, worst.got, worst.where, worst.cause),
        *(failed.case, failed.source, failed.reproduce),
    )
    for name, text in renderings.items():
        plain = " ".join(unescape(unescape(text)).replace("%0A", " ").replace("%25", "%").split())
        for fact in facts:
            assert " ".join(fact.split()) in plain, f"{name} lacks {fact!r}"


def test_colour_is_only_for_a_terminal(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(subjects_here="def bad(x):\n    return x.mul_(2)\n")
    pytester.makefile(".toml", plugin="""
        suite = "Plugin"
        [[subject]]
        name = "bad"
        target = "subjects_here:bad"
        kind = "op"
        inputs = { x = "float n" }
        checks = ["leaves_inputs_unchanged"]
    """)  # fmt: skip
    result = run_pytest(pytester, "plugin.toml", "--color=yes", "--junitxml=junit.xml")
    written = (pytester.path / "junit.xml").read_text("utf-8")
    assert "\x1b[31mFAILED\x1b[0m bad: leaves_inputs_unchanged" in str(result.stdout)
    assert "FAILED bad: leaves_inputs_unchanged" in written
    assert "subjects_here.py:1" in written
    assert "[31m" not in written
    plain = run_pytest(pytester, "plugin.toml", "--color=no")
    assert "\x1b" not in str(plain.stdout)


# --- what is neither right nor wrong ------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"verdict": Verdict.ERRORED, "message": "dlcheck itself failed:\nX: y"}, "report it"),
        ({"verdict": Verdict.INCONCLUSIVE, "dtype": "float32"}, "judge it in float64"),
        ({"verdict": Verdict.INCONCLUSIVE, "dtype": "float64"}, "--profile thorough"),
        ({"verdict": Verdict.INCONCLUSIVE, "tags": ("benchmark",)}, "quieter machine"),
        ({"verdict": Verdict.FAILED}, ""),
    ],
)
def test_what_is_not_decided_says_what_to_do_next(given: dict[str, Any], words: str) -> None:
    loose = Evidence(error=0.0, bound=1.0, signal=1.0)
    text = describe(outcome(**given, evidence=(loose,)))
    assert ("  next " in text) == bool(words)
    assert words in text


# --- a sample of the mutants --------------------------------------------------------------------

SAMPLED = (
    *("epoch_is_a_permutation", "linear", "causal", "permutation_equivariant"),
    *("grows_by_its_degree", "reductions_agree", "rotation_keeps_the_norm"),
    *("masked_keys_have_no_influence", "follows_its_recursion", "chunks_are_the_whole"),
    *("takes_a_plain_step", "output_has_the_declared_moments"),
)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_message_fits_a_screen_and_names_the_source(name: str) -> None:
    first = next(iter(rejected(catalogue().check(name))))
    failed = run_trial(first)
    assert failed.verdict is Verdict.FAILED
    lines = describe(failed).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert failed.source


@pytest.mark.parametrize(
    ("small", "larger", "told"),
    [
        (Fitted("twice"), {"cause": "n times"}, "n times"),
        (Fitted("twice"), {"cause": ""}, ""),
        ("derived", {"cause": ""}, "derived"),
        ("derived", {"cause": "", "what": "gradient of y"}, "derived"),
        (Fitted("twice"), {"cause": "twice", "what": "output 1 of the rest"}, "twice"),
        (Fitted("twice"), {"cause": "thrice", "what": "gradient of y"}, ""),
    ],
)
def test_what_was_fitted_to_few_elements_must_fit_many(
    small: str, larger: dict[str, str], told: str
) -> None:
    recipe = Recipe(sizes={"n": 2}, regimes={}, layouts={}, seed=0)

    def piece(**given: str) -> Evidence:
        return Evidence(error=1.0, bound=0.0, signal=1.0, **{"what": "output 0", **given})

    def run(recipe: Recipe, *, explains: bool) -> list[Evidence]:
        return [piece(**larger)] if explains else []

    choices = {"sizes.n": [2, 3, 7], "seed": [1, 2]}
    found = explained(recipe, [piece(cause=small)], choices, run, known=False, took=0.0)
    assert found.evidence[0].cause == told
