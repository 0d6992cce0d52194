"""How much of a run a page tells, so that it stays small."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How much of a run is told on the page; the record holds the rest.

    `LEVELS` go from ample to terse: a page takes the first that keeps it small.
    """

    failures: int  # told in full; the rest briefly
    messages: int  # characters of all messages together
    pieces: int  # of a trial that passed, the evidence with the least room to its bound
    rows: int  # of the table of statistical claims
    figures: int
    points: int  # drawn in all figures together
    tips: int  # points of all figures that tell their numbers under the pointer
    numbers: int  # rows of all tables under figures together
    brief: bool = False  # of trials that passed only the numbers, case and command
    cells: int = 6000  # more than this, and only `listed` trials are told, gravest first
    listed: int = 0


_TERSE = Detail(
    failures=40,
    messages=40_000,
    pieces=1,
    rows=100,
    figures=14,
    points=1000,
    tips=240,
    numbers=240,
    brief=True,
)
LEVELS = (
    Detail(
        failures=500,
        messages=250_000,
        pieces=4,
        rows=400,
        figures=80,
        points=6000,
        tips=1500,
        numbers=1500,
    ),
    Detail(
        failures=150,
        messages=150_000,
        pieces=1,
        rows=200,
        figures=40,
        points=3000,
        tips=600,
        numbers=600,
    ),
    _TERSE,
    replace(_TERSE, listed=1000),
)


def levels_for(cells: int) -> tuple[Detail, ...]:
    """The levels that are worth trying for so many cells."""
    return tuple(each for each in LEVELS if bool(each.listed) == (cells > each.cells))
