"""What a terminal can show: colours, and how wide its lines are."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator
from typing import TextIO

_NARROWEST = 40
_UNBROKEN = ("  again ", "  subject ")  # what is copied stays on one line


def wants_color(stream: TextIO) -> bool:
    """NO_COLOR decides, then FORCE_COLOR, then whether the stream is a terminal.

    Source: no-color.org, force-color.org: set, and not empty.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int | None:
    """The columns of a terminal; None where lines need not fit, as in a file."""
    if not stream.isatty() and "COLUMNS" not in os.environ:
        return None
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def folded(text: str, width: int | None) -> str:
    """Lines that are too wide, broken between words and indented below their beginning."""
    if width is None:
        return text
    return "\n".join(part for line in text.split("\n") for part in _folded(line, width))


def _folded(line: str, width: int) -> Iterator[str]:
    if len(line) <= width or line.startswith(_UNBROKEN):
        yield line
        return
    indent = " " * min(len(line) - len(line.lstrip()) + 4, width // 3)
    yield from textwrap.wrap(
        line, width, subsequent_indent=indent, break_on_hyphens=False, drop_whitespace=True
    )
