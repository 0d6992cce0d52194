"""The order of the rows: new in each epoch, fixed by the seed, or that of the data set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from dlcheck.checks.loader.altered import Batches, batches_changed, reordered, seeded_order
from dlcheck.checks.loader.epochs import (
    Key,
    data_set,
    epochs,
    joint_keys,
    keeps_all,
    seed_of,
)
from dlcheck.checks.loader.ragged import DataSet
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Mutant, Subject
from dlcheck.mutants import rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _BATCH = 32, 5
_RARE = 1e-12  # how likely two uniform orders may be equal


@reordered
def same_order_each_epoch(rows: int, epoch: int, size: int) -> Sequence[int]:
    return seeded_order(rows, 0)


@reordered
def first_epoch_in_file_order(rows: int, epoch: int, size: int) -> Sequence[int]:
    return seeded_order(rows, epoch) if epoch else range(rows)


@reordered
def two_orders_take_turns(rows: int, epoch: int, size: int) -> Sequence[int]:
    return seeded_order(rows, epoch % 2)


@reordered
def never_shuffles(rows: int, epoch: int, size: int) -> Sequence[int]:
    return range(rows)


def orders_of(
    subject: Implementation, dataset: DataSet, count: int, **keywords: Any
) -> list[list[Key]]:
    """The rows of `count` epochs in the order in which they came."""
    given = {**keeps_all(subject), **keywords}
    return [epoch.rows for epoch in epochs(subject, dataset, _BATCH, count, given)]


def telling_data_set(subject: Implementation, case: Case, rows: int) -> DataSet:
    """A data set two of whose uniform orders are equal with probability at most 10⁻¹².

    Rows that are alike can change places unseen: Π mᵢ! / N! for multiplicities mᵢ.
    """
    dataset = data_set(subject, case, rows)
    alike = Counter(joint_keys(dataset.tensors)).values()
    log = sum(math.lgamma(m + 1) for m in alike) - math.lgamma(rows + 1)
    if log > math.log(_RARE):
        raise NotApplicable("too many rows of the declared inputs are alike to tell their order")
    return dataset


@check(
    kind="loader",
    forbids={"endless", "repacks", "stochastic"},
    options={"shuffle": [True, "buffer"]},
    rejects=[
        same_order_each_epoch,
        first_epoch_in_file_order,
        two_orders_take_turns,
        never_shuffles,
    ],
    once=True,
)
def shuffle_differs_between_epochs(subject: Implementation, case: Case) -> Evidence:
    """No two of three epochs come in one order, and none in that of the data set.

    32 rows in batches of 5; two uniform orders agree with probability 1/32! (at most 10⁻¹² where
    rows are alike), so that equality is no accident. The bound is 0.
    Source: random reshuffling, Bottou 2009; TEXTBOOK B1.
    """
    dataset = telling_data_set(subject, case, _ROWS)
    orders = [joint_keys(dataset.tensors), *orders_of(subject, dataset, 3)]
    names = ["the data set", *(f"epoch {i}" for i in range(3))]
    pairs = [(i, j) for j in range(len(orders)) for i in range(j)]
    equal = [(i, j) for i, j in pairs if orders[i] == orders[j]]
    return Evidence(
        error=float(len(equal)),
        bound=0.0,
        signal=float(len(pairs)),
        unit="pairs of orders",
        what="equal orders",
        where=", ".join(f"{names[i]} = {names[j]}" for i, j in equal),
    )


@batches_changed
def ignores_its_seed(batches: Batches, epoch: int) -> Batches:
    return [batches[i] for i in torch.randperm(len(batches)).tolist()]


def every_seed_gives_one_order(subject: Subject) -> Subject:
    fixed = {subject.options["seed"]: 0}

    def altered(factory: Any) -> Any:
        return lambda dataset, **arguments: factory(dataset, **{**arguments, **fixed})

    return rebuilt("every_seed_gives_one_order", altered)(subject)


def _unless_in_buckets(mutant: Mutant) -> Mutant:
    """Of rows in buckets other seeds may give equal orders: there the seed is ignored instead."""

    def mutate(subject: Subject) -> Subject:
        in_buckets = subject.options.get("shuffle") == "buckets"
        return (ignores_its_seed if in_buckets else mutant)(subject)

    mutate.__name__ = mutant.__name__
    return mutate


class _SeededOnce:
    """A generator shared by all loaders: the first loader's seed counts, no other."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.first: Any = None

    def __call__(self, dataset: Any, **arguments: Any) -> Any:
        self.first = self.first or self.factory(dataset, **arguments)
        return self.first


