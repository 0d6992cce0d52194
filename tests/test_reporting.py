"""Reports tell the truth, whatever the outcomes hold, and stay small, whole and harmless."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from outcomes import FIGURES, OUTCOMES, outcome, rich

from dlcheck.errors import ValidationFailed
from dlcheck.model import Evidence, Figure, Outcome, Verdict
from dlcheck.reporting import write_reports
from dlcheck.reporting.axes import axis, linear_ticks, log_ticks, tick_labels
from dlcheck.reporting.coverage import cells_of, grids_of
from dlcheck.reporting.html import render_fragment, render_html
from dlcheck.reporting.markdown import render_markdown
from dlcheck.reporting.markup import Markup, tag
from dlcheck.reporting.numbers import closeness, duration, typeset
from dlcheck.reporting.report import Report
from dlcheck.reporting.svg import draw, thinned
from dlcheck.reporting.terminal import describe, summary
from dlcheck.results import Run, encode, read_run

HOSTILE = "<script>alert(1)</script>\"'&|`*@all\x1b[31m\x00\ud800"
VOID = {"br", "link", "meta", "wbr"}


class Page(HTMLParser):
    """What a page holds. Raises AssertionError where tags are not balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.script = text, ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.script += data

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.tags)


def checked(report: Report) -> Page:
    """The page of a report, after the checks that every page must pass."""
    text = render_html(report)
    text.encode("utf-8")
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(ids)
    outside = [link for link in page.values("href") + page.values("src") if link[:1] != "#"]
    assert all(link.startswith("data:") for link in outside)
    assert page.count("script") == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    return page


def evidence(error: float = 0.0, bound: float = 1e-12, signal: float = 1.0) -> Evidence:
    return Evidence(error=error, bound=bound, signal=signal, what="gradient of weight")


def report(*verdicts: Verdict) -> Report:
    return Report([outcome(f"check_{k}", verdict=v) for k, v in enumerate(verdicts)], {})


# --- the report ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "passed", "headline", "line"),
    [
        ([], False, "Nothing ran", "no check ran"),
        ([Verdict.SKIPPED], False, "Nothing ran", "1 not run"),
        ([Verdict.PASSED, Verdict.SKIPPED], True, "Passed", "1 passed, 1 not run"),
        ([Verdict.EXPECTED, Verdict.PASSED], True, "Passed", "1 passed, 1 failed as expected"),
        ([Verdict.INCONCLUSIVE, Verdict.PASSED], False, "Inconclusive", "1 inconclusive, 1 passed"),
        ([Verdict.PASSED, Verdict.ERRORED], False, "Errored", "1 errored, 1 passed"),
        (
            [Verdict.PASSED, Verdict.ERRORED, Verdict.FAILED, Verdict.FAILED],
            False,
            "Failed",
            "2 failed, 1 errored, 1 passed",
        ),
    ],
)
def test_the_verdict_follows_from_the_outcomes(
    verdicts: list[Verdict], *, passed: bool, headline: str, line: str
) -> None:
    found = report(*verdicts)
    assert (found.passed, found.headline, found.verdict_line) == (passed, headline, line)
    assert len(found.failures) == sum(v in (Verdict.FAILED, Verdict.ERRORED) for v in verdicts)
    assert str(found).splitlines()[-1] == line
    if passed:
        found.raise_for_failures()
    else:
        with pytest.raises(ValidationFailed, match=re.escape(line)):
            found.raise_for_failures()


