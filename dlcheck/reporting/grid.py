"""The coverage grid as HTML: checks against subjects, one table per kind of a suite."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from dlcheck.model import Outcome, Verdict
from dlcheck.reporting.coverage import Cell, Grid, grids_of, suite_name
from dlcheck.reporting.markup import Markup, breakable, join, tag
from dlcheck.reporting.numbers import counted
from dlcheck.reporting.trials import WORDS

_LEVEL = 3  # from so many subjects on, their names stand upright
_SHOWN = tuple(WORDS)


def coverage(cells: Sequence[Cell], limit: int, claims: Mapping[str, str]) -> Markup:
    """All suites, each with a heading, its verdicts and its tables.

    claims: check → the anchor of its claim. limit: cells of all tables together; what is in none
    is counted.
    """
    suites: dict[str, list[Grid]] = defaultdict(list)
    for grid in grids_of(cells):
        suites[grid.suite].append(grid)
    parts = []
    for suite, grids in suites.items():
        shown = []
        for grid in grids:
            if len(grid.cells) <= limit:
                shown.append(grid)
                limit -= len(grid.cells)
        parts.append(_suite(suite, grids, shown, claims))
    return join(parts)


def _suite(
    suite: str, grids: Sequence[Grid], shown: Sequence[Grid], claims: Mapping[str, str]
) -> Markup:
    outcomes = [each for grid in grids for cell in grid.cells.values() for each in cell.outcomes]
    left = sum(len(grid.cells) for grid in grids) - sum(len(grid.cells) for grid in shown)
    return join(
        tag("h3", suite_name(suite), " ", tag("small", tally(outcomes))),
        tag("div", [_table(grid, claims) for grid in shown], class_="grids"),
        tag("p", f"{left:,} further cells are in the record.", class_="quiet") if left else None,
    )


def tally(outcomes: Sequence[Outcome]) -> str:
    """`✗ 2  ✓ 40  – 3`: a count per verdict, in words for none are needed."""
    found = {verdict: sum(each.verdict is verdict for each in outcomes) for verdict in _SHOWN}
    return ", ".join(f"{count:,} {WORDS[verdict]}" for verdict, count in found.items() if count)


def _table(grid: Grid, claims: Mapping[str, str]) -> Markup:
    upright = len(grid.subjects) >= _LEVEL
    heads = [
        tag("th", tag("span", subject, class_="upright" if upright else None), scope="col")
        for subject in grid.subjects
    ]
    title = f"{grid.kind}: {counted(len(grid.checks), 'check')}"
    table = tag(
        "table",
        tag("caption", title, f", {counted(len(grid.subjects), 'subject')}"),
        tag("thead", tag("tr", tag("td"), heads)),
        tag("tbody", [_row(grid, check, claims.get(check)) for check in grid.checks]),
        class_="grid",
    )
    return tag("div", table, class_="scroll", role="group", aria_label=title, tabindex=0)


def _row(grid: Grid, check: str, claim: str | None) -> Markup:
    cells = [grid.cells.get((check, subject)) for subject in grid.subjects]
    text = tag("a", breakable(check), href=f"#{claim}") if claim else breakable(check)
    name = tag("th", text, scope="row", class_="check")
    return tag("tr", name, [tag("td", _linked(cell)) for cell in cells])


def _linked(cell: Cell | None) -> Markup | None:
    if cell is None:
        return None
    label = cell.label
    close = cell.verdict is Verdict.PASSED and (cell.tightness or 0) >= 0.5
    return tag(
        "a" if cell.anchor else "span",
        cell.verdict.symbol,
        tag("i", label) if label else None,
        href=f"#{cell.anchor}" if cell.anchor else None,
        class_=cell.verdict.value + (" close" if close else ""),
        aria_label=f"{cell.verdict.symbol}{label} {WORDS[cell.verdict]}" if cell.anchor else None,
    )


def legend() -> Markup:
    """What the symbols and numbers of a cell mean."""
    symbols = [
        tag("span", tag("b", verdict.symbol, class_=verdict.value), f" {word}")
        for verdict, word in WORDS.items()
    ]
    return tag("p", join(_spaced(symbols)), class_="key")


def _spaced(parts: Sequence[Markup]) -> Iterator[Markup]:
    for part in parts:
        yield join(part, " ")
