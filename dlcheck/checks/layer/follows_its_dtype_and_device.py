"""`.to(dtype)` and `.to(device)` reach every tensor of a module."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.layer.forgetful import (
    casts_to_float32,
    keeps_a_table_that_does_not_move,
    makes_tensors_on_the_cpu,
)
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build, tensors_in

_ELSEWHERE = torch.device("meta")  # a device that every machine has, where nothing is computed


@check(
    kind=[
        "op", "layer", "activation", "normalization", "attention", "positional", "recurrent",
        "dropout",
    ],
    options={"compute_dtype": False},
    rejects=[casts_to_float32, keeps_a_table_that_does_not_move],
    dtypes=["float64"],
    tags=["dtypes"],
    once=True,
)  # fmt: skip
def follows_its_dtype(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Built for float64 or bfloat16 and given such inputs, it answers in that type.

    Built in torch's default type and converted by `.to(dtype)`, as a person does: a tensor that is
    no buffer keeps its float32 and raises or lifts the answer's type. A complex answer has the
    corresponding parts. bfloat16 is left out where it is not taken; a subject without floating
    inputs and parameters has no type to follow. `options.compute_dtype` states another convention.
    """
    tried = 0
    for dtype in (torch.float64, torch.bfloat16):
        try:
            answers = _answers(subject, case, case.device, dtype)
        except SubjectRaised:
            if dtype == torch.float64:
                raise
            continue
        wrong = [y.dtype for y in answers if _real(y.dtype) not in (None, dtype)]
        tried += 1
        yield Evidence(
            error=float(len(wrong)),
            bound=0.0,
            signal=float(len(answers)),
            unit="answers",
            what=f"answers of another type than {_said(dtype)}",
            expected=_said(dtype),
            got=", ".join(map(_said, wrong)),
        )


@check(
    kind=[
        "layer",
        "normalization",
        "recurrent",
        "attention",
        "positional",
        "activation",
        "dropout",
    ],
    rejects=[makes_tensors_on_the_cpu, keeps_a_table_that_does_not_move],
    once=True,
)
def follows_its_device(subject: Implementation, case: Case) -> Evidence:
    """Moved to another device, it computes there with nothing that stayed behind.

    The other device is `meta`, which has shapes and types and no numbers. A call that raises for
    tensors on two devices has failed; one that meta cannot do for another reason (values decide
    what is computed) says nothing. Numbers (tensors without axes) may stay on the CPU.
    """
    if subject.module is None:
        raise NotApplicable("is a function: it holds no tensors")
    raised = ""
    try:
        answers = _answers(subject, case, _ELSEWHERE, case.dtype)
        left = [y for y in answers if y.device != _ELSEWHERE and y.dim()]
    except SubjectRaised as error:
        raised, left = str(error), []
        if not _is_of_devices(raised):
            raise NotApplicable(f"cannot be computed without numbers: {raised[:200]}") from error
    return Evidence(
        error=float(bool(raised) or len(left)),
        bound=0.0,
        signal=1.0,
        unit="calls",
        what="calls on another device that meet tensors on the CPU",
        got=raised[:300] or ("an answer on the CPU" if left else ""),
        cause="a tensor that is neither a parameter nor a buffer, or is made without device="
        if raised or left
        else "",
    )


def _answers(
    subject: Implementation, case: Case, device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    made = build(subject.declared, case.sizes, device, dtype, case.recipe.seed)
    has_type = bool(case.floating) or any(p.is_floating_point() for p in made.parameters.values())
    if not has_type:
        raise NotApplicable("has neither floating inputs nor parameters")
    inputs = [x.to(device, dtype if x.is_floating_point() else x.dtype) for x in case.fresh()]
    seed_everything(case.recipe.seed)
    with torch.no_grad():
        return list(tensors_in(made(*inputs)))


def _is_of_devices(message: str) -> bool:
    """Does the message speak of tensors on two devices?"""
    small = message.lower()
    return "same device" in small or ("expected device" in small and "meta" in small)


def _real(dtype: torch.dtype) -> torch.dtype | None:
    """The type of the parts of a number; None for integers and booleans."""
    return dtype.to_real() if dtype.is_floating_point or dtype.is_complex else None


def _said(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
