"""A study of batch sizes for people: the terminal's table, one offline page, a notebook's cell."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

from dlcheck.model import Figure
from dlcheck.reporting.batch_size_study import BatchSizeStudy, Interval, Point
from dlcheck.reporting.document import document, notebook
from dlcheck.reporting.markup import Child, Markup, tag
from dlcheck.reporting.numbers import clocked, counted, duration
from dlcheck.reporting.numbers import size_of as size_of
from dlcheck.reporting.plots import numbers
from dlcheck.reporting.svg import draw
from dlcheck.reporting.tables import table

HEAD = (
    "batch", "step", "rows/s", "memory", "cosine", "best lr", "steps", "rows shown", "to target",
)  # fmt: skip
_WIDTH = 96


# --- the terminal -------------------------------------------------------------------------------


def summary(study: BatchSizeStudy) -> str:
    """What to use, why, and the table behind it."""
    rows = [HEAD, *(_cells(study, point) for point in study.points)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines = [f"{line}{mark}" for line, mark in zip(lines, ["", *_marks(study)], strict=True)]
    parts = [
        f"{study.name} on {study.device}: {study.parameters:,} parameters, {study.rows:,} rows, "
        f"target loss {study.target:.4g} (from {study.start_loss:.4g})",
        "\n".join(lines),
        "\n".join(_wrapped(list(conclusions(study)), "• ")),
    ]
    if study.notes:
        parts.append("\n".join(_wrapped([f"{note}." for note in study.notes], "! ")))
    return "\n\n".join(parts)


def _wrapped(lines: Sequence[str], bullet: str) -> Iterator[str]:
    for line in lines:
        yield textwrap.fill(line, _WIDTH, initial_indent=bullet, subsequent_indent="  ")


def _marks(study: BatchSizeStudy) -> Iterator[str]:
    for point in study.points:
        marks = [
            "fastest" if point.size == study.fastest else "",
            "predicted" if point.size == study.checked else "",
            "over budget" if study.largest is not None and point.size > study.largest else "",
        ]
        told = ", ".join(mark for mark in marks if mark)
        yield f"  ← {told}" if told else ""


def _cells(study: BatchSizeStudy, point: Point) -> tuple[str, ...]:
    steps = f"{point.median_steps:,.0f}" if point.median_steps is not None else "—"
    if point.median_steps is None and point.cut_off:
        steps = "not reached"
    return (
        f"{point.size:,}",
        clocked(point.seconds) if point.seconds else "—",
        f"{point.throughput:,.0f}" if point.throughput else "—",
        size_of(point.bytes) if point.bytes else "—",
        f"{point.cosine:.2f}" if point.cosine is not None else "—",
        f"{point.rate:.3g}" if point.rate else "—",
        steps,
        f"{point.samples:,.0f}" if point.samples is not None else "—",
        clocked(point.seconds_to_target) if point.seconds_to_target is not None else "—",
    )


def conclusions(study: BatchSizeStudy) -> Iterator[str]:
    """The findings in sentences, the answer first."""
    fits = study.fits
    if study.recommended is not None:
        best = study.point(study.recommended)
        rate = f", learning rate {best.rate:.3g}" if best.rate else ""
        yield (
            f"Use a batch of {best.size:,}{rate}: the target is reached in "
            f"{clocked(best.seconds_to_target or 0)}, the least of the sizes that were measured."
        )
    else:
        yield "No batch size is recommended: too few reached the target."
    if study.predicted is not None and study.agreement is not None:
        agrees = "agrees" if study.agreement <= 2 else "does not agree"
        within = _within(study.predicted_interval)
        yield (
            f"Predicted: B* = √(B½ B_c) = {study.predicted:,.0f} {within}; "
            f"it {agrees} with the measured optimum {study.fastest:,} "
            f"(a factor of {study.agreement:.2g})."
        )
    if fits.knee is not None and fits.fixed_seconds is not None:
        yield (
            f"Time: a step takes {clocked(fits.fixed_seconds)} and "
            f"{clocked(fits.seconds_per_row or 0)} a row; below the knee B½ = {fits.knee:,.0f} "
            f"{_within(fits.knee_interval)} further rows are nearly free."
        )
    if fits.critical is not None and fits.least_steps is not None:
        yield (
            f"Steps: S(B) = {fits.least_steps:,.0f} (1 + {fits.critical:,.0f}/B), B_c "
            f"{_within(fits.critical_interval)}: below B_c twice the batch saves nearly half of "
            "the steps, above it rows are wasted."
        )
    yield from _further(study)


def _further(study: BatchSizeStudy) -> Iterator[str]:
    fits = study.fits
    if fits.noise_scale is not None:
        later = fits.noise_scale_trained
        trained = f", {_count(later)} where the target is reached" if later is not None else ""
        yield (
            f"Gradient noise: B_n = {_count(fits.noise_scale)} at the start{trained}; at ten times "
            "B_n a bigger batch hardly changes the direction (cosine 0.95)."
        )
    if fits.bytes_per_row is not None and fits.fixed_bytes is not None:
        fit = ""
        if study.largest is not None and study.budget is not None:
            fit = f"; the largest batch within {size_of(study.budget)} is {study.largest:,}"
        yield (f"Memory: {size_of(fits.fixed_bytes)} and {size_of(fits.bytes_per_row)} a row{fit}.")
    if study.scaling is not None and study.scaling.orders:
        orders = ", ".join(f"{order:.2f}" for order in study.scaling.orders)
        yield (
            f"Linear scaling of the learning rate: {study.scaling.steps} steps (η, "
            f"{study.scaling.size}) against one of {study.scaling.steps} times both differ by "
            f"order {orders} in η; 2 where the gradient is smooth: right to first order only."
        )


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else "more rows than there are"


def _within(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"[{interval[0]:,.0f}, {interval[1]:,.0f}]"


# --- figures ------------------------------------------------------------------------------------


def figures(study: BatchSizeStudy) -> Iterator[Figure]:
    """Throughput, memory, noise, direction, steps, time to the target, and the frontier."""
    yield from (each for each in _all_figures(study) if any(each.series.values()))


def _all_figures(study: BatchSizeStudy) -> Iterator[Figure]:
    fits, grid = study.fits, _grid(study)
    batch = {"x": "batch size B", "log_x": True, "log_y": True, "marks": ("measured",)}
    a, b = fits.fixed_seconds or 0.0, fits.seconds_per_row or 0.0
    yield Figure(
        title="Throughput",
        y="rows a second",
        series={
            "measured": _series(study, "throughput"),
            "B / (a + bB)": [(size, size / (a + b * size)) for size in grid if a + b * size > 0],
            "half of the limit": [(size, 0.5 / b) for size in grid] if b else [],
        },
        note=f"The knee is at B½ = {fits.knee:,.0f}." if fits.knee is not None else "",
        **batch,  # type: ignore[arg-type]
    )
    yield Figure(
        title="Memory of a step",
        y="bytes",
        series={
            "measured": _series(study, "bytes"),
            "a + bB": [(s, (fits.fixed_bytes or 0) + (fits.bytes_per_row or 0) * s) for s in grid],
            **({"budget": [(s, study.budget) for s in grid]} if study.budget else {}),
        },
        **batch,  # type: ignore[arg-type]
    )
    yield Figure(
        title="Noise of the gradient",
        y="E ‖g_B − G‖²",
        series={
            "measured": _series(study, "variance"),
            "(tr Σ/B)(N − B)/(N − 1)": _series(study, "variance_law"),
        },
        **batch,  # type: ignore[arg-type]
    )
    yield Figure(
        title="Direction of the gradient",
        x="batch size B",
        y="cosine with the full gradient",
        series={"measured": _series(study, "cosine"), "law": _series(study, "cosine_law")},
        log_x=True,
        marks=("measured",),
    )
    yield from _convergence(study, grid, batch)


def _convergence(
    study: BatchSizeStudy, grid: Sequence[float], batch: dict[str, object]
) -> Iterator[Figure]:
    fits = study.fits
    law = {}
    if fits.least_steps is not None and fits.critical is not None:
        s, c = fits.least_steps, fits.critical
        law = {size: s * (1 + c / size) for size in grid}
    a, b = fits.fixed_seconds or 0.0, fits.seconds_per_row or 0.0
    for title, unit, name, factor in (
        ("Steps to the target", "steps", "median_steps", lambda size: 1.0),
        ("Rows to the target", "rows", "samples", lambda size: size),
        ("Time to the target", "seconds", "seconds_to_target", lambda size: a + b * size),
    ):
        yield Figure(
            title=title,
            y=unit,
            series={
                "measured": _series(study, name),
                "law": [(size, steps * factor(size)) for size, steps in law.items()],
            },
            **batch,  # type: ignore[arg-type]
        )
    yield Figure(
        title="Rows against time: the frontier",
        x="seconds to the target",
        y="rows shown",
        series=(frontier := _frontier(study)),
        marks=tuple(frontier),
        log_x=True,
        log_y=True,
        note="Small batches show fewer rows, large ones take fewer steps: no size has both.",
    )
    yield Figure(
        title="Oscillation of the loss",
        y="jump from step to step",
        series={"measured": _series(study, "oscillation")},
        note="At one learning rate for all sizes, where the target is reached.",
        **batch,  # type: ignore[arg-type]
    )


def _frontier(study: BatchSizeStudy) -> dict[str, list[tuple[float, float]]]:
    return {
        f"B = {point.size:,}": [(point.seconds_to_target, point.samples)]
        for point in study.points
        if point.seconds_to_target is not None and point.samples is not None
    }


def _grid(study: BatchSizeStudy) -> list[float]:
    low, high = study.points[0].size, study.points[-1].size
    return [low * (high / low) ** (k / 40) for k in range(41)] if high > low else [float(low)]


def _series(study: BatchSizeStudy, name: str) -> list[tuple[float, float]]:
    found = ((float(point.size), getattr(point, name)) for point in study.points)
    return [(size, value) for size, value in found if value is not None]


# --- HTML ---------------------------------------------------------------------------------------


def page(study: BatchSizeStudy) -> str:
    """The study as one offline page."""
    title = f"dlcheck: batch sizes of {study.name}"
    return document(title, [tag("header", _header(study)), tag("main", _body(study), id="content")])


def _header(study: BatchSizeStudy) -> Iterator[Child]:
    yield tag("p", "dlcheck", class_="brand")
    yield tag("h1", _headline(study))
    yield tag("p", f"{study.name} on {study.device}", class_="verdict")
    facts = (
        f"{study.parameters:,} parameters · {study.rows:,} rows · target loss {study.target:.4g} · "
        f"profile {study.profile} · seed {study.seed} · {duration(study.seconds)}"
    )
    yield tag("p", facts, class_="quiet")


def _headline(study: BatchSizeStudy) -> str:
    if study.recommended is None:
        return "No batch size is recommended"
    return f"Use a batch of {study.recommended:,}"


def _body(study: BatchSizeStudy) -> Iterator[Markup]:
    yield tag("section", tag("ul", [tag("li", line) for line in conclusions(study)]))
    if study.notes:
        notes = [tag("li", f"{note}.") for note in study.notes]
        yield tag("section", tag("h2", "What was not measured"), tag("ul", notes))
    yield tag("section", tag("h2", "Every size"), _table(study))
    drawn = [_figure(each, f"figure{k}") for k, each in enumerate(figures(study))]
    yield tag("section", tag("h2", "Figures"), tag("div", drawn, class_="gallery"))


def _table(study: BatchSizeStudy) -> Markup:
    rows = [
        [cell, *rest[:-1], [rest[-1], mark]]
        for (cell, *rest), mark in zip(
            (_cells(study, point) for point in study.points), _marks(study), strict=True
        )
    ]
    return table(HEAD, rows, "numeric")


def _figure(figure: Figure, name: str) -> Markup:
    return tag(
        "figure",
        tag("figcaption", tag("b", figure.title)),
        tag("div", draw(figure, name), class_="scroll"),
        tag("p", figure.note, class_="quiet") if figure.note else None,
        tag("details", tag("summary", "Numbers"), numbers(figure, 60), class_="data"),
    )


def fragment(study: BatchSizeStudy) -> str:
    """The study inside a notebook."""
    lines = tag("ul", [tag("li", line) for line in conclusions(study)])
    head = tag("p", tag("b", _headline(study)), f": {counted(len(study.points), 'size')} measured")
    notes = [tag("p", f"Not measured: {note}.", class_="quiet") for note in study.notes]
    return notebook([head, lines, notes, _table(study)])
