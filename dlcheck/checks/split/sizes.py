"""Parts have the sizes that were asked for: equal folds, declared shares."""

from __future__ import annotations

import numpy as np

from dlcheck.checks.split.broken import (
    Parts,
    each_fold,
    folds_changed,
    refolded,
)
from dlcheck.checks.split.calls import each_table, is_one_fold
from dlcheck.checks.split.tables import folds_of, is_stratified
from dlcheck.errors import NotApplicable, UsageError
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@folds_changed
def puts_the_remainder_into_the_last_fold(folds: list[Parts], rows: int) -> list[Parts]:
    """Folds of ⌊n/k⌋ rows, and the last takes all that is left."""
    tests = [fold[-1] for fold in folds]
    spare = [test[2:] for test in tests[:-1]]
    return refolded([*(t[:2] for t in tests[:-1]), np.concatenate([*spare, tests[-1]])], rows)


@folds_changed
def gives_the_first_fold_two_more(folds: list[Parts], rows: int) -> list[Parts]:
    tests = [fold[-1] for fold in folds]
    moved = [tests[0], *(test[:1] for test in tests[1:3])]
    return refolded([np.concatenate(moved), *(test[1:] for test in tests[1:3]), *tests[3:]], rows)


@folds_changed
def draws_the_fold_of_each_row(folds: list[Parts], rows: int) -> list[Parts]:
    """`fold = randint(k)` for every row: sizes vary."""
    fold = np.random.default_rng(0).integers(0, len(folds), rows)
    return refolded([np.flatnonzero(fold == i) for i in range(len(folds))], rows)


@folds_changed
def gives_half_of_a_fold_to_the_next(folds: list[Parts], rows: int) -> list[Parts]:
    """The second cut is at 1.5 n/k."""
    tests = [fold[-1] for fold in folds]
    half = len(tests[0]) // 2
    moved = [tests[0][:half], np.concatenate([tests[0][half:], tests[1]])]
    return refolded([*moved, *tests[2:]], rows)


@check(
    kind="split",
    options={"folds": True, "grouped": False, "stratified": False},
    forbids={"overlapping", "with_replacement", "ordered"},
    rejects=[
        puts_the_remainder_into_the_last_fold,
        gives_the_first_fold_two_more,
        draws_the_fold_of_each_row,
        gives_half_of_a_fold_to_the_next,
    ],
    once=True,
)
def folds_differ_by_at_most_one_row(subject: Implementation, case: Case) -> Evidence:
    """The test parts of one repeat have ⌊n/k⌋ or ⌈n/k⌉ rows.

    Otherwise the mean of the folds' scores is not that of the rows. No claim for whole groups,
    for strata (each class has its own remainder) and for test parts in time. Exact.
    """
    if is_one_fold(subject) or subject.options["folds"] in ("rows", "groups"):
        raise NotApplicable("folds of one row or group each have no sizes to compare")
    off, seen, where = 0, 0, ""
    for table, folds in each_table(subject, case):
        size = folds_of(subject) or len(folds)
        for start in range(0, len(folds), size):
            sizes = [len(fold.test) for fold in folds[start : start + size]]
            spread = _spread(sizes)
            off, seen = off + spread, seen + len(table)
            if spread and not where:
                where = f"test parts of {sizes} rows ({table})"
    return Evidence(
        error=float(off),
        bound=0.0,
        signal=float(seen),
        unit="rows",
        what="rows by which folds differ, beyond one",
        where=where,
    )


def _spread(sizes: list[int]) -> int:
    return max(0, max(sizes) - min(sizes) - 1) if sizes else 0


@each_fold
def swaps_train_and_test(parts: Parts, rows: int) -> Parts:
    return (parts[-1], *parts[1:-1], parts[0])


@each_fold
def cuts_in_half(parts: Parts, rows: int) -> Parts:
    """The share was never used."""
    order = np.concatenate(parts)
    cuts = np.array_split(order, len(parts))
    return tuple(cuts)


@each_fold
def takes_a_share_of_what_is_left(parts: Parts, rows: int) -> Parts:
    """Twenty per cent of the eighty that the first cut left."""
    keep = len(parts[-1]) * (rows - len(parts[-1])) // rows
    return (np.append(parts[0], parts[-1][keep:]), *parts[1:-1], parts[-1][:keep])


@each_fold
def gives_two_rows_more_to_test(parts: Parts, rows: int) -> Parts:
    return (parts[0][:-2], *parts[1:-1], np.append(parts[-1], parts[0][-2:]))


@check(
    kind="split",
    options={"shares": True, "grouped": False},
    rejects=[
        swaps_train_and_test,
        cuts_in_half,
        takes_a_share_of_what_is_left,
        gives_two_rows_more_to_test,
    ],
    once=True,
)
def parts_have_their_shares(subject: Implementation, case: Case) -> Evidence:
    """Each part has its declared share of the rows, rounded up or down.

    |size − share · n| < 1, and where strata are cut one by one < 1 for each class. Whichever part
    takes the remainder, the sizes of all m parts add up to n, so that it may have m − 1 rows more.
    """
    shares = _shares(subject)
    off, seen, where = 0.0, 0, ""
    for table, folds in each_table(subject, case):
        classes = table.sizes["k"] if is_stratified(subject) else 1
        room = classes * max(1, len(shares) - 1)
        for number, fold in enumerate(folds):
            sizes = [len(part) for part in fold.parts]
            excess = _excess(sizes, shares, len(table), room)
            off, seen = max(off, excess), seen + len(table)
            if excess and not where:
                wanted = [f"{share * len(table):g}" for share in shares]
                where = f"parts of {sizes} rows for {', '.join(wanted)}, fold {number} ({table})"
    return Evidence(
        error=off,
        bound=0.0,
        signal=float(seen),
        unit="rows",
        what="rows beyond the declared shares, rounded",
        expected=f"shares of {', '.join(f'{share:g}' for share in shares)}",
        where=where,
    )


def _shares(subject: Implementation) -> list[float]:
    said = subject.options["shares"]
    wanted = isinstance(said, (list, tuple)) and len(said) in (2, 3)
    if not wanted or not all(isinstance(x, (int, float)) and 0 < x < 1 for x in said):
        raise UsageError(
            f"shares = {said!r}: give the share of each part, between 0 and 1: [0.8, 0.2] for "
            "train and test, [0.6, 0.2, 0.2] with validation"
        )
    return [float(share) for share in said]


def _excess(sizes: list[int], shares: list[float], n: int, room: int) -> float:
    """By how many rows a size is more than a rounding away from its share; 1e-9 of them is none."""
    if len(sizes) != len(shares):
        return float(n)
    far = max(abs(size - share * n) for size, share in zip(sizes, shares, strict=True))
    return max(1.0, far - room) if far > room - 1e-9 else 0.0
