"""Figures as inline SVG: lines, stairs and marks, coloured by the page for light and dark.

Series differ by colour and by dash or shape, never by colour alone. Points that have no place on
an axis (NaN, infinities, zeros under a logarithm) break the line.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlcheck.model import Figure
from dlcheck.reporting.axes import Axis, axis, drawable
from dlcheck.reporting.markup import Markup, clean, tag
from dlcheck.reporting.numbers import counted, typeset

WIDTH, HEIGHT = 560, 330
COLOURS = 8
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_LETTER = 6.1  # the width of an average letter at the size of the labels
_LEGEND_ROW = 18
_DOTTED = 16  # a line of so few points shows where they are
_NAMED = 12  # more series than this are told apart in the table

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Plot:
    """A figure with its axes."""

    figure: Figure
    x: Axis
    y: Axis
    top: float


def draw(figure: Figure, anchor: str, limit: int = 200, tips: int = 60) -> Markup:
    """The figure as an SVG element.

    anchor: makes its ids unique. limit: points per series. tips: how many of them tell their
    numbers under the pointer; the table beneath tells all, and to everyone.
    """
    plot = _planned(figure)
    title, description = f"{anchor}-title", f"{anchor}-text"
    return tag(
        "svg",
        tag("title", figure.title, id=title),
        tag("desc", describe(figure), id=description),
        _grid(plot),
        _legend(figure),
        tag("g", _series(plot, limit), class_="data"),
        tag("g", _tips(plot, tips), class_="tips"),
        role="img",
        aria_labelledby=f"{title} {description}",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
    )


def describe(figure: Figure) -> str:
    """The plot in words, for those who do not see it."""
    told = [
        f"{figure.y or 'y'} against {figure.x or 'x'}"
        + (", logarithmic in x" if figure.log_x else "")
        + (", logarithmic in y" if figure.log_y else "")
    ]
    for name, points in figure.series.items():
        heights = [y for _, y in points if drawable(y, log=figure.log_y)]
        span = f", {typeset(min(heights))} to {typeset(max(heights))}" if heights else ""
        told.append(f"{name}: {counted(len(points), 'point')}{span}")
    return "; ".join(told[: _NAMED + 1]) + ("; …" if len(told) > _NAMED + 1 else "")


def thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """At most so many points: of each stretch the lowest and the highest, so that no peak goes."""
    if len(points) <= max(limit, 2):
        return list(points)
    kept: list[Point] = []
    stretches = max(1, limit // 2)
    for k in range(stretches):
        part = points[k * len(points) // stretches : (k + 1) * len(points) // stretches]
        extremes = {
            min(range(len(part)), key=lambda i: part[i][1]),
            max(range(len(part)), key=lambda i: part[i][1]),
        }
        kept += [part[i] for i in sorted(extremes)]
    return kept


def _planned(figure: Figure) -> _Plot:
    points = [
        point
        for series in figure.series.values()
        for point in series
        if drawable(point[0], log=figure.log_x) and drawable(point[1], log=figure.log_y)
    ]
    top = 26 + _LEGEND_ROW * len(_legend_rows(figure))
    y = axis([p[1] for p in points], start=HEIGHT - 46, end=top, log=figure.log_y, zero=True)
    left = 20 + _LETTER * max((len(label) for label in y.labels), default=1)
    x = axis([p[0] for p in points], start=left, end=WIDTH - 16, log=figure.log_x, zero=False)
    return _Plot(figure, x, y, top)


def _grid(plot: _Plot) -> Markup:
    """Axes, grid lines, ticks and the names of the axes."""
    x, y, figure = plot.x, plot.y, plot.figure
    across = f"{_px(x.start)} {{}}H{_px(x.end)}"
    lines = "".join("M" + across.format(_px(y(tick))) for tick in y.ticks)
    base = "M" + across.format(_px(y.start))
    stubs = "".join(f"M{_px(x(tick))} {_px(y.start)}v4" for tick in x.ticks)
    rows = [
        _label(label, x.start - 8, y(tick) + 4)
        for tick, label in zip(y.ticks, y.labels, strict=True)
    ]
    columns = [
        _label(label, x(tick), y.start + 18)
        for tick, label in _apart(x, zip(x.ticks, x.labels, strict=True))
    ]
    return tag(
        "g",
        tag("path", d=lines) if lines else None,
        tag("path", d=base + stubs, class_="axis"),
        tag("g", rows, text_anchor="end"),
        tag("g", columns, text_anchor="middle"),
        _label(figure.y, 2, 14, class_="name"),
        _label(figure.x, (x.start + x.end) / 2, HEIGHT - 6, class_="name centred"),
        class_="frame",
    )


def _apart(x: Axis, labelled: Iterator[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """The labels that do not touch the one before."""
    edge = -1e9
    for tick, label in labelled:
        half = _LETTER * len(label) / 2
        if x(tick) - half > edge + 6:
            yield tick, label
            edge = x(tick) + half


def _label(text: str, x: float, y: float, class_: str | None = None) -> Markup | None:
    return tag("text", text, x=_px(x), y=_px(y), class_=class_) if text else None


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _legend_rows(figure: Figure) -> list[list[tuple[int, str]]]:
    """The names of the series in rows that fit; none for a single series or for very many."""
    names = [_shortened(name) for name in figure.series]
    if len(names) < 2 or len(names) > _NAMED:
        return []
    rows: list[list[tuple[int, str]]] = []
    room = 0.0
    for k, name in enumerate(names):
        needed = _entry_width(name)
        if needed > room:
            rows.append([])
            room = WIDTH - 24.0
        rows[-1].append((k, name))
        room -= needed
    return rows


def _shortened(name: str) -> str:
    name = clean(name)
    return name if len(name) <= 60 else name[:59] + "…"


def _entry_width(name: str) -> float:
    return 44 + _LETTER * len(name)


def _legend(figure: Figure) -> Markup:
    entries: list[Markup | None] = []
    for row, names in enumerate(_legend_rows(figure)):
        x, y = 2.0, 30 + _LEGEND_ROW * row
        for k, name in names:
            if _is_marked(figure, k):
                swatch = tag("path", d=_shape(k, x + 11, y - 4), class_="mark")
            else:
                swatch = tag("path", d=f"M{_px(x)} {y - 4}h22", **_stroke(k))
            entries.append(tag("g", swatch, _label(name, x + 28, y), class_=f"s{k % COLOURS}"))
            x += _entry_width(name)
    return tag("g", entries, class_="legend")


def _is_marked(figure: Figure, k: int) -> bool:
    return list(figure.series)[k] in figure.marks


def _is_stepped(figure: Figure, k: int) -> bool:
    return list(figure.series)[k] in figure.steps


def _series(plot: _Plot, limit: int) -> Iterator[Markup]:
    # Marks are drawn after the lines, so that measured points lie over a fitted curve.
    order = sorted(range(len(plot.figure.series)), key=lambda k: _is_marked(plot.figure, k))
    series = list(plot.figure.series.values())
    for k in order:
        share = limit / max(len(series[k]), 1)
        strokes = [thinned(run, round(share * len(run))) for run in _strokes(plot, series[k])]
        marked, stepped = _is_marked(plot.figure, k), _is_stepped(plot.figure, k)
        if stepped:
            strokes = [_stairs(stroke) for stroke in strokes]
        dotted = marked or (len(series[k]) <= _DOTTED and not stepped)
        lone = {stroke[0] for stroke in strokes if len(stroke) == 1}
        dots = [p for stroke in strokes for p in stroke] if dotted else sorted(lone)
        shapes = "".join(_shape(k, *p) if marked else _dot(*p) for p in dots)
        yield tag(
            "g",
            None if marked else _path(k, strokes),
            tag("path", d=shapes, class_="mark") if shapes else None,
            class_=f"s{k % COLOURS}",
        )


def _tips(plot: _Plot, limit: int) -> Iterator[Markup]:
    """Of every series points spread evenly, each with its numbers as a title."""
    figure = plot.figure
    for name, points in figure.series.items():
        seen = [
            point
            for point in points
            if drawable(point[0], log=plot.x.log) and drawable(point[1], log=plot.y.log)
        ]
        called = f"{_shortened(name)}: " if len(figure.series) > 1 else ""
        for x, y in seen[:: -(-len(seen) // limit) or 1]:
            told = f"{called}{figure.x or 'x'} {typeset(x)}, {figure.y or 'y'} {typeset(y, 4)}"
            yield tag("path", tag("title", told), d=f"M{_px(plot.x(x))} {_px(plot.y(y))}h.1")


def _strokes(plot: _Plot, points: Sequence[Point]) -> Iterator[list[Point]]:
    """Runs of points without a gap, in pixels."""
    stroke: list[Point] = []
    for x, y in points:
        if drawable(x, log=plot.x.log) and drawable(y, log=plot.y.log):
            stroke.append((plot.x(x), plot.y(y)))
        elif stroke:
            yield stroke
            stroke = []
    if stroke:
        yield stroke


def _stairs(stroke: Sequence[Point]) -> list[Point]:
    """Level from each point to the next one's x, and then up or down."""
    corners = [(b[0], a[1]) for a, b in itertools.pairwise(stroke)]
    return [p for pair in zip(stroke, corners, strict=False) for p in pair] + [*stroke[-1:]]


