"""A NaN is neither hidden nor spread to other samples."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement, rounding_room
from dlcheck.checks.axes import axes_of, batch_axis_of, batch_dim, rows
from dlcheck.checks.every.twin import reference_of
from dlcheck.checks.still import Still, without_noise
from dlcheck.checks.trust.calls import identical
from dlcheck.checks.trust.careless import (
    replaces_nan_by_zero,
    scales_by_the_largest_of_the_batch,
    shifts_by_the_maximum_of_the_batch,
)
from dlcheck.checks.trust.honest import SOFTMAX
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind=[
        "op", "layer", "activation", "normalization", "attention", "positional", "recurrent",
        "dropout",
    ],
    dtypes=["float64", "float32"],
    regimes=["normal"],
    forbids={"batch_coupled", "batch_coupled_in_eval", "in_place"},
    rejects=[shifts_by_the_maximum_of_the_batch, scales_by_the_largest_of_the_batch],
    accepts=[SOFTMAX],
)  # fmt: skip
def a_nan_stays_in_its_row(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A NaN in one sample leaves the outputs of the other samples as they are.

    One element of one row of the first floating input is NaN; each output with a row per sample is
    compared with that of the clean batch, without this row. The bound is twice what rounding may
    move the answer. A maximum or a scale that is taken over the batch spreads it, even where it
    cancels in exact arithmetic.
    """
    name = _first_floating(case)
    axes = axes_of(case, batch_dim(subject, case))
    if name not in axes:
        raise NotApplicable(f"{name} has no row per sample")
    count = case.inputs[name].shape[axes[name]]
    if count < 2:
        raise NotApplicable("one sample: there is no other")
    row = int(torch.randint(count, (), generator=case.generator("row")))
    others = [i for i in range(count) if i != row]
    still = without_noise(subject, case)
    clean = still(*case.fresh())
    try:
        spoiled = still(*_with_nan(case, name, axes[name], row))
        fewer = still(*rows(case.inputs, axes, others))
    except SubjectRaised as error:
        raise NotApplicable("refuses a NaN, or a batch of other size") from error
    judged = 0
    for place, (y, was, part) in enumerate(zip(spoiled, clean, fewer, strict=False)):
        axis = batch_axis_of(was, part)
        if axis is not None and was.shape[axis] == count and y.shape == was.shape:
            judged += 1
            yield _others_stay(subject, case, still, place, (y, was), axis, others)
    if not judged:
        raise NotApplicable("no output has a row per sample")


def _others_stay(
    subject: Implementation,
    case: Case,
    still: Still,
    place: int,
    pair: tuple[Tensor, Tensor],
    axis: int,
    others: list[int],
) -> Evidence:
    kept = torch.tensor(others, device=pair[0].device)
    got, expected = (y.index_select(axis, kept) for y in pair)
    what = f"output {place} of the other samples, beside a NaN in one"
    if identical(got, expected):
        total = float(max(expected.numel(), 1))
        return Evidence(error=0.0, bound=0.0, signal=total, unit="elements", what=what)
    room = rounding_room(subject, case, None, still)[place].index_select(axis, kept)
    return agreement(what, got, expected, room, cause="something is taken over the whole batch")


@check(
    kind="tensors",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    options={"reference": True},
    forbids={"in_place", "stochastic", "stochastic_in_eval"},
    rejects=[replaces_nan_by_zero],
    accepts=[SOFTMAX],
)
def a_nan_is_not_hidden(subject: Implementation, case: Case) -> Evidence:
    """Where the reference's answer to a NaN holds NaN throughout, the subject's holds one too.

    One element of the first floating input is NaN. Judged where the reference spreads it over
    several elements or over the only one, as a sum does: of an elementwise function, which may
    decide by a comparison, nothing is asked, nor beside a mask, which may take the NaN out. A NaN
    that turns into a plausible number hides that training has diverged.
    """
    name = _first_floating(case)
    x = case.inputs[name]
    if any(spec.element in ("bool", "mask") for spec in case.specs.values()):
        raise NotApplicable("a mask may take the NaN out")
    if x.numel() < 2:
        raise NotApplicable("one element: nothing to spread over")
    inputs = _with_nan(case, name, 0, int(case.recipe.seed) % max(len(x), 1))
    try:
        reference = reference_of(subject, case, case.dtype)
        expected = Still(reference, case)(*(v.clone() for v in inputs))
        found = Still(subject, case)(*inputs)
    except SubjectError as error:
        raise NotApplicable("a NaN is refused") from error
    judged = hidden = 0
    for y, r in zip(found, expected, strict=False):
        count = int(torch.isnan(r).sum())
        if r.is_floating_point() and (count >= 2 or (count and r.numel() == 1)):
            judged += 1
            hidden += int(not bool(torch.isnan(y).any()))
    if not judged:
        raise NotApplicable("the reference does not spread a NaN")
    return Evidence(
        error=float(hidden),
        bound=0.0,
        signal=float(judged),
        unit="outputs",
        what="outputs without a NaN, where the reference's has",
        cause="it replaces NaN, or computes without the input" if hidden else "",
    )


def _first_floating(case: Case) -> str:
    for name in case.floating:
        if case.inputs[name].dim() and case.inputs[name].numel():
            return name
    raise NotApplicable("no input can hold a NaN")


def _with_nan(case: Case, name: str, axis: int, row: int) -> list[Tensor]:
    """The inputs with one element of this row NaN."""
    made = dict(zip(case.inputs, (x.detach() for x in case.fresh()), strict=True))
    inside = made[name].select(axis, row)
    place = int(torch.randint(inside.numel(), (), generator=case.generator("element")))
    if inside.dim():
        inside[torch.unravel_index(torch.tensor(place), inside.shape)] = math.nan
    else:
        inside.fill_(math.nan)
    return list(made.values())
