"""Classes and groups may be called anything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from dlcheck.checks.split.broken import (
    Call,
    as_folds,
    called,
    ignores,
    shuffled,
    size_of,
)
from dlcheck.checks.split.calls import is_refused, split
from dlcheck.checks.split.classes import unevenness
from dlcheck.checks.split.groups import torn_groups
from dlcheck.checks.split.tables import (
    Table,
    is_grouped,
    tables,
)
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

NAMES = ("spread integers", "text", "floats")


@called
def takes_labels_for_positions(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """`counts[label]`: right for 0…k − 1, and garbage for other integers."""
    return _unless(original, first, more, named, lambda x: x.dtype.kind in "iu" and x.min() < 0)


@called
def compares_text_with_integers(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """`labels == 1` is False for every text."""
    return _unless(original, first, more, named, lambda x: x.dtype.kind in "US")


@called
def sorts_text_away_from_its_rows(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    more = tuple(_sorted_text(x) for x in more)
    return original(first, *more, **{name: _sorted_text(x) for name, x in named.items()})


def _sorted_text(x: Any) -> Any:
    is_text = x is not None and np.asarray(x).dtype.kind in "US"
    return shuffled(x) if is_text else x


@called
def takes_floats_for_different_numbers(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    """Values of a regression target: each its own class."""
    return _unless(original, first, more, named, lambda x: x.dtype.kind == "f")


def _unless(original: Call, first: Any, more: Any, named: Any, broken: Any) -> Any:
    """The original's folds, or those of mixed rows where a column is `broken`."""
    folds = as_folds(original(first, *more, **named))
    columns = [np.asarray(x) for x in (*more, *named.values()) if x is not None]
    return ignores(folds, size_of(first)) if any(map(broken, columns)) else folds


@check(
    kind="split",
    options={"stratified": [True]},
    forbids={"approximately_stratified"},
    rejects=[
        takes_labels_for_positions,
        compares_text_with_integers,
        sorts_text_away_from_its_rows,
        takes_floats_for_different_numbers,
    ],
    once=True,
)
def classes_are_only_names(subject: Implementation, case: Case) -> Evidence:
    """Classes named by other integers, words or floats keep their proportions as well.

    The names −26, −19, −12, …, sorted words and 0.0, 1.0, …, for which each split must be as even
    as for 0, 1, …; it may be another one. Words and floats may be refused by an exception. A
    splitter that documents labels 0 … k − 1 refuses other integers and declares
    `rejects = { names = "spread integers" }`. Exact: the bound is 0.
    """
    if subject.options.get("label_format") == "onehot":
        raise NotApplicable("one-hot rows have no names")
    return _renamed(subject, case, "classes")


@check(
    kind="split",
    options={"grouped": [True]},
    rejects=[
        takes_labels_for_positions,
        compares_text_with_integers,
        sorts_text_away_from_its_rows,
        takes_floats_for_different_numbers,
    ],
    once=True,
)
def groups_are_only_names(subject: Implementation, case: Case) -> Evidence:
    """Groups named by other integers, words or floats stay whole as well.

    The names −12, 9, −5, …, sorted words and 2.0, 5.0, …; the split itself may be another one.
    Words and floats may be refused by an exception. Exact: the bound is 0.
    """
    return _renamed(subject, case, "groups")


def _renamed(subject: Implementation, case: Case, what: str) -> Evidence:
    wrong, seen, where, message = 0.0, 0, "", ""
    for named in _named_tables(subject, case):
        seen += 1
        try:
            off = _violations(subject, named)
        except SubjectError as error:
            off = float(named.names == NAMES[0] and not is_refused(subject, named, error))
            message = message or (str(error) if off else "")
        wrong += off
        where = where or (str(named) if off else "")
    return Evidence(
        error=wrong,
        bound=0.0,
        signal=float(max(seen, 1)),
        unit="violations",
        what=f"splits that are wrong when the {what} have other names",
        got=message if wrong else "",
        where=where,
        cause='if labels must be 0 … k - 1, declare rejects = { names = "spread integers" }'
        if wrong and message
        else "",
    )


def _named_tables(subject: Implementation, case: Case) -> Iterator[Table]:
    for table in tables(subject, case, 3):
        for names in NAMES:
            if names != "text" or subject.options.get("arrays") != "torch":
                yield replace(table, names=names)


def _violations(subject: Implementation, table: Table) -> float:
    folds = split(subject, table)
    found = sum(len(torn_groups(table, fold)) for fold in folds) if is_grouped(subject) else 0.0
    exact = subject.options.get("stratified") is True and not is_grouped(subject)
    if exact:
        found += sum(unevenness(subject, table, fold.test)[0] for fold in folds)
    return math.ceil(found)