@settings(max_examples=25)
@given(st.lists(OUTCOMES, max_size=4))
def test_a_report_is_strict_json(outcomes: list[Outcome]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    data = json.loads(Report(outcomes, {"x": math.nan}).to_json(), parse_constant=refuse)
    assert len(data["outcomes"]) == len(outcomes) == sum(data["counts"].values())


# --- the terminal -------------------------------------------------------------------------------


@settings(max_examples=25)
@given(OUTCOMES)
def test_a_failure_fits_a_screen(recorded: Outcome) -> None:
    text = describe(recorded)
    assert len(text.splitlines()) < 25
    assert "\x1b" not in text


def test_a_failure_tells_all_that_is_needed_to_see_it_again() -> None:
    piece = Evidence(
        error=0.5,
        bound=1e-12,
        signal=1.0,
        what="gradient of weight",
        expected="0.25",
        got="0.75",
        where="element 3 of shape [2, 2]",
        cause="three times too large",
        values={"n": 3.0},
    )
    text = describe(
        outcome(
            verdict=Verdict.FAILED,
            evidence=(piece, evidence(error=1.0)),
            case="n=2 m=2, x: ties, seed=7",
            cases=12,
            target="pkg.losses:Focal",
            file="/home/me/s.toml",
            line=12,
            reproduce="pytest s.toml::l1::zeroes_weights_exactly",
        )
    )
    for told in (
        "FAILED l1: zeroes_weights_exactly [cpu-float64]",
        "L1 zeroes weights.",
        *(piece.what, piece.expected, piece.got, piece.where, piece.cause),
        "error 0.5 > bound 1e-12, signal 1",
        "n=2 m=2, x: ties, seed=7 (after 12 cases)",
        "1 further measurement failed",
        "pkg.losses:Focal (s.toml:12)",
        "pytest s.toml::l1::zeroes_weights_exactly",
        "dlcheck explain zeroes_weights_exactly",
    ):
        assert told in text


def test_a_long_traceback_keeps_its_end_and_the_command() -> None:
    message = "the subject raised:\n" + "  frame\n" * 500 + "ValueError: out of paper"
    text = describe(outcome(verdict=Verdict.FAILED, message=message, reproduce="pytest x"))
    assert "the subject raised:\n" in text
    assert "ValueError: out of paper" in text
    assert "pytest x" in text


def test_colour_is_only_for_those_who_ask() -> None:
    failed = outcome(verdict=Verdict.FAILED)
    assert "\x1b" not in describe(failed)
    assert describe(failed, color=True).startswith("\x1b[31mFAILED\x1b[0m")
    assert "\x1b" in summary(Report([failed], {}), color=True)


def test_a_long_summary_leaves_out_what_passed() -> None:
    many = [outcome(f"check_{k}", verdict=Verdict.PASSED) for k in range(200)]
    failed = outcome("the_bad_one", verdict=Verdict.FAILED)
    text = summary(Report([*many, failed], {}))
    assert "the_bad_one" in text
    assert "check_7" not in text


# --- coverage -----------------------------------------------------------------------------------


def test_a_cell_shows_the_gravest_of_what_ran() -> None:
    cuda = {"device": "cuda", "point": "cuda-float64"}
    skipped = outcome(verdict=Verdict.SKIPPED, **cuda)
    passed = outcome(evidence=(evidence(4e-13),))
    failed = outcome(verdict=Verdict.FAILED, evidence=(evidence(1.0),), **cuda)
    for outcomes, verdict, label in (
        ([skipped], Verdict.SKIPPED, ""),
        ([passed, skipped], Verdict.PASSED, ".40"),
        ([passed, failed], Verdict.FAILED, "1/2"),
        ([failed], Verdict.FAILED, "×10¹²"),
    ):
        (cell,) = cells_of(outcomes)
        assert (cell.verdict, cell.label) == (verdict, label)


@settings(max_examples=25)
@given(st.lists(OUTCOMES, max_size=4))
def test_coverage_loses_nothing(outcomes: list[Outcome]) -> None:
    cells = cells_of(outcomes)
    assert sum(len(cell.outcomes) for cell in cells) == len(outcomes)
    assert len({cell.anchor for cell in cells}) == len(cells)
    assert sum(len(grid.cells) for grid in grids_of(cells)) == len(cells)


def test_coverage_is_the_same_from_any_worker() -> None:
    outcomes = [
        outcome(check, subject=subject, line=line, point=point)
        for check in ("b", "a")
        for subject, line in (("second", 20), ("first", 10))
        for point in ("y", "x")
    ]
    cells = cells_of(outcomes)
    assert cells == cells_of(outcomes[::-1])
    assert [(c.subject, c.check) for c in cells] == [
        *(("first", "a"), ("first", "b"), ("second", "a"), ("second", "b"))
    ]


# --- the page -----------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.lists(OUTCOMES, max_size=4))
def test_any_outcomes_make_a_whole_page(outcomes: list[Outcome]) -> None:
    found = Report(outcomes, {})
    checked(found)
    Page(render_fragment(found))
    assert render_html(found) == render_html(Run({}, outcomes))


def hostile(verdict: Verdict) -> Outcome:
    figure = Figure(title=HOSTILE, x=HOSTILE, y=HOSTILE, series={HOSTILE: [(1, 2)], "b": []})
    piece = Evidence(
        **dict.fromkeys(("unit", "what", "expected", "got", "where", "cause"), HOSTILE),  # type: ignore[arg-type]
        error=1,
        bound=2,
        signal=1000,
        p_values=(0.5,),
        values={HOSTILE: HOSTILE},
        figures=(figure,),
    )
    texts = ("suite", "subject", "kind", "claim", "device", "dtype", "point")
    further = ("case", "message", "reproduce", "target", "file", "profile")
    return outcome(
        HOSTILE, **dict.fromkeys((*texts, *further), HOSTILE), verdict=verdict, evidence=(piece,)
    )


@pytest.mark.parametrize("verdict", Verdict)
def test_foreign_text_does_nothing(verdict: Verdict) -> None:
    found = Report([hostile(verdict)], {HOSTILE: HOSTILE, "command": HOSTILE, "note": HOSTILE})
    page = checked(found)
    assert "alert" not in page.script
    outside_code = re.sub(r"(`+)(?!`).+?\1(?!`)", "", render_markdown(found))
    for text in (render_html(found), render_fragment(found), outside_code):
        assert "<script>alert" not in text
        assert not re.search("[\x00\x1b\ud800]", text)
    assert "\x1b" not in str(found)


def test_the_script_of_a_failure_is_folded_and_a_long_one_is_a_command() -> None:
    script = "import torch\nassert '<b>' == f\"{1 < 2}\", 'no & no'\n"
    short = outcome(verdict=Verdict.FAILED, script=script, failure="0a1b")
    page = checked(Report([short], {}))
    assert "A script that shows it without dlcheck" in page.text
    (folded,) = re.findall(r"without dlcheck</summary><pre[^>]*>(.+?)</pre>", page.text, re.S)
    assert html.unescape(folded).strip() == script.strip()
    assert "<b>" not in folded
    long = outcome(verdict=Verdict.FAILED, script=script * 5000, failure="0a1b")
    page = checked(Report([long], {}))
    assert "A script that shows it without dlcheck" not in page.text
    assert "dlcheck replay 0a1b --script" in page.text
    without = checked(Report([outcome(verdict=Verdict.FAILED)], {}))
    assert "--script" not in without.text


def test_the_policy_names_the_one_script() -> None:
    page = checked(report(Verdict.PASSED))
    policy = next(attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs)
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("failing", [0, 20, 1000])
def test_a_thousand_trials_stay_below_a_megabyte(failing: int) -> None:
    outcomes = [rich(k, Verdict.FAILED if k < failing else Verdict.PASSED) for k in range(1000)]
    page = checked(Report(outcomes, {}))
    text = page.text
    assert len(text.encode()) < 1_000_000
    told = [attrs for tag, attrs in page.tags if tag == "details" and "trial" in str(attrs)]
    assert len(told) == 1000
    assert text.count("pytest &#x27;suites") + text.count("pytest 'suites") == 1000


def test_a_figure_has_its_numbers_beneath() -> None:
    series = {"measured": [(1.0, 0.125), (10.0, 0.375)], "law": [(1.0, 0.25), (10.0, math.nan)]}
    figure = Figure(title="Noise", x="batch", y="variance", series=series, log_x=True)
    text = render_html(
        Report([outcome(evidence=(Evidence(error=0, bound=0, signal=1, figures=(figure,)),))], {})
    )
    page = Page(text)
    assert (page.count("svg"), page.count("figure")) == (1, 1)
    table = text[text.index("</svg>") : text.index("</figure>")]
    assert re.findall(r"<t[hd](?: [^>]*)?>(.*?)</t[hd]>", table) == [
        *("batch", "measured", "law"),
        *("1", "0.125", "0.25"),
        *("10", "0.375", "NaN"),
    ]


def test_devices_that_draw_alike_draw_once() -> None:
    piece = Evidence(
        error=0, bound=0, signal=1, figures=(Figure(title="A", x="", y="", series={"": [(1, 1)]}),)
    )
    outcomes = [outcome(point=point, evidence=(piece,)) for point in ("cpu", "cuda")]
    assert checked(Report(outcomes, {})).count("figure") == 1


# --- plots --------------------------------------------------------------------------------------


@given(FIGURES)
def test_any_figure_can_be_drawn(figure: Figure) -> None:
    text = str(draw(figure, "f"))
    page = Page(text)
    numbers = re.findall(r"-?\d+(?:\.\d+)?", " ".join(page.values("d")))
    assert all(-10 <= float(number) <= 1000 for number in numbers)
    assert not re.search(r"\b(nan|inf)\b", " ".join(page.values("d")))
    assert {"title", "desc"} <= {tag for tag, _ in page.tags}


def test_a_gap_breaks_the_line() -> None:
    points = [(0, 0), (1, 1), (2, math.nan), (3, 3), (4, 4), (5, math.inf), (6, 6)]
    text = str(draw(Figure(title="", x="", y="", series={"": points}), "f"))
    (line,) = re.findall(r'class=line d="([^"]+)"|d="([^"]+)" class=line', text)
    assert "".join(line).count("M") == 2  # the last point stands alone, as a dot


def test_steps_are_level_up_to_the_next_point() -> None:
    points = [(0.0, 0.0), (1.0, 2.0), (2.0, 1.0)]
    text = str(draw(Figure(title="", x="", y="", series={"": points}, steps=("",)), "f"))
    (line,) = re.findall(r'd="(M[^"]+L[^"]+)" class=line', text)
    corners = [tuple(map(float, point.split())) for point in line[1:].split("L")]
    assert len(corners) == 5
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):
        assert x == next_x or y == next_y


