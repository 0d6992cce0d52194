"""Failures as workflow commands, which GitHub shows beside the line of the suite."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from dlcheck.model import Outcome, Verdict
from dlcheck.reporting.advice import next_step
from dlcheck.reporting.capped import capped
from dlcheck.reporting.markup import clean
from dlcheck.reporting.terminal import told

_LEVELS = {Verdict.FAILED: "error", Verdict.ERRORED: "error", Verdict.INCONCLUSIVE: "warning"}
_MOST = 10  # of a level and step, GitHub shows no more


def workflow_commands(outcomes: Iterable[Outcome], root: Path) -> Iterator[str]:
    """A command for each failure, then for what stayed inconclusive, ten of either.

    root: the folder of the repository, from which GitHub counts paths.
    """
    every = [each for each in outcomes if each.verdict in _LEVELS]
    for level in ("error", "warning"):
        found = (each for each in every if _LEVELS[each.verdict] == level)
        yield from (_command(level, capped(each), root) for each in islice(found, _MOST))


def _command(level: str, outcome: Outcome, root: Path) -> str:
    place = ""
    if outcome.file:
        path = Path(os.path.relpath(outcome.file, root)).as_posix()
        place = f"file={_property(path)},line={max(outcome.line, 1)},"
    title = f"{outcome.subject}: {outcome.check} [{outcome.point}]"
    message = "\n".join(part for part in _said(outcome) if part)
    return f"::{level} {place}title={_property(title)}::{_data(message)}"


def _said(outcome: Outcome) -> Iterator[str]:
    yield outcome.claim
    worst = outcome.worst
    if worst is not None and (worst.expected or worst.got):
        yield f"{worst.what}: expected {worst.expected or '?'}, got {worst.got or '?'}"
    yield told(outcome)
    for name, text in (
        ("Where", worst.where if worst is not None else ""),
        ("Likely", worst.cause if worst is not None else ""),
        ("Case", outcome.case),
        ("Next", next_step(outcome)),
        ("Source", outcome.source),
        ("Run again", outcome.reproduce),
    ):
        if text:
            yield f"{name}: {text}"


def _data(text: str) -> str:
    """A message as the runner reads it: one line."""
    return clean(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
