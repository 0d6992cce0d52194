"""A result is whole when the call returns, and stays what it is."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from dlcheck.checks.still import put_back
from dlcheck.checks.trust.calls import Answer, Asked, contiguous, held, identical
from dlcheck.checks.trust.careless import (
    answers_in_one_buffer,
    answers_lazily,
    answers_without_memory,
    finishes_in_a_thread,
    gradient_reads_the_last_call,
    starts_a_thread_with_every_call,
)
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation, tensors_in

_WAIT = 0.01  # seconds after a call in which a late write is seen
_CALLS = 8  # of which each leaves a thread, if they leak


@check(
    kind="tensors",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[answers_in_one_buffer, gradient_reads_the_last_call],
)
def earlier_results_stay(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A later call changes no earlier result, and not the gradient that it gives.

    The subject answers for one set of values, then for another. The first answer is, bit by bit,
    what it was, and a backward through it gives what it gave without the second call, up to twice
    what rounding may move it. Scratch memory that is returned, or kept outside the graph for the
    backward, belongs to the last call.
    """
    asked = Asked(subject, case)
    inputs = contiguous(case)
    alone = asked(*inputs)
    put_back(asked.still.state)
    given, leaves = asked.leaves_of(inputs) if asked.has_gradients else (list(inputs), [])
    first = _outputs(subject, case, given)
    before = [y.detach().clone() for y in first]
    _outputs(subject, case, _other_values(case))
    changed = sum(not identical(y.detach(), was) for y, was in zip(first, before, strict=True))
    yield Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(len(before)),
        unit="outputs",
        what="earlier outputs that a later call changed",
        cause="it returns scratch memory that the next call overwrites" if changed else "",
    )
    if not asked.has_gradients or changed:
        return
    try:
        found = asked.gradients(first, leaves)
    except SubjectRaised:  # autograd saw the change, and says so
        return
    if found:
        yield held(
            asked,
            "of an earlier call, taken after a later one",
            [*before, *found],
            alone,
            inputs=inputs,
            cause="what the backward needs is kept where the next forward overwrites it",
        )


def _outputs(subject: Implementation, case: Case, inputs: Sequence[Tensor]) -> list[Tensor]:
    seed_everything(case.recipe.seed)
    return list(tensors_in(subject(*inputs)))


def _other_values(case: Case) -> list[Tensor]:
    recipe = replace(case.recipe, seed=(case.recipe.seed + 7919) % 2**31)
    return list(materialize(recipe, case.specs, case.device, case.dtype).values())


@check(
    kind="tensors",
    once=True,
    rejects=[finishes_in_a_thread, starts_a_thread_with_every_call],
)
def answers_when_it_returns(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The result is final when the call returns, and no thread is left behind by each call.

    A copy that is taken at once is what the result is 10 ms later, bit by bit (of a device that
    works asynchronously, after it has been synchronised: the copy is queued behind the call). A
    subject may keep a pool of threads, which stops growing; one that has grown by a thread with
    every one of 8 calls leaks them.
    """
    _outputs(subject, case, case.fresh())  # makes what is made once
    before = _threads()
    results: Answer = []
    copies: Answer = []
    for _ in range(_CALLS):
        made = [y.detach() for y in _outputs(subject, case, case.fresh())]
        copies += [y.clone() for y in made]
        results += made
    time.sleep(_WAIT)
    if case.device.type == "cuda":
        torch.cuda.synchronize(case.device)
    late = sum(not identical(y, was) for y, was in zip(results, copies, strict=True))
    yield Evidence(
        error=float(late),
        bound=0.0,
        signal=float(len(results)),
        unit="outputs",
        what="outputs that changed after the call had returned",
        cause="the work is finished by a thread or a stream that nobody waits for" if late else "",
    )
    grown = _threads() - before
    yield Evidence(
        error=float(grown >= _CALLS),
        bound=0.0,
        signal=1.0,
        unit="leaks",
        what="threads left behind by every call",
        got=f"{grown} more threads after {_CALLS} calls",
    )


def _threads() -> int:
    """Of the process, native ones too where the system tells."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


@check(
    kind="tensors",
    once=True,
    rejects=[answers_lazily, answers_without_memory],
)
def results_are_plain_tensors(subject: Implementation, case: Case) -> Evidence:
    """Every result is a tensor with numbers in it, on the device of the inputs.

    Its type is `torch.Tensor`, `nn.Parameter`, a type of torch's own or the type of an input: a
    subclass from elsewhere may put the work off until someone looks. Its memory holds all its
    elements, on the inputs' device.
    """
    inputs = case.fresh()
    outputs = _outputs(subject, case, inputs)
    if not outputs:
        raise NotApplicable("gives no tensor")
    allowed: set[type] = {Tensor, nn.Parameter, *(type(x) for x in inputs)}
    wrong = [problem for y in outputs if (problem := _problem(y, allowed, case.device))]
    return Evidence(
        error=float(len(wrong)),
        bound=0.0,
        signal=float(len(outputs)),
        unit="outputs",
        what="outputs that are no plain tensors",
        got="; ".join(wrong),
    )


def _problem(y: Tensor, allowed: set[type], device: torch.device) -> str:
    made = type(y)
    if made not in allowed and not _is_torch_own(made):
        return f"a {made.__module__}.{made.__qualname__}, which may not have been computed yet"
    if y.device.type != device.type:
        return f"lies on {y.device}, the inputs on {device}"
    if y.layout is not torch.strided or made not in allowed:
        return ""
    reach = sum((n - 1) * s for n, s in zip(y.shape, y.stride(), strict=True)) + 1
    needed = (y.storage_offset() + reach) * y.element_size() if y.numel() else 0
    if y.untyped_storage().nbytes() < needed:
        return f"has {y.untyped_storage().nbytes()} bytes of memory and needs {needed}"
    return ""


def _is_torch_own(made: type) -> bool:
    """Nested, distributed, functional tensors: of torch itself, and defined where it says."""
    module = made.__module__
    return (
        module.split(".")[0] == "torch"
        and getattr(sys.modules.get(module), made.__qualname__.split(".")[0], None) is not None
    )
