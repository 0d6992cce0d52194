"""A sample of a batch does not see the others."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.axes import axes_of, batch_axis_of, batch_dim, rows
from dlcheck.checks.layer.broken import (
    divides_by_the_size_of_the_batch,
    leaks_the_mean_of_the_batch,
)
from dlcheck.checks.still import Still, held, part_of
from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation


@around
def answers_with_the_rows_of_its_neighbours(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`view` where `transpose` was meant: the order of rows is another."""

    def moved(y: Tensor) -> Tensor:
        for axis in range(y.dim()):
            y = y.roll(1, axis)
        return y

    return on_tensors(original(*inputs, **keywords), moved)


@around
def drops_axes_of_length_one(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`squeeze()` without an axis."""
    return on_tensors(original(*inputs, **keywords), torch.squeeze)


@check(
    kind=[
        "op", "layer", "activation", "normalization", "attention", "positional", "recurrent",
        "dropout",
    ],
    rejects=[
        leaks_the_mean_of_the_batch,
        divides_by_the_size_of_the_batch,
        answers_with_the_rows_of_its_neighbours,
        drops_axes_of_length_one,
    ],
    dtypes=["float64", "float32"],
    regimes=[
        "normal", "outliers", "small", "ascending", "zeros", "large", "negative", "ties", "offset",
        "duplicated", "huge", "tiny", "onehot", "extreme", "uniform", "noise", "constant",
    ],
)  # fmt: skip
def rows_are_independent(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A row's answer is the same beside other rows, and alone.

    The batch is the dim `b` (or what `options.batch` names), at whatever axis it stands. One row
    is kept and the others replaced; then it is asked in the smallest batch of the declared
    domain, which is itself alone. Cases take turns between train and evaluation: a
    `batch_coupled` or `stochastic` subject is judged in evaluation only, and never where it is so
    there too. An answer without an axis for the batch is left out, but where it is all that a
    module answers: then it may not depend on other rows. Means far from 0, at which torch's
    kernels of two layouts lose different digits, are not drawn.
    """
    function = _in_its_mode(subject, case)
    name = batch_dim(subject, case)
    axes, size = axes_of(case, name), case.sizes[name]
    if size < 2:
        raise NotApplicable("the batch has one row")
    kept = case.recipe.seed // 2 % size
    inputs = {key: x.detach() for key, x in zip(case.inputs, case.fresh(), strict=True)}
    whole = function(*inputs.values())
    room = function.room(list(inputs.values()))
    places = _rows_of_answers(function, inputs, axes, size, whole)
    beside = function(*_with_other_rows(case, inputs, axes, kept))
    if all(place is None for place in places):
        if subject.module is None or not whole[0].dim():
            raise NotApplicable("no answer has an axis for the batch")
        yield held(
            "answer 0, which has no axis for the batch, beside other rows",
            beside[0], whole[0], lambda: room()[0],
            "rows are mixed; if they are meant to be, declare the trait batch_coupled",
        )  # fmt: skip
    for position, place in enumerate(places):
        if place is not None:
            cut = functools.partial(_row, place=place, index=kept, size=size)
            yield _compared(
                f"row {kept} of answer {position}, beside other rows",
                _row(beside[position], place, kept, size),
                _row(whole[position], place, kept, size),
                part_of(room, position, cut),
                place[1],
            )
    fewest = _fewest(subject, name)
    if fewest < size:
        few = sorted({kept, *[i for i in range(size) if i != kept][: fewest - 1]})
        yield from _among_few(function, inputs, axes, (few, kept, size), places, whole, room)


def _in_its_mode(subject: Implementation, case: Case) -> Still:
    """In train or in evaluation, in turn, as far as the traits allow both.

    In train a random subject is not judged: how many numbers one row draws may depend on its
    values, and moves those of the next.
    """
    traits = subject.traits
    if {"batch_coupled_in_eval", "stochastic_in_eval"} & traits:
        raise NotApplicable("rows depend on each other, or are random, in evaluation too")
    if 0 in subject.options.get("axes", ()) and subject.kind.name == "activation":
        raise NotApplicable("works along the batch axis, as declared")
    only_in_eval = bool({"batch_coupled", "stochastic"} & traits)
    if subject.module is None:
        if only_in_eval:
            raise NotApplicable("rows depend on each other, or are random, as declared")
        return Still(subject, case)
    return Still(subject, case, training=not only_in_eval and case.recipe.seed % 2 == 0)


def _fewest(subject: Implementation, name: str) -> int:
    """The smallest batch: 1, or what is declared, where that is not for the statistics of train."""
    bounds = size_bounds(subject.options, name)
    return 1 if bounds is None or "batch_coupled" in subject.traits else max(bounds[0], 1)


# Of an answer: its batch axis and how many elements of it belong to one row.
Place = tuple[int, int]


def _rows_of_answers(
    function: Still,
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, int],
    size: int,
    whole: Sequence[Tensor],
) -> list[Place | None]:
    """Where each answer has its rows: the axis that shortens when the last row is left out."""
    try:
        fewer = function(*rows(inputs, axes, range(size - 1)))
    except SubjectRaised as error:
        raise NotApplicable(f"does not take {size - 1} of these rows: {error}") from error
    if len(fewer) != len(whole):
        raise NotApplicable("the number of answers depends on the batch")
    found: list[Place | None] = []
    for y, z in zip(whole, fewer, strict=True):
        axis = batch_axis_of(y, z)
        if axis is None or y.shape[axis] % size or not y.numel():
            found.append(None)
            continue
        each = y.shape[axis] // size
        found.append((axis, each) if z.shape[axis] == each * (size - 1) else None)
    return found


