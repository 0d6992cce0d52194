"""How long work takes on a device: the host's clock on a CPU, the device's own events on CUDA."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Work = Callable[..., Any]

SAMPLE = 4e-4  # seconds: a thousand times the resolution and cost of reading a clock


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds of work on one device; the work is finished when the clock stops."""

    device: torch.device

    def seconds(self, work: Work, *inputs: Any, calls: int = 1) -> float:
        """Seconds that a call of `work(*inputs)` takes, as the mean of `calls` in a row."""
        total = self._cuda if self.device.type == "cuda" else self._host
        return total(work, inputs, calls) / calls

    def wait(self) -> None:
        """Return once the device has nothing left to do."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def _host(self, work: Work, inputs: tuple[Any, ...], calls: int) -> float:
        self.wait()
        start = time.perf_counter()
        for _ in range(calls):
            work(*inputs)
        self.wait()
        return time.perf_counter() - start

    def _cuda(self, work: Work, inputs: tuple[Any, ...], calls: int) -> float:
        # Events lie on the stream of the work, so that the time that the host needs to notice
        # the end does not count; the host's own launches do, where the device waits for them.
        with torch.cuda.device(self.device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            for _ in range(calls):
                work(*inputs)
            end.record()
            torch.cuda.synchronize()
            return float(start.elapsed_time(end)) / 1e3


def calls_a_sample(
    clock: Clock, work: Work, *inputs: Any, sample: float = SAMPLE, most: int = 10_000
) -> int:
    """How often to call `work` so that one sample lasts at least `sample` seconds.

    Calls it a few times first: the first calls pay for imports, plans and page faults.
    """
    for _ in range(3):
        work(*inputs)
    calls = 1
    while calls < most:
        took = min(clock.seconds(work, *inputs, calls=calls) for _ in range(3)) * calls
        if took >= 0.7 * sample:
            return calls
        calls = min(most, max(calls + 1, int(calls * min(10.0, sample / max(took, 1e-9)))))
    return calls
