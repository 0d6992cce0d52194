"""A token's encoding depends on its own position and on nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement, largest_of
from dlcheck.checks.positional import broken, tables
from dlcheck.checks.positional.calls import Encoding, rounding_unit
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build

_ROTARY = tables.turning(tables.rotary)
_LONG = 300  # tokens: bfloat16 has no number between 256 and 258


@check(
    kind="positional",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[broken.gives_neighbours_one_position, broken.knows_no_position],
    accepts=[_ROTARY, tables.LEARNED, tables.TABLE],
)
def positions_are_distinct(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """No two positions along an axis of the sequence are encoded alike.

    The table itself, what is added to zeros, or one vector of features turned. The error is the
    number of positions that equal another one exactly, the bound 0.
    """
    made = Encoding.of(subject, case)
    if made.length < 2:
        raise NotApplicable("has one position")
    for axis in made.axes:
        for pattern in made.patterns(axis)[:1]:
            if len(pattern) < 2:
                continue
            distinct = len(torch.unique(pattern, dim=0))
            yield Evidence(
                error=float(len(pattern) - distinct),
                bound=0.0,
                signal=float(len(pattern)),
                unit="positions",
                what=f"positions along axis {axis} that are encoded like another one",
                got=f"{distinct} of {len(pattern)} are distinct",
            )


@check(
    kind="positional",
    options={"mode": ["add", "rotate"]},
    dtypes=["float64", "float32"],
    regimes=["normal", "large", "zeros"],
    rejects=[broken.counts_from_the_middle],
    accepts=[_ROTARY, tables.LEARNED],
)
def longer_sequences_begin_alike(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The first tokens are encoded alike, however many follow.

    Elementwise: sums and products of two terms round by 4u each.
    """
    made = Encoding.of(subject, case)
    if made.length < 2:
        raise NotApplicable("has one token")
    if made.is_table or not made.fits(made.length - 1, made.axes[0]):
        raise NotApplicable("the number of its tokens is fixed")
    axis = made.axes[0]
    cut = int(torch.randint(1, made.length, (), generator=case.generator("cut")))
    if not made.fits(cut, axis):
        cut = made.length - 1
    short = made(*(x.narrow(axis, 0, cut) for x in made.xs))
    for i, (y, x, whole) in enumerate(zip(short, made.xs, made(*made.xs), strict=True)):
        begin = whole.narrow(axis, 0, cut)
        yield agreement(
            f"output {i} of {cut} tokens, against the first of {made.length}",
            y,
            begin,
            _room(begin, x.narrow(axis, 0, cut), case),
        )


def _room(y: Tensor, x: Tensor, case: Case) -> float:
    return 8 * unit_roundoff(case.dtype) * max(largest_of(y), largest_of(x))


