"""Streams that are merged, saved, or called with a batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from dlcheck.checks.metrics.broken_streams import (
    call_answers_for_all_so_far,
    call_keeps_the_first_batch,
    first_call_counts_twice,
    loads_beside_what_is_there,
    merge_ignores_the_other,
    merge_takes_the_last_batch,
    merge_takes_the_other_alone,
    saves_its_first_batch,
    saves_its_last_batch,
)
from dlcheck.checks.metrics.feeds import Feed
from dlcheck.errors import SubjectError
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    options={"merge": True},
    rejects=[merge_ignores_the_other, merge_takes_the_last_batch, merge_takes_the_other_alone],
    once=True,
)
def merged_replicas_are_one_stream(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """Two streams, fed apart and merged, say what one says of all rows; the second stays.

    By the method that `merge` names, with the other stream, or the list of it where `merge_takes`
    says so. One of two batches against one of one, so that unequal shares count unequally.
    """
    feed = Feed.of(metric, case)
    for turn in range(feed.turns):
        first, more, second = (feed.draw(f"{salt} {turn}") for salt in ("first", "more", "second"))
        one, other = feed.fresh(), feed.fresh()
        feed.update(one, first, more)
        feed.update(other, *feed.split(second, [feed.count - 3, 3]))
        alone = feed.read(copy.deepcopy(other))
        stream, rows = _merged(metric, one, other), feed.joined(first, more, second)
        yield feed.same(feed.whole(rows), feed.read(stream), rows, "value of merged streams")
        yield feed.same(alone, feed.read(other), second, "value of the stream that was merged in")


def _merged(metric: Implementation, one: Any, other: Any) -> Any:
    """What comes of merging by the declared method: what it returns, or the first stream."""
    method = getattr(one, str(metric.options["merge"]), None)
    if not callable(method):
        raise SubjectError(
            f"options.merge names {metric.options['merge']!r}, a method that "
            f"{metric.declared.name} does not have"
        )
    as_list = metric.options.get("merge_takes") == "list"
    merged = guarded(method, [other] if as_list else other)
    return merged if hasattr(merged, "compute") else one


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    options={"saves_state": True},
    rejects=[loads_beside_what_is_there, saves_its_last_batch, saves_its_first_batch],
    once=True,
)
def a_saved_stream_goes_on(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """state_dict() of a stream, loaded into a new one, goes on as if nothing had happened.

    Two batches before, one after; and the new one says the same before it goes on.
    """
    feed = Feed.of(metric, case)
    what = "value of a stream that was saved and loaded"
    for turn in range(feed.turns):
        before, later = feed.draw(f"saved {turn}"), feed.draw(f"later {turn}")
        stream, resumed = feed.fresh(), feed.fresh()
        feed.update(stream, *feed.split(before, [feed.count - 2, 2]))
        state = copy.deepcopy(guarded(stream.state_dict))
        guarded(resumed.load_state_dict, state)
        yield feed.same(feed.whole(before), feed.read(copy.deepcopy(resumed)), before, what)
        feed.update(resumed, later)
        both = feed.joined(before, later)
        yield feed.same(feed.whole(both), feed.read(resumed), both, what + ", and fed further")


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    options={"forward": ["batch", "running"]},
    rejects=[call_answers_for_all_so_far, call_keeps_the_first_batch, first_call_counts_twice],
    once=True,
)
def a_call_answers_for_its_batch_and_keeps_it(
    metric: Implementation, case: Case
) -> Iterator[Evidence]:
    """m(batch) answers for that batch (`forward = "batch"`), or for all so far (`"running"`).

    And takes the batch in, once: three calls, then compute() for all rows.
    """
    feed = Feed.of(metric, case)
    batches = [feed.draw(f"call {place}") for place in range(3)]
    stream = feed.fresh()
    running = metric.options["forward"] == "running"
    for place, batch in enumerate(batches):
        got = feed.flat(guarded(stream, *feed.given(batch)))
        rows = feed.joined(*batches[: place + 1]) if running else batch
        yield feed.same(feed.whole(rows), got, rows, f"answer to call {place + 1}")
    rows = feed.joined(*batches)
    yield feed.same(feed.whole(rows), feed.read(stream), rows, "value after three calls")
