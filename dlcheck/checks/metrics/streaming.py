"""A metric that is fed in batches says what it says of all rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from dlcheck.checks.metrics.broken_streams import (
    answers_from_its_first_reading,
    averages_over_batches,
    drifts_when_read,
    drops_a_short_batch,
    keeps_the_last_batch,
    reads_its_last_batch_in,
    reset_forgets_a_counter,
    reset_keeps_the_first_batch,
    shares_a_class_level_list,
    shares_a_counter,
    starts_again_when_read,
)
from dlcheck.checks.metrics.feeds import Feed, Rows
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded


def splits(count: int, least: int) -> Iterator[tuple[Sequence[int], str]]:
    """Sizes of batches that come to `count`: a short last one, ones, a first and a last single."""
    size = max(count * 2 // 5, least)
    tail = count % size or size
    yield [size] * ((count - tail) // size) + [tail], f"batches of {size}, the last of {tail}"
    if least == 1:
        yield [1] * count, "batches of one row"
        yield [1, count - 1], "a batch of one row, then the others"
        yield [count - 1, 1], "all but one row, then that one"
    else:
        yield [count - 2, 2], "all but two rows, then those"


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    rejects=[averages_over_batches, drops_a_short_batch, keeps_the_last_batch],
    accepts=[
        Subject(
            name="streaming_frechet_distance",
            target="dlcheck.references.metrics.frechet_distance:StreamingFrechetDistance",
            kind="distribution_metric",
            options={"ddof": "ddof", "sizes": {"n": [2, 17], "m": [2, 17]}},
        ),
    ],
    once=True,
)
def any_split_in_batches_gives_the_whole(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """compute() after any split of the rows in batches is what it is after one batch of all.

    Rows [13, …] (pairs of images: 5) in batches of 5 with a short last one, of one row each, and
    with one row first or last. A mean over batches of what is no mean over rows shows here. A
    metric of two sets gets unequal counts of them.
    """
    feed = Feed.of(metric, case)
    for turn, (sizes, what) in enumerate(feed.turns * list(splits(feed.count, feed.least))):
        rows = feed.draw(f"split {turn}")
        expected, stream = feed.whole(rows), feed.fresh()
        feed.update(stream, *feed.split(rows, sizes))
        got = feed.read(stream)
        yield feed.same(
            expected, got, rows, f"value of {what}, against that of all rows at once",
            cause="it averages over batches, or keeps what it should add up",
        )  # fmt: skip


@check(
    kind="prediction_metric",
    forbids={"ordered", "stochastic", "stochastic_in_eval"},
    rejects=[averages_over_batches, drops_a_short_batch, keeps_the_last_batch],
    once=True,
)
def a_batch_without_a_class_changes_nothing(
    metric: Implementation, case: Case
) -> Iterator[Evidence]:
    """Rows sorted by class, so that the first batch has one class alone, come to the same value.

    Rows [24, …] of labels in batches of 6, 6, 6, 5 and 1, by rising and by falling class.
    """
    feed = Feed.of(metric, case)
    scored = feed.scored
    if scored is None or not scored.form.classes or not scored.axes_are_first:
        raise NotApplicable("predicts no classes")
    rows = feed.draw("sorted", 24)
    labels = rows[scored.target].flatten(1).double().mean(1) if scored.count_dims > 1 else None
    order = (rows[scored.target] if labels is None else labels).argsort()
    for index, what in ((order, "rising"), (order.flip(0), "falling")):
        ordered = scored.take(rows, index)
        stream = feed.fresh()
        tail = [5, 1] if feed.least == 1 else [6]
        feed.update(stream, *feed.split(ordered, [6, 6, 6, *tail]))
        got, expected = feed.read(stream), feed.whole(ordered)
        what = f"value of batches of {what} class, against that of all rows at once"
        yield feed.same(expected, got, rows, what)


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    rejects=[answers_from_its_first_reading, drifts_when_read, reads_its_last_batch_in],
    once=True,
)
def reading_a_stream_changes_nothing(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """compute() twice says the same twice, and updates after it add to what was there.

    Where `resets_on_compute` is declared, the next reading is of the rows that came after.
    """
    feed = Feed.of(metric, case)
    starts_again = bool(metric.options.get("resets_on_compute"))
    for turn in range(feed.turns):
        first, second = feed.draw(f"read first {turn}"), feed.draw(f"read second {turn}")
        stream = feed.fresh()
        feed.update(stream, first)
        once = feed.read(stream)
        yield feed.same(feed.whole(first), once, first, "the first reading")
        if not starts_again:
            again = feed.read(stream)
            yield feed.same(once, again, first, "the second reading without an update between")
        feed.update(stream, second)
        rest = second if starts_again else feed.joined(first, second)
        cause = "a value that compute() kept is not cleared, or it changes the state"
        what = "the reading after one more update"
        yield feed.same(feed.whole(rest), feed.read(stream), rest, what, cause)


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    options={"resets_on_compute": False},
    rejects=[starts_again_when_read, keeps_the_last_batch],
    once=True,
)
def a_stream_goes_on_after_a_reading(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """update, compute, update, compute: the second reading is of both batches.

    Metrics that start again when read declare `resets_on_compute`.
    """
    feed = Feed.of(metric, case)
    for turn in range(feed.turns):
        first, second = feed.draw(f"before {turn}"), feed.draw(f"after {turn}")
        stream = feed.fresh()
        feed.update(stream, first)
        feed.read(stream)
        feed.update(stream, second)
        both = feed.joined(first, second)
        yield feed.same(feed.whole(both), feed.read(stream), both, "the reading of both batches")


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    rejects=[
        answers_from_its_first_reading,
        reset_forgets_a_counter,
        reset_keeps_the_first_batch,
    ],
    once=True,
)
def a_reset_stream_is_a_new_one(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """After reset() nothing is left of the rows before, whether they were read or not."""
    feed = Feed.of(metric, case)
    for turn in range(max(feed.turns, 2)):
        reads = turn % 2 == 1
        before, rows = feed.draw(f"forgotten {turn}"), feed.draw(f"kept {turn}")
        expected, stream = feed.whole(rows), feed.fresh()
        feed.update(stream, before)
        if reads:
            feed.read(stream)
        guarded(stream.reset)
        feed.update(stream, rows)
        what = f"value after a reset {'with' if reads else 'without'} a reading before it"
        yield feed.same(expected, feed.read(stream), rows, what)


@check(
    kind=["prediction_metric", "score_metric", "distribution_metric", "image_metric"],
    forbids={"stochastic", "stochastic_in_eval"},
    rejects=[shares_a_class_level_list, shares_a_counter],
    once=True,
)
def two_streams_share_no_state(metric: Implementation, case: Case) -> Iterator[Evidence]:
    """What one stream is fed with, another built beside it or after it does not know.

    A list or a tensor in the body of the class, or in a default argument, shows here.
    """
    feed = Feed.of(metric, case)
    cause = "its state is kept on the class or in a default argument"
    for turn in range(feed.turns):
        first, second = feed.draw(f"one {turn}"), feed.draw(f"other {turn}")
        expected = _alone(feed, first), _alone(feed, second)
        one, other = feed.fresh(), feed.fresh()
        feed.update(one, first)
        feed.update(other, second)
        what = "value of one of two streams"
        yield feed.same(expected[0], feed.read(one), first, what, cause)
        yield feed.same(expected[1], feed.read(other), second, what, cause)


def _alone(feed: Feed, rows: Rows) -> Tensor:
    """What a stream says of these rows that was reset before, and so knows of no other."""
    stream = feed.fresh()
    guarded(stream.reset)
    feed.update(stream, rows)
    value = feed.read(stream)
    guarded(stream.reset)
    return value
