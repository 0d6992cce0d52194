"""The examples pass, their twins fail as declared, and examples/README.md shows what they print.

`DLCHECK_EXAMPLES=write pytest tests/test_examples.py` renews the messages of the page. Numbers are
not compared, since they are those of one machine.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from pages import Block, blocks_of, rewrite
from sessions import run_pytest

from dlcheck.expansion import Overrides, expand
from dlcheck.lanes import has_triton
from dlcheck.model import Trial, Verdict
from dlcheck.numerics.recursions import RECURSIONS
from dlcheck.results import Run, read_run
from dlcheck.study import batch_size
from dlcheck.suite import read_suite

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PAGE = "examples/README.md"
CHOSEN = "not softmax and not layer_norm"  # tests/test_triton.py has the right kernels
HEAD = re.compile(r"FAILED (\S+): (\S+) \[")
PRINTED = re.compile(r"^FAILED \S+: \S+ \[.*?(?=\n(?:_{3,}|={3,}))", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\b[0-9a-f]{8}\b|[-−+]?\d[\d.,]*(?:e[-+]?\d+)?|×10[⁰-⁹⁻]*|\b(?:inf|nan)\b")

Named = tuple[str, str]  # subject, check


def test_the_examples_pass_and_their_twins_fail_in_these_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    result = run_pytest(
        SimpleNamespace(path=tmp_path),
        *("examples", "--device=cpu", "--profile=quick", "--runxfail", "-k", CHOSEN),
        seconds=900,
    )
    (record,) = (tmp_path / ".dlcheck" / "runs").glob("*.jsonl")
    judge(read_run(record))
    printed = result.stdout.str().replace(" -p no:randomly", "")  # of run_pytest, not of a person
    said = {head(found): found for found in PRINTED.findall(printed)}
    unlike = list(differences(said))
    assert not unlike, "\n\n".join(unlike)


def judge(run: Run) -> None:
    """Twins fail where they are declared to, and nothing else does."""
    found = {(one.subject, one.check): one.verdict for one in run.outcomes}
    absent = {each for each in declared() if found[each] is Verdict.SKIPPED}
    assert not absent or not has_triton(), absent
    assert {each for each, verdict in found.items() if not verdict.is_good} == declared() - absent
    for subject in {subject for subject, _ in found} - {twin for twin, _ in declared()}:
        passed = [check for (name, check), verdict in found.items()
                  if name == subject and verdict is Verdict.PASSED]  # fmt: skip
        assert len(passed) >= 6, f"{subject}: only {passed}"


def declared() -> set[Named]:
    """The checks that the twins are declared to fail."""
    return {(t.subject.name, t.check.name) for t in trials() if t.expected_failure is not None}


def trials() -> Iterator[Trial]:
    for path in sorted(EXAMPLES.glob("*.toml")):
        yield from expand(read_suite(path), Overrides(devices=("cpu",), profile="quick"), path.name)


def messages() -> list[Block]:
    return [block for block in blocks_of(ROOT, PAGE) if block.text.startswith("FAILED")]


def head(message: str) -> Named:
    found = HEAD.match(message)
    assert found, message
    return found[1], found[2]


def differences(said: dict[Named, str]) -> Iterator[str]:
    """Where the page shows other words than those printed; mends them if told so."""
    came = {block: said.get(head(block.text), block.text) for block in messages()}
    if os.environ.get("DLCHECK_EXAMPLES") == "write":
        rewrite(ROOT, {block: message.splitlines() for block, message in came.items()})
        return
    for block, message in came.items():
        if masked(message) != masked(block.text):
            yield f"{block.place} shows\n{block.text}\nbut dlcheck says\n{message}"


def masked(message: str) -> str:
    """Without numbers, and without the line of a script, which a slow machine may lack."""
    lines = [line for line in message.splitlines() if not line.startswith("  script    ")]
    return " ".join(NUMBER.sub("#", "\n".join(lines)).split())


def test_the_page_has_a_row_and_a_message_for_every_twin() -> None:
    rows = [line for line in (ROOT / PAGE).read_text().splitlines() if line.startswith("|")]
    for twin, check in declared():
        assert any(f"`{twin}`" in row and f"`{check}`" in row for row in rows), (twin, check)
    assert {head(block.text) for block in messages()} <= declared()
    assert {head(block.text)[0] for block in messages()} == {twin for twin, _ in declared()}


def test_the_page_links_files_that_are_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / PAGE).read_text())
    assert not [link for link in links if "://" not in link and not (EXAMPLES / link).exists()]
    named = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".toml")}
    assert named <= set(links)


def test_the_study_of_batch_sizes_answers() -> None:
    setup = f"{EXAMPLES / 'batch_size.py'}:setup"
    study = batch_size(setup, sizes=[16, 64, 256], profile="quick", seconds=1.0)
    assert study.rows == 1797
    assert len(study.points) >= 3
    assert study.recommended is not None


def test_the_docs_name_every_recursion() -> None:
    docs = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for name in RECURSIONS:
        assert f"`{name}`" in docs
