"""Reports of what strangers wrote, of runs of any length, of two runs, and where nothing can be
written."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks_made import BENCHMARKS, benchmark
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import OUTCOMES, outcome, rich
from sessions import run_pytest
from test_reporting import Page, checked, hostile

from dlcheck.benchmark import Benchmark
from dlcheck.cli import main
from dlcheck.model import Evidence, Outcome, Verdict
from dlcheck.reporting import changes_shown, write_reports
from dlcheck.reporting.annotations import workflow_commands
from dlcheck.reporting.changes import Change, Turn, changes
from dlcheck.reporting.document import notebook
from dlcheck.reporting.html import render_fragment, render_html
from dlcheck.reporting.markdown import LIMIT, render_markdown
from dlcheck.reporting.report import Report
from dlcheck.reporting.screen import folded, wants_color
from dlcheck.reporting.terminal import describe
from dlcheck.results import Run, RunWriter, read_run

BAD = (Verdict.FAILED, Verdict.ERRORED)


# --- what strangers wrote -----------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.PASSED, Verdict.SKIPPED])
def test_long_text_is_cut_on_the_page_and_whole_in_the_record(
    tmp_path: Path, verdict: Verdict
) -> None:
    long = "<b>\u202edaolyap" * 100_000
    texts = dict.fromkeys(("subject", "claim", "message", "case", "reproduce", "target"), long)
    piece = Evidence(
        error=1, bound=2, signal=1000, what=long, got=long, unit=long, values={long: long}
    )
    huge = outcome("check", verdict=verdict, evidence=(piece,), **texts)
    twin = replace(huge, subject=long + "!")
    meta = {"command": long, long: [long] * 9, "git": long, "seconds": "inf", "unchecked": 3}
    report = Report([huge, twin], meta)
    page = checked(report)
    assert len(page.text) < 200_000
    assert "characters" in page.text
    assert len(render_markdown(report).encode()) <= LIMIT
    assert len(str(report)) < 100_000
    assert len(render_fragment(report)) < 200_000
    assert len(describe(huge).splitlines()) <= 24
    written = write_reports(Run(meta, [huge, twin]), tmp_path)
    assert read_run(written[2]).outcomes == [huge, twin]


@pytest.mark.parametrize(
    "mark", ["\u202e", "\u200f", "\u2067", "\u061c", "\u200b", "\x07", "\x1b[2J"]
)
def test_marks_that_turn_or_hide_text_are_shown_as_such(mark: str) -> None:
    report = Report([outcome(subject=f"l1{mark}2l", message=f"a{mark}b", verdict=verdict)
                     for verdict in Verdict], {"command": mark})  # fmt: skip
    for text in (
        render_html(report),
        render_markdown(report),
        str(report),
        render_fragment(report),
    ):
        assert mark not in text


def test_a_workflow_obeys_no_stranger() -> None:
    message = "Traceback\n::error file=a.py::fooled\n  ::add-mask::x\n##[group]y"
    text = describe(outcome(verdict=Verdict.FAILED, message=message))
    assert not any(line.lstrip().startswith(("::", "##[")) for line in text.splitlines())
    (command,) = workflow_commands(
        [
            outcome(
                verdict=Verdict.FAILED,
                subject="a,b::c%0A\n::error::x",
                message="50%\n::stop",
                claim="50%\n::stop",
            )
        ],
        Path.cwd(),
    )
    assert command.startswith("::error title=a%2Cb%3A%3Ac%250A%0A%3A%3Aerror%3A%3Ax%3A zeroes")
    assert command.splitlines() == [command]
    assert "50%25%0A::stop" in command


@settings(max_examples=20)
@given(st.lists(OUTCOMES, max_size=3), st.lists(BENCHMARKS.filter(lambda b: judged(b)), max_size=3))
def test_any_outcomes_and_benchmarks_can_be_told(
    outcomes: list[Outcome], benchmarks: list[Benchmark]
) -> None:
    report = Report(outcomes, {}, benchmarks)
    checked(report)
    Page(render_fragment(report))
    assert render_markdown(report)
    found = changes(report, Report(outcomes[1:], {}, benchmarks[1:]))
    Page(changes_shown.page(found))
    assert str(found)


def judged(made: Benchmark) -> bool:
    """What cannot be judged is not read from a record either."""
    try:
        return made.verdict is not None or True
    except (ValueError, ArithmeticError):
        return False


# --- length -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [0, 600])
def test_markdown_keeps_to_its_size(failing: int) -> None:
    report = Report(
        [rich(k, Verdict.FAILED if k < failing else Verdict.PASSED) for k in range(1000)], {}
    )
    for limit in (2_000, 10_000, LIMIT):
        text = render_markdown(report, limit)
        assert len(text.encode()) <= limit
        assert text.startswith("## ")
        assert "left out: the whole is in the report" in text or limit == LIMIT
        for line in text.splitlines():
            assert not line.startswith("|") or line.endswith("|")


def test_a_very_long_run_has_a_bounded_page() -> None:
    outcomes = [
        outcome(f"check_{k % 100}", subject=f"s{k // 100}", suite=f"s{k // 5000}.toml",
                verdict=Verdict.FAILED if k % 1000 == 7 else Verdict.PASSED)
        for k in range(7000)
    ]  # fmt: skip
    page = checked(Report(outcomes, {}))
    told = [attrs for name, attrs in page.tags if name == "details" and "trial" in str(attrs)]
    assert len(told) == 1000
    assert sum("failed" in str(attrs) for attrs in told) == 7
    assert "6,000 more are in the record alone" in page.text


def test_the_script_is_short() -> None:
    page = checked(Report([outcome()], {}))
    assert len(page.script.encode()) < 5_000


# --- places that cannot be written to -----------------------------------------------------------


def test_a_report_that_cannot_be_written_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunWriter(tmp_path / "run.jsonl", {}) as writer:
        writer.append(outcome())
    (tmp_path / "file").write_text("")
    assert main(["report", str(writer.path), "-o", str(tmp_path / "file")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "the report cannot be written to" in line
    assert "is untouched" in line


SUITE = """
suite = "Small"
[[subject]]
name = "l1"
target = "dlcheck.references.penalties.l1:l1_penalty"
kind = "penalty"
checks = ["repeats_exactly"]
"""


def test_a_run_outlives_what_cannot_be_written(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pytester.path / "small.toml").write_text(SUITE)
    for taken in ("reports", ".dlcheck"):
        (pytester.path / taken).write_text("a file where a folder is wanted")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "none" / "summary.md"))
    result = run_pytest(pytester, "small.toml", "--report", "reports", "-p", "no:cacheprovider")
    assert result.ret == 0
    lines = [line for line in result.outlines if line.startswith("dlcheck: no ")]
    assert [line.split(" was written")[0] for line in lines] == [
        *("dlcheck: no record", "dlcheck: no step summary", "dlcheck: no report")
    ]
    assert "Traceback" not in "\n".join([*result.outlines, *result.errlines])


def test_failures_are_marked_on_the_suite(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pytester.path / "small.toml").write_text(SUITE)
    (pytester.path / "noisy.py").write_text(
        "calls = []\n"
        "def noisy(parameters):\n"
        "    calls.append(1)\n"
        "    return parameters.sum() + len(calls)\n"
    )
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    result = run_pytest(pytester, "small.toml", "--subject", "l1=noisy:noisy")
    assert result.ret == 1
    (command,) = [line for line in result.outlines if line.startswith("::")]
    assert command.startswith("::error file=small.toml,line=3,title=l1%3A repeats_exactly")
    assert "Run again: pytest" in command


# --- two runs -----------------------------------------------------------------------------------


def passed(error: float) -> Outcome:
    return outcome(evidence=(Evidence(error=error, bound=1, signal=1000),))


@pytest.mark.parametrize(
    ("before", "after", "turn"),
    [
        (passed(0.1), outcome(verdict=Verdict.FAILED), Turn.BROKE),
        (outcome(verdict=Verdict.SKIPPED), outcome(verdict=Verdict.ERRORED), Turn.BROKE),
        (None, outcome(verdict=Verdict.FAILED), Turn.NEW_FAILURE),
        (None, passed(0.1), Turn.NEW),
        (passed(0.1), None, Turn.GONE),
        (passed(0.1), outcome(verdict=Verdict.INCONCLUSIVE), Turn.UNSETTLED),
        (passed(0.1), outcome(verdict=Verdict.SKIPPED), Turn.NOT_RUN),
        (outcome(verdict=Verdict.FAILED), passed(0.1), Turn.MENDED),
        (outcome(verdict=Verdict.FAILED), outcome(verdict=Verdict.ERRORED), Turn.CHANGED),
        (passed(0.2), passed(0.6), Turn.CLOSER),
        (passed(0.4), passed(0.6), Turn.SAME),
        (passed(math.nan), passed(0.1), Turn.SAME),
    ],
)
def test_what_became_of_a_trial(before: Outcome | None, after: Outcome | None, turn: Turn) -> None:
    assert Change(before, after).turn is turn


def test_two_runs_without_a_common_trial_say_so() -> None:
    one = Run({}, [outcome(suite="a.toml")], [benchmark(name="x")])
    two = Run({}, [outcome(suite="b.toml")], [benchmark(name="y")])
    found = changes(one, two)
    assert found.headline == "Nothing in common"
    for text in (str(found), changes_shown.page(found)):
        assert "No trial is in both runs" in text
        assert "a.toml" in text
    assert changes(Run({}), Run({})).headline == "Nothing to compare"


def test_times_of_other_hardware_are_not_compared() -> None:
    made = benchmark(hardware="EPYC")
    (timed,) = changes(Run({}, [], [made]), Run({}, [], [replace(made, hardware="M4")])).benchmarks
    assert timed.ratio is None
    assert "not comparable" in timed.obstacle


def test_the_command_compares_two_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    for name, verdict in (("a", Verdict.PASSED), ("b", Verdict.FAILED)):
        with RunWriter(tmp_path / f"{name}.jsonl", {"seed": 1}) as writer:
            writer.append(outcome(verdict=verdict))
    records = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    assert main(["report", *records, "-o", str(tmp_path / "out"), "--open"]) == 0
    told = capsys.readouterr().out
    assert "1 new failure: 1 broke" in told
    assert opened == [(tmp_path / "out" / "changes.html").as_uri()]
    Page((tmp_path / "out" / "changes.html").read_text())


def test_a_record_is_named_by_file_folder_or_beginning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("20260101-a", "20260102-b"):
        with RunWriter(tmp_path / ".dlcheck" / "runs" / f"{name}.jsonl", {}) as writer:
            writer.append(outcome())
    for words in ([], ["20260101"], [str(writer.path)], ["reports"]):
        assert main(["report", *words]) == 0
    assert main(["report", "-o", "pages", "--no-record"]) == 0
    assert sorted(each.name for each in Path("pages").iterdir()) == ["index.html", "summary.md"]
    capsys.readouterr()
    for name, message in (
        ("2026", "2 records in .* begin with '2026'"),
        ("/nowhere/run.jsonl", "there is no record '/nowhere/run.jsonl'"),
        ("/dev/null", "there is no record '/dev/null'"),
        ("[*", r"there is no record '\[\*'"),
    ):
        assert main(["report", name]) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(message, line)


# --- notebooks and terminals --------------------------------------------------------------------


def test_a_fragment_brings_its_style_and_nothing_else() -> None:
    for text in (
        render_fragment(Report([hostile(Verdict.FAILED)], {})),
        changes_shown.fragment(changes(Run({}, [outcome()]), Run({}, [hostile(Verdict.FAILED)]))),
        notebook("<script>alert(1)</script>"),
    ):
        page = Page(text)
        assert page.count("style") == 1
        assert not page.count("script") + page.count("link") + page.count("meta")
        assert not page.values("src")
        style = text.partition("<style>")[2].partition("</style>")[0]
        rules = re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/", "", style))
        assert all(".dlcheck" in part for rule in rules for part in rule.split(","))


@pytest.mark.parametrize(
    ("given", "terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], *, terminal: bool, coloured: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    class Stream:
        def isatty(self) -> bool:
            return terminal

    assert wants_color(Stream()) is coloured  # type: ignore[arg-type]


def test_lines_fit_the_terminal_but_for_what_is_copied() -> None:
    text = describe(
        outcome(verdict=Verdict.FAILED, claim="word " * 30, reproduce="pytest " + "x" * 90)
    )
    assert folded(text, None) == text
    shown = folded(text, 50)
    wide = [line for line in shown.splitlines() if len(line) > 50]
    assert [line.split()[0] for line in wide] == ["again"]
    assert shown.split() == text.split()
