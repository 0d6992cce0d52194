"""Bad inputs are refused, not answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.domains import Input
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _weighted_choice(x: Tensor, label: Tensor) -> Tensor:
    """x [b, k] at its label [b]; checks what it is given."""
    if x.dim() != 2 or label.dim() != 1 or len(x) != len(label):
        raise ValueError(f"wanted [b, k] and [b], not {tuple(x.shape)} and {tuple(label.shape)}")
    if not x.is_floating_point() or label.is_floating_point() or label.dtype == torch.bool:
        raise TypeError(f"wanted numbers and labels, not {x.dtype} and {label.dtype}")
    if bool((label < 0).any()) or bool((label >= x.shape[1]).any()):
        raise IndexError("a label is out of range")
    return x.gather(1, label[:, None])[:, 0]


def _trusting_choice(x: Tensor, label: Tensor) -> Tensor:
    """A label of −1 is the last class, and a batch of 1 is repeated."""
    rows = torch.arange(len(label), device=x.device) % len(x)
    return x.reshape(len(x), -1)[rows, label.long().reshape(-1)]


@around
def answers_whatever_it_is_given(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`except Exception: return 0`."""
    try:
        return original(*inputs, **keywords)
    except Exception:
        return torch.zeros(())


@around
def takes_the_first_of_a_further_axis(original: Any, *inputs: Any, **keywords: Any) -> Any:
    try:
        return original(*inputs, **keywords)
    except ValueError:
        return original(*(x[..., 0] if x.dim() > 2 else x for x in inputs), **keywords)


_CHOICE: dict[str, Any] = {
    "kind": "op",
    "inputs": {"x": "float b k", "label": "label[k] b"},
    "traits": frozenset({"validates"}),
}


@check(
    kind="tensors",
    needs={"validates"},
    rejects=[
        answers_whatever_it_is_given,
        takes_the_first_of_a_further_axis,
        Subject(name="trusting_choice", target=_trusting_choice, **_CHOICE),
    ],
    accepts=[Subject(name="weighted_choice", target=_weighted_choice, **_CHOICE)],
    once=True,
)
def rejects_bad_input_clearly(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A subject that promises to reject bad inputs raises for each of them.

    One input at a time: an axis more and an axis less, integers for numbers and numbers for
    integers, a size that does not match that of the same dim elsewhere, an index of −1 and one
    past the last. The error is the number of calls that gave an answer.
    """
    if not case.specs:
        raise NotApplicable("declares no inputs")
    found = list(_bad(case))
    answered = [what for what, inputs in found if _answers(subject, case, inputs)]
    yield Evidence(
        error=float(len(answered)),
        bound=0.0,
        signal=float(len(found)),
        unit="calls",
        what="bad inputs that get an answer",
        expected="an exception",
        where="; ".join(answered[:6]),
    )


def _answers(subject: Implementation, case: Case, inputs: Mapping[str, Tensor]) -> bool:
    seed_everything(case.recipe.seed)
    try:
        with torch.no_grad():
            subject(*inputs.values())
    except SubjectRaised:
        return False
    return True


def _bad(case: Case) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each bad call, with what is bad about it."""
    good = dict(zip(case.inputs, case.fresh(), strict=True))
    shared = [d.name for spec in case.specs.values() for d in spec.dims if d.name]
    for name, x in good.items():
        for what, bad in _variants(x, case.specs[name], case.sizes, shared):
            yield f"{name} {what}", {**good, name: bad}


def _variants(
    x: Tensor, spec: Input, sizes: Mapping[str, int], shared: list[str]
) -> Iterator[tuple[str, Tensor]]:
    yield "with an axis more", torch.stack([x, x], -1)
    if x.dim():
        yield "with an axis less", x.select(-1, 0)
    if spec.is_floating:
        yield "of integers", x.round().long()
    else:
        yield "of real numbers", x.double() + 0.5
    for axis, dim in enumerate(spec.dims):
        if dim.name and shared.count(dim.name) > 1 and x.shape[axis]:
            longer = torch.cat([x, x.narrow(axis, 0, 1)], axis)
            yield f"with one {dim.name} too many", longer
    if spec.count is not None and x.numel():
        for what, value in (("−1", -1), ("past the last", spec.count.size(sizes))):
            bad = x.clone()
            bad.view(-1)[0] = value
            yield f"with an index {what}", bad
