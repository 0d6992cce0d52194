"""What overflows inside though its answer would not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.every.edges import if_real
from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.gradients.variables import coordinates
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SCALES = (0.25, 1.0, 30.0, 250.0, 1e4)
_MODEST = 1e8  # beyond, the next scale may overflow with good reason
_GROWTH = 16.0  # as 4² or 2⁴


@around
def divides_two_exponentials(original: Any, *inputs: Any, **keywords: Any) -> Any:
    answer = original(*inputs, **keywords)
    x = inputs[0][0] if isinstance(inputs[0], (list, tuple)) else inputs[0]
    e = torch.exp(x)
    return on_tensors(answer, lambda y: y + (e / (1 + e)).mean().to(y))


@around
def takes_the_log_of_an_exponential(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """log(1 + eˣ) without the identity for large x."""
    answer = original(*inputs, **keywords)
    x = inputs[0][0] if isinstance(inputs[0], (list, tuple)) else inputs[0]
    return on_tensors(answer, lambda y: y + torch.log(1 + torch.exp(x.to(y))).mean())


def _naive_softmax(x: Tensor) -> Tensor:
    e = torch.exp(x)
    return e / e.sum(-1, keepdim=True)


@check(
    kind=["op", "layer", "activation", "normalization", "attention", "positional", "loss",
          "penalty", "recurrent"],
    rejects=[
        divides_two_exponentials,
        takes_the_log_of_an_exponential,
        Subject(name="naive_softmax", target=_naive_softmax, kind="op", inputs={"x": "float b n"}),
    ],
    accepts=[
        Subject(name="exponential", target=torch.exp, kind="op", inputs={"x": "float b n"}),
        Subject(name="sinh", target=torch.sinh, kind="op", inputs={"x": "float b n"}),
    ],
    dtypes=["float64"],
    once=True,
)  # fmt: skip
def does_not_overflow_inside(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """An answer that grows modestly with its input stays finite for inputs of 30, 250 and 10⁴.

    Real inputs are scaled by ¼, 1, 30, 250 and 10⁴. Where an element is at most 10⁸ at one scale,
    it must be finite at the next: a function that overflows by itself (eˣ) is larger before.
    From 1 to 30 only if it grew no more than as the square from ¼ to 1, as e^(x²) does not.
    """
    moving = [n for n in case.floating if if_real(case.specs[n], case.inputs[n]) is not None]
    if not moving:
        raise NotApplicable("has no input that may be any real number")
    function = Still(subject, case)
    answers = []
    for scale in _SCALES:
        answers.append(_scaled(function, case, moving, scale))
        if answers[-1] is None:
            raise NotApplicable(f"does not take inputs scaled by {scale:g}")
    found = [answer for answer in answers if answer is not None]
    judged = [place for place, y in enumerate(found[0]) if y.is_floating_point() or y.is_complex()]
    if not judged:
        raise NotApplicable("answers no real or complex numbers")
    for place in judged:
        yield from _growth([coordinates(answer[place]) for answer in found], place)


def _scaled(
    function: Still, case: Case, moving: Sequence[str], scale: float
) -> tuple[Tensor, ...] | None:
    inputs: Mapping[str, Tensor] = dict(zip(case.inputs, case.fresh(), strict=True))
    try:
        return function(*(scale * x if n in moving else x for n, x in inputs.items()))
    except SubjectRaised:
        return None


def _growth(answers: Sequence[Tensor], place: int) -> Iterator[Evidence]:
    sizes = [y.double().abs() for y in answers]
    judged = False
    for turn in range(1, len(sizes) - 1):
        before, here, there = sizes[turn - 1 : turn + 2]
        if before.shape != there.shape:
            return
        modest = here <= _MODEST
        if turn == 1:
            modest &= here <= _GROWTH * before.clamp_min(1.0)
        judged |= bool(modest.any())
        lost = modest & ~torch.isfinite(there)
        yield Evidence(
            error=float(lost.sum()),
            bound=0.0,
            signal=float(max(lost.numel(), 1)),
            unit="elements",
            what=f"answer {place}: elements that overflow from scale {_SCALES[turn]:g} to "
            f"{_SCALES[turn + 1]:g}",
            cause="something inside overflows, though the answer would not"
            if bool(lost.any())
            else "",
        )
    if not judged:
        raise NotApplicable("every element grows like an exponential by itself")
