"""Classes keep their proportions in every part."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcheck.checks.split.broken import (
    Call,
    Parts,
    called,
    complement,
    cut_like,
    folds_changed,
    ignores,
    refolded,
    shuffled,
)
from dlcheck.checks.split.calls import each_table, is_one_fold
from dlcheck.checks.split.tables import (
    Indices,
    Table,
    folds_of,
)
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@folds_changed
def ignores_the_labels(folds: list[Parts], rows: int) -> list[Parts]:
    """A shuffled split: `stratify` is lost on the way."""
    order, cut = np.random.default_rng(rows).permutation(rows), len(folds[0][-1])
    if len(folds) == 1:
        return [(order[cut:], order[:cut])] if len(folds[0]) == 2 else [cut_like(order, folds[0])]
    return refolded(np.array_split(order, len(folds)), rows)


@folds_changed
def cuts_the_rows_in_order(folds: list[Parts], rows: int) -> list[Parts]:
    """Blocks of rows as they come, sorted by their labels in the worst case."""
    if len(folds) == 1:
        return [cut_like(np.arange(rows), folds[0])]
    return refolded(np.array_split(np.arange(rows), len(folds)), rows)


@called
def stratifies_by_the_order_of_appearance(
    original: Call, first: Any, labels: Any = None, *more: Any, **named: Any
) -> Any:
    """`np.unique` sorts: the inverse of one order is put beside the labels of another."""
    keyword = next((name for name in named if len(np.shape(named[name])) >= 1), "")
    given = named[keyword] if keyword else labels
    moved = shuffled(given) if given is not None else None
    if keyword:
        return original(
            first, *([] if labels is None else [labels]), *more, **{**named, keyword: moved}
        )
    return original(first, moved, *more, **named)


@folds_changed
def gives_a_fold_two_rows_of_the_first_class(folds: list[Parts], rows: int) -> list[Parts]:
    """The remainders of all classes go where they should not: two tests exchange two rows."""
    if len(folds) < 2:
        head, *middle, test = folds[0]
        cut = max(len(test) // 2, 1)
        return [(np.append(head[cut:], test[:cut]), *middle, np.append(test[cut:], head[:cut]))]
    tests = [fold[-1] for fold in folds]
    size = max(2, min(len(tests[0]), len(tests[1])) // 2)
    a, b = np.sort(tests[0]), np.sort(tests[1])
    tests[0] = np.concatenate([a[:size], b[: len(a) - size]])
    tests[1] = complement(tests[0], rows)
    tests[1] = tests[1][np.isin(tests[1], np.concatenate([a, b]))]
    return refolded(tests, rows)


@check(
    kind="split",
    options={"stratified": [True], "grouped": False},
    forbids={"approximately_stratified"},
    rejects=[
        ignores_the_labels,
        cuts_the_rows_in_order,
        stratifies_by_the_order_of_appearance,
        gives_a_fold_two_rows_of_the_first_class,
    ],
    once=True,
)
def classes_keep_their_proportions(subject: Implementation, case: Case) -> Evidence:
    """Each class has its share of every test part, as nearly as whole rows allow.

    Over k folds a class of n_c rows has ⌊n_c/k⌋ or ⌈n_c/k⌉ in each, which every splitter attains
    that deals out the rows of a class in turn. One cut of m of n rows rounds each class once:
    C classes, each less than a row from its share s, together less than C from s·n, so that the
    count is less than 1 + C n_c/n from n_c m/n. Where rows are left out, two cuts round twice.
    Exact: the bound is 0. Source: Cochran, Sampling Techniques, 3rd ed., 5.5 (proportional
    allocation); Kohavi, A Study of Cross-Validation and Bootstrap, IJCAI 1995, section 2.2.
    """
    excess, seen, where = 0.0, 0, ""
    for table, folds in each_table(subject, case):
        assert table.labels is not None
        for number, fold in enumerate(folds):
            for part in fold.held_out:
                off, words = unevenness(subject, table, part)
                excess, seen = excess + off, seen + len(part)
                if off and not where:
                    where = f"{words}, fold {number} ({table})"
    return Evidence(
        error=excess,
        bound=0.0,
        signal=float(max(seen, 1)),
        unit="rows",
        what="rows of a class too many or too few",
        where=where,
    )


def unevenness(subject: Implementation, table: Table, part: Indices) -> tuple[float, str]:
    """Rows beyond the nearest proportional counts, and the counts in words."""
    assert table.labels is not None
    counts = np.bincount(table.labels)
    got = np.bincount(table.labels[part], minlength=len(counts))
    shared = not is_one_fold(subject) and not {"overlapping", "ordered"} & subject.traits
    k = folds_of(subject)
    if shared and k:
        low, high = counts // k, -(-counts // k)
    else:
        ideal = counts * len(part) / len(table)
        room = 1 + len(counts) * counts / len(table) + ("partial" in subject.traits)
        low, high = np.ceil(ideal - room), np.floor(ideal + room)
    off = np.maximum(low - got, 0) + np.maximum(got - high, 0)
    return float(off.sum()), f"{got.tolist()} of classes of {counts.tolist()}"


def _labels_in_snake_order(n: int, labels: Any, folds: int) -> list[Parts]:
    """The rows sorted by class, dealt out forth and back: two of a class may come to one fold."""
    turn = np.concatenate([np.arange(folds), np.arange(folds)[::-1]])
    fold = np.empty(n, np.int64)
    fold[np.argsort(np.asarray(labels), kind="stable")] = np.resize(turn, n)
    return refolded([np.flatnonzero(fold == i) for i in range(folds)], n)


@folds_changed
def swaps_every_second_row(folds: list[Parts], rows: int) -> list[Parts]:
    """Half of the rows are dealt out by chance."""
    return ignores(folds, rows)


@check(
    kind="split",
    needs={"approximately_stratified"},
    options={"stratified": [True], "grouped": False},
    rejects=[
        swaps_every_second_row,
        ignores_the_labels,
        cuts_the_rows_in_order,
        stratifies_by_the_order_of_appearance,
    ],
    accepts=[
        Subject(
            name="labels_in_snake_order",
            target=_labels_in_snake_order,
            kind="split",
            args={"folds": 4},
            options={"folds": "folds", "stratified": True},
            traits=frozenset({"approximately_stratified"}),
        )
    ],
    once=True,
)
def classes_are_spread_better_than_by_chance(subject: Implementation, case: Case) -> Evidence:
    """Counts of classes deviate less than half as much as those of a random split.

    A test part of m of n rows drawn at random holds n_c m/n rows of a class with variance
    m (n_c/n)(1 − n_c/n)(n − m)/(n − 1) (hypergeometric). A splitter that only approximates the
    proportions states no count; what is asked is that its mean square deviation be below one
    half of that, over all classes, folds and six tables.
    Source: Sechidis, Tsoumakas & Vlahavas, On the Stratification of Multi-Label Data, 2011.
    """
    squares, chance = 0.0, 0.0
    for table, folds in each_table(subject, case):
        assert table.labels is not None
        share = np.bincount(table.labels) / len(table)
        for fold in folds:
            m, n = len(fold.test), len(table)
            got = np.bincount(table.labels[fold.test], minlength=len(share))
            squares += float(((got - share * m) ** 2).sum())
            chance += float((share * (1 - share)).sum()) * m * (n - m) / (n - 1)
    return Evidence(
        error=squares,
        bound=chance / 2,
        signal=chance,
        unit="rows²",
        what="squared deviation of the classes' counts",
        expected=f"below half of {chance:.4g}, that of a random split",
        resolution=1.0,
    )
