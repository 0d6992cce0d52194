"""Rows whose lengths differ, and rows that are dicts: data sets beside the plain TensorDataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from dlcheck.domains import Input
from dlcheck.errors import NotApplicable
from dlcheck.subjects import Implementation


@dataclass(frozen=True, slots=True)
class Rows(Dataset):  # type: ignore[type-arg]
    """Columns [n, t, …] of which a row keeps its first `lengths[name][row]` entries.

    `tensors` are the columns at full width, with NaN or the largest number where nothing is: two
    rows are the same iff they are equal there.
    """

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    lengths: Mapping[str, Sequence[int]]
    form: str

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Tensor],
        specs: Mapping[str, Input],
        seed: int,
        form: str,
        pads: Mapping[str, Any],
    ) -> Rows:
        """Lengths from 1 to t, equal in columns that share a ragged dim; no value is a pad."""
        generator, by_dim = torch.Generator().manual_seed(seed), {}
        lengths: dict[str, Sequence[int]] = {}
        whole = []
        for name, column in columns.items():
            axes = [axis for axis, dim in enumerate(specs[name].dims) if dim.ragged]
            if axes not in ([], [1]):
                raise NotApplicable(f"{name}: the ragged dim of a column is its second one")
            if axes:
                key, width = str(specs[name].dims[1]), column.shape[1]
                if key not in by_dim:
                    drawn = torch.randint(1, width + 1, (len(column),), generator=generator)
                    by_dim[key] = drawn.tolist()
                lengths[name] = by_dim[key]
                column = masked(_unlike(column, pads.get(name)), lengths[name])
            whole.append(column)
        return cls(tuple(whole), tuple(columns), lengths, form)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> Any:
        row = [
            column[index][: self.lengths[name][index]] if name in self.lengths else column[index]
            for name, column in zip(self.names, self.tensors, strict=True)
        ]
        return dict(zip(self.names, row, strict=True)) if self.form == "dict" else tuple(row)


DataSet = TensorDataset | Rows


def is_ragged(dataset: Any) -> bool:
    """Have its rows different lengths?"""
    return isinstance(dataset, Rows) and bool(dataset.lengths)


def nothing(dtype: torch.dtype) -> float | int:
    """What stands where a row is over: a value that no row has."""
    if dtype.is_floating_point:
        return torch.finfo(dtype).max
    return torch.iinfo(dtype).max if dtype != torch.bool else 1


def _unlike(column: Tensor, pad: Any) -> Tensor:
    """The column without the value that pads: the end of a row could not be told from it."""
    if pad is None:
        return column
    other = 1 if pad == 0 else pad - 1
    return torch.where(column == pad, other, column)


def masked(column: Tensor, lengths: Sequence[int]) -> Tensor:
    """The column with `nothing` behind each row's end."""
    column = column.clone()
    for row, length in enumerate(lengths):
        column[row, length:] = nothing(column.dtype)
    return column


def pad_of(subject: Implementation, name: str) -> Any:
    """The declared value that fills a column's rows; None where it is not declared."""
    value = subject.options.get("padding", {}).get("value")
    return value.get(name) if isinstance(value, Mapping) else value


def widened(part: Any, column: Tensor, pad: Any) -> Any:
    """A ragged column of a batch [b, w, …] as wide as the data set's, `nothing` as its padding.

    Trailing entries that are all padding are padding; a list of tensors has none.
    """
    if isinstance(part, Tensor):
        if part.dim() != column.dim() or part.shape[2:] != column.shape[2:]:
            return part
        if pad is None:
            raise NotApplicable(
                "ragged rows come back as a tensor: declare what fills them, "
                "padding = { value = 0 }"
            )
        rows = [row[: _length(row, pad)] for row in part]
        kind = part.dtype
    else:
        rows = list(part)
        kind = rows[0].dtype if rows else column.dtype
    width = max([column.shape[1], *(len(row) for row in rows)])
    wide = column.new_full((len(rows), width, *column.shape[2:]), nothing(column.dtype)).to(kind)
    for number, row in enumerate(rows):
        wide[number, : len(row)] = row
    return wide


def _length(row: Tensor, pad: Any) -> int:
    """Entries up to the last that is not all padding."""
    real = (row != pad).reshape(len(row), -1).any(1).nonzero()
    return int(real[-1]) + 1 if len(real) else 0
