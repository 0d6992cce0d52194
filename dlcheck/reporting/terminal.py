"""Outcomes as text for a terminal. No colour unless asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from dlcheck.model import Evidence, Outcome, Verdict
from dlcheck.reporting.report import Report

_WIDTH = 96
_LINES = 25  # a failure that does not fit a screen is not read
_COLOURS = {Verdict.FAILED: "31", Verdict.ERRORED: "31", Verdict.PASSED: "32"}


def describe(outcome: Outcome, *, color: bool = False) -> str:
    """The failure message: claim, numbers, case, cause, place, and how to run it again."""
    lines = [*_head(outcome, color=color), *_numbers(outcome), *_message(outcome)]
    tail = list(_tail(outcome))
    room = _LINES - len(tail)
    if len(lines) > room:
        lines = [*lines[: room - 1], "  … (the rest is in the report)"]
    return "\n".join([*lines, *tail])


def _head(outcome: Outcome, *, color: bool) -> Iterator[str]:
    word = outcome.verdict.value.upper()
    if color and outcome.verdict in _COLOURS:
        word = f"\x1b[{_COLOURS[outcome.verdict]}m{word}\x1b[0m"
    point = f" [{outcome.point}]"
    yield f"{word} {outcome.subject}: {outcome.check}{point}"
    yield from _field("claim", outcome.claim)


def _numbers(outcome: Outcome) -> Iterator[str]:
    piece = outcome.worst
    if piece is None:
        return
    yield from _field("measured", piece.what)
    yield from _field("expected", piece.expected)
    yield from _field("got", piece.got)
    yield from _field("", str(piece))
    yield from _field("where", piece.where)
    yield from _field("likely", piece.cause)
    yield from _field("case", _case(outcome))
    yield from _values(piece)


def _case(outcome: Outcome) -> str:
    if not outcome.case:
        return ""
    return f"{outcome.case} (after {outcome.cases} cases)"


def _values(piece: Evidence) -> Iterator[str]:
    shown = ", ".join(f"{name} = {_number(value)}" for name, value in piece.values.items())
    yield from _field("values", shown)


def _number(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _message(outcome: Outcome) -> Iterator[str]:
    if not outcome.message:
        return
    lines = outcome.message.splitlines()
    # A long traceback is told by its end: the exception and the lines that led to it.
    if len(lines) > 12:
        lines = [lines[0], "  …", *lines[-10:]]
    yield from ("  " + line for line in lines)


def _tail(outcome: Outcome) -> Iterator[str]:
    place = f" ({outcome.file}:{outcome.line})" if outcome.line else ""
    yield from _field("subject", f"{outcome.target}{place}", wrap=False)
    yield from _field("again", outcome.reproduce, wrap=False)
    yield from _field("more", f"dlcheck explain {outcome.check}")


def _field(name: str, text: str, *, wrap: bool = True) -> Iterator[str]:
    if not text:
        return
    lines = textwrap.wrap(text, _WIDTH - 12, break_on_hyphens=False) if wrap else [text]
    yield f"  {name:<9} {lines[0]}"
    yield from (" " * 12 + line for line in lines[1:])


def summary(report: Report, *, color: bool = False) -> str:
    """The terminal report: a line per check, the failures in full, the verdict line last."""
    width = max((len(outcome.check) for outcome in report.outcomes), default=0)
    lines = [_line(outcome, width) for outcome in report.outcomes]
    for outcome in report.failures:
        lines += ["", describe(outcome, color=color)]
    return "\n".join([*lines, "", report.verdict_line])


def _line(outcome: Outcome, width: int) -> str:
    told = str(outcome.worst) if outcome.worst is not None else outcome.message.split("\n")[0]
    line = f"{outcome.verdict.symbol} {outcome.check:<{width}}  [{outcome.point}]  {told}"
    return line if len(line) <= 150 else line[:149] + "…"
