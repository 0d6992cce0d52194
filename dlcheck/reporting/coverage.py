"""What was tried on what: trials merged over devices, dtypes and arguments into a grid."""

from __future__ import annotations

import os
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from dlcheck.model import Outcome, Verdict
from dlcheck.reporting.numbers import closeness

# Gravest last. A trial that was not run says less than any that was.
GRAVITY = (
    Verdict.SKIPPED,
    Verdict.PASSED,
    Verdict.EXPECTED,
    Verdict.INCONCLUSIVE,
    Verdict.ERRORED,
    Verdict.FAILED,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One check of one subject: its trials on every device, dtype and argument."""

    suite: str
    kind: str
    subject: str
    check: str
    anchor: str
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        return max((each.verdict for each in self.outcomes), key=GRAVITY.index)

    @property
    def gravest(self) -> tuple[Outcome, ...]:
        return tuple(each for each in self.outcomes if each.verdict is self.verdict)

    @property
    def tightness(self) -> float | None:
        """The largest error over bound among the trials that decide; None if none measured."""
        found = [each.worst.tightness for each in self.gravest if each.worst is not None]
        return max(found, default=None)

    @property
    def label(self) -> str:
        """How many of the trials, where they differ; else how close they came."""
        ran = [each for each in self.outcomes if each.verdict is not Verdict.SKIPPED]
        if self.verdict is not Verdict.PASSED and 0 < len(self.gravest) < len(ran):
            return f"{len(self.gravest)}/{len(ran)}"
        if self.tightness is None or self.verdict is Verdict.INCONCLUSIVE:
            return ""
        return closeness(self.tightness)


@dataclass(frozen=True, slots=True)
class Grid:
    """The checks of one kind in one suite against its subjects."""

    suite: str
    kind: str
    subjects: tuple[str, ...]
    checks: tuple[str, ...]
    cells: dict[tuple[str, str], Cell] = field(repr=False)  # (check, subject) →


def cells_of(outcomes: Iterable[Outcome]) -> list[Cell]:
    """The cells in an order that depends on no worker: suite, place in its file, check."""
    groups: dict[tuple[str, str, str, str], list[Outcome]] = defaultdict(list)
    for each in outcomes:
        groups[each.suite, each.kind, each.subject, each.check].append(each)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], item[1][0].line, *item[0][1:]))
    anchors = _anchors("::".join(key) for key, _ in ordered)
    return [
        Cell(*key, anchor=anchor, outcomes=tuple(sorted(found, key=lambda each: each.point)))
        for (key, found), anchor in zip(ordered, anchors, strict=True)
    ]


def _anchors(names: Iterable[str]) -> Iterator[str]:
    """Distinct fragments of an address: short, and the same in the next run's report."""
    taken: set[str] = set()
    for name in names:
        number = zlib.crc32(name.encode("utf-8", "replace"))
        while (anchor := f"t{number:x}") in taken:
            number += 1
        taken.add(anchor)
        yield anchor


def grids_of(cells: Sequence[Cell]) -> list[Grid]:
    """One grid per suite and kind, in the order of the suites."""
    kinds: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        kinds[cell.suite, cell.kind].append(cell)
    return [
        Grid(
            suite=suite,
            kind=kind,
            subjects=tuple(dict.fromkeys(cell.subject for cell in found)),
            checks=tuple(sorted({cell.check for cell in found})),
            cells={(cell.check, cell.subject): cell for cell in found},
        )
        for (suite, kind), found in sorted(kinds.items(), key=lambda item: item[0][0])
    ]


def suite_name(suite: str) -> str:
    """`suites/metrics.toml` as a heading: `metrics`."""
    return PurePath(suite).stem if suite.endswith((".toml", ".py")) else suite or "trials"


def place(outcome: Outcome) -> str:
    """Where the subject is declared, as short as the suite is named."""
    if not outcome.line:
        return ""
    if outcome.suite and outcome.file.endswith(outcome.suite):
        return f"{outcome.suite}:{outcome.line}"
    here = os.getcwd() + os.sep
    return f"{outcome.file.removeprefix(here)}:{outcome.line}"


def reasons(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Why trials were not run, the most frequent reason first."""
    found: dict[str, int] = defaultdict(int)
    for each in outcomes:
        if each.verdict is Verdict.SKIPPED:
            found[each.message.split("\n")[0] or "no reason given"] += 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))
