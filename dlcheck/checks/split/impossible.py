"""What cannot be split is refused, not split badly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlcheck.checks.split.broken import Call, called, size_of
from dlcheck.checks.split.calls import raw_split
from dlcheck.checks.split.tables import (
    Table,
    folds_of,
    is_grouped,
    is_stratified,
    rows_of,
)
from dlcheck.errors import SubjectError, SubjectRaised
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _answering(answer: Any) -> Any:
    """A mutant that answers with `answer(rows)` where the original refuses."""

    def call(original: Call, first: Any, *more: Any, **named: Any) -> Any:
        try:
            folds = list(original(first, *more, **named))
        except Exception:
            folds = answer(size_of(first))
        return folds

    call.__name__ = answer.__name__
    return called(call)


@_answering
def gives_empty_test_parts(rows: int) -> Any:
    """`np.array_split` of three rows into five."""
    return [(np.arange(rows), np.arange(0))]


@_answering
def gives_no_folds(rows: int) -> Any:
    return []


@_answering
def tests_all_on_all(rows: int) -> Any:
    return [(np.arange(rows), np.arange(rows))]


@_answering
def trains_on_nothing(rows: int) -> Any:
    return [(np.arange(0), np.arange(rows))]


@check(
    kind="split",
    needs={"validates"},
    rejects=[gives_empty_test_parts, gives_no_folds, tests_all_on_all, trains_on_nothing],
    once=True,
)
def refuses_what_cannot_be_split(subject: Implementation, case: Case) -> Evidence:
    """A splitter that promises to validate raises for no rows, one row, fewer rows or groups than
    folds, and one group that is the whole table.

    No split of these has two parts that are not empty in every fold. What it answers without
    raising is counted, unless each part of each fold has rows and none is shared: a class smaller
    than the folds may be spread over some of them, with a warning.
    """
    answered = [(what, how) for what, table in _impossible(subject, case)
                if (how := _wrong_answer(subject, table))]  # fmt: skip
    count = sum(1 for _ in _impossible(subject, case))
    return Evidence(
        error=float(len(answered)),
        bound=0.0,
        signal=float(max(count, 1)),
        unit="tables",
        what="tables that cannot be split and are",
        expected="an exception",
        where="; ".join(f"{what}: {how}" for what, how in answered[:4]),
    )


def _impossible(subject: Implementation, case: Case) -> Iterator[tuple[str, Table]]:
    k = folds_of(subject) or 2
    sizes = {0: "no rows", 1: "one row"}
    if k > 2 and not {"overlapping", "with_replacement"} & subject.traits:
        sizes[k - 1] = f"{k - 1} rows for {k} folds"
    for n, what in sizes.items():
        labels = np.arange(n) % 2 if is_stratified(subject) else None
        groups = np.arange(n) if is_grouped(subject) else None
        yield what, Table(rows_of(case, n) if n else rows_of(case, 1)[:0], labels, groups)
    n = 6 * k
    labels = np.arange(n) % 2 if is_stratified(subject) else None
    if is_grouped(subject):
        yield "one group", Table(rows_of(case, n), labels, np.zeros(n, np.int64))
    elif labels is not None:
        rare = (np.arange(n) == n // 2).astype(np.int64)
        yield "a class of one row", Table(rows_of(case, n), rare)


def _wrong_answer(subject: Implementation, table: Table) -> str:
    """What is wrong with the answer; empty where it raised, or where all parts are sound."""
    folds: list[Any] = []
    with contextlib.suppress(SubjectRaised):
        try:
            folds = raw_split(subject, table)
        except SubjectRaised:
            return ""
        except SubjectError as error:
            return str(error)
    if not folds:
        return "no folds"
    if any(not len(part) for parts in folds for part in parts):
        return "an empty part"
    shared = any(len(np.intersect1d(parts[0], parts[-1])) for parts in folds)
    return "parts that share rows" if shared else ""
