"""The tables on which a splitter is tried: numbers of rows, labels and groups that show bugs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable, SubjectError, UsageError
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation

Indices = NDArray[np.int64]
_FREE = 5  # folds for which sizes are chosen where their number is not declared
_SHARES = (0.5, 0.3, 0.2)  # of the classes


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with their labels and groups, as far as the splitter is told of them.

    labels [n] of 0…k − 1 and groups [n], both integers; rows [n, d]. `names` is how labels and
    groups are spelled when they are handed over.
    """

    rows: NDArray[Any]
    labels: Indices | None = None
    groups: Indices | None = None
    names: str = "integers"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> dict[str, int]:
        """By the names of `options.sizes` and `options.rejects`: rows n, classes k, groups g."""
        sizes = {"n": len(self)}
        for name, column in (("k", self.labels), ("g", self.groups)):
            if column is not None:
                sizes[name] = len(np.unique(column))
        return sizes

    def taken(self, order: Indices) -> Table:
        """The rows in another order."""
        labels, groups = self.labels, self.groups
        return replace(
            self,
            rows=self.rows[order],
            labels=None if labels is None else labels[order],
            groups=None if groups is None else groups[order],
        )

    def __str__(self) -> str:
        parts = [f"{len(self)} rows"]
        if self.labels is not None:
            parts.append(f"classes of {np.bincount(self.labels).tolist()}")
        if self.groups is not None:
            counts = np.unique(self.groups, return_counts=True)[1].tolist()
            parts.append(f"groups of {counts[:12]}{'…' if len(counts) > 12 else ''}")
        return ", ".join(parts) + (f" named by {self.names}" if self.names != "integers" else "")


def folds_of(subject: Implementation) -> int | None:
    """The declared number of folds; None where it is not a number known beforehand."""
    said = subject.options.get("folds")
    if said in (None, "rows", "groups"):
        return None
    number = _value(subject, "folds")
    return int(number) if isinstance(number, (int, np.integer)) else None


def _value(subject: Implementation, option: str, default: Any = None) -> Any:
    """An option that may name an argument. Raises UsageError where there is no such argument."""
    try:
        return subject.argument(option, default)
    except SubjectError as error:
        raise UsageError(f"{error}; say {option} = the value itself") from None


def repeats_of(subject: Implementation) -> int:
    number = _value(subject, "repeats", 1)
    return int(number) if isinstance(number, (int, np.integer)) else 1


def gap_of(subject: Implementation) -> tuple[int, int]:
    """Rows left out (before, after) a test part: between train and a later test, and the reverse.

    Where train always comes first, nothing is left out after a test part.
    """
    said = _value(subject, "gap", 0)
    if isinstance(said, Sequence):
        before, after = (int(number) for number in said)
        return before, after
    return int(said or 0), 0 if "ordered" in subject.traits else int(said or 0)


def is_stratified(subject: Implementation) -> bool:
    return bool(subject.options.get("stratified"))


def is_grouped(subject: Implementation) -> bool:
    return bool(subject.options.get("grouped")) or subject.options.get("folds") == "groups"


def tables(subject: Implementation, case: Case, count: int = 6) -> Iterator[Table]:
    """Tables of several sizes, none of them with a number of rows that suits every splitter.

    Labels come sorted, mixed and rare; groups of unequal sizes, in one piece and scattered.
    """
    rng = np.random.default_rng(case.recipe.seed)
    for position, n in enumerate(row_numbers(subject, count)):
        if is_grouped(subject):
            groups = _groups(subject, n, position, rng)
            n = len(groups)
        else:
            groups = None
        labels = _labels(subject, n, position, rng) if is_stratified(subject) else None
        yield Table(rows=rows_of(case, n), labels=labels, groups=groups)


def row_numbers(subject: Implementation, count: int) -> list[int]:
    """How many rows the tables have: a multiple of the folds, one more, one less, …"""
    said, k = subject.options.get("folds"), folds_of(subject)
    if said in (None, "rows") and not (is_grouped(subject) or is_stratified(subject)):
        numbers = [9, 14, 7, 11, 8, 13]  # one fold a row, or one for each choice of several
        if "ordered" in subject.traits or "gap" in subject.options:
            numbers = [n + 3 * sum(gap_of(subject)) for n in (31, 40, 53, 37, 60, 44)]
    else:
        numbers = _for_folds(subject, k or _FREE)
    low, high = size_bounds(subject.options, "n") or (1, max(numbers))
    bounded = [min(max(n, low), high) for n in numbers]
    if max(bounded) == min(bounded):  # all outside: those at the near end
        bounded = list(range(low, min(high, low + count) + 1))
    return list(dict.fromkeys(bounded))[:count]


def _for_folds(subject: Implementation, k: int) -> list[int]:
    before, after = gap_of(subject)
    k = max(k, 5)
    if "ordered" in subject.traits:
        least = (k + 1) * (before + 4)
        return [least, least + 1, least + k, 2 * least - 1, least + 3, 3 * least + 2]
    wider = (before + after) * (k + 1)
    factor = 5 if is_stratified(subject) else 4  # the rarest class has a fifth of the rows
    first = factor * k + wider
    return [first, first + 1, first + k - 1, 2 * first + 3, first + 2, 3 * first + k // 2]


def rows_of(case: Case, n: int) -> NDArray[Any]:
    """The declared rows, but n of them."""
    name, spec = next(iter(case.specs.items()))
    if not spec.dims or not spec.dims[0].name:
        raise NotApplicable("the number of rows is fixed; name the first dim of the inputs")
    recipe = replace(case.recipe, sizes={**case.sizes, spec.dims[0].name: n})
    made = materialize(recipe, {name: spec}, case.device, case.dtype)[name]
    return np.ascontiguousarray(made.detach().cpu().numpy())


def _labels(subject: Implementation, n: int, position: int, rng: np.random.Generator) -> Indices:
    """n labels: three classes sorted, mixed, backwards; two of which one is rare; two equal."""
    low, high = size_bounds(subject.options, "k") or (2, 3)
    shares = _SHARES[:high] if position % 3 != 2 or low > 2 else (0.8, 0.2)
    classes = min(max(low, len(shares)), high)
    weights = np.resize(np.asarray(shares), classes)
    ends = np.round(np.cumsum(weights / weights.sum()) * n).astype(int)
    labels = np.searchsorted(ends, np.arange(n), side="right")
    if position % 2:
        labels = rng.permutation(labels)
    return labels[::-1].copy() if position == 4 else labels


def _groups(subject: Implementation, n: int, position: int, rng: np.random.Generator) -> Indices:
    """Groups of 1 to 4 rows, about n rows in all, named out of order, every second time mixed."""
    low, high = size_bounds(subject.options, "g") or (2, n)
    wanted = (
        _FREE + position if subject.options.get("folds") in (None, "groups") else max(n // 2, 3)
    )
    count = min(max(wanted, low), high)
    sizes = 1 + np.arange(count) % 4
    names = rng.permutation(count) * 3 + 2
    groups = np.repeat(names, rng.permutation(sizes))
    return rng.permutation(groups) if position % 2 else groups