def test_zeros_have_no_place_under_a_logarithm() -> None:
    points = [(0.0, 1.0), (1.0, 0.0), (10.0, 1.0), (100.0, 10.0)]
    figure = Figure(title="", x="", y="", series={"": points}, log_x=True, log_y=True)
    text = str(draw(figure, "f"))
    (line,) = re.findall(r'd="([^"]+)" class=line', text)
    assert re.fullmatch(r"M[\d. ]+L[\d. ]+", line)


@given(st.floats(-1e100, 1e100), st.floats(1e-9, 1e9))
def test_linear_ticks_are_round_and_inside(low: float, span: float) -> None:
    high = low + span
    if not high - low > 1e-9 * abs(low):  # the numbers between have no short names
        return
    ticks = linear_ticks(low, high)
    room = 1e-6 * (high - low)
    assert 2 <= len(ticks) <= 7
    assert all(low - room <= tick <= high + room for tick in ticks)


@given(st.floats(-99, 99), st.floats(0.01, 100))
def test_log_ticks_are_inside(exponent: float, decades: float) -> None:
    low, high = 10**exponent, 10 ** (exponent + decades)
    ticks = log_ticks(low, high)
    assert 1 <= len(ticks) <= 9
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)


@pytest.mark.parametrize(
    ("ticks", "log", "labels"),
    [
        ([0.0, 0.5, 1.0], False, ["0.0", "0.5", "1.0"]),
        ([-20.0, 0.0, 20.0], False, ["−20", "0", "20"]),
        ([0.0, 2e-7, 4e-7], False, ["0", "2·10⁻⁷", "4·10⁻⁷"]),
        ([0.1, 1.0, 10.0], True, ["0.1", "1", "10"]),
        ([1e-6, 1e-3, 1.0], True, ["10⁻⁶", "10⁻³", "10⁰"]),
    ],
)
def test_tick_labels_share_their_decimals(
    ticks: list[float], *, log: bool, labels: list[str]
) -> None:
    assert tick_labels(ticks, log=log) == labels


