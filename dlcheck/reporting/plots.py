"""Figures as HTML: the plot, its note, and all of its numbers in a table beneath."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlcheck.model import Figure
from dlcheck.reporting.coverage import Cell
from dlcheck.reporting.markup import Child, Markup, join, tag
from dlcheck.reporting.numbers import counted, typeset
from dlcheck.reporting.svg import draw, thinned
from dlcheck.reporting.tables import link, table

_ROWS = 60  # of a table; the record holds every point
_BUDGET = 6000  # points drawn on the whole page


def gallery(cells: Sequence[Cell]) -> Markup | None:
    """Every figure of a run, each once, with the trial that it comes from."""
    found = list(_figures(cells))
    if not found:
        return None
    series = sum(len(figure.series) for _, figure in found)
    limit = max(12, min(200, _BUDGET // max(series, 1)))
    first: set[str] = set()
    shown = []
    for k, (cell, figure) in enumerate(found):
        anchor = None if cell.anchor in first else f"{cell.anchor}.figure"
        first.add(cell.anchor)
        shown.append(plot(figure, f"figure{k}", cell, anchor, limit))
    return tag("div", shown, class_="gallery")


def _figures(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Figure]]:
    """Devices and dtypes often draw the same figure: of one cell and title the gravest is kept."""
    for cell in cells:
        titles: set[str] = set()
        for outcome in (*cell.gravest, *cell.outcomes):
            for figure in outcome.figures:
                if figure.title not in titles:
                    titles.add(figure.title)
                    yield cell, figure


def anchors(cells: Sequence[Cell]) -> frozenset[str]:
    """The cells that have a figure."""
    return frozenset(cell.anchor for cell, _ in _figures(cells))


def plot(figure: Figure, name: str, cell: Cell | None, anchor: str | None, limit: int) -> Markup:
    """One figure with caption, note and table. anchor: what trials link to."""
    origin = [tag("span", cell.subject, class_="subject"), " ", link(cell)] if cell else None
    return tag(
        "figure",
        tag("figcaption", tag("b", figure.title), origin),
        tag("div", draw(figure, name, limit), class_="scroll"),
        tag("p", figure.note, class_="quiet") if figure.note else None,
        tag("details", tag("summary", "Numbers"), numbers(figure), class_="data"),
        id=anchor,
    )


def numbers(figure: Figure, rows: int = _ROWS) -> Markup:
    """The points as a table: a column per series where they share their x, else a long list."""
    series = dict(figure.series)
    places = [tuple(x for x, _ in points) for points in series.values()]
    if not any(places):
        return tag("p", "No points.", class_="quiet")
    if all(place == places[0] for place in places):
        head = [figure.x or "x", *(name or figure.y or "y" for name in series)]
        body: list[list[Child]] = [
            [typeset(x), *(typeset(points[k][1], 4) for points in series.values())]
            for k, x in enumerate(places[0])
        ]
    else:
        head = ["series", figure.x or "x", figure.y or "y"]
        share = max(8, rows // len(series))
        body = [
            [name, typeset(x), typeset(y, 4)]
            for name, points in series.items()
            for x, y in (thinned(points, share) if len(points) > share else points)
        ]
    total = len(body)
    if total > max(rows, 8 * len(series)):
        body = body[:: -(-total // rows)]
    told = sum(len(points) for points in series.values())
    note = f"Of {counted(told, 'point')} not all are listed; the record holds them."
    cut = len(body) < (told if head[0] == "series" else total)
    return join(table(head, body, "numeric"), tag("p", note, class_="quiet") if cut else None)
