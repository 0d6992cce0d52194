"""A batch holds its rows in order, whole, and says what of it is padding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.loader.epochs import columns_of, copy_of, data_set, keys
from dlcheck.checks.loader.ragged import Rows
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence, Mutant, Subject
from dlcheck.mutants import around, rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in

Change = Callable[[Tensor, str], Tensor]


def _parts(batch: Any) -> list[tuple[str, Tensor]]:
    if isinstance(batch, Mapping):
        return list(batch.items())
    return [(str(number), part) for number, part in enumerate(batch)]


def _changed(batch: Any, change: Change) -> Any:
    parts = [(name, change(part, name)) for name, part in _parts(batch)]
    return dict(parts) if isinstance(batch, Mapping) else tuple(part for _, part in parts)


def _first(batch: Any) -> str:
    return _parts(batch)[0][0]


@around
def turns_the_rows_round(original: Any, rows: Any) -> Any:
    return original(rows[::-1])


@around
def sorts_targets_only(original: Any, rows: Any) -> Any:
    batch = original(rows)
    first = _first(batch)
    return _changed(batch, lambda part, name: part if name == first else part.roll(1, 0))


@around
def loses_the_last_row(original: Any, rows: Any) -> Any:
    return original(rows[:-1] or rows)


@around
def comes_back_single(original: Any, rows: Any) -> Any:
    return _changed(
        original(rows), lambda part, _: part.float() if part.is_floating_point() else part.int()
    )


@around
def scales_a_row(original: Any, rows: Any) -> Any:
    batch = original(rows)
    first = _first(batch)
    return _changed(batch, lambda part, name: 2 * part if name == first else part)


@check(
    kind="collate",
    forbids={"repacks", "stochastic"},
    rejects=[
        turns_the_rows_round,
        sorts_targets_only,
        loses_the_last_row,
        comes_back_single,
        scales_a_row,
    ],
)
def collated_rows_keep_their_place(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Row i of a batch is row i of the list, in every column, bit by bit and in its dtype.

    All rows, the first alone, and the first two the other way round. Ragged rows are compared up
    to what `padding` says fills them. Exact: the bound is 0.
    Source: the documentation of torch.utils.data.default_collate.
    """
    dataset = data_set(subject, case)
    rows = range(len(dataset))
    wrong, seen, where = 0, 0, ""
    for chosen in ([*rows], [0], [*rows[:2]][::-1]):
        batch = subject([dataset[i] for i in chosen])
        columns = columns_of(copy_of(batch), dataset, subject)
        for name, found, column in zip(case.specs, columns, dataset.tensors, strict=True):
            wanted, got = keys(column[chosen]), keys(found)
            off = abs(len(wanted) - len(got))
            off += sum(a != b for a, b in zip(wanted, got, strict=False))
            wrong, seen = wrong + off, seen + len(wanted)
            if off and not where:
                where = f"column {name} of {len(chosen)} rows"
                where += f", {column.dtype} became {found.dtype}" * (column.dtype != found.dtype)
    yield Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(seen),
        unit="rows",
        what="rows that are not those of the list",
        where=where,
    )


@around
def writes_into_its_rows(original: Any, rows: Any) -> Any:
    batch = original(rows)
    next(tensors_in(list(rows))).fill_(1)
    return batch


@around
def empties_its_list(original: Any, rows: Any) -> Any:
    batch = original(list(rows))
    rows.clear()
    return batch


@around
def sorts_its_list(original: Any, rows: Any) -> Any:
    batch = original(list(rows))
    rows.reverse()
    rows.append(rows[0])
    return batch


@around
def shifts_the_numbers_of_its_rows(original: Any, rows: Any) -> Any:
    batch = original(rows)
    for part in tensors_in(list(rows)):
        part.add_(1)
    return batch


@check(
    kind="collate",
    forbids={"in_place"},
    rejects=[
        writes_into_its_rows,
        empties_its_list,
        sorts_its_list,
        shifts_the_numbers_of_its_rows,
    ],
)
def collating_leaves_the_rows(subject: Implementation, case: Case) -> Evidence:
    """The rows and their list are afterwards what they were.

    A data set that keeps its rows in memory hands out the rows themselves: what is written into
    them stays for the next epoch. Exact: the bound is 0.
    Source: a collation makes a batch of rows; the documentation of torch.utils.data.
    """
    dataset = data_set(subject, case)
    rows = [dataset[i] for i in range(len(dataset))]
    before = copy.deepcopy(rows)
    subject(rows)
    changed = abs(len(rows) - len(before)) + sum(
        not _equal(a, b) for a, b in zip(rows, before, strict=False)
    )
    return Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(len(before)),
        unit="rows",
        what="rows that collating changed",
    )