@given(values=st.lists(st.floats(), max_size=5), log=st.booleans(), zero=st.booleans())
def test_an_axis_holds_its_values(values: list[float], *, log: bool, zero: bool) -> None:
    found = axis(values, start=100, end=0, log=log, zero=zero)
    for value in values:
        if abs(value) < 1e100 and (not log or value > 1e-100):
            assert -1e-6 <= found(value) <= 100 + 1e-6


def test_thinning_keeps_the_peak() -> None:
    points = [(float(i), 0.0) for i in range(1000)]
    points[617] = (617.0, 9.0)
    kept = thinned(points, 50)
    assert len(kept) <= 50
    assert (617.0, 9.0) in kept
    assert kept == sorted(kept)


# --- text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.22e-16, "2.22·10⁻¹⁶"),
        (-1e-7, "−10⁻⁷"),
        (15190.0, "15,190"),
        (0.3101, "0.31"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
        (True, "True"),
        ("3 of 4", "3 of 4"),
    ],
)
def test_numbers_are_typeset(value: object, text: str) -> None:
    assert typeset(value) == text


@pytest.mark.parametrize(
    ("tightness", "text"),
    [(0.0, "0"), (1e-9, "<.01"), (0.314, ".31"), (0.999, "1.0"), (1.0, "1.0"), (1.0001, "×1.1"),
     (42.0, "×42"), (2e6, "×10⁶"), (math.inf, "∞")],
)  # fmt: skip
def test_closeness_fits_a_cell(tightness: float, text: str) -> None:
    assert closeness(tightness) == text


