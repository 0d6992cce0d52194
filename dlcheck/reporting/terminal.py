"""Outcomes as text for a terminal. No colour unless asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from dlcheck.model import Evidence, Outcome, Verdict
from dlcheck.reporting.advice import next_step
from dlcheck.reporting.again import replay_command, script_path
from dlcheck.reporting.capped import capped, capped_report
from dlcheck.reporting.coverage import Cell, cells_of, place, reasons
from dlcheck.reporting.markup import clean
from dlcheck.reporting.notes import noted
from dlcheck.reporting.numbers import closeness, counted
from dlcheck.reporting.report import Report

_WIDTH = 96
_LINES = 24  # a failure that does not fit a screen is not read
_FIELD = 3  # lines of one field
_NOTED = 3  # notes of one failure
_TOLD = 25  # failures in full
_FEW = 12  # so many lines of passed checks do not hide what failed
_PLENTY = 60  # so many lines of passed checks are worth reading
_FAILED, _PASSED, _OPEN = "31", "32", "33"
_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
_COLOURS = {
    Verdict.FAILED: _FAILED,
    Verdict.ERRORED: _FAILED,
    Verdict.PASSED: _PASSED,
    Verdict.INCONCLUSIVE: _OPEN,
}


def describe(outcome: Outcome, *, color: bool = False) -> str:
    """The failure message in at most 24 lines: claim, numbers, case, cause, place, run again."""
    outcome = capped(outcome)
    head = [*_head(outcome, color=color), *_numbers(outcome, color=color)]
    tail = list(_tail(outcome))
    room = _LINES - len(tail)
    if len(head) > room:  # every field is short, so this takes many fields
        head = [*head[: room - 1], "  … (the rest is in the report)"]
    return "\n".join([*head, *_message(outcome, room - len(head)), *tail])


def _head(outcome: Outcome, *, color: bool) -> Iterator[str]:
    word = outcome.verdict.value.upper()
    name = f"{word} {clean(outcome.subject)}: {clean(outcome.check)} [{clean(outcome.point)}]"
    first, *rest = textwrap.wrap(name, _WIDTH, subsequent_indent="  ", **_WORDS) or [word]
    yield painted(word, outcome.verdict, color=color) + first.removeprefix(word)
    yield from rest
    yield from _field("claim", outcome.claim)


def painted(text: str, verdict: Verdict, *, color: bool) -> str:
    """The text in the colour of a verdict."""
    if not color or verdict not in _COLOURS:
        return text
    return _in_colour(text, _COLOURS[verdict])


def _in_colour(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _numbers(outcome: Outcome, *, color: bool) -> Iterator[str]:
    piece = outcome.worst
    if piece is None:
        return
    yield from _field("measured", piece.what)
    yield from _field("expected", piece.expected, paint=_PASSED if color else "")
    yield from _field("got", piece.got, paint=_FAILED if color else "")
    yield from _field("", _judged(piece))
    yield from _field("where", piece.where)
    yield from _field("likely", piece.cause)
    yield from _field("case", _case(outcome))
    yield from _field("values", _values(piece))
    yield from _field("also", _others(outcome))


def _judged(piece: Evidence) -> str:
    if piece.verdict is Verdict.INCONCLUSIVE and not piece.p_values:
        needed = piece.resolution * piece.signal
        return f"{piece}; a bound above {needed:.3g} says nothing about a signal of that size"
    if piece.verdict is Verdict.FAILED and not piece.p_values and 1 < piece.tightness < 1e300:
        return f"{piece} ({closeness(piece.tightness)} the bound)"
    return str(piece)


def _case(outcome: Outcome) -> str:
    """The smallest case found; a check that runs once depends on the seed alone."""
    if outcome.case:
        return f"{outcome.case} (after {counted(outcome.cases, 'case')})"
    return f"seed={outcome.seed}, profile {outcome.profile}"


def _values(piece: Evidence) -> str:
    return ", ".join(f"{name} = {_number(value)}" for name, value in piece.values.items())


def _number(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _others(outcome: Outcome) -> str:
    """Which further pieces of evidence came to the same."""
    others = [piece for piece in outcome.evidence[1:] if piece.verdict is outcome.verdict]
    if not others or outcome.verdict is not Verdict.FAILED:
        return ""
    deciding = outcome.evidence[0].what
    named = ", ".join(dict.fromkeys(piece.what for piece in others if piece.what != deciding))
    return f"{counted(len(others), 'further measurement')} failed" + (f": {named}" if named else "")


def _message(outcome: Outcome, room: int) -> Iterator[str]:
    """The message, or of a long traceback its first line and its end, which tells most."""
    lines = [part for line in clean(outcome.message).splitlines() for part in _folded(line)]
    if len(lines) > room:
        lines = [*lines[:1], "  …", *lines[len(lines) - room + 2 :]] if room > 2 else lines[:room]
    yield from (f"  {'· ' if _is_command(line) else ''}{line}" for line in lines)


def _folded(line: str) -> list[str]:
    """A line of a message, broken where it is wider than the others."""
    room = _WIDTH - 6
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, room, subsequent_indent=indent[: room // 2]) or [""]


def _is_command(line: str) -> bool:
    """Would the runner of a workflow obey this line of a stranger?"""
    return line.lstrip().startswith(("::", "##["))


def _tail(outcome: Outcome) -> Iterator[str]:
    for note in outcome.notes[:_NOTED]:
        yield from _field("note", note)
    yield from _field("next", next_step(outcome))
    yield from _field("source", outcome.source, wrap=False)
    yield from _subject(outcome)
    yield from _field("again", outcome.reproduce, wrap=False)
    yield from _field("replay", replay_command(outcome), wrap=False)
    yield from _field("script", script_path(outcome), wrap=False)
    yield from _field("more", f"dlcheck explain {outcome.check}")


def _subject(outcome: Outcome) -> Iterator[str]:
    """The target and where it is declared, on two lines where they are long."""
    target, declared = clean(outcome.target or outcome.subject), clean(place(outcome))
    both = f"{target} ({declared})" if declared else target
    if len(both) <= _WIDTH - 12:
        target, declared = both, ""
    yield from _field("subject", target, wrap=" " in target)  # a path is copied whole
    yield from _field("declared", declared, wrap=False)


def _field(name: str, text: str, *, wrap: bool = True, paint: str = "") -> Iterator[str]:
    text = " ".join(clean(text).split())
    if not text:
        return
    lines = [text]
    if wrap:
        lines = textwrap.wrap(
            text, _WIDTH - 12, break_on_hyphens=False, max_lines=_FIELD, placeholder=" …"
        )
    lines = [_in_colour(line, paint) for line in lines]
    yield f"  {name:<9} {lines[0]}"
    yield from (" " * 12 + line for line in lines[1:])


# --- the whole report --------------------------------------------------------------------------


def summary(report: Report, *, color: bool = False) -> str:
    """The terminal report: a line per check, the failures in full, the verdict line last."""
    report = capped_report(report)
    cells = cells_of(report.outcomes)
    lines = list(_listing(cells, color=color))
    for outcome in report.failures[:_TOLD]:
        lines += ["", describe(outcome, color=color)]
    if left := len(report.failures[_TOLD:]):
        lines += ["", f"… and {left:,} more failures, each named above"]
    lines += [""] if lines else []
    for reason, count in list(reasons(report.outcomes).items())[:5]:
        lines.append(f"not run ({count:,}): {clean(reason)}")
    lines += noted(report.outcomes)
    lines += _unchecked(report)
    return "\n".join([*lines, report.verdict_line])


def _unchecked(report: Report) -> Iterator[str]:
    """Which declaration would have checked what, a line each."""
    if not report.unchecked:
        return
    yield "not checked, as it is not declared:"
    width = max(map(len, report.unchecked))
    for declaration, checks in report.unchecked.items():
        room = _WIDTH - width - 6
        yield f"  {clean(declaration):<{width}}  {_cut(', '.join(map(clean, checks)), room)}"
    yield "  (what each means: dlcheck list traits, dlcheck list options)"


def _listing(cells: Sequence[Cell], *, color: bool) -> Iterator[str]:
    """Checks by subject. Of a long run, and beside failures, only what did not pass."""
    ran = [cell for cell in cells if cell.verdict is not Verdict.SKIPPED]
    wrong = [cell for cell in ran if not cell.verdict.is_good]
    if len(ran) > (_FEW if wrong else _PLENTY):
        ran = wrong
    width = max((len(cell.check) for cell in ran), default=0)
    subject = ""
    for cell in ran:
        if cell.subject != subject:
            subject = cell.subject
            yield f"{clean(subject)} ({clean(cell.kind)})"
        yield _line(cell, width, color=color)


def _line(cell: Cell, width: int, *, color: bool) -> str:
    symbol = painted(cell.verdict.symbol, cell.verdict, color=color)
    deciding = max(cell.gravest, key=lambda each: each.worst.tightness if each.worst else 0.0)
    further = f" +{len(cell.outcomes) - 1}" if len(cell.outcomes) > 1 else ""
    points = f"[{clean(deciding.point)}{further}]"
    room = max(40, 150 - width - len(points) - 7)
    return (
        f"  {symbol} {clean(cell.check):<{width}}  {points}  {_cut(told(deciding), room)}".rstrip()
    )


def told(outcome: Outcome) -> str:
    """What a trial came to in one line: its numbers, or the message and the exception in it."""
    if outcome.worst is not None:
        return clean(str(outcome.worst))
    lines = [line.strip() for line in clean(outcome.message).splitlines() if line.strip()]
    return " ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else ""


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
