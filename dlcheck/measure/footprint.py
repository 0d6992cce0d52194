"""How much memory a step of training needs, as a + bB bytes, and the largest batch of a budget.

Counted on any device, to the byte: parameters, their gradients, what the optimizer keeps, the
batch, and what autograd saves for the backward (`memory.SavedBytes`). What operations need while
they run is not in it; on CUDA the allocator's own peak stands beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.measure.memory import saved_for_backward
from dlcheck.measure.workload import Workload

_LAST_DIGITS = 1e-12  # of a least-squares fit of a few whole numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """bytes(B) = fixed + per_row · B, fitted to what was counted."""

    fixed: float
    per_row: float
    misfit: float  # the largest relative residual
    counted: Mapping[int, int]  # batch size → bytes
    allocated: Mapping[int, int] = field(default_factory=dict)  # the allocator's peak, on CUDA
    limit: int | None = None  # the smallest batch size that ran out of memory

    def __call__(self, size: float) -> float:
        return self.fixed + self.per_row * size

    def largest(self, budget: float) -> int:
        """The largest batch whose bytes fit the budget; 0 if none does.

        Where the allocator was asked too, its share beyond the count is added in proportion.
        """
        factor = max((peak / self(b) for b, peak in self.allocated.items()), default=1.0)
        room = budget / max(factor, 1.0) - self.fixed
        # Counts are whole bytes: what the fit's last digits take off a whole number is put back.
        most = int(room / self.per_row * (1 + _LAST_DIGITS)) if self.per_row > 0 else 2**62
        return max(0, min(most, self.limit - 1) if self.limit else most)


def measure_footprint(workload: Workload, sizes: Sequence[int], *, seed: int = 0) -> Footprint:
    """Count the bytes of one step at every size, smallest first, until one does not fit."""
    counted: dict[int, int] = {}
    allocated: dict[int, int] = {}
    limit = None
    for size in sorted(sizes):
        try:
            counted[size], peak = _of_one_step(workload, size, seed)
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            limit = size
            break
        if peak:
            allocated[size] = peak
    fixed, per_row, misfit = _affine(counted)
    return Footprint(
        fixed=fixed,
        per_row=per_row,
        misfit=misfit,
        counted=counted,
        allocated=allocated,
        limit=limit,
    )


def ran_out_of_memory(error: BaseException) -> bool:
    """Is it that, or raised from that?"""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or isinstance(error.__cause__, kinds)


def _of_one_step(workload: Workload, size: int, seed: int) -> tuple[int, int]:
    model, batch = workload.model(seed), workload.drawn(size, seed)
    optimizer = workload.optimizer(model.parameters(), lr=workload.rate)
    on_cuda = workload.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(workload.device)
    meter = saved_for_backward(model, lambda: workload.objective(model, batch))
    workload.step(model, optimizer, batch)
    parameters = list(model.parameters())
    gradients = [p.grad for p in parameters if p.grad is not None]
    kept = itertools.chain(
        parameters, gradients, model.buffers(), _tensors(optimizer.state.values()), _tensors(batch)
    )
    peak = torch.cuda.max_memory_allocated(workload.device) if on_cuda else 0
    return meter.peak + _unique_bytes(kept), int(peak)


def _unique_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages, each counted once."""
    storages = {(s := t.untyped_storage()).data_ptr(): s.nbytes() for t in tensors}
    return sum(storages.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for part in value:
            yield from _tensors(part)


def _affine(counted: Mapping[int, int]) -> tuple[float, float, float]:
    sizes, held = np.array(list(counted), float), np.array(list(counted.values()), float)
    if len(sizes) == 0:
        return float("nan"), float("nan"), float("nan")
    if len(sizes) == 1:
        return 0.0, float(held[0] / sizes[0]), 0.0
    per_row, fixed = np.polyfit(sizes, held, 1)
    misfit = float(np.max(np.abs((fixed + per_row * sizes) / held - 1)))
    return float(fixed), float(per_row), misfit
