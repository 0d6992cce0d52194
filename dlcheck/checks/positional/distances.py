"""Relative positions: inner products depend on distances, by rotations of declared frequencies."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement
from dlcheck.checks.positional import broken, tables
from dlcheck.checks.positional.calls import Encoding, angle_error, rounding_unit
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_TOKENS = 64  # of which inner products are taken, at most


@check(
    kind="positional",
    options={"relative": ["rotation", "inner_product"]},
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[
        broken.exchanges_two_positions,
        broken.grows_with_the_position,
        broken.gives_neighbours_one_position,
        tables.turning(tables.sine_and_cosine_exchanged),
        tables.turning(tables.minus_sign_left_out),
        tables.turning(tables.angles_of_the_other_layout),
        tables.turning_both(tables.keys_one_position_late),
    ],
    accepts=[tables.turning(tables.rotary), tables.TABLE],
)
def distance_decides_the_product(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """⟨f(q, m), f(k, n)⟩ depends on m − n alone, along every axis of the sequence.

    Rotations: one query and one key at every position; inner products: the encodings themselves,
    of an even number of features. G[m, n] must equal G[m + 1, n + 1] for all m and n. Angles may
    be computed in float32 whatever the dtype: t·θ is off by 2t·2⁻²⁴, and each product of features
    by as much.
    Source: Su et al., RoFormer, 2021, §3.2.1; Vaswani et al., NeurIPS 2017, §3.5.
    """
    made = Encoding.of(subject, case)
    if made.length < 3:
        raise NotApplicable("too few tokens for two equal distances")
    turned = _turns(made)
    if not made.is_table and case.inputs[made.sources[0]].shape[made.features] % 2 and not turned:
        raise NotApplicable("with an odd number of features a sine lacks its cosine")
    for axis in made.axes:
        first, second = _pair(made, axis) if turned else _same(made, axis)
        first, second = first[:_TOKENS], second[:_TOKENS]
        if len(first) < 3:
            continue
        products = first.double() @ second.double().T
        sizes = torch.linalg.vector_norm(first.double(), dim=1)
        others = torch.linalg.vector_norm(second.double(), dim=1)
        size = float(sizes.amax() * others.amax())
        bound = size * (2 * angle_error(len(first), case.dtype) + _dot(first, case))
        yield agreement(
            f"inner products along axis {axis}, one position further on",
            products[1:, 1:],
            products[:-1, :-1],
            bound,
            signal=size,
        )


def _turns(made: Encoding) -> bool:
    """Rotations are declared by their mode, or by what is relative in them."""
    return made.mode == "rotate" or made.subject.options["relative"] == "rotation"


def _dot(x: Tensor, case: Case) -> float:
    return 4 * math.sqrt(x.shape[1]) * rounding_unit(case.dtype)


def _same(made: Encoding, axis: int) -> tuple[Tensor, Tensor]:
    """The encodings of positions, [t, d]; several tables are put side by side."""
    table = torch.cat(made.patterns(axis), -1)
    if table.shape[1] % 2:
        raise NotApplicable("with an odd number of features a sine lacks its cosine")
    return table, table


def _pair(made: Encoding, axis: int) -> tuple[Tensor, Tensor]:
    """A query and a key turned at every position, [t, d] each."""
    if made.is_table:
        raise NotApplicable("a table turns nothing")
    count = len(made.sources)
    q = tuple(made.same_everywhere("query", i) for i in range(count))
    k = tuple(made.same_everywhere("key", i) for i in range(count))
    return made.along(made(*q)[0], axis), made.along(made(*k)[min(1, count - 1)], axis)


@check(
    kind="positional",
    options={"mode": ["rotate"]},
    dtypes=["float64", "float32"],
    regimes=["normal", "large", "zeros", "ties"],
    rejects=[
        broken.shrinks_what_it_turns,
        broken.grows_with_the_position,
        tables.turning(tables.sine_and_cosine_exchanged),
        tables.turning(tables.minus_sign_left_out),
        tables.turning(tables.angles_of_the_other_layout),
    ],
    accepts=[tables.turning(tables.rotary)],
)
def rotation_keeps_the_norm(subject: Implementation, case: Case) -> Evidence:
    """A rotation keeps the norm of every token.

    |cos² + sin² − 1| ≤ 4u with u that of float32 at least. Not judged of queries and keys that
    are turned together without the trait `norm_preserving`: they may be scaled against each
    other, as in xPos.
    """
    made = Encoding.of(subject, case)
    if made.is_table or (len(made.sources) > 1 and "norm_preserving" not in subject.traits):
        raise NotApplicable("is not said to keep the norm of each")
    x = made.xs[0]
    y = made(*made.xs)[0]
    before, after = (torch.linalg.vector_norm(z.double(), dim=made.features) for z in (x, y))
    largest = float(before.amax()) if before.numel() else 0.0
    room = (8 + math.sqrt(x.shape[made.features])) * rounding_unit(case.dtype) * before
    return agreement("norm of the tokens", after, before, room, signal=largest)


@check(
    kind="positional",
    options={"mode": ["rotate"], "first": [0]},
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[broken.starts_at_one, broken.shrinks_what_it_turns, broken.counts_from_the_middle],
    accepts=[tables.turning(tables.rotary)],
)
def position_zero_is_the_identity(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The token at position 0 is turned by 0: it comes back as it is.

    cos 0 = 1 and sin 0 = 0 exactly, so x·1 + x′·0 rounds twice.
    """
    made = Encoding.of(subject, case)
    for name, x, y in zip(made.sources, made.xs, made(*made.xs), strict=True):
        for axis in made.axes:
            x, y = x.narrow(axis, 0, 1), y.narrow(axis, 0, 1)
        yield agreement(f"first token of {name}", y, x, 4 * rounding_unit(case.dtype) * x.abs())


