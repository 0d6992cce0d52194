"""Which of two is faster: interleaved pairs and an exact interval for the median ratio.

On a machine that others use too, what is timed first and what is timed later differ by more than
most real differences. Paired samples share the disturbance, the order within a pair is drawn, and
the sign test needs no distribution: whatever the noise, the interval holds.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dlcheck.measure.clocks import Clock, Work, calls_a_sample
from dlcheck.measure.device_clock import cleared_seconds
from dlcheck.ratio import Ratio as Ratio
from dlcheck.ratio import Speed as Speed
from dlcheck.ratio import sign_interval as sign_interval

BLOCK = 50  # pairs
MOST = 600  # pairs
_FEWEST = 6  # of which the sign test has an interval of 95 %
_WARMING = 20  # rounds at most before a device is steady
_STEADY = 0.97  # of the round before: what is no longer faster
_DIGITS = 6  # of a sample: no clock knows more

Buffers = Sequence[tuple[Any, ...]]
Samples = tuple[float, ...]  # seconds of a call, of each side


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Seconds of a call of both, pair by pair; a sample is the mean of `calls` in a row."""

    first: tuple[float, ...]
    second: tuple[float, ...]
    calls: tuple[int, int]

    @property
    def logs(self) -> tuple[float, ...]:
        """log(t₂ / t₁) of every pair."""
        return tuple(math.log(b / a) for a, b in zip(self.first, self.second, strict=True))


def compare_times(
    first: Work,
    second: Work,
    clock: Clock,
    *,
    buffers: Buffers = ((),),
    margin: float = 0.02,
    precision: float = 0.01,
    block: int = BLOCK,
    most: int = MOST,
    seed: int = 0,
) -> Ratio:
    """Time `first` and `second` in pairs, block by block, until the ratio is known."""
    pairs = time_pairs(
        first,
        second,
        clock,
        buffers=buffers,
        precision=precision,
        block=block,
        most=most,
        seed=seed,
    )
    return Ratio(logs=pairs.logs, margin=margin)


def time_pairs(
    first: Work,
    second: Work,
    clock: Clock,
    *,
    buffers: Buffers = ((),),
    precision: float = 0.01,
    block: int = BLOCK,
    most: int = MOST,
    budget: float = math.inf,
    seed: int = 0,
) -> Pairs:
    """Seconds of both in pairs on shared buffers, block by block, until the ratio is known.

    buffers: argument tuples; both sides of pair i are called with the same one, for identical
    code on buffers of its own differs by ten percent. precision: the half-width of the interval
    of the log-ratio at which to stop; most: pairs at which to give up; budget: seconds after which
    no block is begun, and within which blocks of slow work are kept short. It stops on the width
    and the time alone, never on the sign, so that the interval keeps its meaning.
    """
    order, calls = random.Random(seed), _calls(clock, (first, second), buffers[0])

    def pair(i: int) -> tuple[float, ...]:
        shared = buffers[i % len(buffers)]
        return _one_pair(first, second, clock, shared, calls, order.random() < 0.5)

    found = _until_known(
        pair, _width_of_ratio, calls, precision=precision, block=block, most=most, budget=budget
    )
    return Pairs(
        first=tuple(pair[0] for pair in found),
        second=tuple(pair[1] for pair in found),
        calls=(calls[0], calls[1]),
    )


def time_alone(
    work: Work,
    clock: Clock,
    *,
    buffers: Buffers = ((),),
    precision: float = 0.01,
    block: int = BLOCK,
    most: int = MOST,
    budget: float = math.inf,
) -> tuple[tuple[float, ...], int]:
    """Seconds of a call, sample by sample until the median is known, and the calls in a sample.

    As `time_pairs`; the interval holds the median of this process at this hour, no more.
    """
    calls = _calls(clock, (work,), buffers[0])
    found = _until_known(
        lambda i: (_sample(clock, work, buffers[i % len(buffers)], calls[0]),),
        _width_of_time,
        calls,
        precision=precision,
        block=block,
        most=most,
        budget=budget,
    )
    return tuple(sample[0] for sample in found), calls[0]


def _until_known(
    take: Callable[[int], Samples],
    width: Callable[[Sequence[Samples]], float],
    calls: Sequence[int],
    *,
    precision: float,
    block: int,
    most: int,
    budget: float,
) -> list[Samples]:
    """Blocks of samples, `take(i)` the i-th, until their `width` is small or the time is over."""
    started, found = time.perf_counter(), list[Samples]()
    with without_collection():
        while len(found) < most:
            left = budget - (time.perf_counter() - started)
            if found and left <= 0:
                break
            count = min(_block(block, left, found, calls), most - len(found))
            found += [take(i) for i in range(len(found), len(found) + count)]
            if len(found) >= min(block, most) and width(found) <= precision:
                break  # fewer are narrow by luck too often
    return found


def _calls(clock: Clock, works: Sequence[Work], inputs: tuple[Any, ...]) -> list[int]:
    """On CUDA one call a sample: what lies in the cache is cleared before each."""
    if clock.device.type == "cuda":
        for work in works:
            _warm(clock, work, inputs)
        return [1] * len(works)
    return [calls_a_sample(clock, work, *inputs) for work in works]


def _warm(clock: Clock, work: Work, inputs: tuple[Any, ...]) -> None:
    """Call it until it gets no faster: caches fill and clocks rise."""
    last = math.inf
    for _ in range(_WARMING):
        now = clock.seconds(work, *inputs, calls=3)
        if now > _STEADY * last:
            return
        last = now


def _block(block: int, left: float, found: Sequence[Samples], calls: Sequence[int]) -> int:
    """How many pairs to take next: few at first where nothing is known of the time."""
    if left == math.inf:
        return block
    if not found:
        return min(block, _FEWEST)
    last = sum(t * n for t, n in zip(found[-1], calls, strict=True))
    return max(1, min(block, int(left / max(last, 1e-9))))


def _width_of_ratio(found: Sequence[Samples]) -> float:
    return _half_width([math.log(b / a) for a, b in found])


def _width_of_time(found: Sequence[Samples]) -> float:
    return _half_width([math.log(sample[0]) for sample in found])


def _half_width(logs: Sequence[float]) -> float:
    low, high = sign_interval(logs)
    return (high - low) / 2


def _one_pair(
    first: Work,
    second: Work,
    clock: Clock,
    inputs: tuple[Any, ...],
    calls: Sequence[int],
    swapped: bool,  # noqa: FBT001
) -> tuple[float, float]:
    if swapped:
        later = _sample(clock, second, inputs, calls[1])
        return _sample(clock, first, inputs, calls[0]), later
    earlier = _sample(clock, first, inputs, calls[0])
    return earlier, _sample(clock, second, inputs, calls[1])


def _sample(clock: Clock, work: Callable[..., Any], inputs: tuple[Any, ...], calls: int) -> float:
    if clock.device.type == "cuda":
        seconds = cleared_seconds(work, inputs, clock.device)
    else:
        seconds = clock.seconds(work, *inputs, calls=calls)
    return float(f"{max(seconds, 1e-12):.{_DIGITS}g}")


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection meanwhile: a pause of milliseconds would fall on one side of a pair."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
