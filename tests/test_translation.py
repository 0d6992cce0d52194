"""README.zh.md says what README.md says: the same headings, blocks, commands and links.

`DLCHECK_DOCS=write pytest tests/test_docs.py tests/test_translation.py` renews the blocks of both;
the prose is translated by hand, and what is wanting is named.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`\n]+`")
NUMBER = re.compile(r"\d+(?:\.\d+)*|10[⁻⁰-⁹]+")


def test_both_readmes_say_the_same() -> None:
    english, chinese = ENGLISH.read_text(), CHINESE.read_text()
    if os.environ.get("DLCHECK_DOCS") == "write":
        chinese = with_blocks_of(english, chinese)
        CHINESE.write_text(chinese)
    wanting = list(differences(english, chinese))
    assert not wanting, "\n".join(["README.zh.md beside README.md:", *wanting])


def test_each_readme_links_the_other_at_its_beginning() -> None:
    assert "](README.zh.md)" in "".join(ENGLISH.read_text().splitlines(keepends=True)[:8])
    assert "](README.md)" in "".join(CHINESE.read_text().splitlines(keepends=True)[:8])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("## Why trust it", "## Why trust it\n\n### And more", "1 heading of level 3"),
        ("dlcheck run regularization", "dlcheck run layers", "block 3, line 2"),
        ("(reports/accuracy.md)", "(reports/exact.md)", "link reports/exact.md"),
        ("`dlcheck doctor`", "`dlcheck nurse`", "`dlcheck nurse`"),
        ("33 known bugs", "34 known bugs", "number 34"),
    ],
)
def test_what_differs_is_named(old: str, new: str, told: str) -> None:
    english = ENGLISH.read_text()
    assert old in english
    assert any(
        told in line for line in differences(english.replace(old, new, 1), CHINESE.read_text())
    )


def differences(english: str, chinese: str) -> Iterator[str]:
    """What stands in one and not in the other, each with its count or its line."""
    yield from of_blocks(BLOCK.findall(english), BLOCK.findall(chinese))
    one, two = BLOCK.sub("", english), BLOCK.sub("", chinese)
    yield from of_counts("heading of level", *(levels(text) for text in (one, two)))
    yield from of_counts("link", *(links(text) for text in (one, two)))
    yield from of_counts("command or name", *(Counter(CODE.findall(t)) for t in (one, two)))
    yield from of_counts("number", *(numbers(text) for text in (one, two)))


def of_blocks(one: list[str], two: list[str]) -> Iterator[str]:
    if len(one) != len(two):
        yield f"{len(one)} blocks of code there, {len(two)} here"
    for k, (there, here) in enumerate(zip(one, two, strict=False), 1):
        lines = zip(there.splitlines(), here.splitlines(), strict=False)
        unlike = next((n for n, (a, b) in enumerate(lines, 1) if a != b), 0)
        if unlike:
            yield f"block {k}, line {unlike}: {there.splitlines()[unlike - 1]!r} there"
        elif there != here:
            yield f"block {k} is longer in one of them"


def of_counts(what: str, one: Counter[str], two: Counter[str]) -> Iterator[str]:
    for thing, count in (one - two).items():
        yield f"wanting here: {count} {what} {thing}"
    for thing, count in (two - one).items():
        yield f"not there: {count} {what} {thing}"


def levels(text: str) -> Counter[str]:
    return Counter(str(len(marks)) for marks, _ in HEADING.findall(text))


def links(text: str) -> Counter[str]:
    return Counter(LINK.findall(text)) - Counter(["README.md", "README.zh.md"])


def numbers(text: str) -> Counter[str]:
    """Of the prose alone: those in names are compared with the names."""
    return Counter(NUMBER.findall(LINK.sub("", CODE.sub("", text))))


def with_blocks_of(english: str, chinese: str) -> str:
    blocks = iter(BLOCK.findall(english))
    return BLOCK.sub(lambda found: next(blocks, found[0]), chinese)