@check(
    kind="positional",
    options={"base": True, "relative": ["rotation", "inner_product"]},
    dtypes=["float64", "float32"],
    once=True,
    rejects=[
        tables.turning(tables.half_of_the_frequencies),
        tables.turning(tables.another_base),
        tables.turning(tables.degrees),
    ],
    accepts=[tables.turning(tables.rotary), tables.TABLE],
)
def frequencies_span_the_base(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Angles per token are base^{−2i/d}, or base^{−2i/(d − 2)}, from 1 down to about 1/base.

    Rotations: a feature alone, turned by t tokens, keeps the part cos tθ of itself; the angles
    are read off and each must be one of the law's, and each of these must be there. Features that
    stay (partial rotary), several heads or axes side by side, and positions that are scaled
    down are allowed. Inner products: Σᵢ cos tθᵢ. The two laws are those of Vaswani et al. and of
    tensor2tensor. A frequency in float32 is off by (4 + 2 ln base) roundings.
    """
    made = Encoding.of(subject, case)
    base = float(subject.argument("base"))
    if base <= 1:
        raise NotApplicable("a base is larger than 1")
    count = next((n for n in (_TOKENS, made.length) if n == made.length or _fits(made, n)), 1)
    if count < 3:
        raise NotApplicable("too few tokens")
    off = count * (4 + 2 * math.log(base)) * rounding_unit(case.dtype) + 2 * angle_error(
        count, case.dtype
    )
    if _turns(made) and not made.is_table:
        yield _angles(made, base, count, off)
    else:
        yield _products(made, base, count, off)


def _fits(made: Encoding, count: int) -> bool:
    return all(made.fits(count, axis) for axis in made.axes)


def _laws(base: float, features: int) -> Iterator[Tensor]:
    """Every set of frequencies of r features, r ≤ `features`: the two laws, d = r or r − 2."""
    for r in range(2, features + 1, 2):
        i = torch.arange(r // 2, dtype=torch.float64)
        yield base ** -(2 * i / r)
        if r > 2:
            yield base ** -(2 * i / (r - 2))


def _angles(made: Encoding, base: float, count: int, off: float) -> Evidence:
    """Each feature's angles over the tokens, in [0, π], against those of the law."""
    axis, d = made.axes[-1], made.xs[0].shape[made.features]
    found = torch.stack([_turned(made, i, axis, count) for i in range(d)])  # [d, t]
    # The first step of the fastest feature is the unit: positions may be scaled down.
    unit = float(found[:, 1].amax())
    scale = unit if 0 < unit < 1 - off else 1.0
    steps = torch.arange(count, dtype=torch.float64)
    gaps = []
    for law in _laws(base, d):
        angle = torch.cat((scale * law, torch.zeros(1)))[:, None] * steps
        expected = torch.atan2(angle.sin().abs(), angle.cos())
        gap = (found[:, None] - expected).abs().amax(-1)  # [d, law + 1]
        gaps.append(float(torch.maximum(gap.amin(1).amax(), gap[:, :-1].amin(0).amax())))
    return Evidence(
        error=min(gaps),
        bound=off,
        signal=1.0,
        unit="rad",
        what=f"angles of features after {count} tokens, from those of the nearest law",
        expected=f"{base:g}^(−2i/d)",
        got="per token " + ", ".join(f"{a:.3g}" for a in found[:, 1].tolist()[:8]),
    )


def _turned(made: Encoding, feature: int, axis: int, count: int) -> Tensor:
    """How far the tokens turn a unit vector from where the first one leaves it: [t]."""
    xs = tuple(torch.zeros_like(made.drawn("", i, count)) for i in range(len(made.sources)))
    for x in xs:
        x.select(made.features, feature).fill_(1.0)
    y = made.along(made(*xs)[0], axis).double()
    cosine = y @ y[0]
    sine = torch.linalg.vector_norm(y - cosine[:, None] * y[0], dim=1)
    return torch.atan2(sine, cosine)


def _products(made: Encoding, base: float, count: int, off: float) -> Evidence:
    """⟨P₀, P_t⟩/⟨P₀, P₀⟩ against the mean of cos tθ.

    Tables of cosines and of sines may hold each frequency twice, for both features of a pair.
    """
    tables = 1
    if made.sources:
        parts = made.patterns(made.axes[-1], count)
        table, tables = torch.cat(parts, -1).double(), len(parts)
    else:
        table, _ = _same(made, made.axes[-1])
        table = table.double()
    if table.shape[1] % 2:
        raise NotApplicable("with an odd number of features a sine lacks its cosine")
    size = float(table[0] @ table[0])
    found = table @ table[0] / size
    steps = torch.arange(len(table), dtype=torch.float64)[:, None]
    half = table.shape[1] // 2
    counts = {half, half // min(tables, 2)}
    laws = [law for law in _laws(base, table.shape[1]) if len(law) in counts]
    gaps = [float((found - (steps * law).cos().mean(-1)).abs().amax()) for law in laws]
    return Evidence(
        error=min(gaps),
        bound=2 * off + _dot(table, made.case),
        signal=1.0,
        what="inner products with the first position, from those of the nearest law",
        expected=f"frequencies {base:g}^(−2i/d)",
    )
