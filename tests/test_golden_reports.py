"""What a fixed record renders to, to the letter.

After a change that is meant, write the texts anew and read the difference:

    DLCHECK_GOLDEN=write python -m pytest -q tests/test_golden_reports.py
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dlcheck.reporting import changes_shown
from dlcheck.reporting.changes import Changes, changes
from dlcheck.reporting.html import render_fragment, render_html
from dlcheck.reporting.markdown import render_markdown
from dlcheck.reporting.report import Report
from dlcheck.results import read_run

GOLDEN = Path(__file__).parent / "golden"


def report() -> Report:
    return Report.of(read_run(GOLDEN / "after.jsonl"))


def both() -> Changes:
    return changes(read_run(GOLDEN / "before.jsonl"), read_run(GOLDEN / "after.jsonl"))


TEXTS: dict[str, Callable[[], str]] = {
    "report.html": lambda: render_html(report()),
    "fragment.html": lambda: render_fragment(report()),
    "report.md": lambda: render_markdown(report()),
    "report.txt": lambda: str(report()),
    "changes.html": lambda: changes_shown.page(both()),
    "changes.md": lambda: changes_shown.markdown(both()),
    "changes.txt": lambda: str(both()),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_fixed_record_renders_as_before(name: str) -> None:
    made = without_style(TEXTS[name]())
    path = GOLDEN / name
    if os.environ.get("DLCHECK_GOLDEN") == "write":
        path.write_text(made, "utf-8")
    assert made == path.read_text("utf-8")
    assert without_style(TEXTS[name]()) == made  # nothing but the record decides


def without_style(page: str) -> str:
    """Without style, script and the hash of the script, and a line for each block."""
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.DOTALL)
    text = re.sub(r"sha256-[\w+/=]+", "sha256", text)
    blocks = r"(?<=>)(?=<(?:section|h\d|tr|p|div|details|dt|li|figure|svg|path|g)\b)"
    return re.sub(blocks, "\n", text).rstrip("\n") + "\n"
