"""Broken splitters: any splitter with its folds, its labels or its arguments changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from dlcheck.checks.split.calls import parts_of
from dlcheck.checks.split.tables import Indices
from dlcheck.model import Mutant
from dlcheck.mutants import rebuilt

Parts = tuple[Indices, ...]
Call = Callable[..., Any]


class _Method:
    """A function in the place of an object's `split`."""

    def __init__(self, call: Call) -> None:
        self.split = call


def called(call: Callable[..., Any]) -> Mutant:
    """A mutant that answers with `call(original, first, *more, **named)`; use as a decorator.

    What was an object with `split` stays one, so that it is called as before.
    """

    def change(built: Any) -> Any:
        method = getattr(built, "split", None)
        if callable(method):
            return _Method(lambda *given, **named: call(method, *given, **named))
        return lambda *given, **named: call(built, *given, **named)

    return rebuilt(call.__name__, change)


def folds_changed(change: Callable[[list[Parts], int], list[Parts]]) -> Mutant:
    """A mutant whose folds pass through `change(folds, rows)`; use as a decorator."""

    def call(original: Call, first: Any, *more: Any, **named: Any) -> Any:
        return change(as_folds(original(first, *more, **named)), size_of(first))

    call.__name__ = change.__name__
    return called(call)


def each_fold(change: Callable[[Parts, int], Parts]) -> Mutant:
    """A mutant that changes every fold by itself: `change(parts, rows)`; use as a decorator."""

    def every(folds: list[Parts], rows: int) -> list[Parts]:
        return [change(parts, rows) for parts in folds]

    every.__name__ = change.__name__
    return folds_changed(every)


def as_folds(answer: Any) -> list[Parts]:
    """The answer as a list of folds, a pair of index arrays being one."""
    return parts_of(answer if not isinstance(answer, tuple) else [answer], is_one_fold=False)


def size_of(first: Any) -> int:
    return first if isinstance(first, int) else len(first)


def complement(test: Indices, rows: int) -> Indices:
    """The rows that are not in `test`, in order."""
    return np.setdiff1d(np.arange(rows), test)


def refolded(tests: list[Indices], rows: int) -> list[Parts]:
    """Pairs with these test parts and all other rows in train."""
    return [(complement(test, rows), test) for test in tests]


@each_fold
def trains_on_all_rows(parts: Parts, rows: int) -> Parts:
    """The model sees its test rows: `x_train = x`."""
    return (np.arange(rows), *parts[1:])


@each_fold
def slices_include_their_end(parts: Parts, rows: int) -> Parts:
    """`train = order[: cut + 1]`: one row of the next part belongs to train too."""
    return (np.append(parts[0], parts[1][:1]), *parts[1:])


@each_fold
def tests_on_a_row_of_train(parts: Parts, rows: int) -> Parts:
    """A bootstrap whose test was drawn too, instead of what was left."""
    return (*parts[:-1], np.append(parts[-1], parts[0][-1:]))


@each_fold
def loses_a_row(parts: Parts, rows: int) -> Parts:
    """`n // folds` of what does not divide."""
    return (parts[0][:-1], *parts[1:])


@folds_changed
def drops_the_last_fold(folds: list[Parts], rows: int) -> list[Parts]:
    """`range(folds - 1)`."""
    return folds[:-1]


@folds_changed
def repeats_the_first_fold(folds: list[Parts], rows: int) -> list[Parts]:
    return [folds[0]] * len(folds)


@folds_changed
def tests_rows_twice(folds: list[Parts], rows: int) -> list[Parts]:
    """The test part of a fold reaches one row into the next."""
    tests = [fold[-1] for fold in folds]
    wider = [np.union1d(test, nxt[:1]) for test, nxt in itertools.pairwise(tests)]
    return refolded([*wider, tests[-1]], rows)


@folds_changed
def leaves_the_remainder_untested(folds: list[Parts], rows: int) -> list[Parts]:
    """Folds of ⌊n/k⌋ rows: the last n mod k are always in train."""
    size = min(len(fold[-1]) for fold in folds)
    tests = [fold[-1][: size - (rows % len(folds) == 0)] for fold in folds]
    return refolded(tests, rows)


def ignores(folds: list[Parts], rows: int) -> list[Parts]:
    """A split of mixed rows into parts of these sizes, whatever labels and groups say."""
    order = np.random.default_rng(rows).permutation(rows)
    if len(folds) == 1:
        return [cut_like(order, folds[0])]
    return refolded(np.array_split(order, len(folds)), rows)


def cut_like(order: Indices, like: Parts) -> Parts:
    return tuple(np.split(order, np.cumsum([len(part) for part in like])[:-1]))


def shuffled(labels: Any) -> Any:
    order = np.random.default_rng(1).permutation(len(labels))
    return [labels[i] for i in order] if isinstance(labels, list) else labels[order]
