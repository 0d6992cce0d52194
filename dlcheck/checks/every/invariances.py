"""What may be done to all inputs at once without an effect, or with a known one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dlcheck.checks.axes import axes_of, batch_dim
from dlcheck.checks.every.broken_symmetry import (
    adds_a_constant,
    bends_large_values,
    clips_its_input,
    doubles_what_is_negative,
    favours_its_first_input,
    leaks_its_input,
    scales_by_a_hair,
)
from dlcheck.checks.still import Still, held, larger_of, part_of, without_noise
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_LARGE = 2.0**20  # an eps of 1e-5 beside a norm of 10⁶ is below rounding


def _cosine(x: Tensor, y: Tensor) -> Tensor:
    return torch.cosine_similarity(x, y, dim=-1)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _squared_distance(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().sum(-1)


@check(
    kind=["op", "layer", "activation", "loss", "penalty", "proximal", "positional"],
    needs={"scale_invariant"},
    rejects=[leaks_its_input, favours_its_first_input],
    accepts=[
        Subject(
            name="cosine_similarity",
            target=_cosine,
            kind="op",
            inputs={"x": "float b n", "y": "float b n"},
            traits=frozenset({"scale_invariant", "symmetric"}),
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "negative", "outliers", "ascending"],
)
def scale_invariant(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Scaling all floating inputs by one positive factor leaves the answer: f(s x) = f(x).

    At 2²⁰ and 3·2²⁰ times the inputs, where an ε that is added to a norm has no effect, and at
    1 and 2²⁰ where nothing is that small.
    """
    function = without_noise(subject, case)
    yield from _unchanged(
        function,
        _scaled(case, _LARGE),
        _scaled(case, 3 * _LARGE),
        "with all inputs scaled by 3",
    )


@check(
    kind=["op", "layer", "activation", "loss", "attention"],
    needs={"shift_invariant"},
    rejects=[leaks_its_input, clips_its_input],
    accepts=[
        Subject(
            name="centred",
            target=_centred,
            kind="op",
            inputs={"x": "float b n"},
            traits=frozenset({"shift_invariant", "idempotent"}),
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "negative", "ascending", "zeros", "ties"],
)
def shift_invariant(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Adding a constant leaves the answer: f(x + c) = f(x).

    c differs from sample to sample where the batch is known and its rows are independent. It is
    added to the first floating input.
    """
    function = without_noise(subject, case)
    if not case.floating:
        raise NotApplicable("has no floating input")
    name = case.floating[0]
    inputs = dict(zip(case.inputs, case.fresh(), strict=True))
    moved = {**inputs, name: inputs[name] + _constants(subject, case, name)}
    yield from _unchanged(
        function, list(inputs.values()), list(moved.values()), f"with a constant added to {name}"
    )


def _constants(subject: Implementation, case: Case, name: str) -> Tensor:
    x = case.inputs[name]
    shape = [1] * x.dim()
    if not {"batch_coupled", "batch_coupled_in_eval"} & subject.traits:
        try:
            axis = axes_of(case, batch_dim(subject, case)).get(name)
        except NotApplicable:
            axis = None
        if axis is not None:
            shape[axis] = x.shape[axis]
    drawn = torch.randn(shape, generator=case.generator("constants"), dtype=torch.float64)
    return (1.5 + drawn).to(x)


@check(
    kind="tensors",
    needs={"odd"},
    rejects=[adds_a_constant, doubles_what_is_negative, clips_its_input],
    dtypes=["float64", "float32"],
)
def odd(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """f(−x) = −f(x), with all floating inputs turned."""
    function = without_noise(subject, case)
    negative = function(*_scaled(case, -1.0))
    positive, room = function(*case.fresh()), function.room()
    for place, (got, other) in enumerate(zip(negative, positive, strict=True)):
        yield held(f"answer {place} to −x", got, -other, part_of(room, place))


@check(
    kind=[
        "op", "layer", "activation", "normalization", "attention", "positional", "loss", "penalty",
    ],
    needs={"even"},
    rejects=[leaks_its_input, clips_its_input],
    dtypes=["float64", "float32"],
)  # fmt: skip
def even(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """f(−x) = f(x), with all floating inputs turned."""
    function = without_noise(subject, case)
    yield from _unchanged(function, list(case.fresh()), _scaled(case, -1.0), "to −x")


@check(
    kind=["op", "layer", "activation", "normalization", "positional", "proximal"],
    needs={"idempotent"},
    rejects=[bends_large_values, scales_by_a_hair, adds_a_constant],
    dtypes=["float64", "float32"],
)
def idempotent(subject: Implementation, case: Case) -> Evidence:
    """f(f(x)) = f(x), for one input and an answer of its shape."""
    function = without_noise(subject, case)
    if len(case.specs) != 1:
        raise NotApplicable("has several inputs")
    once = function(*case.fresh())
    if len(once) != 1 or once[0].shape != case.tensors[0].shape:
        raise NotApplicable("the answer is no input")

    def twice(*inputs: Tensor) -> tuple[Tensor, ...]:
        return function(*function(*inputs))

    room = function.room(call=twice)
    return held("f(f(x))", twice(*case.fresh())[0], once[0], lambda: room()[0])


@check(
    kind=["op", "layer", "loss", "penalty"],
    needs={"symmetric"},
    rejects=[favours_its_first_input, leaks_its_input],
    accepts=[
        Subject(
            name="squared_distance",
            target=_squared_distance,
            kind="op",
            inputs={"x": "float b n", "y": "float b n"},
            traits=frozenset({"symmetric", "nonnegative", "convex", "shift_invariant"}),
        ),
    ],
    dtypes=["float64", "float32"],
)
def symmetric(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Exchanging the first two inputs leaves the answer: f(x, y) = f(y, x)."""
    function = without_noise(subject, case)
    inputs = list(case.fresh())
    if len(inputs) < 2 or inputs[0].shape != inputs[1].shape:
        raise NotApplicable("has no two inputs of one shape")
    yield from _unchanged(
        function, inputs, [inputs[1], inputs[0], *inputs[2:]], "with the first two inputs exchanged"
    )


def _scaled(case: Case, factor: float) -> list[Tensor]:
    return [x * factor if x.is_floating_point() else x for x in case.fresh()]


def _unchanged(
    function: Still, inputs: Sequence[Tensor], moved: Sequence[Tensor], what: str
) -> Iterator[Evidence]:
    """The answer to moved inputs is that to the inputs."""
    before, after = function(*inputs), function(*moved)
    rooms = function.room(inputs), function.room(moved)
    for place, (got, expected) in enumerate(zip(after, before, strict=True)):
        yield held(f"answer {place} {what}", got, expected, larger_of(rooms, place))
