"""What a call costs beside its time: processor seconds, page faults, memory; what the device can.

Read in a pass of their own, so that reading them does not count among the seconds.
"""

from __future__ import annotations

import functools
import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch.autograd import profiler

from dlcheck.benchmark import Ceilings
from dlcheck.measure.clocks import Clock

# Windows has no getrusage.
_RESOURCE: Any = importlib.import_module("resource") if find_spec("resource") else None

Work = Callable[..., Any]

_PASS = 0.02  # seconds of the pass in which resources are read
_COPIED = 2**25  # bytes: beyond the caches of most processors
_SIDES = (64, 128, 256, 512)  # of the matrices whose product is timed on a CPU; on a GPU 16 times
_LONG = 0.01  # seconds of a product that is not doubled: float16 on a CPU
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a call: processor seconds of all threads, seconds by the wall, page faults."""

    cpu: float
    wall: float
    page_faults: float | None


def usage(work: Work, inputs: tuple[Any, ...], seconds: float, device: torch.device) -> Usage:
    """What calls in a row use; seconds: about what one takes."""
    calls = max(1, min(1000, int(_PASS / max(seconds, 1e-9))))
    clock = Clock(device)
    clock.wait()
    faults, cpu, wall = _faults(), time.process_time(), time.perf_counter()
    for _ in range(calls):
        work(*inputs)
    clock.wait()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    later = _faults()
    each = (later - faults) / calls if faults is not None and later is not None else None
    return Usage(cpu / calls, wall / calls, each)


def _faults() -> int | None:
    if _RESOURCE is None:
        return None
    used = _RESOURCE.getrusage(_RESOURCE.RUSAGE_SELF)
    return int(used.ru_minflt + used.ru_majflt)


def peak_bytes(work: Work, inputs: tuple[Any, ...], device: torch.device) -> int | None:
    """The most that a call holds at one time beside what was there, as the allocator counts.

    On a CPU from the profiler's account of torch's allocator, scratch space within operations
    included; what NumPy and other libraries allocate is not seen.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        answer = work(*inputs)
        torch.cuda.synchronize(device)
        del answer
        return int(torch.cuda.max_memory_allocated(device)) - int(before)
    if device.type != "cpu":
        return None
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would announce every start
    with profiler.profile(profile_memory=True) as seen:
        answer = work(*inputs)
    del answer
    if seen.kineto_results is None:
        return None
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in seen.kineto_results.events()
        if event.name() == "[memory]"
    )
    now = peak = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak


@functools.cache
def ceilings(device: torch.device, dtype: torch.dtype, threads: int) -> Ceilings:
    """What the device does at best in this run: a large copy, a product of square matrices.

    threads: how many torch uses; measured anew for another number.
    """
    clock = Clock(device)
    scale = 16 if device.type == "cuda" else 1
    source = torch.ones(scale * _COPIED // 4, dtype=torch.float32, device=device)
    sink = torch.empty_like(source)

    def best(work: Work, *inputs: Any) -> float:
        work(*inputs)
        return min(clock.seconds(work, *inputs) for _ in range(_ROUNDS))

    matmul = 0.0
    for side in (scale * each for each in _SIDES):
        a = torch.ones(side, side, dtype=dtype, device=device)
        seconds = best(torch.mm, a, a)
        matmul = max(matmul, 2 * float(side) ** 3 / seconds)
        if seconds > _LONG:
            break
    return Ceilings(
        copy=2 * source.numel() * source.itemsize / best(sink.copy_, source), matmul=matmul
    )
