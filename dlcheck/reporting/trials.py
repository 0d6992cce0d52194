"""Trials as HTML: one disclosure per check of a subject, with all that it measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlcheck.model import Evidence, Outcome, Verdict
from dlcheck.reporting.coverage import Cell, place
from dlcheck.reporting.markup import Child, Markup, clipped, join, tag
from dlcheck.reporting.numbers import closeness, counted, duration, typeset

WORDS = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "failed",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.ERRORED: "errored",
    Verdict.SKIPPED: "not run",
    Verdict.EXPECTED: "failed as expected",
}
_PIECES = 6  # of a trial that passed, the pieces of evidence with the least room are told
_TEXT = 600  # characters of one field


@dataclass(frozen=True, slots=True)
class Detail:
    """How much of each trial is told; the record holds the rest.

    A page of a thousand trials stays small because all texts share one budget.
    """

    message: int = 6000  # characters of a message
    figures: frozenset[str] = frozenset()  # anchors of cells that have figures on the page

    @classmethod
    def for_outcomes(cls, outcomes: Sequence[Outcome], figures: frozenset[str]) -> Detail:
        told = sum(bool(each.message) and each.verdict is not Verdict.SKIPPED for each in outcomes)
        return cls(message=max(300, min(6000, 250_000 // max(told, 1))), figures=figures)


def verdict_mark(verdict: Verdict) -> Markup:
    """The symbol of a verdict, with its word for those who do not see it."""
    return tag(
        "span",
        verdict.symbol,
        class_=f"mark {verdict.value}",
        role="img",
        aria_label=WORDS[verdict],
    )


def trial(cell: Cell, detail: Detail, *, opened: bool = False, subject: bool = True) -> Markup:
    """A cell as a disclosure. subject: name the subject too, where no heading does."""
    return tag(
        "details",
        tag("summary", _summary(cell, subject=subject)),
        tag("div", _body(cell, detail), id=cell.anchor, class_="body"),
        class_=f"trial {cell.verdict.value}",
        open=opened,
    )


def _summary(cell: Cell, *, subject: bool) -> Iterator[Child]:
    yield verdict_mark(cell.verdict)
    yield tag("span", cell.check, class_="check")
    if subject:
        yield tag("span", cell.subject, class_="subject")
    points = cell.outcomes if cell.verdict is Verdict.PASSED else cell.gravest
    named = [each for each in points if each.verdict is not Verdict.SKIPPED] or list(points)
    told = named[0].point if len(named) == 1 else counted(len(named), "point")
    yield tag("span", told, class_="point")
    if cell.tightness is not None and cell.verdict is not Verdict.INCONCLUSIVE:
        yield tag("span", f"{closeness(cell.tightness)} of bound", class_="room")


def _body(cell: Cell, detail: Detail) -> Iterator[Child]:
    first = cell.gravest[0]
    yield tag("p", first.claim, class_="claim")
    ran = [each for each in cell.outcomes if each.verdict is not Verdict.SKIPPED]
    for each in (each for each in ran if each.verdict is not Verdict.PASSED):
        yield _told_in_full(each, detail, named=len(cell.outcomes) > 1)
    if passed := [each for each in ran if each.verdict is Verdict.PASSED]:
        yield evidence_table(passed)
        yield _small_facts(passed)
    for each in cell.outcomes:
        if each.verdict is Verdict.SKIPPED:
            yield tag("p", f"Not run: {each.point}: {clipped(each.message, _TEXT)}", class_="quiet")
    if cell.anchor in detail.figures:
        yield tag("p", tag("a", "Figure", href=f"#{cell.anchor}.figure"), class_="quiet")
    if commands := [each.reproduce for each in ran if each.reproduce]:
        yield tag("p", "Run again", class_="label")
        yield tag("pre", tag("code", "\n".join(commands)), class_="command", tabindex=0)


def _told_in_full(outcome: Outcome, detail: Detail, *, named: bool) -> Markup:
    """What failed, stayed inconclusive, erred, or failed as declared."""
    return tag(
        "div",
        tag("p", verdict_mark(outcome.verdict), " ", outcome.point, class_="at") if named else None,
        tag("dl", _facts(outcome), class_="facts"),
        evidence_table([outcome]) if outcome.evidence else None,
        tag("pre", clipped(outcome.message, detail.message), class_="message", tabindex=0)
        if outcome.message
        else None,
        class_="outcome",
    )


def _facts(outcome: Outcome) -> Iterator[Markup]:
    worst = outcome.worst
    if worst is not None:
        yield from fact("measured", worst.what)
        yield from fact("expected", worst.expected)
        yield from fact("got", worst.got)
        yield from fact("judged", judgement(worst))
        yield from fact("where", worst.where)
        yield from fact("likely cause", worst.cause)
    yield from fact("case", case_of(outcome))
    yield from fact("subject", join(tag("code", outcome.target), " ", place(outcome)))
    if worst is not None:
        yield from fact("values", values_of(worst))


def fact(name: str, value: Child) -> Iterator[Markup]:
    """A named line of a list; nothing where there is nothing to tell."""
    if isinstance(value, str):
        value = clipped(value, _TEXT)
    if value not in (None, ""):
        yield tag("dt", name)
        yield tag("dd", value)


def judgement(piece: Evidence) -> str:
    """The numbers that the verdict follows from, as a sentence."""
    unit = f" {piece.unit}" if piece.unit else ""
    error, bound, signal = (typeset(x) for x in (piece.error, piece.bound, piece.signal))
    if piece.p_values:
        strikes = ", ".join(typeset(p) for p in piece.p_values)
        return (
            f"p = {strikes} (fails at {piece.strikes} × p ≤ {typeset(piece.alpha)}); "
            f"effect {error}{unit}, smallest detectable {bound}{unit}"
        )
    if piece.verdict is Verdict.INCONCLUSIVE:
        needed = typeset(piece.resolution * piece.signal)
        return f"bound {bound}{unit} says nothing of a signal of {signal}; at most {needed} would"
    relation = "≤" if piece.error <= piece.bound else ">"
    return f"error {error} {relation} bound {bound}{unit}, signal {signal}"


def case_of(outcome: Outcome) -> str:
    """The smallest case found, and after how many; or the seed of a trial that runs once."""
    if not outcome.case:
        return f"seed={outcome.seed}, profile {outcome.profile}" if outcome.cases else ""
    return f"{outcome.case} ({_search(outcome)})"


def _search(outcome: Outcome) -> str:
    conclusive = outcome.cases - outcome.conclusive
    said = f", {conclusive} of them inconclusive" if conclusive else ""
    return counted(outcome.cases, "case") + said


def values_of(piece: Evidence) -> Markup | None:
    """The further values that a check gave."""
    if not piece.values:
        return None
    return join(
        [
            tag("span", name, " = ", tag("b", typeset(value)), class_="value")
            for name, value in piece.values.items()
        ]
    )


def evidence_table(outcomes: Sequence[Outcome]) -> Markup:
    """The measurements: all of a trial that did not pass, else those with the least room."""
    head = ("", "measured", "error", "bound", "of bound", "signal")
    rows = [row for outcome in outcomes for row in _rows(outcome, pointed=len(outcomes) > 1)]
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", name, scope="col") for name in head])),
        tag("tbody", rows),
        class_="evidence",
    )
    return tag("div", table, class_="scroll")


def _rows(outcome: Outcome, *, pointed: bool) -> Iterator[Markup]:
    pieces = sorted(outcome.evidence, key=lambda piece: -piece.tightness)
    if outcome.verdict is Verdict.PASSED:
        pieces = pieces[:_PIECES]
    else:
        pieces = sorted(pieces, key=lambda piece: piece.verdict is not outcome.verdict)[:30]
    for k, piece in enumerate(pieces):
        point = outcome.point if pointed and k == 0 else ""
        yield _row(piece, point)
    if left := len(outcome.evidence) - len(pieces):
        yield tag("tr", tag("td"), tag("td", f"and {left} more", colspan=5, class_="quiet"))


def _row(piece: Evidence, point: str) -> Markup:
    unit = f" {piece.unit}" if piece.unit else ""
    strikes = ", ".join(typeset(p, 2) for p in piece.p_values)
    what = (clipped(piece.what, 200) or "error") + (f"; p = {strikes}" if strikes else "")
    return tag(
        "tr",
        tag("th", verdict_mark(piece.verdict), f" {point}" if point else None, scope="row"),
        tag("td", what),
        tag("td", typeset(piece.error), unit, class_="number"),
        tag("td", typeset(piece.bound), class_="number"),
        tag("td", closeness(piece.tightness), class_="number"),
        tag("td", typeset(piece.signal), class_="number"),
    )


def _small_facts(passed: Sequence[Outcome]) -> Markup:
    """Of trials that passed: the case with the least room, values, and how long they took."""
    closest = max(passed, key=lambda each: each.worst.tightness if each.worst else 0.0)
    seconds = sum(each.seconds for each in passed)
    told = [*fact("closest case", case_of(closest))]
    for piece in closest.evidence[:_PIECES]:
        told += fact("values", values_of(piece))
    return tag("dl", told, fact("took", duration(seconds)), class_="facts")