def _row(y: Tensor, place: Place, index: int, size: int) -> Tensor:
    """[2 readings, …]: the elements of one row, read as b·m in both orders of the two axes."""
    axis, each = place
    if y.dim() <= axis or y.shape[axis] != each * size:  # of another shape: compare it whole
        return y
    front = y.movedim(axis, 0)
    if each == 1:
        return front[index]
    return torch.stack(
        [front.unflatten(0, (size, each))[index], front.unflatten(0, (each, size))[:, index]]
    )


def _compared(
    what: str, got: Tensor, expected: Tensor, room: Callable[[], Tensor], each: int
) -> Evidence:
    """Agreement, for rows of several elements in whichever of the two orders agrees."""
    if each == 1 or got.shape != expected.shape:
        return held(what, got, expected, room)
    readings = [held(what, got[order], expected[order], _in_order(room, order)) for order in (0, 1)]
    return min(readings, key=lambda one: (one.error > one.bound, one.tightness))


def _in_order(room: Callable[[], Tensor], order: int) -> Callable[[], Tensor]:
    return lambda: room()[order]


def _with_other_rows(
    case: Case, inputs: Mapping[str, Tensor], axes: Mapping[str, int], kept: int
) -> list[Tensor]:
    """Fresh inputs of the same domain, with one row of the batch as it was."""
    recipe = replace(
        case.recipe,
        seed=case.recipe.seed + 1,
        regimes={name: "normal" for name in case.recipe.regimes},
    )
    fresh = materialize(recipe, case.specs, case.device, case.dtype)
    found = []
    for name, x in inputs.items():
        if name not in axes:
            found.append(x.clone())
            continue
        other = fresh[name].clone()
        other.select(axes[name], kept).copy_(x.select(axes[name], kept))
        found.append(other)
    return found


def _among_few(
    function: Still,
    inputs: Mapping[str, Tensor],
    axes: Mapping[str, int],
    batch: tuple[list[int], int, int],
    places: Sequence[Place | None],
    whole: Sequence[Tensor],
    room: Callable[[], list[Tensor]],
) -> Iterator[Evidence]:
    """The row in the smallest batch: alone, where a batch of 1 is taken."""
    few, kept, size = batch
    try:
        alone = function(*rows(inputs, axes, few))
    except SubjectRaised:
        return  # takes_its_declared_inputs says so
    for position, place in enumerate(places):
        if place is None:
            continue
        axis, each = place
        y, shape = alone[position], list(whole[position].shape)
        shape[axis] = each * len(few)
        what = f"row {kept} of answer {position}, in a batch of {len(few)}"
        if list(y.shape) != shape:
            yield Evidence(
                error=math.inf,
                bound=0.0,
                signal=1.0,
                what=f"shape of {what}",
                expected=str(tuple(shape)),
                got=str(tuple(y.shape)),
            )
            continue
        yield _compared(
            what,
            _row(y, place, few.index(kept), len(few)),
            _row(whole[position], place, kept, size),
            part_of(room, position, functools.partial(_row, place=place, index=kept, size=size)),
            each,
        )
