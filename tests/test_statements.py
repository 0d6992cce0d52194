"""Statements of the textbook: declared once, recorded with outcomes, told with both sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from outcomes import outcome

from dlcheck.cli.listing import main as list_names
from dlcheck.declarations import read_module
from dlcheck.errors import DeclarationError
from dlcheck.model import Evidence, Outcome, Statement, Verdict
from dlcheck.registry import catalogue
from dlcheck.reporting.html import render_html
from dlcheck.reporting.markdown import render_markdown
from dlcheck.reporting.report import Report
from dlcheck.results import decode, encode

SPARSE = Statement(
    id="R1", says="L1 gives sparse weights", verdict="true if", condition="each step is proximal"
)


def told(statement: Statement | None = SPARSE, **more: object) -> Outcome:
    law = Evidence(error=0.0, bound=1e-12, signal=1.0, what="zeros", expected="12", got="12 of 30")
    counter = Evidence(
        error=0.0, bound=0.5, signal=30.0, resolution=1.0, what="zeros by Adam", got="0 of 30",
        counterexample=True,
    )  # fmt: skip
    return outcome(**{"textbook": statement, "evidence": (law, counter), **more})


def test_a_statement_is_recorded_with_its_outcome() -> None:
    assert decode(encode(told())) == told()


def test_records_from_before_there_were_statements_are_read() -> None:
    data = encode(told())
    del data["textbook"]
    for piece in data["evidence"]:
        del piece["counterexample"]
    assert decode(data).textbook is None


def test_both_sides_of_a_statement_are_told() -> None:
    report = Report([told()], {})
    page, summary = render_html(report), render_markdown(report)
    for text in (page, summary):
        assert "true if each step is proximal" in text
        assert "zeros: 12 of 30 (expected 12)" in text
        assert "zeros by Adam: 0 of 30" in text


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.FAILED, "not confirmed by this run"),
        (Verdict.INCONCLUSIVE, "not settled by this run"),
    ],
)
def test_a_statement_stands_only_where_every_part_came_out(verdict: Verdict, words: str) -> None:
    parts = [told(), told(check="its_other_half", verdict=verdict)]
    text = render_html(Report(parts, {}))
    assert words in text
    assert "0 of 1 statement" in text


def test_a_subject_that_is_declared_to_fail_leaves_a_statement_confirmed() -> None:
    parts = [told(), told(subject="its_broken_twin", verdict=Verdict.EXPECTED)]
    assert "1 of 1 statement" in render_html(Report(parts, {}))
    alone = [told(subject="its_broken_twin", verdict=Verdict.EXPECTED)]
    assert "0 of 1 statement" in render_html(Report(alone, {}))


def test_a_statement_whose_parts_did_not_run_is_not_checked() -> None:
    text = render_html(Report([told(verdict=Verdict.SKIPPED)], {}))
    assert "not checked" in text


def test_statements_stand_in_the_order_of_their_numbers() -> None:
    names = ["R11", "B9", "R2"]
    parts = [told(Statement(id=name, says=name), check=f"c{name}") for name in names]
    text = render_markdown(Report(parts, {}))
    places = [text.index(f"| {name} | {name} | true |") for name in ("B9", "R2", "R11")]
    assert places == sorted(places)


def test_a_page_without_statements_says_nothing_of_them() -> None:
    assert "textbook" not in render_html(Report([told(None)], {}))


def test_a_statement_reads_the_same_in_every_check() -> None:
    said: dict[str, set[str]] = {}
    for check in catalogue().checks.values():
        if check.textbook:
            said.setdefault(check.textbook.id, set()).add(check.textbook.says)
    assert {name: texts for name, texts in said.items() if len(texts) > 1} == {}


def test_statements_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    list_names(["statements"])
    shown = capsys.readouterr().out
    for check in catalogue().checks.values():
        if check.textbook:
            assert check.name in shown


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"id": "R1", "says": "L1"}, "needs verdict"),
        ({"id": "R1", "says": "L1", "verdict": "half true"}, "no verdict named 'half true'"),
        ({"id": "R1", "says": "L1", "verdict": "true if"}, "'true if' needs its condition"),
        (
            {"id": "R1", "says": "L1", "verdict": "true", "condition": "x"},
            "'true' has no condition",
        ),
        ({"id": "first", "says": "L1", "verdict": "true"}, "letters and a number"),
        ({"id": "R1", "says": "L1", "verdict": "true", "law": "x"}, "no key named 'law'"),
        ({"id": "R1", "says": 3, "verdict": "true"}, "says is text, not 3"),
    ],
)
def test_a_wrong_statement_is_refused(
    declared: Mapping[str, str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "claims.py"
    file.write_text(
        f'@check(kind="penalty", rejects=[broken], textbook={declared!r})\n'
        'def is_sparse(subject, case):\n    """Is sparse."""\n'
    )
    with pytest.raises(DeclarationError, match=r"claims\.py:1") as raised:
        list(read_module("claims", file))
    assert message in str(raised.value)
