"""Variance and mean of the elements, and that they know nothing of each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck import stats
from dlcheck.checks.initializer.law import Filled, fillings
from dlcheck.checks.initializer.torch_init import CONSTANT, DEPENDENT, RANDOM, WRONG_VARIANCES
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

N = 10_000


def _changed(tensor: Tensor, change: Tensor) -> Tensor:
    with torch.no_grad():
        return tensor.copy_(change)


@around
def forgets_the_root_of_three(original: Any, tensor: Tensor) -> Tensor:
    original(tensor)
    return _changed(tensor, tensor.mean() + (tensor - tensor.mean()) / math.sqrt(3))


@around
def halves_the_variance(original: Any, tensor: Tensor) -> Tensor:
    """The factor 2 of rectifiers is left out."""
    original(tensor)
    return _changed(tensor, tensor.mean() + (tensor - tensor.mean()) / math.sqrt(2))


@around
def cuts_off_the_tails(original: Any, tensor: Tensor) -> Tensor:
    """What lies beyond 1.2 deviations is clamped, and nothing rescaled."""
    original(tensor)
    middle, limit = tensor.mean(), 1.2 * tensor.std()
    return _changed(tensor, middle + (tensor - middle).clamp(-limit, limit))


@around
def leaves_a_quarter_at_zero(original: Any, tensor: Tensor) -> Tensor:
    original(tensor)
    kept = torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape) % 4 > 0
    return _changed(tensor, torch.where(kept, tensor, tensor.mean()))


@check(
    kind="initializer",
    options={"variance": True},
    rejects=[
        forgets_the_root_of_three,
        halves_the_variance,
        cuts_off_the_tails,
        leaves_a_quarter_at_zero,
        *WRONG_VARIANCES,
    ],
    accepts=[*RANDOM, *DEPENDENT],
    tags=["statistical"],
    once=True,
)
def variance_follows_the_law(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The elements have the declared variance, for in ≫ out and for out ≫ in.

    Shapes 16 × 256 and 256 × 16 where the input leaves them free: on square tensors fan_in and
    fan_out are one, and swapping them shows nothing. fan_in and fan_out contain the receptive
    field. A t test of E(w − mean)² over 10⁴ elements by three strikes; a variance of 0 holds
    exactly.
    Source: Glorot & Bengio, AISTATS 2010, eq. 12; He et al., ICCV 2015, eq. 10 and 14; LeCun et
    al., Efficient BackProp, 1998, §4.6.
    """
    for filled in fillings(subject, case):
        law = filled.law

        def test(stream: Stream, n: int, filled: Filled = filled) -> Finding:
            law = filled.law
            rounding = gamma(32, case.dtype) * (law.variance + law.mean**2)
            return stats.variance(
                filled.sample(stream, n), law.variance, centre=law.mean, rounding=rounding
            )

        claim = f"{case.claim}/{filled}"
        if law.variance > 0:
            yield three_strikes(
                case.root, claim, N * case.profile.effort, test, what=f"variance at {filled}"
            )
        else:
            yield _constant(filled)


def _constant(filled: Filled) -> Evidence:
    apart = (filled().double() - filled.law.mean).abs().amax()
    return Evidence(
        error=float(apart),
        bound=gamma(2, filled.dtype) * abs(filled.law.mean),
        signal=max(1.0, abs(filled.law.mean)),
        what=f"elements of {filled}, against the constant {filled.law.mean:g}",
    )


@around
def shifts_by_a_tenth(original: Any, tensor: Tensor) -> Tensor:
    """The mean is off by a tenth of a deviation, or of a constant."""
    original(tensor)
    deviation = float(tensor.std().nan_to_num(0.0)) or float(tensor.abs().amax()) or 1.0
    return _changed(tensor, tensor + 0.1 * deviation)


@around
def takes_absolute_values(original: Any, tensor: Tensor) -> Tensor:
    original(tensor)
    return _changed(tensor, tensor.abs() + 0.1)


@around
def draws_from_zero_to_the_bound(original: Any, tensor: Tensor) -> Tensor:
    """rand() · bound: the lower half is missing."""
    original(tensor)
    return _changed(tensor, (tensor - tensor.amin()) / 2 + tensor.mean() + 0.1)


