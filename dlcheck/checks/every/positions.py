"""What an element of the answer may see: its own, its past, its neighbourhood."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from dlcheck.checks.axes import axes_of, stated_axes, time_dim
from dlcheck.checks.every.broken_symmetry import (
    adds_its_position,
    answers_in_another_order,
    leaks_its_input,
    sees_the_first_element_everywhere,
    weighs_positions_differently,
)
from dlcheck.checks.still import Still, held, part_of, without_noise
from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation, build

_LONG = 40  # positions of an axis that is shifted


@check(
    kind=["op", "layer", "activation", "proximal"],
    needs={"elementwise"},
    rejects=[leaks_its_input, answers_in_another_order],
    dtypes=["float64", "float32"],
)
def elementwise(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Each element of the answer depends on the element of the input at its place alone.

    Half of the elements, at random, keep their values in all inputs of the answer's shape and the
    others get new ones: the answer at those that keep theirs stays.
    """
    function = without_noise(subject, case)
    before = function(*case.fresh())
    shape = case.tensors[0].shape
    if any(y.shape != shape for y in before):
        raise NotApplicable("the answer has another shape than the input")
    kept = torch.rand(shape, generator=case.generator("kept")) < 0.5
    kept = kept.to(case.device)
    recipe = replace(case.recipe, seed=case.recipe.seed + 3)
    others = materialize(recipe, case.specs, case.device, case.dtype)
    mixed = [
        torch.where(kept, x, others[name]) if x.shape == shape else x
        for name, x in zip(case.inputs, case.fresh(), strict=True)
    ]
    after, room = function(*mixed), function.room()
    for place, (got, expected) in enumerate(zip(after, before, strict=True)):
        yield held(
            f"answer {place} where the input stays",
            got[kept],
            expected[kept],
            part_of(room, place, lambda r: r[kept]),
        )


def _running_mean(x: Tensor) -> Tensor:
    """x [b, t, d]: the mean of all steps so far."""
    count = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
    return x.cumsum(1) / count[:, None]


class CausalConv1d(nn.Conv1d):
    """Padded on the left alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (self.kernel_size[0] - 1, 0)))


@around
def sees_one_step_ahead(original: object, x: Tensor, *rest: Tensor) -> object:
    """An off-by-one in the mask, at whichever axis is the time."""
    ahead = x
    for axis in range(1, x.dim()):
        ahead = ahead + 1e-3 * torch.roll(x, -1, axis)
    return original(ahead, *rest)  # type: ignore[operator]


@around
def normalizes_over_all_steps(original: object, x: Tensor, *rest: Tensor) -> object:
    answer = original(x, *rest)  # type: ignore[operator]
    return on_tensors(answer, lambda y: y / (1 + x.to(y).square().mean()))


@check(
    kind=["op", "layer"],
    needs={"causal"},
    rejects=[sees_one_step_ahead, normalizes_over_all_steps, leaks_its_input],
    accepts=[
        Subject(
            name="running_mean",
            target=_running_mean,
            kind="op",
            inputs={"x": "float b t d"},
            traits=frozenset({"causal", "linear"}),
        ),
        Subject(
            name="causal_convolution",
            target=CausalConv1d,
            kind="layer",
            inputs={"x": "float b 3 t"},
            args={"in_channels": 3, "out_channels": 4, "kernel_size": 3},
            traits=frozenset({"causal", "translation_equivariant"}),
        ),
    ],
    dtypes=["float64", "float32"],
)
def causal(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The answer before a step does not depend on the inputs from that step on.

    The time is the dim t, time, s, seq, … of the first input, or what `options.axes` says; every
    input that has the dim is replaced from a random step on. An answer is cut along its axis of
    that length: the axis of the input if that has it, else its only one.
    """
    function = without_noise(subject, case)
    name = time_dim(subject, case)
    axes, steps = axes_of(case, name), case.sizes[name]
    if steps < 2:
        raise NotApplicable("there is one step")
    step = 1 + case.recipe.seed % (steps - 1)
    before, room = function(*case.fresh()), function.room()
    after = function(*_with_another_future(case, axes, step))
    for place, (got, expected) in enumerate(zip(after, before, strict=True)):
        axis = _time_axis(expected, axes[next(iter(axes))], steps)
        yield held(
            f"answer {place} before step {step}, with another future",
            got.narrow(axis, 0, step) if got.shape == expected.shape else got,
            expected.narrow(axis, 0, step),
            part_of(room, place, functools.partial(torch.narrow, dim=axis, start=0, length=step)),
        )


def _with_another_future(case: Case, axes: Mapping[str, int], step: int) -> list[Tensor]:
    recipe = replace(case.recipe, seed=case.recipe.seed + 3)
    others = materialize(recipe, case.specs, case.device, case.dtype)
    inputs = dict(zip(case.inputs, case.fresh(), strict=True))
    for name, axis in axes.items():
        rest = inputs[name].shape[axis] - step
        inputs[name].narrow(axis, step, rest).copy_(others[name].narrow(axis, step, rest))
    return list(inputs.values())


