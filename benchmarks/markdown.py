"""Tables in Markdown, and a report whose sections are measured at different times."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a heading; note stands below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""

    def __str__(self) -> str:
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        nothing = ["none", *[""] * (len(self.columns) - 1)]
        lines += map(_line, self.rows or [nothing])
        return "\n".join([*lines, "", self.note, ""] if self.note else [*lines, ""])


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def figure(value: float) -> str:
    """Three digits, without an exponent where that is short."""
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.1e}"


def circumstances(device: torch.device) -> str:
    """Where, when and how: one line."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    command = shlex.join(["python", *(_relative(word) for word in sys.argv)])
    return (
        f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, "
        f"{datetime.date.today().isoformat()}: `{command}`"
    )


def _relative(word: str) -> str:
    path, here = Path(word), Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and here in path.parents else word


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def section(title: str, where: str, tables: Iterable[Table], text: str = "") -> str:
    """A part of a report. where: as `circumstances` says it."""
    parts = [f"## {title}", "", where, "", *([text, ""] if text else []), *map(str, tables)]
    return "\n".join(parts).rstrip() + "\n"


def replace_section(file: Path, heading: str, written: str) -> None:
    """Put a section into a report in place of the one with its title, or after the others."""
    old = file.read_text() if file.exists() else f"# {heading}\n"
    head, *parts = old.split("\n## ")
    kept = {part.split("\n", 1)[0]: f"## {part.rstrip()}\n" for part in parts}
    kept[written.split("\n", 1)[0].removeprefix("## ")] = written
    file.write_text("\n".join([head.rstrip() + "\n", *kept.values()]))
