"""What a splitter gives are rows: integers within the table, no part of them empty or twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcheck.checks.split.broken import (
    Call,
    Parts,
    called,
    drops_the_last_fold,
    each_fold,
    folds_changed,
    size_of,
)
from dlcheck.checks.split.calls import each_table, flaws, is_refused, raw_split
from dlcheck.checks.split.tables import folds_of, repeats_of, tables
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@called
def refuses_what_the_folds_do_not_divide(original: Call, first: Any, *more: Any, **n: Any) -> Any:
    """`x.reshape(folds, -1)`."""
    if size_of(first) % 2:
        raise ValueError("cannot reshape")
    return original(first, *more, **n)


@called
def refuses_all(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    raise IndexError("index out of bounds")


@called
def refuses_more_than_thirty_rows(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    if size_of(first) > 8:
        raise MemoryError("too many rows")
    return original(first, *more, **named)


@called
def refuses_fewer_than_a_hundred_rows(original: Call, first: Any, *more: Any, **named: Any) -> Any:
    if size_of(first) < 100:
        raise ValueError("batch does not fill")
    return original(first, *more, **named)


@check(
    kind="split",
    tags=["domain"],
    rejects=[
        refuses_what_the_folds_do_not_divide,
        refuses_all,
        refuses_more_than_thirty_rows,
        refuses_fewer_than_a_hundred_rows,
    ],
    once=True,
)
def splits_its_declared_tables(subject: Implementation, case: Case) -> Evidence:
    """Every table of the declared sizes is split, whether or not the folds divide its rows.

    Six numbers of rows within `options.sizes`, with every class and at least as many groups as
    folds; an exception that `options.rejects` documents is an answer. The error counts the
    others. Other checks leave these tables out, so that one refusal is one failure.
    """
    raised, seen, where, message = 0, 0, "", ""
    for table in tables(subject, case):
        seen += 1
        try:
            raw_split(subject, table)
        except SubjectError as error:
            if is_refused(subject, table, error):
                continue
            raised += 1
            where, message = where or str(table), message or str(error)
    return Evidence(
        error=float(raised),
        bound=0.0,
        signal=float(seen),
        unit="tables",
        what="tables that are not split",
        expected="pairs or triples of index arrays",
        got=message,
        where=where,
        cause=_remedy(subject) if raised else "",
    )


def _remedy(subject: Implementation) -> str:
    """The declarations that change what it is given, and those that leave a refusal out."""
    takes = subject.options.get("takes", "rows" if subject.follows_its_methods else "n")
    others = [f'"{word}"' for word in ("n", "rows", "indices") if word != takes]
    given = {"n": "a number", "rows": "a table", "indices": "0 … n - 1"}[takes]
    missing = [
        f"{column} with {option} = true"
        for column, option in (("labels", "stratified"), ("groups", "grouped"))
        if not subject.options.get(option)
    ]
    asked = f"; it gets {' and '.join(missing)}" if missing else ""
    return (
        f"it was given {given} (takes = {' or '.join(others)} changes that){asked}; leave out "
        "what it refuses with sizes = { n = [lowest, highest] } or rejects = { n = … }"
    )


@each_fold
def counts_rows_from_one(parts: Parts, rows: int) -> Parts:
    return tuple(part + 1 for part in parts)


@each_fold
def counts_the_last_rows_from_the_end(parts: Parts, rows: int) -> Parts:
    """Negative indices: the same rows to numpy, and new ones to a set."""
    return tuple(np.where(part >= rows // 2, part - rows, part) for part in parts)


@each_fold
def gives_masks(parts: Parts, rows: int) -> Parts:
    return tuple(np.isin(np.arange(rows), part) for part in parts)  # type: ignore[misc]


@each_fold
def gives_floats(parts: Parts, rows: int) -> Parts:
    """`n * 0.8` that was never rounded."""
    return tuple(part.astype(np.float64) for part in parts)


@check(
    kind="split",
    rejects=[
        counts_rows_from_one,
        counts_the_last_rows_from_the_end,
        gives_masks,
        gives_floats,
    ],
    once=True,
)
def indices_are_rows(subject: Implementation, case: Case) -> Evidence:
    """Every part of every fold holds integers from 0 to n − 1.

    Floats and Booleans are no indices, and a negative one is a row under another name, which no
    comparison of parts would find. Exact: the bound is 0.
    """
    wrong, seen, where = 0, 0, ""
    for table in tables(subject, case):
        try:
            folds = raw_split(subject, table)
        except SubjectError:
            continue
        seen += sum(len(part) for parts in folds for part in parts)
        for count, words in flaws(folds, len(table)):
            wrong, where = wrong + count, where or f"{words} ({table})"
    if not seen:
        raise NotApplicable("it splits no table, see splits_its_declared_tables")
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(seen),
        unit="indices",
        what="indices that are no rows",
        expected="integers in 0 … n − 1",
        where=where,
    )


@each_fold
def holds_a_row_twice(parts: Parts, rows: int) -> Parts:
    """`order[cut - 1:]` joined to `order[:cut]`."""
    return (np.append(parts[0], parts[0][:1]), *parts[1:])


@each_fold
def draws_train_with_replacement(parts: Parts, rows: int) -> Parts:
    drawn = np.random.default_rng(0).choice(parts[0], len(parts[0]))
    return (drawn, *parts[1:])


@each_fold
def oversamples_test(parts: Parts, rows: int) -> Parts:
    """Balanced before it was split."""
    return (*parts[:-1], np.resize(parts[-1], len(parts[-1]) + 2))


@each_fold
def pads_test_with_its_first_row(parts: Parts, rows: int) -> Parts:
    """Parts made equal, as ranks are."""
    return (*parts[:-1], np.append(parts[-1], parts[-1][:1]))


@check(
    kind="split",
    rejects=[
        holds_a_row_twice,
        draws_train_with_replacement,
        oversamples_test,
        pads_test_with_its_first_row,
    ],
    forbids={"with_replacement"},
    once=True,
)
def no_part_holds_a_row_twice(subject: Implementation, case: Case) -> Evidence:
    """A part is a set of rows.

    A repeated row weighs double in training and in the score. A bootstrap declares
    `with_replacement`. Exact: the bound is 0.
    """
    wrong, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        for number, fold in enumerate(folds):
            for part in fold.parts:
                surplus = len(part) - len(np.unique(part))
                wrong, seen = wrong + surplus, seen + len(part)
                if surplus and not where:
                    where = f"{surplus} of {len(part)} rows in fold {number} ({table})"
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(max(seen, 1)),
        unit="rows",
        what="rows that a part holds again",
        where=where,
    )


@folds_changed
def adds_an_empty_fold(folds: list[Parts], rows: int) -> list[Parts]:
    """`range(folds + 1)`."""
    return [*folds, (np.arange(rows), np.arange(0))]


@folds_changed
def gives_one_fold_only(folds: list[Parts], rows: int) -> list[Parts]:
    """`return` for `yield`."""
    return folds[:1] if len(folds) > 1 else []


@folds_changed
def empties_the_last_test(folds: list[Parts], rows: int) -> list[Parts]:
    """Folds of ⌈n/k⌉ rows: the last may come to nothing."""
    return [*folds[:-1], (np.arange(rows), np.arange(0))]


@check(
    kind="split",
    options={"folds": True},
    rejects=[drops_the_last_fold, adds_an_empty_fold, gives_one_fold_only, empties_the_last_test],
    once=True,
)
def folds_are_as_many_as_declared(subject: Implementation, case: Case) -> Evidence:
    """There are folds × repeats folds, and none has an empty part.

    With `folds = "rows"` or `"groups"` as many as there are of these. An empty test part gives a
    score of NaN, and fewer folds a mean of fewer. Exact: the bound is 0.
    """
    wrong, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        wanted = _declared_folds(subject, table.sizes) * repeats_of(subject)
        off = abs(len(folds) - wanted)
        empty = sum(not len(part) for fold in folds for part in fold.parts)
        wrong, seen = wrong + off + empty, seen + wanted
        if off + empty and not where:
            where = f"{len(folds)} folds, not {wanted}; {empty} empty parts ({table})"
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(seen),
        unit="folds",
        what="folds too many, too few or empty",
        where=where,
    )


def _declared_folds(subject: Implementation, sizes: dict[str, int]) -> int:
    said = subject.options["folds"]
    if said in ("rows", "groups"):
        return sizes["n" if said == "rows" else "g"]
    number = folds_of(subject)
    if number is None:
        raise NotApplicable(f"folds = {said!r} is no number here")
    return number
