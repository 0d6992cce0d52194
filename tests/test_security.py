"""A suite runs the code that it names, and nothing else does."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
from outcomes import outcome

from dlcheck.model import Evidence, Outcome
from dlcheck.reporting.html import render_html
from dlcheck.reporting.markdown import render_markdown
from dlcheck.reporting.report import Report
from dlcheck.reporting.terminal import describe

ROOT = Path(__file__).parents[1]
# Both load bytes that they have just written themselves: a state that has gone through a file.
OWN_BYTES = {"dlcheck/checks/optimizer/state.py", "dlcheck/checks/scheduler/rates.py"}
# The claim itself: a pickled subject is the same subject.
PICKLES = {"dlcheck/checks/ecosystem/copies.py"}
# A script of a failure, of literals and names, is tried once before a person runs it.
OWN_TEXT = {"dlcheck/scripts/proving.py"}


def dangers(path: Path) -> Iterator[str]:
    """Calls that run code from data."""
    name = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        runs_text = called in ("eval", "exec", "__import__", "os.system", "os.popen")
        if runs_text and not (called == "exec" and name in OWN_TEXT):
            yield f"{name}:{node.lineno}: {called}"
        if called in ("pickle.load", "pickle.loads") and name not in PICKLES:
            yield f"{name}:{node.lineno}: {called}"
        weights_only = given.get("weights_only") == "True" or name in OWN_BYTES
        if called.endswith("torch.load") and not weights_only:
            yield f"{name}:{node.lineno}: {called} without weights_only=True"
        if called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
            yield f"{name}:{node.lineno}: {called} without allow_pickle=False"
        if given.get("shell", "False") != "False" or called in ("yaml.load", "yaml.unsafe_load"):
            yield f"{name}:{node.lineno}: {called}"


@pytest.mark.parametrize("package", ["dlcheck", "_dlcheck_pytest"])
def test_no_data_becomes_code(package: str) -> None:
    assert not [found for path in (ROOT / package).rglob("*.py") for found in dangers(path)]


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\"'&`|"


def hostile() -> Outcome:
    """Every text that a subject or its suite may choose, chosen by an attacker."""
    made = outcome()
    texts = {f.name: HOSTILE for f in fields(Outcome) if str(f.type) == "str" and f.name != "id"}
    piece = {f.name: HOSTILE for f in fields(Evidence) if str(f.type) == "str"}
    evidence = Evidence(error=2.0, bound=1.0, signal=1e3, values={HOSTILE: HOSTILE}, **piece)
    return replace(
        made, **texts, evidence=(evidence,), notes=(HOSTILE,), tags=(HOSTILE,), textbook=None
    )


@pytest.mark.parametrize("render", [render_html, render_markdown], ids=["html", "markdown"])
def test_pages_escape_all_that_subjects_say(render: Callable[[Report], str]) -> None:
    text = render(Report([hostile()], {"command": HOSTILE, "git": {"commit": HOSTILE}}))
    text = re.sub(r"(`+).+?\1", "", text)  # what Markdown shows as it is
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "\x1b" not in text


def test_a_terminal_obeys_no_subject() -> None:
    assert "\x1b" not in describe(hostile())
