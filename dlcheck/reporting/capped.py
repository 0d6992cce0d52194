"""Outcomes as a report shows them: text of strangers cut to what a person reads.

A subject's name, message or docstring may be ten megabytes; the record keeps them whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

from dlcheck.benchmark import Benchmark
from dlcheck.model import Evidence, Figure, Outcome, Statement
from dlcheck.reporting.report import Report

_OUTCOME = {
    **dict.fromkeys(("suite", "subject", "kind", "check", "device", "dtype", "point"), 200),
    **dict.fromkeys(("case", "profile", "target", "file", "source"), 600),
    "claim": 1000,
    "message": 20_000,
    "reproduce": 2000,
    "failure": 64,
}
_EVIDENCE = {**dict.fromkeys(("what", "expected", "got", "where", "cause"), 2000), "unit": 60}
_FIGURE = {"title": 200, "x": 100, "y": 100, "note": 1000}
_STATEMENT = {"id": 20, "says": 400, "verdict": 40, "condition": 400}
_BENCHMARK = {
    **dict.fromkeys(("name", "suite", "device", "dtype", "point", "hardware", "item"), 200),
    **dict.fromkeys(("refused", "agreement", "reproduce"), 2000),
}
_VALUES = 40
_SERIES = 60
_NAME = 100
_NOTE = 600
_VALUE = 400
_METADATA = 2000
_ENTRIES = 200

Noun = TypeVar("Noun", Outcome, Evidence, Figure, Statement, Benchmark)


def capped_report(report: Report) -> Report:
    """The report with every outcome cut to what is read."""
    meta = {short(name, _NAME): capped_value(value) for name, value in report.meta.items()}
    outcomes = [capped(outcome) for outcome in report.outcomes]
    return Report(outcomes, meta, [capped_benchmark(each) for each in report.benchmarks])


def capped_benchmark(benchmark: Benchmark) -> Benchmark:
    """The benchmark with its long texts cut."""
    sizes, params = capped_value(benchmark.sizes), capped_value(benchmark.params)
    notes = tuple(short(note, _METADATA) for note in benchmark.notes[:_VALUES])
    return replace(_cut(benchmark, _BENCHMARK), sizes=sizes, params=params, notes=notes)


def capped_value(value: Any) -> Any:
    """Metadata with its texts cut, and of a long list the beginning."""
    match value:
        case str():
            return short(value, _METADATA)
        case Mapping():
            kept = islice(value.items(), _ENTRIES)
            return {short(str(name), _NAME): capped_value(part) for name, part in kept}
        case list() | tuple():
            return [capped_value(part) for part in value[:_ENTRIES]]
    return value


def capped(outcome: Outcome) -> Outcome:
    """The outcome with its long texts cut, each with a note of its length."""
    evidence = tuple(_evidence(piece) for piece in outcome.evidence)
    stated = _cut(outcome.textbook, _STATEMENT) if outcome.textbook else None
    outcome = _cut(outcome, _OUTCOME)
    notes = tuple(short(note, _NOTE) for note in outcome.notes[:_VALUES])
    same = stated is outcome.textbook and notes == outcome.notes
    if same and all(map(_is, evidence, outcome.evidence)):
        return outcome
    return replace(outcome, evidence=evidence, textbook=stated, notes=notes)


def _is(one: object, other: object) -> bool:
    return one is other


def short(text: str, limit: int) -> str:
    """The text, or its beginning with a note that keeps two long ones apart."""
    if len(text) <= limit:
        return text
    mark = zlib.crc32(text.encode("utf-8", "replace"))
    return f"{text[:limit]}… ({len(text):,} characters, {mark:08x}; the record has them all)"


def _cut(noun: Noun, limits: Mapping[str, int]) -> Noun:
    long = {
        name: short(getattr(noun, name), limit)
        for name, limit in limits.items()
        if len(getattr(noun, name)) > limit
    }
    return replace(noun, **long) if long else noun  # type: ignore[arg-type]


def _evidence(piece: Evidence) -> Evidence:
    figures = tuple(_figure(figure) for figure in piece.figures)
    if not all(map(_is, figures, piece.figures)):
        piece = replace(piece, figures=figures)
    return _cut(_few_values(piece), _EVIDENCE)


def _few_values(piece: Evidence) -> Evidence:
    values = piece.values
    long = any(
        len(name) > _NAME or (isinstance(value, str) and len(value) > _VALUE)
        for name, value in values.items()
    )
    if len(values) <= _VALUES and not long:
        return piece
    kept = {
        short(name, _NAME): short(value, _VALUE) if isinstance(value, str) else value
        for name, value in islice(values.items(), _VALUES)
    }
    if left := len(values) - len(kept):
        kept["further values in the record"] = left
    return replace(piece, values=kept)


def _figure(figure: Figure) -> Figure:
    if len(figure.series) > _SERIES or any(len(name) > _NAME for name in figure.series):
        series = {short(name, _NAME): points for name, points in figure.series.items()}
        kept = dict(islice(series.items(), _SERIES))
        left = len(series) - len(kept)
        note = f"{figure.note} {left:,} further series are in the record.".strip()
        figure = replace(
            figure,
            series=kept,
            marks=tuple(short(name, _NAME) for name in figure.marks),
            steps=tuple(short(name, _NAME) for name in figure.steps),
            note=note if left else figure.note,
        )
    return _cut(figure, _FIGURE)
