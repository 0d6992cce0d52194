"""The same call with the same seed gives the same answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.isolation import kept_buffers, seed_everything
from dlcheck.model import Evidence
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in

_CALLS = itertools.count(1)
_OWN_STREAM = torch.Generator().manual_seed(0)


@around
def drifts_from_call_to_call(original: Any, *inputs: Any, **keywords: Any) -> Any:
    drift = 1 + 1e-6 * next(_CALLS)
    return on_tensors(original(*inputs, **keywords), lambda y: drift * y + drift)


@around
def draws_from_its_own_stream(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """Noise from a generator that no seed reaches."""

    def noisy(y: Tensor) -> Tensor:
        return y + torch.rand(y.shape, generator=_OWN_STREAM, dtype=torch.float64).to(y)

    return on_tensors(original(*inputs, **keywords), noisy)


@check(
    kind="tensors",
    rejects=[drifts_from_call_to_call, draws_from_its_own_stream],
)
def repeats_exactly(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The same input with the same seed gives the same answer, bit by bit.

    Every random stream is seeded and every buffer put back before each of two calls. The error
    is the number of elements that differ (NaN equals NaN), the bound 0. A device whose atomics
    add in changing order fails: its answers do not repeat.
    """
    buffers = [(b, b.clone()) for b in kept_buffers(subject.module)]

    def answer() -> list[Tensor]:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        seed_everything(case.recipe.seed)
        return [y.detach().clone() for y in tensors_in(subject(*case.fresh()))]

    first, second = answer(), answer()
    for position, (one, two) in enumerate(zip(first, second, strict=True)):
        same = (one == two) | ((one != one) & (two != two))
        largest = (one - two).abs().max() if one.is_floating_point() and one.numel() else 0.0
        yield Evidence(
            error=float((~same).sum()),
            bound=0.0,
            signal=float(same.numel()),
            unit="elements",
            what=f"differing elements of output {position}",
            got=f"differences of up to {float(largest):.3g}",
        )
