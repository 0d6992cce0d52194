"""The answer does not depend on which hardware, or which of its kernels, computes it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement, rounding_room
from dlcheck.checks.every.twin import on_device
from dlcheck.isolation import kept_buffers, seed_everything
from dlcheck.model import Evidence
from dlcheck.mutants import around, on_tensors
from dlcheck.regimes import regimes_of
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation, scatter_parameters, tensors_in

_THREADS = 2


@around
def leaves_out_what_a_second_thread_would_do(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """As a kernel does that splits rows among threads and forgets the remainder."""
    factor = 1.0 if torch.get_num_threads() == 1 else 0.5
    return on_tensors(original(*inputs, **keywords), lambda y: factor * y)


@around
def is_wrong_without_its_fast_kernel(original: Any, *inputs: Any, **keywords: Any) -> Any:
    def shifted(y: Tensor) -> Tensor:
        return y if torch.backends.mkldnn.enabled else y + 1e-3

    return on_tensors(original(*inputs, **keywords), shifted)


@check(
    kind="tensors",
    forbids={"stochastic", "stochastic_in_eval", "in_place"},
    dtypes=["float64", "float32"],
    once=True,
    rejects=[leaves_out_what_a_second_thread_would_do, is_wrong_without_its_fast_kernel],
)
def agrees_across_devices(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The answer is the same on the CPU, with one thread or more, and without its fast kernels.

    On an accelerator it is held against the CPU's, from the same inputs and parameters; on the
    CPU against two threads, and against torch's kernels without oneDNN; the former
    with values of every regime. The bound is twice what rounding may move it; see rounding_room.
    """
    scatter_parameters(subject, case.recipe.seed)
    if case.device.type == "cpu":
        yield from _beside_other_kernels(subject, case)
        return
    cpu = on_device(subject, case, torch.device("cpu"))
    for turn in range(max((len(regimes_of(spec)) for spec in case.specs.values()), default=1)):
        regimes = {name: _in_turn(regimes_of(spec), turn) for name, spec in case.specs.items()}
        recipe = replace(case.recipe, regimes=regimes)
        inputs = materialize(recipe, case.specs, case.device, case.dtype)
        drawn = replace(case, recipe=recipe, inputs=inputs)
        room = rounding_room(subject, drawn)
        yield from _compared("the CPU's", _answers(subject, drawn), _answers(cpu, drawn), room)


def _in_turn(regimes: list[str], turn: int) -> str:
    return regimes[turn % len(regimes)]


def _beside_other_kernels(subject: Implementation, case: Case) -> Iterator[Evidence]:
    room = rounding_room(subject, case)
    here = _answers(subject, case)
    for name, within in _WAYS.items():
        with within():
            there = _answers(subject, case)
        yield from _compared(name, here, there, room)


def _compared(
    name: str, here: list[Tensor], there: list[Tensor], room: list[Tensor]
) -> Iterator[Evidence]:
    for position, (one, other, bound) in enumerate(zip(here, there, room, strict=True)):
        yield agreement(f"output {position}, beside {name}", one.cpu(), other, bound.cpu())


def _answers(made: Implementation, case: Case) -> list[Tensor]:
    seed_everything(case.recipe.seed)
    buffers = [(b, b.clone()) for b in kept_buffers(made.module)]
    with torch.no_grad():
        inputs = [x.to(made.device) for x in case.fresh()]
        found = [y.detach().clone() for y in tensors_in(made(*inputs))]
        for buffer, value in buffers:
            buffer.copy_(value)
    return found


@contextlib.contextmanager
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _without_fast_kernels() -> Iterator[None]:
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # noqa: FBT003 (mkldnn.flags would warn of TF32)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


_WAYS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "that of two threads": _two_threads,
    "that without oneDNN": _without_fast_kernels,
}