@check(
    kind="positional",
    options={"mode": ["add", "rotate"]},
    dtypes=["float64", "float32"],
    regimes=["normal", "large", "zeros"],
    rejects=[broken.mixes_neighbouring_tokens],
    accepts=[_ROTARY, tables.LEARNED],
)
def each_token_is_encoded_alone(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What a token becomes depends on no other token and on no other row of the batch.

    One token of one row is drawn anew; all others stay, within the rounding of two terms.
    """
    made = Encoding.of(subject, case)
    if made.is_table:
        raise NotApplicable("a table encodes no tokens")
    xs = made.xs
    token = int(torch.randint(0, made.length, (), generator=case.generator("token")))
    moved, alone = [], []
    for i, x in enumerate(xs):
        here = torch.ones(x.shape, dtype=torch.bool, device=x.device)
        part = here.select(made.axes[0], token)
        part[0 if -x.dim() not in made.axes and x.dim() > 2 else slice(None)] = False
        moved.append(torch.where(here, x, 10 * made.drawn(f"token {i}", i)))
        alone.append(here)
    for i, (y, z, here) in enumerate(zip(made(*moved), made(*xs), alone, strict=True)):
        if not bool(here.any()):
            raise NotApplicable("has one token")
        yield agreement(
            f"output {i} of the others, after token {token} was drawn anew",
            y[here],
            z[here],
            _room(z, xs[i], case),
        )


@check(
    kind="positional",
    options={"mode": ["add", "rotate"]},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros"],
    rejects=[broken.counts_on_from_row_to_row],
    accepts=[_ROTARY, tables.LEARNED],
)
def rows_have_the_same_positions(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Equal rows of a batch are encoded alike: positions do not count on from row to row."""
    made = Encoding.of(subject, case)
    xs = made.xs
    if made.is_table or xs[0].dim() < 3 or -xs[0].dim() in made.axes or len(xs[0]) < 2:
        raise NotApplicable("has one row")
    if made.positions and case.inputs[made.positions].dim() > 1:
        raise NotApplicable("every row is given its own positions")
    equal = [x[:1].expand(x.shape).clone() for x in xs]
    for i, y in enumerate(made(*equal)):
        room = _room(y, equal[i], case)
        yield agreement(f"output {i} of equal rows", y[1:], y[:1].expand(y[1:].shape), room)


@check(
    kind="positional",
    options={"mode": ["add"]},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "large"],
    rejects=[broken.scales_its_input, broken.moves_by_the_mean_of_x],
    accepts=[tables.LEARNED],
)
def what_is_added_does_not_depend_on_x(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """f(x) − x = f(0): the positions are added, and x is not scaled."""
    made = Encoding.of(subject, case)
    zeros = made(*(torch.zeros_like(x) for x in made.xs))
    for i, (y, x, p) in enumerate(zip(made(*made.xs), made.xs, zeros, strict=True)):
        expected = x + p
        yield agreement(f"output {i}, against x + f(0)", y, expected, _room(expected, x, case))


@check(
    kind="positional",
    dtypes=["float64", "float32"],
    once=True,
    rejects=[
        tables.turning(tables.angles_in_the_dtype_of_x),
        broken.counts_in_the_dtype_of_x,
    ],
    accepts=[_ROTARY],
    options={"mode": ["add", "rotate"]},
)
def positions_survive_half_precision(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """With x in bfloat16 or float16, far tokens are encoded as in float64, but for one rounding.

    Position 257 is no bfloat16, and the angle 200.3 is 200 there: positions and angles need
    float32 whatever x is. Up to 300 tokens, parameters and buffers in float32, as in mixed
    precision. A term of y is off by the angle's error in float32 and by 4 roundings of the short
    type.
    """
    made = Encoding.of(subject, case)
    if made.is_table or made.positions:
        raise NotApplicable("positions are given, or a table is taken")
    axis = made.axes[0]
    count = _LONG if made.fits(_LONG, axis) else made.length
    xs = [made.drawn(f"x{i}", i, count) for i in range(len(made.sources))]
    for dtype in (torch.bfloat16, torch.float16):
        short = [x.to(dtype) for x in xs]
        try:
            exact = _in(made, torch.float64)(*(x.double() for x in short))
            found = _in(made, torch.float32)(*short)
        except SubjectError as error:
            raise NotApplicable(f"takes no {dtype} beside float32: {error}") from None
        u = unit_roundoff(dtype)
        for i, (y, expected) in enumerate(zip(found, exact, strict=True)):
            largest = largest_of(expected)
            # Angles of 300 are off by 25 roundings of float32; each term rounds in the short type.
            bound = 4 * u * largest + 32 * count * rounding_unit(torch.float32) * largest
            yield replace(
                agreement(f"output {i} in {dtype}", y.double(), expected, bound / 2),
                resolution=0.1,
            )


def _in(made: Encoding, dtype: torch.dtype) -> Encoding:
    """The same subject with its parameters and buffers in another type."""
    built = build(
        made.subject.declared, made.case.sizes, made.case.device, dtype, made.case.recipe.seed
    )
    if built.module is not None:
        built.module.eval()
    return replace(made, subject=built)
