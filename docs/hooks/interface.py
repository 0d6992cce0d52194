"""The interface: public names of Python, the command line, the keys of a suite, the textbook."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from catalogue import entry_of
from markup import cell, code, page, table
from python_names import described, error_tree

import dlcheck
from dlcheck import cli
from dlcheck.model import Check, Statement
from dlcheck.registry import catalogue
from dlcheck.suite_schema import schema as suite_schema

SAMPLE = Path(__file__).parents[2] / "reports" / "sample" / "summary.md"
_STATEMENT = re.compile(r"\| \S \| [A-Z]\d+ \| ")
# What a reader calls, before the records that come back.
_FIRST = (
    "validate",
    "parametrize",
    "check_gradient",
    "compare",
    "batch_size",
    "check",
    "reference",
)


def pages() -> dict[str, str]:
    """Path below docs/ → Markdown."""
    return {
        "interface/python.md": _python(),
        "interface/command_line.md": _command_line(),
        "interface/suite_keys.md": _suite_keys(),
    }


def _python() -> str:
    names = [*_FIRST, *(name for name in dlcheck.__all__ if name not in _FIRST)]
    return page(
        "# Python",
        "`import dlcheck` loads no torch: a name is loaded when it is first used.",
        *map(described, names),
        "## What is raised",
        error_tree(),
    )


def _command_line() -> str:
    parts = ["# Command line", table(["verb", ""], _verbs()), _codes()]
    for verb in cli.VERBS:
        parts += [f"## dlcheck {verb}", "\n".join(["```text", help_of(verb).rstrip(), "```"])]
    return page(*parts)


def _verbs() -> Iterator[list[str]]:
    for verb, (_, text) in cli.VERBS.items():
        yield [f"[`dlcheck {verb}`](#dlcheck-{verb})", cell(text)]


def _codes() -> str:
    return (
        "Exit codes are those of pytest, 0 to 5; "
        f"{cli.ONLY_REGRESSIONS} where nothing failed but benchmarks got slower, "
        f"{cli.COULD_NOT_MEASURE} where nothing failed but something could not be measured."
    )


def help_of(verb: str) -> str:
    """What `dlcheck VERB --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        cli.main([verb, "--help"])
    return printed.getvalue()


def _suite_keys() -> str:
    schema = suite_schema()
    tables = schema["definitions"]
    return page(
        "# Keys of a suite",
        "A suite file is TOML whose first key is `suite`. "
        "[Write a suite](../write_a_suite.md) says how they go together.",
        "## The file",
        _keys(schema["properties"]),
        "## `[[subject]]`",
        _keys(tables["subject"]["properties"]),
        "## `[[benchmark]]`",
        _keys(tables["benchmark"]["properties"]),
    )


def _keys(properties: Mapping[str, Any]) -> str:
    rows = ([code(name), cell(of.get("description", ""))] for name, of in properties.items())
    return table(["key", "what it says"], rows)


def textbook() -> str:
    """The statements: what is said, how far it is so, what the sample report measured, and by which
    checks."""
    found: dict[str, tuple[Statement, list[Check]]] = {}
    for check in sorted(catalogue().checks.values(), key=lambda each: each.name):
        if check.textbook:
            found.setdefault(check.textbook.id, (check.textbook, []))[1].append(check)
    measured = dict(_measured())
    rows = [
        [
            statement.id,
            cell(statement.says),
            "; ".join(_rulings(checks)),
            *measured.get(statement.id, ("", "")),
            ", ".join(f"[{said(check)}](catalogue/{entry_of(check)})" for check in checks),
        ]
        for statement, checks in sorted(found.values(), key=lambda each: each[0].place)
    ]
    head = ["", "the textbook says", "it is", "measured", "where it fails", "shown by"]
    return table(head, rows)


def _measured() -> Iterator[tuple[str, tuple[str, str]]]:
    """Statement → what was measured and where it fails, as the sample report tells it."""
    for line in SAMPLE.read_text(encoding="utf-8").splitlines():
        parts = [part.strip() for part in line.strip("| ").split(" | ")]
        if _STATEMENT.match(line):
            yield parts[1], (parts[4], parts[5] if len(parts) > 5 else "")


def said(check: Check) -> str:
    """The name of a check in words, which a narrow column can break."""
    return check.name.replace("_", " ")


def _rulings(checks: list[Check]) -> list[str]:
    """Each ruling once; a plain "true" says nothing beside one with a condition."""
    found = dict.fromkeys(cell(check.textbook.ruling) for check in checks if check.textbook)
    return [ruling for ruling in found if ruling != "true"] or list(found)
