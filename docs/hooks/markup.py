"""Text of docstrings and declarations as Markdown that shows what they say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\*_<>\[\]|#~^{}])")
_CODE = re.compile(r"(`[^`\n]+`)")


def escaped(text: str) -> str:
    """Prose whose only markup is `code`: formulas such as x[i] * y_j stay as they are."""
    parts = _CODE.split(text)
    return "".join(p if k % 2 else _SPECIAL.sub(r"\\\1", p) for k, p in enumerate(parts))


def cell(text: str) -> str:
    """Prose within a table: one line."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(
        p.replace("|", "\\|") if k % 2 else _SPECIAL.sub(r"\\\1", p) for k, p in enumerate(parts)
    )


def code(text: object) -> str:
    """A name or a value as code, in a table too."""
    shown = str(text).replace("|", "\\|")
    return f"``{shown}``" if "`" in shown else f"`{shown}`"


def codes(names: Iterable[object]) -> str:
    return ", ".join(map(code, names))


def prose(doc: str) -> str:
    """A docstring: its paragraphs, what is indented as code, its `Source:` on a line of its own."""
    shown = []
    for paragraph in doc.strip().split("\n\n"):
        lines = paragraph.splitlines()
        if all(line.startswith("    ") for line in lines):
            shown.append("\n".join(["```text", *(line[4:] for line in lines), "```"]))
            continue
        body, _, source = paragraph.partition("Source: ")
        shown += [escaped(body.strip())] if body.strip() else []
        shown += [f"*Source:* {escaped(source.strip())}"] if source else []
    return "\n\n".join(shown)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of Markdown under a head; nothing where there are none."""
    lines = [" | ".join(row) for row in rows]
    if not lines:
        return ""
    rule = " | ".join(["---"] * len(head))
    return "\n".join(f"| {line} |" for line in (" | ".join(head), rule, *lines))


def page(*parts: str) -> str:
    """Parts with a blank line between them, without those that are empty."""
    return "\n\n".join(part for part in parts if part) + "\n"
