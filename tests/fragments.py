"""Blocks that are not run, held against what they would be: suites, quotations, commands."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from pages import Block, commands_of

from dlcheck.cli import VERBS
from dlcheck.errors import DlcheckError
from dlcheck.suite import read_suite

_TABLES = ("subject", "benchmark")
_HEAD = 'suite = "Of a page"\n'


def problems_with(block: Block, root: Path, folder: Path) -> Iterator[str]:
    """What is wrong with a block before it is run. `folder` is where its page was acted out."""
    where = f"{block.place}: "
    if not block.language and block.page.startswith("docs"):
        yield where + "say its language: python, console, bash, toml, or text for what is none"
    elif block.language == "text" and any(x.startswith(("$ ", "dlcheck ")) for x in _lines(block)):
        yield where + "commands are console, so that they are run"
    elif block.language == "toml" and not block.reason:
        yield from (where + problem for problem in _as_suite(block, root, folder))
    elif block.language in ("console", "bash") and block.reason:
        for command in commands_of(block):
            yield from (where + p for p in _as_command(command.text))
    if block.quotes and block.text not in (root / block.title).read_text():
        yield where + f"this is not what stands in {block.title}"


def _lines(block: Block) -> list[str]:
    return block.text.splitlines()


def _as_suite(block: Block, root: Path, folder: Path) -> Iterator[str]:
    """A suite, or tables of one, is read; of a project's file the tables are."""
    try:
        data = tomllib.loads(block.text)
    except tomllib.TOMLDecodeError as error:
        yield str(error)
        return
    if block.title.endswith("pyproject.toml") or "project" in data or "tool" in data:
        return
    text = block.text
    if not any(table in data for table in (*_TABLES, "suite")):
        text = "\n".join(["[[subject]]", *_without(data, "name", "target", "kind"), text])
    if "suite" not in data:
        text = _HEAD + text
    near = (folder / block.title).parent if block.title else folder
    near = near / "suite_of_a_page.toml"
    near.write_text(text)
    try:
        read_suite(near)
    except DlcheckError as error:
        yield str(error).replace(str(folder), "").strip()


def _without(data: dict[str, object], *names: str) -> list[str]:
    """What a reader fills in around a few lines of a subject."""
    given = {"name": '"mine"', "target": '"torch:tanh"', "kind": '"activation"'}
    return [f"{name} = {given[name]}" for name in names if name not in data]


def _as_command(text: str) -> Iterator[str]:
    """Does a command that is not run exist at all?"""
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["dlcheck"] and len(words) > 1 and words[1] not in (*VERBS, "--help"):
            yield f"dlcheck has no verb {words[1]!r}"
