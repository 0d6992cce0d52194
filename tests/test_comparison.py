"""The comparison with other tools quotes figures that stand in the reports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "comparison.md").read_text()
QUOTED = re.findall(r"<!-- ([\w/.]+): (.*) -->", PAGE)
TOOLS = ("gradcheck", "check_estimator", "torchmetrics", "KernelBench", "pytest-benchmark", "asv",
         "OpInfo", "hypothesis-torch", "chex", "deepchecks")  # fmt: skip


@pytest.mark.parametrize(("page", "words"), QUOTED)
def test_a_figure_stands_where_it_is_quoted_from(page: str, words: str) -> None:
    assert words in (ROOT / page).read_text()


@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_has_a_row_and_a_paragraph_with_its_source(tool: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| [") and tool in line)
    section = row.partition("(#")[2].partition(")")[0]
    paragraphs = {anchor(part.partition("\n")[0]): part for part in PAGE.split("\n## ")[1:]}
    assert tool in paragraphs[section]
    assert "](https://" in paragraphs[section]


def anchor(heading: str) -> str:
    """As GitHub and MkDocs make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