def _equal(a: Any, b: Any) -> bool:
    pairs = zip(tensors_in(a), tensors_in(b), strict=True)
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


def _marks(name: str, change: Callable[[Tensor], Tensor]) -> Mutant:
    """A mutant whose mask or lengths go through `change`."""

    def mutate(subject: Subject) -> Subject:
        stated = subject.options["padding"]
        marks = {str(stated[key]) for key in ("mask", "lengths") if key in stated}

        def altered(original: Any) -> Any:
            return lambda rows: _changed(
                original(rows), lambda part, name: change(part) if name in marks else part
            )

        return rebuilt(name, altered)(subject)

    mutate.__name__ = name
    return mutate


def _all_real(mark: Tensor) -> Tensor:
    return torch.ones_like(mark) if mark.dim() > 1 else mark.amax().expand_as(mark)


def _turned(mark: Tensor) -> Tensor:
    return ~mark if mark.dtype == torch.bool else mark + 1


def _of_the_next_row(mark: Tensor) -> Tensor:
    return mark.roll(1, 0) if len(mark) > 1 else _turned(mark)


def _one_less(mark: Tensor) -> Tensor:
    return mark.roll(-1, -1) & mark if mark.dtype == torch.bool else mark - 1


@check(
    kind="collate",
    options={"padding": True},
    forbids={"repacks"},
    rejects=[
        _marks("marks_padding_as_real", _turned),
        _marks("marks_the_row_before", _of_the_next_row),
        _marks("loses_the_last_entry", _one_less),
        _marks("says_that_all_is_real", _all_real),
    ],
)
def padding_is_marked(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A mask is true where a row is and false behind it; lengths count the row.

    And a batch is as wide as its longest row, or the next multiple of `padding.multiple`: a row
    is not padded beyond that. A mask that says 1 for padding may be declared by
    `padding = { mask = …, real = 0 }`. Exact: the bound is 0.
    Source: the documentation of torch.nn.utils.rnn.pad_sequence; Vaswani et al. 2017, section 3.
    """
    dataset = data_set(subject, case)
    if not isinstance(dataset, Rows) or not dataset.lengths:
        raise NotApplicable('no column is ragged; declare one as inputs = { x = "float n t~" }')
    stated = subject.options["padding"]
    lengths = next(iter(dataset.lengths.values()))
    batch = subject([dataset[i] for i in range(len(dataset))])
    parts = dict(_parts(batch))
    yield _width(stated, dataset, parts, lengths)
    for key in ("mask", "lengths"):
        if key not in stated:
            continue
        mark = parts.get(str(stated[key]))
        if not isinstance(mark, Tensor) or len(mark) != len(lengths):
            raise SubjectError(
                f"{subject.declared.name} declares padding.{key} = {stated[key]!r}, and its batch "
                f"has no such tensor of {len(lengths)} rows; it has {', '.join(parts)}"
            )
        wrong = sum(
            not torch.equal(_real(mark[i], key, stated), _told(mark[i], key, length))
            for i, length in enumerate(lengths)
        )
        yield Evidence(
            error=float(wrong),
            bound=0.0,
            signal=float(len(lengths)),
            unit="rows",
            what=f"rows whose {key} is not that of the row",
            expected=f"lengths {list(lengths)[:8]}",
            got=f"{key} of row 0: {mark[0].tolist()}",
        )


def _real(mark: Tensor, key: str, stated: Mapping[str, Any]) -> Tensor:
    if key == "lengths":
        return mark.long().cpu()
    return mark.cpu().bool() if stated.get("real", 1) else ~mark.cpu().bool()


def _told(mark: Tensor, key: str, length: int) -> Tensor:
    if key == "lengths":
        return torch.tensor(length)
    return torch.arange(len(mark)) < length


def _width(
    stated: Mapping[str, Any], dataset: Rows, parts: Mapping[str, Any], lengths: Any
) -> Evidence:
    """The width of the first ragged column beside the longest row."""
    place = next(i for i, name in enumerate(dataset.names) if name in dataset.lengths)
    column = parts.get(dataset.names[place], list(parts.values())[place])
    multiple = int(stated.get("multiple", 1))
    wanted = -(-max(lengths) // multiple) * multiple
    width = column.shape[1] if isinstance(column, Tensor) else max(map(len, column))
    return Evidence(
        error=float(abs(width - wanted)),
        bound=0.0,
        signal=float(wanted),
        unit="entries",
        what="width of the batch beyond its longest row",
        expected=str(wanted),
        got=str(width),
    )
