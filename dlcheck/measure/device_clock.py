"""What only a CUDA device needs: events behind a cleared cache, launches, graphs, other streams.

Events lie on the work's stream. A spinning kernel goes first, so that the host has queued the
whole sample before the device begins it, and the time of its launches does not count.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch

_SPIN = 200_000  # cycles, a tenth of a millisecond: what the host needs to queue a sample
_ROUNDS = 9
_RESOLUTION = 2e-5  # seconds that the host may need to notice an end

Work = Callable[..., Any]


@functools.cache
def _beyond_the_cache(device: torch.device) -> torch.Tensor:
    """Bytes enough to push all else out of the L2 cache."""
    size = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or 2**27
    return torch.empty(2 * int(size), dtype=torch.uint8, device=device)


def cleared_seconds(work: Work, inputs: tuple[Any, ...], device: torch.device) -> float:
    """Seconds of one call on the device that finds nothing of its inputs in the L2 cache."""
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        _beyond_the_cache(device).zero_()
        torch.cuda._sleep(_SPIN)
        start.record()
        work(*inputs)
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def launch_seconds(work: Work, inputs: tuple[Any, ...], device: torch.device) -> float:
    """Seconds of the host until a call has returned, the device not waited for: the median."""
    found = []
    for _ in range(_ROUNDS):
        torch.cuda.synchronize(device)
        begun = time.perf_counter()
        work(*inputs)
        found.append(time.perf_counter() - begun)
    torch.cuda.synchronize(device)
    return sorted(found)[_ROUNDS // 2]


def graph_seconds(work: Work, inputs: tuple[Any, ...], device: torch.device) -> float | None:
    """Seconds of a call replayed from a CUDA graph; None for what cannot be captured."""
    try:
        with torch.cuda.device(device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                work(*inputs)
            found = sorted(cleared_seconds(graph.replay, (), device) for _ in range(_ROUNDS))
    except RuntimeError:
        torch.cuda.synchronize(device)
        return None
    return found[_ROUNDS // 2]


def left_over(work: Work, inputs: tuple[Any, ...], device: torch.device) -> tuple[float, float]:
    """Seconds by events, and those that the device works on after the stream has ended.

    The least of a few calls: work on another stream is there every time.
    """
    found = []
    for _ in range(_ROUNDS):
        with torch.cuda.device(device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            work(*inputs)
            end.record()
            end.synchronize()
            ended = time.perf_counter()
            torch.cuda.synchronize()
            rest = time.perf_counter() - ended
            found.append((rest, float(start.elapsed_time(end)) / 1e3))
    rest, seconds = min(found)
    return seconds, max(0.0, rest - _RESOLUTION)
