"""The pages of the documentation as data: their fenced blocks, and what a block shows.

A fence may say `title="losses.py"`: the block is that file. A block that cannot be run says why in
the line before it: `<!-- not run: needs two GPUs -->`.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+) *(?P<language>[\w+-]*)(?P<rest>.*)$")
_TITLE = re.compile(r'title="([^"]*)"')
_REASON = re.compile(r"^\s*<!-- not run: (.*\S) -->\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block; `line` is that of its fence, counted from 1."""

    page: str
    line: int
    language: str
    text: str
    title: str = ""
    reason: str = ""  # why it is not run
    quotes: bool = False  # its title is a file in a folder of this repository
    indent: int = 0

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block and the lines that are shown below it.

    `start` and `stop` are the lines of the block that hold what is shown.
    """

    text: str
    shown: tuple[str, ...]
    start: int
    stop: int


def blocks_of(root: Path, page: str) -> list[Block]:
    """The fenced blocks of a page, in their order. Raises ValueError where one is not closed."""
    lines = (root / page).read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    k = 0
    while k < len(lines):
        fence = _FENCE.match(lines[k])
        if fence is None:
            k += 1
            continue
        closing = fence["indent"] + fence["ticks"]
        try:
            end = next(n for n in range(k + 1, len(lines)) if lines[n].rstrip() == closing)
        except StopIteration:
            raise ValueError(f"{page}:{k + 1}: this block is not closed") from None
        text = textwrap.dedent("\n".join(lines[k + 1 : end]))
        title = _TITLE.search(fence["rest"])
        found.append(
            Block(
                page=page,
                line=k + 1,
                language=fence["language"] or ("console" if text.startswith("$ ") else ""),
                text=text,
                title=title[1] if title else "",
                reason=_reason(lines[:k]),
                quotes=title is not None and "/" in title[1] and (root / title[1]).is_file(),
                indent=len(fence["indent"]),
            )
        )
        k = end + 1
    return found


def _reason(before: list[str]) -> str:
    """Why the block after these lines is not run; a blank line may stand between."""
    last = next((line for line in reversed(before[-2:]) if line.strip()), "")
    said = _REASON.match(last)
    return said[1] if said else ""


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block (`$ …`), or of a bash block: each line, nothing shown."""
    lines = block.text.splitlines()
    if block.language == "bash":
        return [Command(block.text, (), len(lines), len(lines))]
    starts = [k for k, line in enumerate(lines) if line.startswith("$ ")]
    found = []
    for k, after in zip(starts, [*starts[1:], len(lines)], strict=True):
        stop = k + 1
        while lines[stop - 1].endswith("\\"):
            stop += 1
        text = "\n".join([lines[k][2:], *lines[k + 1 : stop]])
        found.append(Command(text, tuple(lines[stop:after]), stop, after))
    return found


def with_shown(block: Block, shown: dict[Command, list[str]]) -> list[str]:
    """The lines of a block with other outputs."""
    lines = block.text.splitlines()
    for command in reversed(commands_of(block)):
        if command in shown:
            lines[command.start : command.stop] = shown[command]
    return lines


def rewrite(root: Path, changed: dict[Block, list[str]]) -> None:
    """Write other texts into blocks of one page, the last first so that lines keep their places."""
    for block in sorted(changed, key=lambda each: -each.line):
        path = root / block.page
        lines = path.read_text(encoding="utf-8").splitlines()
        length = len(block.text.splitlines())
        pad = " " * block.indent
        lines[block.line : block.line + length] = [(pad + x).rstrip() for x in changed[block]]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