def test_durations_have_the_unit_that_suits_them() -> None:
    seconds = (0.0123, 0.9996, 5.25, 125.0)
    assert [duration(s) for s in seconds] == ["12 ms", "1.0 s", "5.2 s", "2 min 05 s"]


def test_tags_escape_what_is_not_markup() -> None:
    found = tag("p", "<b>", Markup("<i></i>"), title='"x"', class_="a b", hidden=True, id=None)
    assert str(found) == '<p title="&quot;x&quot;" class="a b" hidden>&lt;b&gt;<i></i></p>'


# --- Markdown and files -------------------------------------------------------------------------


@settings(max_examples=25)
@example([outcome(verdict=Verdict.FAILED, reproduce="grep 'a\\|b' file")])
@given(st.lists(OUTCOMES, max_size=4))
def test_markdown_tables_have_their_columns(outcomes: list[Outcome]) -> None:
    text = render_markdown(Report(outcomes, {}))
    lines = text.split("\n")
    for k, line in enumerate(lines):
        if re.fullmatch(r"\|( --- \|)+", line):
            rows = [line, lines[k - 1]]
            rows += [row for row in lines[k + 1 : lines.index("", k) if "" in lines[k:] else None]]
            columns = {len(re.findall(r"(?<!\\)\|", re.sub(r"\\\\", "", row))) for row in rows}
            assert len(columns) == 1


def test_markdown_tells_the_verdict_the_failures_and_the_coverage() -> None:
    failed = outcome(
        verdict=Verdict.FAILED, evidence=(evidence(1.0),), reproduce="pytest s.toml::l1"
    )
    skipped = outcome("other", verdict=Verdict.SKIPPED, message="cuda is absent")
    text = render_markdown(Report([failed, skipped], {}))
    assert text.startswith("## ✗ dlcheck: failed\n\n1 failed, 1 not run.\n")
    for told in (
        "| ✗ | l1 | `zeroes_weights_exactly` | cpu-float64 | error 1 > bound 1e-12, signal 1 |",
        "`pytest s.toml::l1`",
        "- 1 not run: cuda is absent",
        "| `zeroes_weights_exactly` | ✗ ×10¹² |",
    ):
        assert told in text


def test_reports_are_written_whole(tmp_path: Path) -> None:
    run = Run({"seed": 1}, [outcome(evidence=(evidence(),)), hostile(Verdict.FAILED)])
    paths = write_reports(run, tmp_path / "deep" / "out")
    assert [path.name for path in paths] == ["index.html", "summary.md", "run.jsonl"]
    assert sorted(paths) == sorted((tmp_path / "deep" / "out").iterdir())
    again = read_run(paths[2])
    assert again.meta == run.meta
    assert [*map(encode, again.outcomes)] == [*map(encode, run.outcomes)]
    assert write_reports(again, tmp_path / "deep" / "out") == paths


def test_a_report_that_cannot_be_written_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reports(Run({}, [outcome()]), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_reports(Run({}, []), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reporting_loads_neither_torch_nor_the_test_tools() -> None:
    code = (
        "import sys, dlcheck.reporting.html, dlcheck.reporting.markdown, dlcheck.reporting.svg;"
        "bad = {'torch', 'numpy', 'pytest', 'hypothesis'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_link_writes_the_name_as_it_is() -> None:
    name = "zeroes_weights_exactly"
    page = render_html(Report([outcome(name, verdict=Verdict.FAILED)], {}))
    linked = [re.sub("<[^>]+>", "", text) for text in re.findall(r"<a href[^>]*>.*?</a>", page)]
    assert name in linked
    assert not [text for text in linked if "zeroesweights" in text]
