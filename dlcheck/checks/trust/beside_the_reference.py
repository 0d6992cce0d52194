"""The subject computes its answer: it does not find its reference's, nor call for it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dlcheck.checks.every.twin import reference_of
from dlcheck.checks.trust.calls import Asked, contiguous, held
from dlcheck.checks.trust.careless import (
    calls_the_reference,
    calls_the_reference_for_odd_sizes,
    calls_the_reference_in_its_backward,
    copies_a_result_that_it_finds,
    falls_back_to_the_reference,
)
from dlcheck.checks.trust.honest import OWN_SOFTMAX, SOFTMAX
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind="tensors",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    options={"reference": True},
    forbids={"in_place"},
    rejects=[copies_a_result_that_it_finds],
    accepts=[SOFTMAX],
)
def answers_alike_beside_its_reference(subject: Implementation, case: Case) -> Evidence:
    """The answer is the same before the reference has run and while its result is in memory.

    A subject that searches the process (gc.get_objects, the frames above it, memory that was just
    freed) for something that looks like the right result finds it in the second call only. The
    bound is twice what rounding may move the answer.
    """
    asked = Asked(subject, case)
    gc.collect(1)  # what earlier cases left, a search does not find
    before = _hidden(asked(*contiguous(case)))
    try:
        result = reference_of(subject, case, case.dtype)(*contiguous(case))
    except SubjectError as error:
        raise NotApplicable("the reference does not take this case") from error
    beside = asked(*contiguous(case))
    del result
    return held(
        asked,
        "beside the reference's result",
        beside,
        [y[:-1].view(shape) for y, shape in before],
        inputs=contiguous(case),
        cause="it looks for the reference's result in memory",
    )


def _hidden(answer: Sequence[Tensor]) -> list[tuple[Tensor, torch.Size]]:
    """The answer in a shape in which nobody takes it for a result."""
    return [(torch.cat([y.flatten(), y.new_zeros(1)]), y.shape) for y in answer]


@check(
    kind="tensors",
    regimes=["normal"],
    options={"reference": True, "own_kernel": [True]},
    rejects=[
        calls_the_reference,
        calls_the_reference_for_odd_sizes,
        calls_the_reference_in_its_backward,
        falls_back_to_the_reference,
    ],
    accepts=[OWN_SOFTMAX],
)
def computes_it_itself(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A subject that claims to compute it itself calls none of the reference's own operations.

    The operations that reach torch's dispatcher are logged, in the forward and in the backward.
    The reference's own are those that are more than arithmetic: neither views, copies and new
    memory nor elementwise functions and reductions; where it calls one operation alone, that one.
    Another name for the same work, as a batched product of matrices, counts as the same.
    The error is the number of calls of those by the subject, the bound 0.
    """
    try:
        wanted = _logged(reference_of(subject, case, case.dtype), case)
    except SubjectError as error:
        raise NotApplicable("the reference does not take this case") from error
    called = _logged(subject, case)
    own = {_family(name) for operations in wanted.values() for name in _own_of(operations)}
    if not own:
        raise NotApplicable("the reference consists of elementwise functions and reductions")
    for way, operations in called.items():
        found = [name for name in operations if _family(name) in own]
        yield Evidence(
            error=float(len(found)),
            bound=0.0,
            signal=float(max(len(operations), 1)),
            unit="calls",
            what=f"calls of the reference's own operations in the {way}",
            got=", ".join(dict.fromkeys(found)),
            cause="it answers with the reference's operation" if found else "",
        )


class _Log(TorchDispatchMode):
    """The names of the operations that reach the dispatcher, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: dict[str, Any] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.operations[func.overloadpacket.__name__] = func
        return func(*args, **(kwargs or {}))


def _logged(made: Implementation, case: Case) -> dict[str, dict[str, Any]]:
    asked = Asked(made, case)
    given, leaves = asked.leaves_of(contiguous(case))
    if not asked.has_gradients:
        given = [x.detach() for x in given]
    with _Log() as forward:
        outputs = asked.still(*given)
    with _Log() as backward:
        if asked.has_gradients:
            _without_raising(lambda: asked.gradients(outputs, leaves))
    return {"forward": forward.operations, "backward": backward.operations}


def _without_raising(call: Callable[[], Sequence[Tensor]]) -> None:
    try:
        call()
    except SubjectError:
        return


_PLUMBING = ("empty", "zeros", "ones", "full", "new_", "detach", "alias", "clone", "copy", "to_",
             "_to_copy", "lift", "view", "_unsafe_view", "_reshape", "expand", "permute", "t",
             "transpose", "unsqueeze", "squeeze", "slice", "select", "as_strided", "fill",
             "scalar_tensor", "arange", "_local_scalar_dense", "contiguous", "split", "cat",
             "stack", "randn", "rand", "set_", "resize")  # fmt: skip


def _own_of(operations: Mapping[str, Any]) -> set[str]:
    """What is more than arithmetic; where there is one operation alone, that one."""
    work = {name: f for name, f in operations.items() if not _is_plumbing(name)}
    if len(work) == 1:
        return set(work)
    tags = (torch.Tag.pointwise, torch.Tag.reduction)
    return {name for name, f in work.items() if not any(tag in f.tags for tag in tags)}


_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "linear", "matmul")
_FAMILIES = ("softmax", "conv", "norm", "attention", "lstm", "gru", "rnn", "gelu", "pool")


def _family(name: str) -> str:
    """Operations that do the same work: a matrix product, batched, is one."""
    if name in _PRODUCTS:
        return "product"
    for family in _FAMILIES:
        if family in name:
            return family + (" backward" if "backward" in name else "")
    return name


def _is_plumbing(name: str) -> bool:
    return name == "t" or any(name.startswith(part) for part in _PLUMBING if part != "t")
