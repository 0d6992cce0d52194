"""What trials left behind, and what else is to be known of those that passed: once per text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dlcheck.model import Outcome
from dlcheck.reporting.markup import clean, clipped

_MOST = 8  # lines
_LONG = 300  # characters of one


def noted(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """`note: left a thread running: 'poll' (suite.toml::mine::check[cpu-float64] and 3 more)`."""
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            found.setdefault(note, []).append(outcome.id)
    for note, trials in list(found.items())[:_MOST]:
        more = f" and {len(trials) - 1:,} more" if len(trials) > 1 else ""
        text = " ".join(clipped(clean(note), _LONG).split())
        yield f"note: {text} ({clean(trials[0])}{more})"
    if (left := len(found) - _MOST) > 0:
        yield f"… and {left:,} more notes in the report"