@check(
    kind="initializer",
    options={"variance": True},
    rejects=[shifts_by_a_tenth, takes_absolute_values, draws_from_zero_to_the_bound],
    accepts=[*RANDOM, *DEPENDENT, *CONSTANT],
    tags=["statistical"],
    once=True,
)
def mean_follows_the_law(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The elements have the declared mean, 0 unless told.

    A t test over 10⁴ elements by three strikes; a constant holds exactly.
    Source: Glorot & Bengio, AISTATS 2010, §4.2.
    """
    for filled in fillings(subject, case):
        law = filled.law
        if law.variance == 0:
            yield _constant(filled)
            continue
        sigma = math.sqrt(law.variance)

        def test(stream: Stream, n: int, filled: Filled = filled, sigma: float = sigma) -> Finding:
            mean = filled.law.mean
            rounding = gamma(32, case.dtype) * (sigma + abs(mean))
            sample = filled.sample(stream, n)
            return stats.mean(sample, mean, sigma=sigma, signal=sigma, rounding=rounding)

        yield three_strikes(
            case.root,
            f"{case.claim}/{filled}",
            N * case.profile.effort,
            test,
            what=f"mean at {filled}",
        )


@around
def repeats_one_row(original: Any, tensor: Tensor) -> Tensor:
    """One row is drawn and broadcast: all units are the same."""
    original(tensor)
    return _changed(tensor, tensor[:1].expand_as(tensor).clone())


@around
def repeats_one_column(original: Any, tensor: Tensor) -> Tensor:
    original(tensor)
    return _changed(tensor, tensor[:, :1].expand_as(tensor).clone())


@around
def mirrors_the_first_half(original: Any, tensor: Tensor) -> Tensor:
    original(tensor)
    half = tensor.numel() // 2
    flat = tensor.flatten()
    mean = flat.mean()
    flat = torch.cat([flat[:half], 2 * mean - flat[:half], flat[2 * half :]])
    return _changed(tensor, flat.reshape(tensor.shape))


@around
def draws_from_its_own_seed(original: Any, tensor: Tensor) -> Tensor:
    """Every call starts the generator anew."""
    state = torch.get_rng_state()
    torch.manual_seed(0)
    original(tensor)
    torch.set_rng_state(state)
    return tensor


@check(
    kind="initializer",
    options={"variance": True, "independent": [None, True]},
    forbids={"orthogonal"},
    rejects=[
        repeats_one_row,
        repeats_one_column,
        mirrors_the_first_half,
        draws_from_its_own_seed,
    ],
    accepts=RANDOM,
    tags=["statistical"],
    once=True,
)
def elements_are_drawn_independently(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Elements of a row, of a column, of the two halves and of two calls are uncorrelated.

    The mean of products of pairs, each element in one pair, is 0: a t test over each kind of pair
    by three strikes, at α divided by their number. 10⁴ elements; the detectable correlation is
    about 0.1.
    Source: Glorot & Bengio, AISTATS 2010, §4.2 (independent initialization).
    """
    for filled in fillings(subject, case):
        if filled.law.variance == 0:
            raise NotApplicable("all elements are the same constant, as declared")

        def test(stream: Stream, n: int, filled: Filled = filled) -> Finding:
            variance = filled.law.variance
            calls = max(2, -(-n // math.prod(filled.shape)))
            tensors = [filled().double() - filled.law.mean for _ in range(calls)]
            found = [
                stats.mean(
                    torch.cat([p.flatten() for p in products]),
                    0.0,
                    sigma=variance,
                    signal=variance,
                )
                for products in _products(tensors)
            ]
            return bonferroni(found)

        yield three_strikes(
            case.root,
            f"{case.claim}/{filled}",
            N * case.profile.effort,
            test,
            what=f"products of pairs at {filled}",
        )


def _products(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Products of disjoint pairs: neighbours along each axis, halves, and calls."""
    for axis in range(tensors[0].dim()):
        even = 2 * (tensors[0].shape[axis] // 2)
        if even:
            yield [_neighbours(t.narrow(axis, 0, even), axis) for t in tensors]
    half = tensors[0].numel() // 2
    if half:
        yield [t.flatten()[:half] * t.flatten()[half : 2 * half] for t in tensors]
    yield [a * b for a, b in zip(tensors[::2], tensors[1::2], strict=False)]


def _neighbours(tensor: Tensor, axis: int) -> Tensor:
    """w₀w₁, w₂w₃, … along an axis of even length."""
    even, odd = tensor.unflatten(axis, (-1, 2)).unbind(axis + 1)
    product: Tensor = even * odd
    return product
