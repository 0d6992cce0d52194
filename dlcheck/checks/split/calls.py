"""A splitter called as its declaration says, and its answer read as parts of index arrays."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Subset

from dlcheck.checks.split.tables import Indices, Table, folds_of, tables
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.strategies import Case, stream_seed
from dlcheck.subjects import Implementation, guarded

_MOST = 20_000  # folds, after which an iterator is taken for endless
_TEXT = "acegikmoqsuwyzbd"


@dataclass(frozen=True, slots=True)
class Fold:
    """The parts of one fold, as integers: train, validation where there is one, test."""

    parts: tuple[Indices, ...]

    @property
    def train(self) -> Indices:
        return self.parts[0]

    @property
    def test(self) -> Indices:
        return self.parts[-1]

    @property
    def held_out(self) -> tuple[Indices, ...]:
        """Validation and test."""
        return self.parts[1:]


def split(subject: Implementation, table: Table) -> list[Fold]:
    """The folds of a table. Raises SubjectError where the answer is none, NotApplicable where the
    indices are no rows, which `indices_are_rows` reports."""
    folds = raw_split(subject, table)
    if found := next(flaws(folds, len(table)), None):
        raise NotApplicable(f"{found[1]}; see indices_are_rows")
    return [Fold(tuple(part.astype(np.int64) for part in parts)) for parts in folds]


def split_or_leave(subject: Implementation, table: Table) -> list[Fold]:
    """As `split`, but what is refused is no claim of the caller's: NotApplicable is raised."""
    try:
        return split(subject, table)
    except SubjectError as error:
        raise NotApplicable(f"it does not split {table}: {error}") from None


def raw_split(subject: Implementation, table: Table) -> list[tuple[NDArray[Any], ...]]:
    """As `split`, but with the index arrays as they come."""
    inputs, keywords = arguments(subject, table)
    answer = subject(*inputs, **keywords)
    return parts_of(answer, is_one_fold=is_one_fold(subject))


def is_one_fold(subject: Implementation) -> bool:
    return folds_of(subject) == 1


