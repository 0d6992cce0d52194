"""What comes out of a loader is what went in: a row whole, with its own target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from dlcheck.checks.loader.altered import Batches, batches_changed, glued, rows_changed
from dlcheck.checks.loader.epochs import batch_sizes, data_set, epochs, joint_keys, keys
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_PASSES = 2  # what goes wrong when a loader starts again shows in the second


@rows_changed
def pairs_a_row_with_the_next_target(dataset: Any, i: int) -> Any:
    return dataset[i][0], *dataset[(i + 1) % len(dataset)][1:]


@batches_changed
def shuffles_targets_alone(batches: Batches, epoch: int) -> Batches:
    orders = [torch.randperm(len(batch[0])) for batch in batches]
    return [(b[0], *(c[o] for c in b[1:])) for b, o in zip(batches, orders, strict=True)]


@batches_changed
def targets_lag_a_batch(batches: Batches, epoch: int) -> Batches:
    if not batches:
        return batches
    sizes = [len(batch[0]) for batch in batches]
    first, *others = (glued(column) for column in zip(*batches, strict=True))
    columns = [first, *(column.roll(sizes[0], 0) for column in others)]
    return list(zip(*(column.split(sizes) for column in columns), strict=True))


@batches_changed
def targets_fall_out_of_step_in_the_second_epoch(batches: Batches, epoch: int) -> Batches:
    return [(b[0], *(column.roll(epoch, 0) for column in b[1:])) for b in batches]


@check(
    kind="loader",
    forbids={"repacks", "stochastic"},
    rejects=[
        pairs_a_row_with_the_next_target,
        shuffles_targets_alone,
        targets_lag_a_batch,
        targets_fall_out_of_step_in_the_second_epoch,
    ],
)
def pairs_stay_aligned(subject: Implementation, case: Case) -> Evidence:
    """A row of the first column comes with its own row of every other column.

    Two epochs for every batch size. A row counts where the data set knows its first column and
    another pairing would be seen, since the other columns differ somewhere. Exact: the bound is 0.
    Source: the definition of a supervised pair; TEXTBOOK B1.
    """
    dataset = data_set(subject, case)
    if len(dataset.tensors) < 2:
        raise NotApplicable("a data set of one column has no pairs")
    pairs = set(joint_keys(dataset.tensors))
    firsts = {pair[0] for pair in pairs}
    visible = len({pair[1:] for pair in pairs}) > 1
    parted, known, where = 0, 0, ""
    for size in batch_sizes(len(dataset)):
        for number, epoch in enumerate(epochs(subject, dataset, size, _PASSES)):
            rows = [row for row in epoch.rows if row[0] in firsts]
            strangers = sum(row not in pairs for row in rows)
            parted, known = parted + strangers, known + len(rows)
            if strangers and not where:
                where = f"B = {size}, epoch {number}"
    return Evidence(
        error=float(parted),
        bound=0.0,
        signal=float(known) if visible else 0.0,
        unit="rows",
        what="rows with the target of another row",
        where=where,
    )


@batches_changed
def comes_back_in_half_precision(batches: Batches, epoch: int) -> Batches:
    return [tuple(c.half() if c.is_floating_point() else c.int() for c in b) for b in batches]


@batches_changed
def normalizes_each_batch(batches: Batches, epoch: int) -> Batches:
    return [(2 * b[0] + 1, *b[1:]) for b in batches]


@batches_changed
def pads_the_last_batch_with_zeros(batches: Batches, epoch: int) -> Batches:
    if not batches:
        return batches
    blank = tuple(torch.zeros_like(column) for column in batches[0])
    padded = (glued(pair) for pair in zip(batches[-1], blank, strict=True))
    return [*batches[:-1], tuple(padded)]


@rows_changed
def rounds_to_bytes(dataset: Any, i: int) -> Any:
    first, *rest = dataset[i]
    return (first * 255).round() / 256 + 1 / 256, *rest


@rows_changed
def scales_the_data_set_in_place(dataset: Any, i: int) -> Any:
    row = dataset[i]
    row[0].mul_(2).add_(1)
    return row


@check(
    kind="loader",
    forbids={"repacks", "stochastic"},
    rejects=[
        comes_back_in_half_precision,
        normalizes_each_batch,
        pads_the_last_batch_with_zeros,
        rounds_to_bytes,
        scales_the_data_set_in_place,
    ],
)
def rows_come_back_unchanged(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Every value that comes out of a loader is one that went in, bit by bit and in its dtype.

    Column by column, every row of two epochs is looked up among the rows of the data set before
    the loader saw it; then the data set itself is compared. Exact: the bound is 0.
    Source: the definition of a loader; a change of the data is an augmentation or a transform.
    """
    dataset = data_set(subject, case)
    before = [keys(column) for column in dataset.tensors]
    names = list(case.specs)
    strange, seen, where = 0, 0, ""
    for size in batch_sizes(len(dataset)):
        for epoch in epochs(subject, dataset, size, _PASSES):
            for index, known in enumerate(map(set, before)):
                found = epoch.column(index)
                unknown = [key for key in found if key not in known]
                strange, seen = strange + len(unknown), seen + len(found)
                if unknown and not where:
                    (now, _, _), (then, _, _) = unknown[0], before[index][0]
                    where = f"{names[index]}, B = {size}" + f": {then} became {now}" * (now != then)
    yield Evidence(
        error=float(strange),
        bound=0.0,
        signal=float(seen),
        unit="rows",
        what="rows that are not of the data set",
        where=where,
    )
    changed = [
        sum(a != b for a, b in zip(keys(c), was, strict=True))
        for c, was in zip(dataset.tensors, before, strict=True)
    ]
    yield Evidence(
        error=float(sum(changed)),
        bound=0.0,
        signal=float(len(dataset) * len(before)),
        unit="rows",
        what="rows of the data set that the loader changed",
    )
