"""Figures as HTML: the plot, its note, and all of its numbers in a table beneath."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from dlcheck.model import Figure
from dlcheck.reporting.coverage import Cell
from dlcheck.reporting.detail import Detail
from dlcheck.reporting.markup import Child, Markup, join, tag
from dlcheck.reporting.numbers import typeset
from dlcheck.reporting.svg import draw
from dlcheck.reporting.tables import link, table


def gallery(cells: Sequence[Cell], detail: Detail) -> Markup | None:
    """Every figure of a run, each once, with the trial that it comes from."""
    every = list(_figures(cells))
    found = every[: detail.figures]
    if not found:
        return None
    series = sum(len(figure.series) for _, figure in found)
    points, tips = _share(detail.points, series, 12, 200), _share(detail.tips, series, 2, 60)
    rows = _share(detail.numbers, len(found), 8, 60)
    shown = []
    first: set[str] = set()
    for k, (cell, figure) in enumerate(found):
        told = cell.anchor and cell.anchor not in first
        anchor = f"{cell.anchor}.figure" if told else None
        first.add(cell.anchor)
        shown.append(plot(figure, f"figure{k}", cell, anchor, points=points, tips=tips, rows=rows))
    left = len(every) - len(found)
    note = tag("p", f"{left:,} more figures are in the record.", class_="quiet") if left else None
    return join(tag("div", shown, class_="gallery"), note)


def _share(budget: int, parts: int, least: int, most: int) -> int:
    """What each part may take of a budget."""
    return max(least, min(most, budget // max(parts, 1)))


def _figures(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Figure]]:
    """Devices and dtypes often draw the same figure: of one cell and title the gravest is kept."""
    for cell in cells:
        titles: set[str] = set()
        for outcome in (*cell.gravest, *cell.outcomes):
            for figure in outcome.figures:
                if figure.title not in titles:
                    titles.add(figure.title)
                    yield cell, figure


def anchors(cells: Sequence[Cell], detail: Detail) -> frozenset[str]:
    """The cells that have a figure on the page."""
    return frozenset(cell.anchor for cell, _ in islice(_figures(cells), detail.figures))


def plot(
    figure: Figure,
    name: str,
    cell: Cell,
    anchor: str | None,
    *,
    points: int,
    tips: int,
    rows: int,
) -> Markup:
    """One figure with caption, note and table. anchor: what trials link to."""
    origin: list[Child] = [tag("span", cell.subject, class_="subject"), " ", link(cell)]
    return tag(
        "figure",
        tag("figcaption", tag("b", figure.title), origin),
        tag("div", draw(figure, name, points, tips), class_="scroll"),
        tag("p", figure.note, class_="quiet") if figure.note else None,
        tag("details", tag("summary", "Numbers"), numbers(figure, rows), class_="data"),
        id=anchor,
    )


def numbers(figure: Figure, rows: int) -> Markup:
    """The points as a table: a column per series where they share their x, else a long list."""
    series = dict(figure.series)
    places = [tuple(x for x, _ in points) for points in series.values()]
    if not any(places):
        return tag("p", "No points.", class_="quiet")
    if all(repr(place) == repr(places[0]) for place in places):  # NaN is like NaN here
        head = [figure.x or "x", *(name or figure.y or "y" for name in series)]
        body: list[list[Child]] = [
            [typeset(x), *(typeset(points[k][1], 4) for points in series.values())]
            for k, x in enumerate(places[0])
        ]
    else:
        head = ["series", figure.x or "x", figure.y or "y"]
        body = [
            [name, typeset(x), typeset(y, 4)] for name, points in series.items() for x, y in points
        ]
    kept = body[:: -(-len(body) // rows)]
    note = f"{len(kept)} of {len(body):,} rows; the record holds them all."
    return join(
        table(head, kept, "numeric"),
        tag("p", note, class_="quiet") if len(kept) < len(body) else None,
    )