def _time_axis(y: Tensor, wanted: int, steps: int) -> int:
    places = [axis for axis in range(y.dim()) if y.shape[axis] == steps]
    if wanted in places:
        return wanted
    if len(places) == 1:
        return places[0]
    raise NotApplicable("the answer has no axis that is known to be the time")


@check(
    kind=["op", "layer"],
    needs={"translation_equivariant"},
    rejects=[
        adds_its_position,
        weighs_positions_differently,
        sees_the_first_element_everywhere,
    ],
    accepts=[
        Subject(
            name="strided_convolution",
            target="torch.nn:Conv2d",
            kind="layer",
            inputs={"x": "float b 2 h w"},
            args={"in_channels": 2, "out_channels": 3, "kernel_size": 3, "stride": 2, "padding": 1},
            traits=frozenset({"translation_equivariant"}),
        ),
        Subject(
            name="causal_conv1d",
            target=CausalConv1d,
            kind="layer",
            inputs={"x": "float b 3 t"},
            args={"in_channels": 3, "out_channels": 4, "kernel_size": 3},
            traits=frozenset({"causal", "translation_equivariant"}),
        ),
        Subject(
            name="bilinear_upsampling",
            target="torch.nn:Upsample",
            kind="layer",
            inputs={"x": "float b c h w"},
            args={"scale_factor": 2, "mode": "bilinear"},
            traits=frozenset({"translation_equivariant", "linear"}),
        ),
        Subject(
            name="max_pooling",
            target="torch.nn:MaxPool1d",
            kind="layer",
            inputs={"x": "float b c t"},
            args={"kernel_size": 3},
            traits=frozenset({"translation_equivariant", "nonsmooth"}),
        ),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def translation_equivariant(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Shifting the input by the stride shifts the answer by one position.

    On axes of 40 positions, one at a time: those of `options.axes`, else all behind the channels
    (from the third of the first input on). The stride is the ratio of the lengths of input and
    answer. Where the answer is the longer one, a shift by 1 moves it by the ratio. Compared are
    the positions that the border cannot reach: a patch in the middle is moved, and how far the
    answer changes is how far an element sees.
    """
    wide = _long(subject, case)
    made = build(subject.declared, wide.sizes, case.device, case.dtype, case.recipe.seed)
    function = without_noise(made, wide)
    axes = stated_axes(subject, case) or list(range(2, len(next(iter(case.specs.values())).dims)))
    if not axes:
        raise NotApplicable("has no axis behind the channels; declare options.axes")
    x = wide.fresh()
    for axis in axes:
        yield from _shifted(function, list(x), axis)


def _long(subject: Implementation, case: Case) -> Case:
    """The case with long axes, as far as the declared sizes and arguments leave them free."""
    first = next(iter(case.specs.values()))
    axes = stated_axes(subject, case) or range(2, len(first.dims))
    sizes = dict(case.sizes)
    for axis in axes:
        name = first.dims[axis].name
        bounds = size_bounds(subject.options, name) if name else (0, 0)
        if name:
            sizes[name] = min(_LONG, bounds[1] if bounds else _LONG)
    recipe = replace(case.recipe, sizes=sizes)
    inputs = materialize(recipe, case.specs, case.device, case.dtype)
    return replace(case, recipe=recipe, inputs=inputs)


def _shifted(function: Still, inputs: list[Tensor], axis: int) -> Iterator[Evidence]:
    """Along one axis of the first input."""
    x = inputs[0]
    length = x.shape[axis]
    before = function(*inputs)[0]
    if before.dim() != x.dim() or not before.shape[axis]:
        raise NotApplicable("the answer has other axes than the input")
    stride = max(round(length / before.shape[axis]), 1)
    longer = max(round(before.shape[axis] / length), 1)
    reach = _reach(function, inputs, axis, stride, longer)
    after = function(x.roll(stride, axis), *inputs[1:])[0]
    first, last = reach, before.shape[axis] - reach - longer
    if last - first < 1:
        raise NotApplicable(f"an element of the answer sees {length} positions or more")
    room = function.room(inputs)
    yield held(
        f"the answer to the input shifted by {stride} along axis {axis}",
        after.narrow(axis, first + longer, last - first),
        before.narrow(axis, first, last - first),
        lambda: room()[0].narrow(axis, first, last - first),
    )


def _reach(function: Still, inputs: list[Tensor], axis: int, stride: int, longer: int) -> int:
    """How many positions of the answer a position of the input reaches, and the border with it."""
    x = inputs[0]
    middle = x.shape[axis] // 2
    moved = x.clone()
    patch = moved.narrow(axis, middle, stride)
    patch.add_(1 + patch.abs())
    change = function(moved, *inputs[1:])[0] != function(*inputs)[0]
    others = [a for a in range(change.dim()) if a != axis]
    touched = change.any(dim=others) if others else change
    places = touched.nonzero().flatten()
    if not len(places):
        return 2
    centre = middle * longer // stride
    return int((places - centre).abs().amax()) + 2 * longer + 1
