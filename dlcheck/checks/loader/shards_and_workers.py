"""Ranks and worker processes divide an epoch; they do not change it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlcheck.checks.loader.altered import Altered, Batches
from dlcheck.checks.loader.epochs import (
    Key,
    data_set,
    difference,
    epochs,
    joint_keys,
    keeps_all,
    seed_of,
)
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BATCH, _RANKS, _WORKERS = 3, 3, 2


def every_rank_gets_everything(subject: Subject) -> Subject:
    one = {subject.options["shards"]["rank"]: 0, subject.options["shards"]["count"]: 1}

    def altered(factory: Any) -> Any:
        return lambda dataset, **arguments: factory(dataset, **{**arguments, **one})

    return rebuilt("every_rank_gets_everything", altered)(subject)


def ranks_shuffle_apart(subject: Subject) -> Subject:
    rank, seed = subject.options["shards"]["rank"], subject.options.get("seed")
    if seed is None:
        return ranks_lose_the_remainder(subject)

    def altered(factory: Any) -> Any:
        def make(dataset: Any, **given: Any) -> Any:
            own = {seed: given.get(seed, 0) + 1000 * given.get(rank, 0)}
            return factory(dataset, **{**given, **own})

        return make

    return rebuilt("ranks_shuffle_apart", altered)(subject)


def ranks_lose_the_remainder(subject: Subject) -> Subject:
    count = subject.options["shards"]["count"]

    def altered(factory: Any) -> Any:
        def make(dataset: Any, **given: Any) -> Any:
            whole = len(dataset) // given.get(count, 1)
            return Altered(factory(dataset, **given), lambda batches, _: _first(batches, whole))

        return make

    return rebuilt("ranks_lose_the_remainder", altered)(subject)


def _first(batches: Batches, rows: int) -> Batches:
    kept = []
    for batch in batches:
        kept.append(tuple(column[:rows] for column in batch))
        rows -= len(kept[-1][0])
    return [batch for batch in kept if len(batch[0])]


@check(
    kind="loader",
    forbids={"with_replacement", "endless", "repacks", "stochastic"},
    options={"shards": True},
    rejects=[every_rank_gets_everything, ranks_shuffle_apart, ranks_lose_the_remainder],
)
def ranks_partition_the_data(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The shares of all ranks together are the data set: each row at one rank, once.

    Two epochs of three ranks with one seed. With `pads_shards` all ranks have ⌈N/R⌉ rows, the
    surplus repeats rows of the data set and none is missing. Exact: the bound is 0.
    Source: Li et al., PyTorch Distributed, VLDB 2020, section 3.
    """
    dataset = data_set(subject, case)
    wanted, shards = joint_keys(dataset.tensors), subject.options["shards"]
    given, name = keeps_all(subject), subject.options.get("seed")
    if isinstance(name, str):
        given = {**given, name: seed_of(case, "ranks")}
    shares = []
    for rank in range(_RANKS):
        seed_everything(case.recipe.seed)  # replicas start alike
        place = {shards["rank"]: rank, shards["count"]: _RANKS}
        shares.append(epochs(subject, dataset, _BATCH, 2, {**given, **place}))
    for number in range(2):
        found = [row for share in shares for row in share[number].rows]
        missing, surplus = difference(found, wanted)
        padding = -len(wanted) % _RANKS if "pads_shards" in subject.traits else 0
        strangers = sum(row not in set(wanted) for row in found)
        yield Evidence(
            error=float(missing + abs(surplus - padding) + strangers),
            bound=0.0,
            signal=float(len(wanted)),
            unit="rows",
            what=f"rows missing, repeated or foreign over {_RANKS} ranks in epoch {number}",
            got=f"{missing} missing, {surplus} too many",
        )


def workers_each_read_everything(subject: Subject) -> Subject:
    workers = subject.options["workers"]

    def altered(factory: Any) -> Any:
        def make(dataset: Any, **given: Any) -> Any:
            times = max(given.get(workers, 0), 1)
            return Altered(factory(dataset, **given), lambda batches, _: batches * times)

        return make

    return rebuilt("workers_each_read_everything", altered)(subject)


def a_worker_loses_its_last_batch(subject: Subject) -> Subject:
    workers = subject.options["workers"]

    def altered(factory: Any) -> Any:
        def make(dataset: Any, **given: Any) -> Any:
            lost = 1 if given.get(workers, 0) else 0
            return Altered(
                factory(dataset, **given), lambda batches, _: batches[: len(batches) - lost]
            )

        return make

    return rebuilt("a_worker_loses_its_last_batch", altered)(subject)


def workers_finish_in_any_order(subject: Subject) -> Subject:
    workers = subject.options["workers"]

    def altered(factory: Any) -> Any:
        def make(dataset: Any, **given: Any) -> Any:
            step = -1 if given.get(workers, 0) else 1
            return Altered(factory(dataset, **given), lambda batches, _: batches[::step])

        return make

    return rebuilt("workers_finish_in_any_order", altered)(subject)


DATA_LOADER = Subject(
    name="DataLoader",
    target="torch.utils.data:DataLoader",
    kind="loader",
    args={"shuffle": True},
    options={"shuffle": True, "workers": "num_workers"},
)


@check(
    kind="loader",
    forbids={"endless", "repacks", "stochastic", "with_replacement"},
    options={"workers": True},
    rejects=[
        workers_each_read_everything,
        a_worker_loses_its_last_batch,
        workers_finish_in_any_order,
    ],
    accepts=[DATA_LOADER],
    once=True,
)
def workers_change_nothing(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Two worker processes yield the batches that none yields, in the same order.

    The global generators and a declared seed start alike. Rows are compared as multisets; the
    order too, unless the trait `order_by_worker` says that it depends on the workers. Exact.
    Source: the documentation of torch.utils.data; TEXTBOOK B1.
    """
    name = subject.options["workers"]
    if not isinstance(name, str):
        raise NotApplicable("option workers is a number; name the argument to have it varied")
    dataset = data_set(subject, case, 20)
    alone = _order(subject, case, dataset, **{name: 0})
    helped = _order(subject, case, dataset, **{name: _WORKERS})
    missing, surplus = difference(helped, alone)
    yield Evidence(
        error=float(missing + surplus),
        bound=0.0,
        signal=float(len(alone)),
        unit="rows",
        what=f"rows that {name}={_WORKERS} loses or repeats",
        got=f"{missing} missing, {surplus} too many",
    )
    if "order_by_worker" not in subject.traits:
        yield Evidence(
            error=float(sum(a != b for a, b in zip(helped, alone, strict=False))),
            bound=0.0,
            signal=float(len(set(alone))),
            unit="rows",
            what=f"rows that {name}={_WORKERS} puts elsewhere",
        )


def _order(subject: Implementation, case: Case, dataset: Any, **keywords: Any) -> list[Key]:
    seed_everything(case.recipe.seed)
    seed = subject.options.get("seed")
    given: dict[str, Any] = {seed: seed_of(case, "workers")} if isinstance(seed, str) else {}
    given = {**keeps_all(subject), **given, **keywords}
    (epoch,) = epochs(subject, dataset, _BATCH, 1, given)
    if not epoch.batches:
        raise SubjectError(f"{subject.declared.name} yields nothing with {keywords}")
    return epoch.rows
