"""An answer depends on no memory but that of the inputs."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dlcheck.checks.trust.calls import Asked, contiguous, held, identical, or_refused
from dlcheck.checks.trust.careless import (
    adds_what_lies_after_the_last_element,
    leaves_its_last_rows_unwritten,
    multiplies_by_a_mask_that_nobody_wrote,
    pads_rows_with_what_follows,
    returns_memory_that_nobody_wrote,
    writes_past_the_end_of_its_input,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_HALO = 64  # elements on both sides: a cache line of float64 is 8, a warp reads 32


@check(
    kind="tensors",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[
        returns_memory_that_nobody_wrote,
        leaves_its_last_rows_unwritten,
        multiplies_by_a_mask_that_nobody_wrote,
    ],
)
def reads_no_uninitialised_memory(subject: Implementation, case: Case) -> Evidence:
    """Values and gradients are the same when memory that nobody wrote holds NaN.

    torch fills what `empty` and its kin allocate with NaN, or the largest integer, and the answer
    is held against a call where it holds ones. Such memory often holds the right numbers of an
    earlier call, or zeros: a plain test then passes. The bound is twice what rounding may move
    the answer (a deterministic kernel may sum in another order).
    """
    asked = Asked(subject, case)
    ones: contextlib.AbstractContextManager[Any] = _Ones()
    with ones:
        expected = or_refused(lambda: asked(*contiguous(case)))
    if expected is None:  # what no dispatch mode goes through
        ones = contextlib.nullcontext()
        expected = asked(*contiguous(case))
    with _deterministic(), _fill(value=False):
        if or_refused(lambda: asked(*contiguous(case))) is None:
            raise NotApplicable("has no deterministic way")
    with _deterministic(), _fill(value=True):
        got = or_refused(lambda: asked(*contiguous(case)))
    if got is None:
        return Evidence(
            error=1.0,
            bound=0.0,
            signal=1.0,
            unit="calls",
            what="calls that raise when uninitialised memory holds NaN",
            cause=_UNWRITTEN,
        )
    what = "when uninitialised memory holds NaN"
    with ones:  # else what lies in the memory would pass for what rounding does
        return held(asked, what, got, expected, inputs=contiguous(case), cause=_UNWRITTEN)


_UNWRITTEN = "memory from torch.empty is read before it is written"


class _Ones(TorchDispatchMode):
    """What is allocated holds ones: NaN that an earlier trial has left there would hide a read."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        return made.fill_(1) if func.overloadpacket in _ALLOCATING else made


_ALLOCATING = {
    getattr(torch.ops.aten, name)
    for name in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
}


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """torch.use_deterministic_algorithms, without the seconds that its first call imports for."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch._C._set_deterministic_algorithms(True, warn_only=True)  # noqa: FBT003
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "has no deterministic implementation"
            yield
    finally:
        torch._C._set_deterministic_algorithms(before[0], warn_only=before[1])


@contextlib.contextmanager
def _fill(*, value: bool) -> Iterator[None]:
    before = torch._C._get_deterministic_fill_uninitialized_memory()
    torch._C._set_deterministic_fill_uninitialized_memory(value)
    try:
        yield
    finally:
        torch._C._set_deterministic_fill_uninitialized_memory(before)


@check(
    kind="tensors",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[
        adds_what_lies_after_the_last_element,
        pads_rows_with_what_follows,
        writes_past_the_end_of_its_input,
    ],
)
def stays_inside_its_inputs(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Values and gradients ignore what lies around an input in memory, and leave it as it is.

    Each input is a window into a longer buffer whose other elements are NaN (of an integer input,
    its largest value): once contiguous, with 64 of them on both sides, and once with as many
    after every row. The answer is that of private copies, up to twice what rounding may move it;
    of the surroundings not one element changes.
    """
    asked = Asked(subject, case)
    expected = asked(*contiguous(case))
    for what, rows in (("around an input", False), ("after every row", True)):
        if rows and ("stochastic" in subject.traits or case.inputs.keys() - _with_rows(case)):
            continue
        windows = [_window(x, between_rows=rows) for x in case.inputs.values()]
        before = [buffer.clone() for _, buffer in windows]
        got = or_refused(lambda: asked(*(x for x, _ in windows)))  # noqa: B023
        if got is None:
            continue
        yield held(
            asked,
            f"with NaN {what}",
            got,
            expected,
            inputs=contiguous(case),
            cause="it reads past the end of an input, or of its rows",
        )
        if "in_place" not in subject.traits:
            yield _surroundings(windows, before)


def _with_rows(case: Case) -> set[str]:
    return {name for name, x in case.inputs.items() if x.dim() >= 2}


def _window(x: Tensor, *, between_rows: bool) -> tuple[Tensor, Tensor]:
    """A copy of x inside a buffer of NaN, and the buffer."""
    if x.is_floating_point() or x.is_complex():
        fill: float | bool = math.nan
    else:
        fill = x.flatten()[:1].amax().item() if x.numel() else 0
    if not between_rows:
        room = x.new_full((x.numel() + 2 * _HALO,), fill)
        view = room[_HALO : _HALO + x.numel()].view(x.shape)
    else:
        length = x.shape[-1] + _HALO
        room = x.new_full((_HALO + math.prod(x.shape[:-1]) * length,), fill)
        view = room[_HALO:].view(*x.shape[:-1], length)[..., : x.shape[-1]]
    view.copy_(x)
    return view, room


def _surroundings(windows: list[tuple[Tensor, Tensor]], before: list[Tensor]) -> Evidence:
    """What lies around the inputs; that they stay themselves is `leaves_inputs_unchanged`."""
    changed = size = 0
    for (view, after), was in zip(windows, before, strict=True):
        around = torch.ones_like(after, dtype=torch.bool)
        around.as_strided(view.shape, view.stride(), view.storage_offset()).zero_()
        size += int(around.sum())
        if not identical(after, was):
            differ = (after != was) & ((after == after) | (was == was))
            changed += int((differ & around).sum())
    return Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(size),
        unit="elements",
        what="elements around the inputs that a call changed",
        cause="it writes past the end of an input" if changed else "",
    )
