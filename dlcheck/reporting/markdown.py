"""A run as Markdown, for a pull request or a job summary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape

from dlcheck.model import Outcome, Verdict
from dlcheck.reporting.capped import capped_report
from dlcheck.reporting.coverage import Cell, Grid, cells_of, grids_of, reasons, suite_name
from dlcheck.reporting.markup import clean
from dlcheck.reporting.numbers import counted
from dlcheck.reporting.report import Report
from dlcheck.reporting.speeds import HEAD as SPEED_HEAD
from dlcheck.reporting.speeds import SPEEDS, gravest_first
from dlcheck.reporting.speeds import cells as speed_cells
from dlcheck.reporting.statements import ruling_of, statements_of
from dlcheck.reporting.terminal import describe, told

LIMIT = 60_000  # bytes: GitHub takes 1 MiB in a job's summary and 65,536 characters in a comment
_FAILURES = 50  # a longer list is not read
_TOLD = 10  # of them in full
_WIDE = 12  # subjects beside each other; more stand in further tables
_TEXT = 160
_MARKUP = re.compile(r"([\\*_\[\]|~$])")  # what acts in the middle of a line, on GitHub too


def render_markdown(report: Report, limit: int = LIMIT) -> str:
    """Verdict, what failed, what was not run, benchmarks, statements, and coverage tables.

    limit: bytes. What tells most comes first; what does not fit is counted, never cut in two.
    """
    report = capped_report(report)
    cells = cells_of(report.outcomes)
    parts = [
        *_head(report),
        *_failures("Failures", report.failures),
        *_failures("Inconclusive", [o for o in report.outcomes if _is_loose(o)]),
        *_reasons(report),
        *_benchmarks(report),
        *_statements(cells),
        *_coverage(cells),
    ]
    return "\n\n".join(fitting(parts, limit)) + "\n"


def _head(report: Report) -> Iterator[str]:
    sign = "✓" if report.passed else "✗" if report.headline in ("Failed", "Errored") else "?"
    yield f"## {sign} dlcheck: {report.headline.lower()}"
    yield f"{report.verdict_line}."
    if report.incomplete:
        yield f"Careful: {text(report.incomplete, 400)}."


def fitting(parts: Sequence[str], limit: int) -> Iterator[str]:
    """The parts up to the limit, and how many were left out; of a table the rows that fit."""
    room = limit - 200  # for what is said of the rest
    for k, part in enumerate(parts):
        size = len(part.encode()) + 2
        if size <= room:
            yield part
            room -= size
            continue
        kept, rows = ("", "") if part.startswith("<details") else _rows_that_fit(part, room)
        if kept:
            yield kept
        left = len(parts) - k - bool(rows)
        rest = counted(left, "further part") if left else ""
        told = " and ".join(said for said in (rows, rest) if said)
        yield f"… {told} left out: the whole is in the report (index.html)."
        return


def _rows_that_fit(part: str, room: int) -> tuple[str, str]:
    lines, size = part.split("\n"), 0
    for k, line in enumerate(lines):
        size += len(line.encode()) + 1
        if size > room:
            kept = "\n".join(lines[:k]) if k > 2 else ""  # a head alone is no table
            return kept, counted(len(lines) - max(k, 2), "row")
    return part, ""


def _is_loose(outcome: Outcome) -> bool:
    return outcome.verdict is Verdict.INCONCLUSIVE


def _failures(heading: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    if not outcomes:
        return
    yield f"### {heading}"
    rows = [
        [
            each.verdict.symbol,
            text(each.subject),
            code(each.check),
            text(each.point),
            text(told(each)),
            code(each.reproduce),
        ]
        for each in outcomes[:_FAILURES]
    ]
    yield table(["", "subject", "check", "point", "measured", "run again"], rows)
    if len(outcomes) > _FAILURES:
        yield f"… and {len(outcomes) - _FAILURES:,} more."
    yield from map(_in_full, outcomes[:_TOLD])


def _in_full(outcome: Outcome) -> str:
    """The message as a terminal shows it, folded away."""
    name = _in_html(f"{outcome.subject}: {outcome.check} [{outcome.point}]")
    message = _in_html(describe(outcome))
    # The empty line lets <pre> begin a block, which no empty line of the message ends.
    return f"<details><summary>{name}</summary>\n\n<pre>\n{message}\n</pre>\n\n</details>"


def _in_html(foreign: str) -> str:
    return escape(clean(foreign), quote=False).replace("@", "&#64;")  # no one is to be notified


def _reasons(report: Report) -> Iterator[str]:
    found = list(reasons(report.outcomes).items())
    if found:
        yield "\n".join(f"- {count:,} not run: {text(reason)}" for reason, count in found[:5])


def _benchmarks(report: Report) -> Iterator[str]:
    if not report.benchmarks:
        return
    yield "### Benchmarks"
    shown = sorted(report.benchmarks, key=gravest_first)[:_FAILURES]
    rows = []
    for each in shown:
        name, *rest = map(text, speed_cells(each))
        rest[1] += f": {text(each.refused)}" if each.refused else ""
        rows.append([SPEEDS[each.verdict], name, *rest])
    yield table(["", *SPEED_HEAD], rows)
    if left := len(report.benchmarks) - len(shown):
        yield f"… and {left:,} more."


def _statements(cells: Sequence[Cell]) -> Iterator[str]:
    found = statements_of(cells)
    if not found:
        return
    yield "### The textbook's statements"
    rows = [
        [
            each.verdict.symbol,
            text(each.statement.id),
            text(each.statement.says),
            text(ruling_of(each)),
            "<br>".join(text(said) for said in each.measured(counterexample=False)[:2]),
            "<br>".join(text(said) for said in each.measured(counterexample=True)[:2]),
        ]
        for each in found
    ]
    yield table(["", "", "the textbook says", "it is", "measured", "where it fails"], rows)


def _coverage(cells: Sequence[Cell]) -> Iterator[str]:
    grids = grids_of(cells)
    if not grids:
        return
    yield "### Coverage"
    yield "The number is the error as a part of the allowed bound; 0 is exact."
    for grid in grids:
        yield f"**{text(suite_name(grid.suite))}**, {text(grid.kind)}"
        yield from _grid(grid)


def _grid(grid: Grid) -> Iterator[str]:
    for first in range(0, len(grid.subjects), _WIDE):
        subjects = grid.subjects[first : first + _WIDE]
        rows = [
            [code(check), *(_cell(grid.cells.get((check, subject))) for subject in subjects)]
            for check in grid.checks
        ]
        yield table(["check", *(text(subject) for subject in subjects)], rows)


def _cell(cell: Cell | None) -> str:
    return f"{cell.verdict.symbol} {cell.label}".strip() if cell is not None else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells that are Markdown already, as a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(foreign: str, limit: int = _TEXT) -> str:
    """Text of strangers on one line, with nothing that Markdown or HTML would act on."""
    line = _on_one_line(foreign, limit).replace("&", "&amp;").replace("<", "&lt;")
    line = _MARKUP.sub(r"\\\1", line).replace("`", "&#96;")
    return line.replace("@", "&#64;")  # no one is to be notified


def code(foreign: str, limit: int = 400) -> str:
    """Text of strangers as code on one line, in a fence that it does not contain."""
    line = _on_one_line(foreign, limit)
    if not line:
        return ""
    if "\\|" in line:  # in a table no fence keeps a backslash and a bar apart
        return f"<code>{text(foreign, limit)}</code>"
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}".replace("|", "\\|")


def _on_one_line(foreign: str, limit: int) -> str:
    line = " ".join(clean(foreign).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
