"""The further tables of a report: statistical claims, devices, slowest trials, environment."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dlcheck.model import Evidence, Outcome, Verdict
from dlcheck.reporting.coverage import Cell, reasons
from dlcheck.reporting.grid import tally
from dlcheck.reporting.markup import Child, Markup, breakable, clipped, heading, join, tag
from dlcheck.reporting.numbers import counted, duration, typeset
from dlcheck.reporting.report import Report
from dlcheck.reporting.trials import verdict_mark

_SIZES = ("n", "N", "samples", "seeds", "draws")
_NEAREST = 20  # statistical claims shown at first
_SLOWEST = 10
_CLAIMS = 1000


def table(head: Sequence[str], rows: Sequence[Sequence[Child]], class_: str = "") -> Markup:
    """A table whose first column names the row. Numbers and Markup of class number go right."""
    return tag(
        "div",
        tag(
            "table",
            heading(head),
            tag("tbody", [_row(row) for row in rows]),
            class_=class_ or None,
        ),
        class_="scroll",
    )


def _row(row: Sequence[Child]) -> Markup:
    first, *rest = row
    return tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest])


def link(cell: Cell) -> Markup:
    """The name of a check that leads to its trial, where that is told; it breaks at "_"."""
    name = breakable(cell.check)
    if not cell.anchor:
        return tag("span", name)
    return tag("a", name, href=f"#{cell.anchor}")


# --- claims ------------------------------------------------------------------------------------


def claims(cells: Sequence[Cell]) -> Markup | None:
    """What every check says in words, once; the grid's rows lead here."""
    found = {cell.check: cell.outcomes[0].claim for cell in cells if cell.outcomes[0].claim}
    names = claimed(cells)
    rows: list[list[Child]] = [
        [tag("span", check, id=names[check]), found[check]] for check in sorted(names)
    ]
    note = "In full, with mathematics, source and mutants: dlcheck explain CHECK."
    listing = table(("check", "claim"), rows, "claims")
    return join(tag("p", note, class_="quiet"), listing) if rows else None


def claimed(cells: Sequence[Cell]) -> dict[str, str]:
    """Checks with a claim, and the anchors that lead to it."""
    checks = sorted({cell.check for cell in cells if cell.outcomes[0].claim})
    return {check: f"c{k}" for k, check in enumerate(checks[:_CLAIMS])}


# --- statistical claims ------------------------------------------------------------------------


def statistical(cells: Sequence[Cell], limit: int) -> Markup | None:
    """Claims judged from samples: effect, interval, size, strikes and error budget.

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
    rows = [_claim(*each) for each in found[:limit]]
    alarms = sum(_budget(piece) for _, _, piece in found)
    budget = (
        f"{counted(len(found), 'claim')} judged from samples, those nearest to failing first. A "
        "claim fails if every strike has p at most alpha; its error budget is the probability of "
        "that where the claim holds. The interval is the effect seen, give or take the smallest "
        "effect that would have been noticed. If all claims hold, the probability that any fails "
        f"is at most {typeset(alarms, 2)}."
    )
    more, left = rows[_NEAREST:], len(found) - len(rows)
    return join(
        tag("p", budget, class_="quiet"),
        table(_CLAIM, rows[:_NEAREST], "statistics numeric filtered"),
        _further(_CLAIM, more) if more else None,
        tag("p", f"{left:,} more are told with their trials.", class_="quiet") if left else None,
    )


_CLAIM = ("claim", "subject", "measured", "effect", "interval", "n", "p", "error budget")


def _budget(piece: Evidence) -> float:
    """The probability of a false alarm: every strike at most alpha."""
    return min(max(piece.alpha, 0.0), 1.0) ** max(piece.strikes, 0)


def _interval(piece: Evidence) -> str:
    """Effects are distances: none is below 0."""
    low, high = max(0.0, piece.error - piece.bound), piece.error + piece.bound
    return f"{typeset(low)} to {typeset(high)}"


def _further(head: Sequence[str], rows: Sequence[Sequence[Child]]) -> Markup:
    listing = table(head, rows, "statistics numeric filtered")
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
        _interval(piece),
        _sample_size(piece),
        ", ".join(typeset(p, 2) for p in piece.p_values),
        typeset(_budget(piece), 2),
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


def not_run(report: Report) -> Markup | None:
    """Why trials were not run, with counts, and what a further declaration would have checked."""
    found = reasons(report.outcomes)
    rows = [(clipped(reason, 300), f"{count:,}") for reason, count in found.items()]
    wanted = [(name, ", ".join(map(str, checks))) for name, checks in report.unchecked.items()]
    if not rows and not wanted:
        return None
    return join(
        table(("reason", "trials"), rows[:30], "numeric") if rows else None,
        table(("if it were declared", "this would be checked"), wanted) if wanted else None,
    )


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
        table(("check", "trial", "took", ""), rows, "slowest filtered"),
    )


def _bar(share: float) -> Markup:
    width = f"width:{max(share, 0.01) * 100:.1f}%"
    return tag("span", class_="bar", style=width, aria_hidden="true")


def environment(meta: Mapping[str, Any]) -> Markup:
    """All that is recorded of the machine and the call."""
    return tag("dl", _entries(meta), class_="facts environment")


def _entries(meta: Mapping[str, Any]) -> Iterator[Markup]:
    for name, value in meta.items():
        if name in _ELSEWHERE:
            continue
        yield tag("dt", name)
        yield tag("dd", _value(value))


_ELSEWHERE = ("unchecked", "incomplete")  # told in their own places


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
