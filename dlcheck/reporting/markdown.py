"""A run as Markdown, for a pull request or a job summary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dlcheck.model import Outcome, Verdict
from dlcheck.reporting.capped import capped_report
from dlcheck.reporting.coverage import Cell, Grid, cells_of, grids_of, reasons, suite_name
from dlcheck.reporting.markup import clean
from dlcheck.reporting.report import Report
from dlcheck.reporting.statements import ruling_of, statements_of
from dlcheck.reporting.terminal import told

_FAILURES = 50  # GitHub shows a summary of up to 1 MiB; a longer list is not read
_WIDE = 12  # subjects beside each other; more stand in further tables
_TEXT = 160
_MARKUP = re.compile(r"([\\*_\[\]|~$])")  # what acts in the middle of a line, on GitHub too


def render_markdown(report: Report) -> str:
    """Verdict, what failed, what was not run, and a coverage table per suite and kind."""
    report = capped_report(report)
    sign = "✓" if report.passed else "✗" if report.failures else "?"
    cells = cells_of(report.outcomes)
    parts = [
        f"## {sign} dlcheck: {report.headline.lower()}",
        f"{report.verdict_line}.",
        *_failures("Failures", report.failures),
        *_failures("Inconclusive", [o for o in report.outcomes if _is_loose(o)]),
        *_reasons(report),
        *_statements(cells),
        *_coverage(cells),
    ]
    return "\n\n".join(parts) + "\n"


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
    yield _table(["", "subject", "check", "point", "measured", "run again"], rows)
    if len(outcomes) > _FAILURES:
        yield f"… and {len(outcomes) - _FAILURES:,} more."


def _reasons(report: Report) -> Iterator[str]:
    found = list(reasons(report.outcomes).items())
    if found:
        yield "\n".join(f"- {count:,} not run: {text(reason)}" for reason, count in found[:5])


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
    yield _table(["", "", "the textbook says", "it is", "measured", "where it fails"], rows)


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
        yield _table(["check", *(text(subject) for subject in subjects)], rows)


def _cell(cell: Cell | None) -> str:
    return f"{cell.verdict.symbol} {cell.label}".strip() if cell is not None else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
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
