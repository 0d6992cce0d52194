"""Sums, products and norms that a map keeps."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlcheck.checks.axes import axes_of, batch_dim
from dlcheck.checks.every.broken_symmetry import (
    adds_a_constant,
    bends_large_values,
    clips_its_input,
    doubles_what_is_negative,
    scales_by_a_hair,
)
from dlcheck.checks.still import held, without_noise
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation

_A, _B = 1.75, -0.6


def _haar(x: Tensor) -> Tensor:
    """Sums and differences of pairs, over √2: x [b, n*2]."""
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.cat([even + odd, even - odd], -1) / 2**0.5


def _first_differences(x: Tensor) -> Tensor:
    return x.diff(dim=-1, prepend=x.new_zeros(*x.shape[:-1], 1))


def _signed(x: Tensor) -> Tensor:
    """Keeps norms and is not linear: x [b, n]."""
    return x * torch.where(x[..., :1] > 0, 1.0, -1.0)


@check(
    kind="tensors",
    needs={"linear"},
    rejects=[adds_a_constant, bends_large_values, doubles_what_is_negative, clips_its_input],
    accepts=[
        Subject(
            name="first_differences",
            target=_first_differences,
            kind="op",
            inputs={"x": "float b t"},
            traits=frozenset({"linear", "causal"}),
        ),
    ],
    dtypes=["float64", "float32"],
)
def linear(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """f(a x + b y) = a f(x) + b f(y), jointly in all floating inputs; a bias makes it affine.

    y is drawn afresh from the same domain; inputs that are no numbers stay. The bound is twice
    the sum of what rounding may move on either side.
    """
    function = without_noise(subject, case)
    x, y = list(case.fresh()), _others(case)
    both = [_A * u + _B * v if u.is_floating_point() else u for u, v in zip(x, y, strict=True)]
    y = [v if v.is_floating_point() else u for u, v in zip(x, y, strict=True)]
    sums, of_x, of_y = function(*both), function(*x), function(*y)
    rooms = [function.room(inputs) for inputs in (both, x, y)]

    def room(place: int) -> Tensor:
        there, at_x, at_y = (found()[place] for found in rooms)
        return there + abs(_A) * at_x + abs(_B) * at_y

    for place, got in enumerate(sums):
        if got.is_floating_point():
            expected = _A * of_x[place] + _B * of_y[place]
            of_place = functools.partial(room, place)
            yield held(f"answer {place} to a x + b y", got, expected, of_place)


@check(
    kind="tensors",
    needs={"orthogonal"},
    rejects=[scales_by_a_hair, clips_its_input, doubles_what_is_negative, adds_a_constant],
    accepts=[
        Subject(
            name="haar_wavelet",
            target=_haar,
            kind="op",
            inputs={"x": "float b n*2"},
            traits=frozenset({"orthogonal", "linear"}),
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "negative", "ascending", "outliers", "zeros", "large"],
)
def orthogonal(subject: Implementation, case: Case) -> Evidence:
    """Inner products are kept: ⟨f(x), f(y)⟩ = ⟨x, y⟩ for every sample.

    Over all axes but the batch. With |δf| ≤ ρ on each of n elements, a product of two answers is
    off by at most Σ ρ_x |f(y)| + ρ_y |f(x)|, and each sum of n products by γₙ Σ|·| more.
    """
    function = without_noise(subject, case)
    x, y = list(case.fresh()), _others(case)
    fx, fy = function(*x)[0], function(*y)[0]
    rooms = function.room(x), function.room(y)
    got, expected = _inner(subject, case, fx, fy), _inner(subject, case, x[0], y[0])
    sizes = _inner(subject, case, fx.abs(), fy.abs()) + _inner(
        subject, case, x[0].abs(), y[0].abs()
    )

    def room() -> Tensor:
        at_x, at_y = (found()[0].to(torch.float64) for found in rooms)
        moved = _inner(subject, case, at_x, fy.abs()) + _inner(subject, case, fx.abs(), at_y)
        return moved + gamma(max(fx.numel(), 1), case.dtype) * sizes

    return held("inner products of answers", got, expected, room)


@check(
    kind="tensors",
    needs={"norm_preserving"},
    rejects=[scales_by_a_hair, clips_its_input, adds_a_constant],
    accepts=[
        Subject(
            name="signed_rows",
            target=_signed,
            kind="op",
            inputs={"x": "float b n"},
            traits=frozenset({"norm_preserving", "nonsmooth"}),
        ),
    ],
    dtypes=["float64", "float32"],
)
def norm_preserving(subject: Implementation, case: Case) -> Evidence:
    """Rows keep their norm: ‖f(x)‖ = ‖x‖ along the last axis.

    |‖f‖ − ‖f + δ‖| ≤ ‖δ‖ ≤ √n ρ, and a norm of n numbers is rounded by at most γₙ of itself.
    """
    function = without_noise(subject, case)
    x = case.fresh()
    y = function(*x)[0]
    if not x[0].dim() or not y.dim() or y.shape[:-1] != x[0].shape[:-1]:
        raise NotApplicable("the answer has other rows than the input")
    found = function.room(x)
    norms = [torch.linalg.vector_norm(z.double(), dim=-1) for z in (y, x[0])]
    n = max(y.shape[-1], x[0].shape[-1], 1)

    def room() -> Tensor:
        of_row = n**0.5 * found()[0].amax(-1) if y.shape[-1] else norms[1]
        moved: Tensor = of_row + gamma(n, case.dtype) * norms[1]
        return moved

    return held("norms of rows", norms[0], norms[1], room)


def _inner(subject: Implementation, case: Case, x: Tensor, y: Tensor) -> Tensor:
    """⟨x, y⟩ over all axes but the batch, in float64."""
    product = x.double() * y.double()
    try:
        axis = axes_of(case, batch_dim(subject, case)).get(next(iter(case.specs)))
    except NotApplicable:
        axis = None
    if axis is None or axis >= product.dim() or product.shape[axis] != case.tensors[0].shape[axis]:
        return product.sum()
    return product.movedim(axis, 0).flatten(1).sum(1) if product.dim() > 1 else product


def _others(case: Case) -> list[Tensor]:
    """Fresh inputs of the same domain."""
    recipe = replace(case.recipe, seed=case.recipe.seed + 5)
    made: Sequence[Tensor] = [*materialize(recipe, case.specs, case.device, case.dtype).values()]
    return list(made)
