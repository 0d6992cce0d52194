"""Which of two is faster: interleaved pairs and an exact interval for the median ratio.

On a machine that others use too, what is timed first and what is timed later differ by more than
most real differences. Paired samples share the disturbance, the order within a pair is drawn, and
the sign test needs no distribution: whatever the noise, the interval holds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from dlcheck.measure.clocks import Clock, Work, calls_a_sample
from dlcheck.ratio import Ratio as Ratio
from dlcheck.ratio import Speed as Speed
from dlcheck.ratio import sign_interval as sign_interval


def compare_times(
    first: Work,
    second: Work,
    clock: Clock,
    *,
    buffers: Sequence[tuple[Any, ...]] = ((),),
    margin: float = 0.02,
    precision: float = 0.01,
    block: int = 50,
    most: int = 600,
    seed: int = 0,
) -> Ratio:
    """Time `first` and `second` in pairs, block by block, until the ratio is known.

    buffers: argument tuples; both sides of pair i are called with the same one, for identical
    code on buffers of its own differs by ten percent. precision: the half-width of the interval
    of the log-ratio at which to stop; most: pairs at which to give up. It stops on the width
    alone, never on the sign, so that the interval keeps its meaning.
    """
    order = random.Random(seed)
    calls = [calls_a_sample(clock, work, *buffers[0]) for work in (first, second)]
    logs: list[float] = []
    while len(logs) < most:
        for i in range(len(logs), len(logs) + block):
            shared = buffers[i % len(buffers)]
            logs.append(_one_pair(first, second, clock, shared, calls, order.random() < 0.5))
        if Ratio(logs=tuple(logs)).half_width <= precision:
            break
    return Ratio(logs=tuple(logs), margin=margin)


def _one_pair(
    first: Work,
    second: Work,
    clock: Clock,
    inputs: tuple[Any, ...],
    calls: Sequence[int],
    swapped: bool,  # noqa: FBT001
) -> float:
    if swapped:
        later = clock.seconds(second, *inputs, calls=calls[1])
        return math.log(later / clock.seconds(first, *inputs, calls=calls[0]))
    earlier = clock.seconds(first, *inputs, calls=calls[0])
    return math.log(clock.seconds(second, *inputs, calls=calls[1]) / earlier)