def arguments(subject: Implementation, table: Table) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(rows or their number, labels, groups) in the declared order, those alone that it needs."""
    given: list[Any] = [_first(subject, table)]
    named: dict[str, Any] = {}
    for position, name in enumerate(("labels", "groups"), start=1):
        column = getattr(table, name)
        keyword = subject.options.get(name)
        if column is None:
            continue
        value = _in_array(subject, _spelled(column, table.names, subject, name))
        if isinstance(keyword, str):
            named[keyword] = value
        else:
            given += [None] * (position - len(given)) + [value]
    for position in range(len(given), _required(subject) - len(named)):  # asked for, unused
        given.append(_in_array(subject, np.arange(len(table)) // position % 5))
    return tuple(given), named


def _required(subject: Implementation) -> int:
    """How many arguments the splitter insists on, at most three: labels may be asked for unused."""
    call = subject.target.split if subject.follows_its_methods else subject.target
    try:
        given = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return 0
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(3, sum(p.kind in plain and p.default is inspect.Parameter.empty for p in given))


def _first(subject: Implementation, table: Table) -> Any:
    takes = subject.options.get("takes", "rows" if subject.follows_its_methods else "n")
    if takes == "n":
        return len(table)
    return _in_array(subject, table.rows.copy() if takes == "rows" else np.arange(len(table)))


def _in_array(subject: Implementation, values: NDArray[Any]) -> Any:
    arrays = subject.options.get("arrays", "numpy")
    if arrays == "torch" and values.dtype.kind not in "US":
        return torch.tensor(values)
    return values if arrays == "numpy" else values.tolist()


def _spelled(column: Indices, names: str, subject: Implementation, role: str) -> NDArray[Any]:
    """Labels as they are handed over: other names for the same classes, in the same order."""
    if role == "labels" and subject.options.get("label_format") == "onehot":
        return np.eye(int(column.max()) + 1, dtype=np.int64)[column]
    if names == "spread integers":
        return column * 7 - 26
    if names == "text":
        words = sorted(f"{a}{b}" for a in _TEXT for b in _TEXT)
        return np.asarray([words[i] for i in column])
    if names == "floats":
        return column.astype(np.float64)
    return column.copy()


def parts_of(answer: Any, *, is_one_fold: bool) -> list[tuple[NDArray[Any], ...]]:
    """The answer as folds of index arrays; a holdout may come as one fold, not in a list.

    Raises SubjectError where there are no pairs or triples of flat arrays.
    """
    if not isinstance(answer, Iterable):
        raise SubjectError(_contract(f"returned {type(answer).__name__}"))
    listed = guarded(lambda: list(itertools.islice(iter(answer), _MOST + 1)))
    if len(listed) > _MOST:
        raise SubjectError(_contract(f"gave more than {_MOST} folds"))
    if is_one_fold and listed and _is_flat(listed[0]):
        listed = [listed]
    return [_parts(fold) for fold in listed]


def _is_flat(part: Any) -> bool:
    if isinstance(part, (Subset, range)):
        return True
    if isinstance(part, (np.ndarray, Tensor)):
        return part.ndim == 1
    return isinstance(part, (list, tuple)) and not any(
        isinstance(i, (list, tuple, range, np.ndarray, Subset))
        or (isinstance(i, Tensor) and i.ndim)
        for i in part
    )


def _parts(fold: Any) -> tuple[NDArray[Any], ...]:
    if not isinstance(fold, (tuple, list)) or len(fold) not in (2, 3):
        size = f" of {len(fold)}" if isinstance(fold, (tuple, list)) else ""
        raise SubjectError(_contract(f"gave a fold that is {type(fold).__name__}{size}"))
    return tuple(_array(part) for part in fold)


def _array(part: Any) -> NDArray[Any]:
    part = part.indices if isinstance(part, Subset) else part
    part = part.detach().cpu().numpy() if isinstance(part, Tensor) else part
    array: NDArray[Any] = np.asarray(part)
    if array.ndim != 1:
        raise SubjectError(_contract(f"gave a part of shape {array.shape}"))
    return array if array.size else array.astype(np.int64)


def _contract(what: str) -> str:
    return (
        f"the splitter {what}; a subject of kind 'split' gives pairs (train, test) or triples "
        "(train, validation, test) of flat index arrays, one a fold (with folds = 1 the pair alone)"
    )


def flaws(folds: list[tuple[NDArray[Any], ...]], n: int) -> Iterator[tuple[int, str]]:
    """What is wrong with indices as indices of n rows: (how many, in words)."""
    for number, parts in enumerate(folds):
        for name, part in zip(_named(parts), parts, strict=True):
            where = f"{name} of fold {number}"
            if part.dtype.kind not in "iu":
                yield len(part), f"{where} holds {part.dtype}, not integers"
                continue
            outside = part[(part < 0) | (part >= n)]
            if len(outside):
                yield len(outside), f"{where} holds {outside[0]} of {n} rows"


def _named(parts: tuple[NDArray[Any], ...]) -> tuple[str, ...]:
    return ("train", "test") if len(parts) == 2 else ("train", "validation", "test")


def each_table(
    subject: Implementation, case: Case, count: int = 6
) -> Iterator[tuple[Table, list[Fold]]]:
    """Every table that is split, with its folds; what it refuses is told by another check.

    Raises NotApplicable where it splits none.
    """
    refused, any_split = "", False
    for position, table in enumerate(tables(subject, case, count)):
        seed_everything(stream_seed(case.recipe.seed, str(position)) % 2**31)
        try:
            folds = split(subject, table)
        except SubjectError as error:
            refused = str(error)
            continue
        any_split = True
        yield table, folds
    if not any_split:
        raise NotApplicable(f"it splits no table, see splits_its_declared_tables: {refused}")


def is_refused(subject: Implementation, table: Table, error: SubjectError) -> bool:
    """Is this what `options.rejects` says?"""
    refused: Mapping[str, Any] = subject.options.get("rejects", {})
    cause = error.__cause__ if isinstance(error, SubjectRaised) else None
    if not refused or cause is None:
        return False
    wanted = refused.get("exception")
    if wanted and wanted not in [made.__name__ for made in type(cause).__mro__]:
        return False
    facts: dict[str, Any] = {**table.sizes, "names": table.names}
    said = {name: value for name, value in refused.items() if name != "exception"}
    return not said or any(
        facts.get(name) in (value if isinstance(value, (list, tuple)) else [value])
        for name, value in said.items()
    )
