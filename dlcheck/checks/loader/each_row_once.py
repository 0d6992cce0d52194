"""An epoch is the data set: every row once, in full batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from dlcheck.checks.loader.altered import Batches, batches_changed, glued, rows_changed
from dlcheck.checks.loader.epochs import (
    batch_sizes,
    data_set,
    difference,
    drop_last_settings,
    epochs,
    joint_keys,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_PASSES = 2  # what goes wrong when a loader starts again shows in the second


@batches_changed
def loses_the_last_batch(batches: Batches, epoch: int) -> Batches:
    return batches[:-1]


@batches_changed
def keeps_the_first_batch_twice(batches: Batches, epoch: int) -> Batches:
    return batches[:1] + batches


@batches_changed
def is_spent_after_an_epoch(batches: Batches, epoch: int) -> Batches:
    return batches if epoch == 0 else []


@batches_changed
def fills_the_last_batch_from_the_first(batches: Batches, epoch: int) -> Batches:
    if not batches:
        return batches
    first, last = batches[0], batches[-1]
    lack = len(first[0]) - len(last[0]) or 1
    filled = (glued([b, a[:lack]]) for a, b in zip(first, last, strict=True))
    return [*batches[:-1], tuple(filled)]


@rows_changed
def starts_at_the_second_row(dataset: Any, i: int) -> Any:
    return dataset[min(i + 1, len(dataset) - 1)]


@rows_changed
def draws_rows_with_replacement(dataset: Any, i: int) -> Any:
    return dataset[int(torch.randint(len(dataset), ()))]


@check(
    kind="loader",
    forbids={"with_replacement", "endless", "repacks", "stochastic"},
    rejects=[
        loses_the_last_batch,
        keeps_the_first_batch_twice,
        is_spent_after_an_epoch,
        fills_the_last_batch_from_the_first,
        starts_at_the_second_row,
        draws_rows_with_replacement,
    ],
    textbook={
        "id": "B1",
        "says": "One iteration uses one batch, one epoch every sample once",
        "verdict": "true",
    },
)
def epoch_is_a_permutation(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """An epoch holds every row of the data set exactly once.

    Two epochs over one loader for batches of 1, 2, 3, N/2, N − 1, N and N + 1 rows; rows are
    compared as multisets, bit by bit and with all columns together. With drop_last N mod B rows
    may be missing, and never another number. Exact: the bound is 0.
    Source: Goodfellow et al., Deep Learning, section 8.1.3; TEXTBOOK B1.
    """
    dataset = data_set(subject, case)
    wanted = joint_keys(dataset.tensors)
    for drops, given in drop_last_settings(subject):
        wrong, seen, where = 0, 0, ""
        for size in batch_sizes(len(wanted)):
            for number, epoch in enumerate(epochs(subject, dataset, size, _PASSES, given)):
                missing, surplus = difference(epoch.rows, wanted)
                missing = abs(missing - len(wanted) % size) if drops else missing
                wrong, seen = wrong + missing + surplus, seen + len(wanted)
                if missing + surplus and not where:
                    where = f"{missing} missing, {surplus} too many: B = {size}, epoch {number}"
        yield Evidence(
            error=float(wrong),
            bound=0.0,
            signal=float(seen),
            unit="rows",
            what="rows missing or too many" + " with drop_last" * drops,
            expected=f"each of {len(wanted)} rows once an epoch",
            where=where,
        )


class _LengthOfTheDataSet:
    def __init__(self, loader: Any, dataset: Any) -> None:
        self.loader = loader
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


len_counts_rows = rebuilt(
    "len_counts_rows",
    lambda factory: (
        lambda dataset, **arguments: _LengthOfTheDataSet(factory(dataset, **arguments), dataset)
    ),
)


@batches_changed
def splits_a_batch_in_two(batches: Batches, epoch: int) -> Batches:
    if not batches or len(batches[0][0]) < 2:
        return batches
    head = tuple(column[:1] for column in batches[0])
    tail = tuple(column[1:] for column in batches[0])
    return [head, tail, *batches[1:]]


@batches_changed
def short_batch_comes_first(batches: Batches, epoch: int) -> Batches:
    return batches[::-1]


@batches_changed
def joins_the_last_two_batches(batches: Batches, epoch: int) -> Batches:
    if len(batches) < 2:
        return batches
    joined = (glued(pair) for pair in zip(*batches[-2:], strict=True))
    return [*batches[:-2], tuple(joined)]


@check(
    kind="loader",
    forbids={"endless", "repacks"},
    rejects=[
        loses_the_last_batch,
        splits_a_batch_in_two,
        short_batch_comes_first,
        joins_the_last_two_batches,
        len_counts_rows,
    ],
    textbook={
        "id": "B1",
        "says": "One iteration uses one batch, one epoch every sample once",
        "verdict": "true",
    },
)
def batches_are_full_but_the_last(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """An epoch has ⌈N/B⌉ batches, ⌊N/B⌋ with drop_last, each of B rows but the last.

    Counted over two epochs for B of 1, 2, 3, N/2, N − 1, N and N + 1; `len(loader)` must say the
    same where there is one. Exact: the bound is 0.
    Source: ⌈N/B⌉ = number of parts of at most B that N rows fill; TEXTBOOK B1.
    """
    if subject.options.get("shuffle") == "buckets":
        raise NotApplicable("every bucket may end in a short batch")
    dataset = data_set(subject, case)
    rows = len(dataset)
    for drops, given in drop_last_settings(subject):
        wrong, counted, where = 0, 0, ""
        for size in batch_sizes(rows):
            wanted = [size] * (rows // size) + [rows % size] * (rows % size > 0 and not drops)
            for number, epoch in enumerate(epochs(subject, dataset, size, _PASSES, given)):
                off = abs(len(epoch.sizes) - len(wanted))
                off += sum(a != b for a, b in zip(epoch.sizes, wanted, strict=False))
                off += epoch.promised is not None and epoch.promised != len(wanted)
                wrong, counted = wrong + off, counted + len(wanted)
                if off and not where:
                    said = "" if epoch.promised is None else f", len says {epoch.promised}"
                    where = f"B = {size}, epoch {number}: rows {epoch.sizes[:9]}{said}"
                    where += f", not {wanted[:9]}"
        yield Evidence(
            error=float(wrong),
            bound=0.0,
            signal=float(counted),
            unit="batches",
            what="batches of another size or number" + " with drop_last" * drops,
            where=where,
        )
