"""Trials as HTML: one disclosure per check of a subject, with all that it measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dlcheck.model import Evidence, Outcome, Verdict
from dlcheck.reporting.advice import next_step
from dlcheck.reporting.again import replay_command
from dlcheck.reporting.coverage import Cell, place
from dlcheck.reporting.markup import Child, Markup, clipped, heading, join, tag
from dlcheck.reporting.numbers import closeness, counted, duration, typeset

WORDS = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "failed",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.ERRORED: "errored",
    Verdict.SKIPPED: "not run",
    Verdict.EXPECTED: "failed as expected",
}
_FAILED_PIECES = 30
_TEXT = 600  # characters of one field


@dataclass(frozen=True, slots=True)
class Pen:
    """What telling a trial depends on: how much of it, and which cells have a figure."""

    pieces: int
    message: int
    drawn: frozenset[str]
    brief: bool = False


def verdict_mark(verdict: Verdict) -> Markup:
    """The symbol of a verdict, and its word for those who ask."""
    return tag("b", verdict.symbol, class_=verdict.value, title=WORDS[verdict])


def trial(cell: Cell, pen: Pen, *, opened: bool = False, subject: bool = True) -> Markup:
    """A cell as a disclosure. subject: name the subject too, where no heading does."""
    return tag(
        "details",
        tag("summary", _summary(cell, subject=subject)),
        tag("div", _body(cell, pen), id=cell.anchor, class_="body"),
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
    if cell.verdict is not Verdict.INCONCLUSIVE and (room := _room(cell.tightness)):
        yield tag("span", room, class_="room")


def _room(tightness: float | None) -> str:
    """How the error stands to its bound: `.31 of bound`, `×40 the bound`."""
    if tightness is None or math.isinf(tightness):
        return ""
    return (
        "exact"
        if tightness == 0
        else (f"{closeness(tightness)} {'the' if tightness > 1 else 'of'} bound")
    )


def _body(cell: Cell, pen: Pen) -> Iterator[Child]:
    ran = [each for each in cell.outcomes if each.verdict is not Verdict.SKIPPED]
    passed = [each for each in ran if each.verdict is Verdict.PASSED]
    if pen.brief:
        yield tag("dl", _brief_facts(cell.gravest, pen), class_="facts")
    else:
        yield tag("p", cell.outcomes[0].claim, class_="claim")
        for each in (each for each in ran if each.verdict is not Verdict.PASSED):
            yield _told_in_full(each, pen, named=len(ran) > 1)
        if passed:
            yield from _told_in_short(passed, pen)
            for note in dict.fromkeys(note for each in passed for note in each.notes):
                yield tag("p", f"Note: {clipped(note, 300)}", class_="quiet")
    yield from _left_out([each for each in cell.outcomes if each.verdict is Verdict.SKIPPED])
    if cell.anchor in pen.drawn:
        yield tag("p", tag("a", "Figure", href=f"#{cell.anchor}.figure"), class_="quiet")


def _left_out(skipped: Sequence[Outcome]) -> Iterator[Markup]:
    """Where the trial was not run, a line per reason."""
    for reason in dict.fromkeys(each.message for each in skipped):
        points = ", ".join(each.point for each in skipped if each.message == reason)
        yield tag("p", f"Not run: {points}: {clipped(reason, 300)}", class_="quiet")


def _told_in_full(outcome: Outcome, pen: Pen, *, named: bool) -> Markup:
    """What failed, stayed inconclusive, erred, or failed as declared."""
    message, replay = clipped(outcome.message, pen.message), replay_command(outcome)
    return tag(
        "div",
        tag("p", verdict_mark(outcome.verdict), " ", outcome.point, class_="at") if named else None,
        tag("dl", _facts(outcome), class_="facts"),
        evidence_table([outcome], _FAILED_PIECES) if len(outcome.evidence) > 1 else None,
        tag("pre", message, class_="message", tabindex=0) if message else None,
        tag("pre", outcome.reproduce, class_="again", tabindex=0) if outcome.reproduce else None,
        tag("pre", replay, class_="again", tabindex=0) if replay else None,
        _script(outcome, pen),
    )


def _script(outcome: Outcome, pen: Pen) -> Markup | None:
    """The script, folded; where it would make the page long, how it is printed."""
    if not outcome.script:
        return None
    text, command = outcome.script, f"{replay_command(outcome)} --script"
    if len(text) > pen.message:
        return tag("pre", command, class_="again", tabindex=0) if outcome.failure else None
    return tag(
        "details",
        tag("summary", "A script that shows it without dlcheck"),
        tag("pre", text, class_="message", tabindex=0),
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
    yield from fact("next", next_step(outcome))
    yield from fact("source", tag("code", outcome.source) if outcome.source else "")
    yield from fact("subject", join(tag("code", outcome.target), " ", place(outcome)))
    if worst is not None:
        yield from fact("values", values_of(worst))
    yield from fact("notes", "\n".join(outcome.notes))


def fact(name: str, value: Child) -> Iterator[Markup]:
    """A named line of a list; nothing where there is nothing to tell."""
    if isinstance(value, str):
        value = clipped(value, _TEXT)
    if value not in (None, "", Markup("")):
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
            join(", " if k else None, name, " = ", tag("b", typeset(value)))
            for k, (name, value) in enumerate(piece.values.items())
        ]
    )


def _closest(outcomes: Sequence[Outcome]) -> Outcome:
    """The trial with the least room to its bound."""
    return max(outcomes, key=lambda each: each.worst.tightness if each.worst else 0.0)


def _brief_facts(outcomes: Sequence[Outcome], pen: Pen) -> Iterator[Markup]:
    closest = _closest(outcomes)
    if closest.worst is not None:
        yield from fact("judged", judgement(closest.worst))
    elif closest.verdict is not Verdict.SKIPPED:
        yield from fact("message", clipped(closest.message, pen.message))
    yield from fact("case", case_of(closest))
    yield from fact("run again", _commands(outcomes))


def _told_in_short(passed: Sequence[Outcome], pen: Pen) -> Iterator[Child]:
    """Of trials that passed: what they measured, the case with the least room, the time."""
    closest = _closest(passed)
    several = len(passed) > 1 or len(closest.evidence) > 1
    facts: list[Markup] = []
    if several and pen.pieces > 1:
        yield evidence_table(passed, pen.pieces)
    elif closest.worst is not None:
        facts += [*fact("measured", closest.worst.what), *fact("judged", judgement(closest.worst))]
    facts += fact("closest case" if closest.case else "with", case_of(closest))
    for piece in closest.evidence[: pen.pieces]:
        facts += fact("values", values_of(piece) if not piece.p_values else None)
    seconds = sum(each.seconds for each in passed)
    facts += fact("took", duration(seconds) if seconds >= 0.1 else None)
    facts += fact("run again", _commands(passed))
    yield tag("dl", facts, class_="facts")


def _commands(outcomes: Sequence[Outcome]) -> Markup:
    found = [tag("code", each.reproduce) for each in outcomes if each.reproduce]
    return join([join(tag("br") if k else None, each) for k, each in enumerate(found)])


def evidence_table(outcomes: Sequence[Outcome], pieces: int) -> Markup:
    """The measurements: all of a trial that did not pass, else those with the least room."""
    head = ("", "measured", "error", "bound", "of bound", "signal")
    pointed = len(outcomes) > 1
    rows = [row for each in outcomes for row in _rows(each, pieces, pointed=pointed)]
    table = tag(
        "table",
        heading(head),
        tag("tbody", rows),
        class_="evidence",
    )
    return tag("div", table, class_="scroll")


def _rows(outcome: Outcome, limit: int, *, pointed: bool) -> Iterator[Markup]:
    passed = outcome.verdict is Verdict.PASSED
    pieces = sorted(outcome.evidence, key=lambda piece: -piece.tightness)
    if not passed:
        pieces.sort(key=lambda piece: piece.verdict is not outcome.verdict)
    for k, piece in enumerate(pieces[:limit]):
        mark = None if passed else verdict_mark(piece.verdict)
        yield _row(piece, [mark, outcome.point if pointed and k == 0 else None])
    if len(pieces) > limit:
        left = f"and {len(pieces) - limit} more, none closer"
        yield tag("tr", tag("td"), tag("td", left, colspan=5, class_="quiet"))


def _row(piece: Evidence, name: Sequence[Child]) -> Markup:
    unit = f" {piece.unit}" if piece.unit else ""
    strikes = ", ".join(typeset(p, 2) for p in piece.p_values)
    what = (clipped(piece.what, 200) or "error") + (f"; p = {strikes}" if strikes else "")
    numbers = (
        typeset(piece.error) + unit,
        typeset(piece.bound),
        closeness(piece.tightness),
        typeset(piece.signal),
    )
    named = any(part is not None for part in name)
    first = tag("th", name, scope="row") if named else tag("td")
    return tag("tr", first, tag("td", what), [tag("td", each) for each in numbers])