shares_one_stream_among_loaders = rebuilt("shares_one_stream_among_loaders", _SeededOnce)


@check(
    kind="loader",
    forbids={"repacks", "endless"},
    options={"seed": True, "shuffle": [True, "buffer", "buckets"]},
    rejects=[
        ignores_its_seed,
        _unless_in_buckets(every_seed_gives_one_order),
        shares_one_stream_among_loaders,
        _unless_in_buckets(never_shuffles),
    ],
    once=True,
)
def seed_repeats_the_order(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The same seed gives the same two epochs again, and another seed gives others.

    The global generators stand elsewhere in the second run. 32 rows: two seeds agree with
    probability 1/32!. Exact: the bound is 0.
    Source: the documentation of a seed; TEXTBOOK B1.
    """
    name = subject.options["seed"]
    if not isinstance(name, str):
        raise NotApplicable("option seed is a number; name the argument to have it varied")
    dataset = telling_data_set(subject, case, _ROWS)
    seeds = seed_of(case, "one"), seed_of(case, "two")
    first = orders_of(subject, dataset, 2, **{name: seeds[0]})
    seed_everything(seed_of(case, "elsewhere"))
    again = orders_of(subject, dataset, 2, **{name: seeds[0]})
    other = orders_of(subject, dataset, 2, **{name: seeds[1]})
    moved = sum(a != b for a, b in zip(first, again, strict=True))
    yield Evidence(
        error=float(moved),
        bound=0.0,
        signal=2.0,
        unit="epochs",
        what=f"epochs that {name}={seeds[0]} did not repeat",
    )
    if subject.options["shuffle"] != "buckets":  # whose orders may be few
        yield Evidence(
            error=float(sum(a == b for a, b in zip(first, other, strict=True))),
            bound=0.0,
            signal=2.0,
            unit="epochs",
            what=f"epochs that {name}={seeds[0]} and {name}={seeds[1]} have in common",
        )


@reordered
def goes_backwards(rows: int, epoch: int, size: int) -> Sequence[int]:
    return range(rows)[::-1]


@reordered
def deals_rows_out_like_cards(rows: int, epoch: int, size: int) -> Sequence[int]:
    return sorted(range(rows), key=lambda i: i % size)


@reordered
def shuffles_after_the_first_epoch(rows: int, epoch: int, size: int) -> Sequence[int]:
    return seeded_order(rows, epoch) if epoch else range(rows)


@check(
    kind="loader",
    forbids={"endless", "repacks", "stochastic", "with_replacement"},
    options={"shuffle": [False]},
    rejects=[goes_backwards, deals_rows_out_like_cards, shuffles_after_the_first_epoch],
)
def order_is_that_of_the_data_set(subject: Implementation, case: Case) -> Evidence:
    """Without shuffling rows come in the order of the data set, in every epoch.

    Exact, for 32 rows in batches of 5 over two epochs: the bound is 0.
    Source: the documentation of shuffle = false.
    """
    dataset = data_set(subject, case, _ROWS)
    wanted = joint_keys(dataset.tensors)
    misplaced = 0
    for order in orders_of(subject, dataset, 2):
        misplaced += abs(len(order) - len(wanted))
        misplaced += sum(a != b for a, b in zip(order, wanted, strict=False))
    return Evidence(
        error=float(misplaced),
        bound=0.0,
        signal=float(2 * len(set(wanted))),
        unit="rows",
        what="rows out of place",
    )
