"""Ranks of torch.distributed say together what one process says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from dlcheck.checks.metrics.broken_over_ranks import (
    averages_in_idle_ranks,
    averages_over_ranks,
    counts_its_own_twice,
    cuts_the_longer_rank,
    gathered,
    gathers_once_for_all,
    pads_the_shorter_rank,
    rank_zero_alone,
    reads_the_other_ranks_in,
    says_nothing_without_rows,
    sends_zeros_for_no_rows,
    speaks_for_itself,
    weighs_ranks_by_rows,
)
from dlcheck.checks.metrics.feeds import Feed, Rows
from dlcheck.checks.metrics.ranks import together
from dlcheck.errors import SubjectError
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded

_RIGHT = [
    gathered(
        Subject(
            name="streaming_frechet_distance",
            target="dlcheck.references.metrics.frechet_distance:StreamingFrechetDistance",
            kind="distribution_metric",
            options={
                "ddof": "ddof",
                "sizes": {"n": [2, 17], "m": [2, 17]},
                "sync": "compute",
            },
        )
    ),
    gathered(
        Subject(
            name="root_mean_squared_error",
            target="dlcheck.references.metrics.regression_errors:RootMeanSquaredError",
            kind="prediction_metric",
            inputs={"prediction": "float n", "target": "float n"},
            options={"sync": "compute"},
        )
    ),
]


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    options={"sync": True},
    rejects=[
        averages_over_ranks,
        counts_its_own_twice,
        cuts_the_longer_rank,
        pads_the_shorter_rank,
        rank_zero_alone,
        speaks_for_itself,
        weighs_ranks_by_rows,
    ],
    accepts=_RIGHT,
    once=True,
)
def ranks_together_are_one_stream(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """On each of 3 ranks with unequal shares of the rows, a stream says what one says of all.

    By the method that `sync` names. Ranks are threads of this process in a process group of
    PyTorch's own: the metric's real calls of torch.distributed run, gathers of unequal sizes too.
    """
    feed = Feed.of(metric, case)
    for turn in range(feed.turns):
        rows = feed.draw(f"ranks {turn}")
        sizes = [feed.least, feed.least + 1, feed.count - 2 * feed.least - 1]
        shares = [[share] for share in feed.split(rows, sizes)]
        for rank, got in enumerate(_readings(feed, shares)):
            what = f"value on rank {rank} of {len(shares)}, which have {_listed(sizes)} rows"
            yield feed.same(feed.whole(rows), got, rows, what)


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    options={"sync": True},
    rejects=[averages_in_idle_ranks, says_nothing_without_rows, sends_zeros_for_no_rows],
    accepts=_RIGHT,
    once=True,
)
def a_rank_without_rows_changes_nothing(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """Where one of 3 ranks saw no row, all of them say what one stream says of all rows.

    A data set that is smaller than the number of ranks, or an iterable one that ends early.
    """
    feed = Feed.of(metric, case)
    for idle in (1, 0):
        rows = feed.draw(f"idle {idle}")
        one, two = feed.split(rows, [feed.count - feed.least - 1, feed.least + 1])
        shares = [[one], [two]]
        shares.insert(idle, [])
        for rank, got in enumerate(_readings(feed, shares)):
            what = f"value on rank {rank} of 3, of which rank {idle} saw no row"
            yield feed.same(feed.whole(rows), got, rows, what)


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    options={"sync": "compute", "resets_on_compute": [None, False]},
    rejects=[gathers_once_for_all, reads_the_other_ranks_in],
    accepts=_RIGHT,
    once=True,
)
def a_reading_over_ranks_takes_nothing_in(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """compute() twice over 2 ranks says the same twice; after further rows, it is of all rows.

    What a rank got of the others is theirs: kept as its own, it counts twice when read again.
    """
    feed = Feed.of(metric, case)
    for turn in range(feed.turns):
        first, more = feed.draw(f"first {turn}"), feed.draw(f"more {turn}")
        shares = zip(
            *(feed.split(rows, [3, feed.count - 3]) for rows in (first, more)), strict=True
        )
        ranks = together([partial(_thrice, feed, feed.fresh(), *share) for share in shares])
        both = feed.joined(first, more)
        for rank, (once, again, later) in enumerate(ranks):
            yield feed.same(feed.whole(first), once, first, f"the first reading on rank {rank}")
            yield feed.same(once, again, first, f"the second reading on rank {rank}")
            what = f"the reading on rank {rank} after one more update of each"
            yield feed.same(feed.whole(both), later, both, what)


def _readings(feed: Feed, shares: Sequence[Sequence[Rows]]) -> list[Tensor]:
    """What each rank says, fed with its batches."""
    return together([partial(_reading, feed, feed.fresh(), share) for share in shares])


def _reading(feed: Feed, stream: Any, batches: Sequence[Rows]) -> Tensor:
    feed.update(stream, *batches)
    name = str(feed.subject.options["sync"])
    if name != "compute":
        method = getattr(stream, name, None)
        if not callable(method):
            raise SubjectError(
                f"options.sync names {name!r}, a method that {feed.subject.declared.name} does "
                "not have"
            )
        guarded(method)
    return feed.read(stream)


def _thrice(feed: Feed, stream: Any, first: Rows, more: Rows) -> tuple[Tensor, Tensor, Tensor]:
    feed.update(stream, first)
    once, again = feed.read(stream), feed.read(stream)
    feed.update(stream, more)
    return once, again, feed.read(stream)


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))
