"""Two runs side by side: what changed its verdict, what is new, what is gone. Loads no torch."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dlcheck.model import Outcome, Verdict
from dlcheck.regression import Trend
from dlcheck.reporting.numbers import counted
from dlcheck.reporting.report import Report
from dlcheck.results import Run
from dlcheck.trends import Timed, timed

_BAD = (Verdict.FAILED, Verdict.ERRORED)
_CLOSE, _GROWN = 0.5, 2.0  # an error that is half of its bound, and was at most half of that


class Turn(enum.Enum):
    """How a trial stands to its namesake in the earlier run, gravest first."""

    BROKE = "broke"  # fails, and did not
    NEW_FAILURE = "new and failing"
    UNSETTLED = "no longer settled"  # inconclusive, and was not
    NOT_RUN = "no longer run"
    GONE = "gone"
    CLOSER = "closer to its bound"  # passed twice, with the error much nearer to failing
    MENDED = "mended"
    CHANGED = "another verdict"
    NEW = "new"
    SAME = "as before"

    @property
    def is_bad(self) -> bool:
        return self in (Turn.BROKE, Turn.NEW_FAILURE)


@dataclass(frozen=True, slots=True)
class Change:
    """One trial in both runs; None where it is in one of them only."""

    before: Outcome | None
    after: Outcome | None

    @property
    def named(self) -> Outcome:
        named = self.after or self.before
        assert named is not None
        return named

    @property
    def turn(self) -> Turn:
        if self.after is None:
            return Turn.GONE
        if self.before is None:
            return Turn.NEW_FAILURE if self.after.verdict in _BAD else Turn.NEW
        if self.before.verdict is self.after.verdict:
            return Turn.CLOSER if self._is_closer else Turn.SAME
        return self._turned(self.before.verdict, self.after.verdict)

    @staticmethod
    def _turned(before: Verdict, after: Verdict) -> Turn:
        if after in _BAD:
            return Turn.CHANGED if before in _BAD else Turn.BROKE
        if after is Verdict.SKIPPED:
            return Turn.NOT_RUN
        if after is Verdict.INCONCLUSIVE:
            return Turn.CHANGED if before is Verdict.SKIPPED else Turn.UNSETTLED
        return Turn.MENDED if before in (*_BAD, Verdict.INCONCLUSIVE) else Turn.CHANGED

    @property
    def _is_closer(self) -> bool:
        one, two = (each.worst if each else None for each in (self.before, self.after))
        if one is None or two is None or one.p_values or two.verdict is not Verdict.PASSED:
            return False
        return two.tightness >= max(_CLOSE, _GROWN * one.tightness)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is different between two runs. `str()` is the terminal's view."""

    before: Report
    after: Report
    trials: tuple[Change, ...]
    benchmarks: tuple[Timed, ...]

    @property
    def turned(self) -> dict[Turn, list[Change]]:
        """The trials by what became of them; turns that none took are absent."""
        found: dict[Turn, list[Change]] = {}
        for turn in Turn:
            if changes := [each for each in self.trials if each.turn is turn]:
                found[turn] = changes
        return found

    @property
    def common(self) -> int:
        """How many trials are in both."""
        return sum(each.before is not None and each.after is not None for each in self.trials)

    @property
    def broken(self) -> int:
        """How many trials and benchmarks fail that did not."""
        wrong = sum(each.newly_wrong for each in self.benchmarks)
        return sum(each.turn.is_bad for each in self.trials) + wrong

    @property
    def regressions(self) -> list[Timed]:
        return [each for each in self.benchmarks if each.is_regression]

    @property
    def nothing_in_common(self) -> bool:
        """Is there nothing that is in both runs?"""
        return not self.common and not any(each.befores and each.afters for each in self.benchmarks)

    @property
    def unmeasured(self) -> list[str]:
        """What the two runs leave open, in words."""
        found = [f"{each.named.id}: {each.told}" for each in self.benchmarks if each.is_unmeasured]
        found += [f"{each.named.id}: {each.turn.value}" for each in self.trials
                  if each.turn is Turn.UNSETTLED]  # fmt: skip
        if self.nothing_in_common:
            found.append("the runs have no trial and no benchmark in common")
        return found + [each.incomplete for each in (self.before, self.after) if each.incomplete]

    @property
    def headline(self) -> str:
        """The comparison in a few words."""
        bad, slower = self.broken, len(self.regressions)
        if not self.trials and not self.benchmarks:
            return "Nothing to compare"
        if self.nothing_in_common:
            return "Nothing in common"
        if bad or slower:
            parts = (counted(bad, "new failure"), counted(slower, "regression"))
            return ", ".join(part for part in parts if not part.startswith("0 "))
        changed = any(each.turn is not Turn.SAME for each in self.trials)
        changed = changed or any(each.trend is Trend.FASTER for each in self.benchmarks)
        return "Nothing broke" if changed else "Nothing changed"

    @property
    def verdict_line(self) -> str:
        """`2 broke, 120 as before; 3 benchmarks: 1 slower, 2 same`."""
        said = ", ".join(f"{len(found):,} {turn.value}" for turn, found in self.turned.items())
        trends = [each.trend for each in self.benchmarks]
        counts = [f"{trends.count(each):,} {each.value}" for each in Trend if each in trends]
        timed = f"{counted(len(trends), 'benchmark')}: {', '.join(counts)}" if trends else ""
        return "; ".join(part for part in (said, timed) if part) or "no trial in either"

    @property
    def settings(self) -> list[tuple[str, str, str]]:
        """What differs in the environments: name, before, after."""
        one, two = dict(_flat(self.before.meta)), dict(_flat(self.after.meta))
        names = [name for name in dict.fromkeys((*one, *two)) if name not in _OF_EVERY_RUN]
        return [
            (name, one.get(name, ""), two.get(name, ""))
            for name in names
            if one.get(name) != two.get(name)
        ]

    def __str__(self) -> str:
        from dlcheck.reporting.changes_shown import terminal

        return terminal(self)

    def _repr_html_(self) -> str:
        from dlcheck.reporting.changes_shown import fragment

        return fragment(self)


_OF_EVERY_RUN = ("time", "seconds", "command", "incomplete", "unchecked", "in turn")


def _flat(meta: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in meta.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", str(value)


def changes(before: Run | Report, after: Run | Report) -> Changes:
    """Compare two runs, trial by trial and benchmark by benchmark, by their node ids."""
    one, two = (each if isinstance(each, Report) else Report.of(each) for each in (before, after))
    first, second = ({each.id: each for each in report.outcomes} for report in (one, two))
    return Changes(
        before=one,
        after=two,
        trials=tuple(
            Change(first.get(name), second.get(name)) for name in dict.fromkeys((*second, *first))
        ),
        benchmarks=timed(before, after),
    )
