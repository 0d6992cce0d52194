"""An answer depends on the values of the inputs, not on how they lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dlcheck.checks.still import without_noise
from dlcheck.checks.trust.calls import Asked, held, or_refused
from dlcheck.checks.trust.careless import (
    answers_otherwise_off_contiguous,
    gradient_reads_the_strides_of_the_output,
    reads_as_if_contiguous,
    weighs_a_stride_of_zero_twice,
)
from dlcheck.domains import Input
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.numerics.layouts import lay_out
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BOUND_TOGETHER = ("spd", "orthogonal")  # whose first axis cannot be a repeated row


@check(
    kind="tensors",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    forbids={"stochastic_in_eval", "in_place"},
    rejects=[
        answers_otherwise_off_contiguous,
        reads_as_if_contiguous,
        gradient_reads_the_strides_of_the_output,
        weighs_a_stride_of_zero_twice,
    ],
)
def ignores_memory_layout(subject: Implementation, case: Case) -> Evidence:
    """Values and gradients are those of the contiguous copy, however the inputs lie in memory.

    Each input is drawn transposed, with all axes reversed, sliced with an offset, with stepped
    rows, shifted by one element, in channels_last (2d and 3d), or expanded from one row. The
    bound is twice what rounding may move the answer; see rounding_room. A layout that the subject
    refuses is left to `takes_its_declared_inputs`; `options.layouts` restricts what is drawn. A
    stochastic subject is judged in evaluation: masks may be drawn in the order of memory.
    """
    still = without_noise(subject, case)
    training = None if still.subject.module is None else still.subject.module.training
    asked = Asked(subject, case, training=training)
    ways = _drawn_ways(subject, case)
    laid = {name: arranged(x, ways[name]) for name, x in case.inputs.items()}
    plain = [x.contiguous().clone() for x in laid.values()]
    got = or_refused(lambda: asked(*laid.values()))
    if got is None:
        raise NotApplicable("the subject refuses this layout")
    expected = asked(*plain)
    if "expanded" in ways.values():  # rows that tie: which of them is chosen is left open
        pairs = zip(got, expected, strict=False)
        got = [one if two.is_floating_point() else two for one, two in pairs]
    said = ", ".join(f"{name} {way}" for name, way in ways.items() if way != "contiguous")
    return held(asked, f"with {said}", got, expected, inputs=plain, cause=_CAUSE)


_CAUSE = "the memory of an input is read without its strides or its offset"


def _drawn_ways(subject: Implementation, case: Case) -> dict[str, str]:
    """A layout for each input, one at least not contiguous."""
    choices = {name: _ways(subject, case, name, spec) for name, spec in case.specs.items()}
    if not any(len(ways) > 1 for ways in choices.values()):
        raise NotApplicable("no input can lie otherwise in memory")
    generator = case.generator("layouts")
    pick = torch.randint(0, 2**31, (len(choices) + 1,), generator=generator).tolist()
    drawn = {name: ways[pick[i] % len(ways)] for i, (name, ways) in enumerate(choices.items())}
    if all(way == "contiguous" for way in drawn.values()):
        able = [name for name, ways in choices.items() if len(ways) > 1]
        name = able[pick[-1] % len(able)]
        drawn[name] = choices[name][1 + pick[-1] % (len(choices[name]) - 1)]
    return drawn


def _ways(subject: Implementation, case: Case, name: str, spec: Input) -> list[str]:
    x = case.inputs[name]
    ways = ["contiguous"]
    if x.dim() >= 1 and x.numel():
        ways += ["sliced", "shifted", "stepped"]
    if x.dim() >= 2 and x.numel():
        ways += ["transposed", "reversed"]
        # Rows that are all equal leave a statistic over the batch nothing but rounding.
        if spec.element not in _BOUND_TOGETHER and "batch_coupled" not in subject.traits:
            ways.append("expanded")
    if x.dim() in (4, 5) and x.numel():
        ways.append("channels_last")
    allowed: Sequence[str] | None = subject.options.get("layouts")
    return [way for way in ways if allowed is None or way in allowed] or ["contiguous"]


def arranged(x: Tensor, way: str) -> Tensor:
    """The values of x, lying otherwise; of "expanded", those of the first row."""
    match way:
        case "shifted":  # contiguous, one element after an aligned address
            room = x.new_zeros(x.numel() + 1)
            return room[1:].view(x.shape).copy_(x)
        case "stepped":
            room = x.new_zeros((2 * x.shape[0] + 1, *x.shape[1:]))
            return room[1::2].copy_(x)
        case "reversed":
            axes = list(range(x.dim()))[::-1]
            return x.permute(axes).contiguous().permute(axes)
        case "expanded":
            return x[:1].clone().expand(x.shape)
        case "channels_last" if x.dim() == 5:
            return x.contiguous(memory_format=torch.channels_last_3d)
    return lay_out(x, way)
