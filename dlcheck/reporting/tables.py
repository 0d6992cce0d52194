"""The further tables of a report: statistical claims, devices, slowest trials, environment."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlcheck.model import Evidence, Outcome, Verdict
from dlcheck.reporting.coverage import Cell, reasons
from dlcheck.reporting.grid import tally
from dlcheck.reporting.markup import Child, Markup, clipped, join, tag
from dlcheck.reporting.numbers import counted, duration, typeset
from dlcheck.reporting.trials import verdict_mark

_SIZES = ("n", "N", "samples", "seeds", "draws")
_NEAREST = 20  # statistical claims shown at first
_SLOWEST = 10


def table(head: Sequence[str], rows: Sequence[Sequence[Child]], class_: str = "") -> Markup:
    """A table whose first column names the row. Numbers and Markup of class number go right."""
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", [tag("th", name) for name in head])),
            tag("tbody", [_row(row) for row in rows]),
            class_=class_ or None,
        ),
        class_="scroll",
    )


def _row(row: Sequence[Child]) -> Markup:
    first, *rest = row
    return tag("tr", tag("th", first), [tag("td", cell) for cell in rest])


def link(cell: Cell) -> Markup:
    """The name of a check that leads to its trial."""
    return tag("a", cell.check, href=f"#{cell.anchor}")


# --- statistical claims ------------------------------------------------------------------------


def statistical(cells: Sequence[Cell], limit: int) -> Markup | None:
    """Claims judged from samples: effect, what could have been seen, and the strikes.

    Those nearest to failing come first; limit: rows.
    """
    found = [
        (cell, outcome, piece)
        for cell in cells
        for outcome in cell.outcomes
        for piece in outcome.evidence
        if piece.p_values
    ]
    if not found:
        return None
    found.sort(key=lambda each: _nearness(each[2]))
    head = ("claim", "subject", "measured", "effect", "detectable", "n", "p")
    rows = [_claim(*each) for each in found[:limit]]
    alarms = sum(min(max(piece.alpha, 0.0), 1.0) ** piece.strikes for _, _, piece in found)
    budget = (
        f"{counted(len(found), 'claim')} judged from samples, those nearest to failing first. "
        f"If all are right, the probability that any fails is at most {typeset(alarms, 2)}."
    )
    more, left = rows[_NEAREST:], len(found) - len(rows)
    return join(
        tag("p", budget, class_="quiet"),
        table(head, rows[:_NEAREST], "statistics numeric"),
        _further(head, more) if more else None,
        tag("p", f"{left:,} more are told with their trials.", class_="quiet") if left else None,
    )


def _further(head: Sequence[str], rows: Sequence[Sequence[Child]]) -> Markup:
    listing = table(head, rows, "statistics numeric")
    return tag("details", tag("summary", f"{len(rows):,} further claims"), listing, class_="data")


def _nearness(piece: Evidence) -> tuple[bool, float]:
    """Orders claims from the nearest to failing: those that fail, then by the last strike."""
    p = piece.p_values[-1]
    return piece.verdict is Verdict.PASSED, -1.0 if math.isnan(p) else p


def _claim(cell: Cell, outcome: Outcome, piece: Evidence) -> list[Child]:
    several = len({each.point for each in cell.outcomes if each.evidence}) > 1
    unit = f" {piece.unit}" if piece.unit else ""
    return [
        [verdict_mark(piece.verdict), " ", link(cell)],
        [cell.subject, f" {outcome.point}" if several else None],
        clipped(piece.what, 120),
        typeset(piece.error) + unit,
        typeset(piece.bound),
        _sample_size(piece),
        ", ".join(typeset(p, 2) for p in piece.p_values),
    ]


def _sample_size(piece: Evidence) -> str:
    return next((typeset(piece.values[name]) for name in _SIZES if name in piece.values), "")


# --- devices, time, environment ----------------------------------------------------------------


def devices(outcomes: Sequence[Outcome]) -> Markup:
    """What ran where: verdicts per device and dtype."""
    places: dict[str, list[Outcome]] = defaultdict(list)
    for each in outcomes:
        places[f"{each.device} {each.dtype}"].append(each)
    return table(("device", "trials"), [(name, tally(found)) for name, found in places.items()])


def not_run(outcomes: Sequence[Outcome]) -> Markup | None:
    """Why trials were not run, with counts."""
    found = reasons(outcomes)
    if not found:
        return None
    rows = [(clipped(reason, 300), f"{count:,}") for reason, count in found.items()]
    return table(("reason", "trials"), rows[:30], "numeric")


def slowest(cells: Sequence[Cell]) -> Markup | None:
    """The trials that took longest, with their share of the whole."""
    ran = [
        (outcome, cell)
        for cell in cells
        for outcome in cell.outcomes
        if outcome.verdict is not Verdict.SKIPPED
    ]
    ran.sort(key=lambda pair: -pair[0].seconds)
    total = sum(outcome.seconds for outcome, _ in ran)
    if not total > 0:
        return None
    longest = ran[0][0].seconds
    rows: list[list[Child]] = [
        [
            link(cell),
            f"{outcome.subject} {outcome.point}",
            duration(outcome.seconds),
            _bar(outcome.seconds / longest),
        ]
        for outcome, cell in ran[:_SLOWEST]
    ]
    return tag(
        "div",
        tag("p", f"{len(ran):,} trials took {duration(total)} of work in all.", class_="quiet"),
        table(("check", "trial", "took", ""), rows, "slowest"),
    )


def _bar(share: float) -> Markup:
    width = f"width:{max(share, 0.01) * 100:.1f}%"
    return tag("span", class_="bar", style=width, aria_hidden="true")


def environment(meta: Mapping[str, Any]) -> Markup:
    """All that is recorded of the machine and the call."""
    return tag("dl", _entries(meta), class_="facts environment")


def _entries(meta: Mapping[str, Any]) -> Iterator[Markup]:
    for name, value in meta.items():
        yield tag("dt", name)
        yield tag("dd", _value(value))


def _value(value: Any) -> Child:
    if isinstance(value, Mapping):
        return [
            tag("span", name, " ", tag("b", _flat(part)), class_="value")
            for name, part in value.items()
        ]
    if isinstance(value, (list, tuple)):
        return ", ".join(str(part) for part in value)
    return tag("code", clipped(value, 2000)) if isinstance(value, str) else _flat(value)


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(part)}" for name, part in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return str(value)