def _path(k: int, strokes: Sequence[Sequence[Point]]) -> Markup | None:
    steps = "".join(
        "M" + "L".join(f"{_px(x)} {_px(y)}" for x, y in stroke)
        for stroke in strokes
        if len(stroke) > 1
    )
    return tag("path", d=steps, **_stroke(k)) if steps else None


def _stroke(k: int) -> dict[str, str | None]:
    return {"class_": "line", "stroke_dasharray": _DASHES[k // COLOURS % len(_DASHES)] or None}


def _dot(x: float, y: float, radius: float = 2.4) -> str:
    arc = f"a{radius} {radius} 0 1 0"
    return f"M{_px(x - radius)} {_px(y)}{arc} {2 * radius} 0{arc} {-2 * radius} 0z"


def _shape(k: int, x: float, y: float) -> str:
    """Circle, square, triangle or diamond, by turns."""
    match k % 4:
        case 0:
            return _dot(x, y, 3.6)
        case 1:
            return f"M{_px(x - 3.3)} {_px(y - 3.3)}h6.6v6.6h-6.6z"
        case 2:
            return f"M{_px(x)} {_px(y - 4.4)}l4.2 7.4h-8.4z"
    return f"M{_px(x)} {_px(y - 4.6)}l4.6 4.6l-4.6 4.6l-4.6 -4.6z"
