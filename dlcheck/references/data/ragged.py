"""Loaders and collations for rows of different lengths: padded, marked, and in buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.references.data.loaders import refuse_empty_batches
from dlcheck.registry import reference

Row = Sequence[Tensor]


def padded(column: Sequence[Tensor], value: float) -> Tensor:
    """Rows [tᵢ, …] as one tensor [b, max tᵢ, …], filled with `value` behind each row."""
    width = max(len(row) for row in column)
    whole = column[0].new_full((len(column), width, *column[0].shape[1:]), value)
    for number, row in enumerate(column):
        whole[number, : len(row)] = row
    return whole


@reference(
    kind="collate",
    formula="batch column c = (row₁ c, …, row_b c), one below the other",
    source="the documentation of torch.utils.data.default_collate",
)
def stack_rows(rows: Sequence[Row]) -> tuple[Tensor, ...]:
    """Rows of equal shapes, stacked column by column."""
    return tuple(torch.stack(list(column)) for column in zip(*rows, strict=True))


@reference(
    kind="collate",
    formula="x̃ᵢₜ = xᵢₜ for t < tᵢ and 0 from there to max t; mᵢₜ = [t < tᵢ]",
    source="the documentation of torch.nn.utils.rnn.pad_sequence",
    inputs={"x": "float n t~ d", "y": "label[k] n"},
    options={"padding": {"value": 0.0, "mask": 2}},
)
def pad_rows(rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """(first column padded with 0, second stacked, mask that is true on what is real)."""
    first, second = zip(*rows, strict=True)
    mask = padded([torch.ones(len(row), dtype=torch.bool) for row in first], 0)
    return padded(first, 0.0), torch.stack(list(second)), mask


@reference(
    kind="collate",
    formula="as pad_rows, by name; lengths tᵢ",
    source="Hugging Face, DataCollatorWithPadding",
    inputs={"tokens": "index[v] n t~", "label": "label[k] n"},
    options={"rows": "dict", "padding": {"value": -1, "lengths": "lengths"}},
)
def pad_named_rows(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Dict rows: tokens padded with −1, labels stacked, and the lengths."""
    tokens = [row["tokens"] for row in rows]
    return {
        "tokens": padded(tokens, -1),
        "label": torch.stack([row["label"] for row in rows]),
        "lengths": torch.tensor([len(row) for row in tokens]),
    }


@reference(
    kind="loader",
    formula="π uniform over all orders; sorted by length within blocks of 4 batches; the batches "
    "of all blocks in a uniform order",
    source="Khomenko et al., Accelerating recurrent neural network training using sequence "
    "bucketing, DSMP 2016",
    inputs={"x": "float n t~ d", "y": "label[k] n"},
    options={"shuffle": "buckets", "seed": "seed", "padding": {"value": 0.0, "mask": 2}},
)
class BucketLoader:
    """Batches of rows of like lengths, padded to the longest of each."""

    def __init__(self, dataset: Any, batch_size: int, *, seed: int = 0) -> None:
        refuse_empty_batches(batch_size)
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        order = torch.randperm(len(self.dataset), generator=self.generator).tolist()
        block, batches = 4 * self.batch_size, []
        for start in range(0, len(order), block):
            like = sorted(order[start : start + block], key=lambda i: len(self.dataset[i][0]))
            batches += [like[i : i + self.batch_size] for i in range(0, len(like), self.batch_size)]
        for number in torch.randperm(len(batches), generator=self.generator).tolist():
            yield pad_rows([self.dataset[i] for i in batches[number]])
