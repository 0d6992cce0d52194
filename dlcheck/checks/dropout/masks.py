"""Who shares a mask with whom: nobody, but along the declared axes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.dropout.broken import Declared, broken
from dlcheck.checks.dropout.draws import affordable, draw, inputs, sample
from dlcheck.checks.dropout.law import Law, law_of, ratio, where_it_shows
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, detectable, independence, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

N = 6_000  # units: a correlation of .1 between two of them is noticed
CALLS = 48  # at least: a mask shared by a whole call must show both of its sides


class draws_one_mask_for_good(Declared):
    """Keeps the first mask of each shape."""

    def __init__(self, law: Law) -> None:
        super().__init__(law)
        self.drawn: dict[torch.Size, Tensor] = {}

    def noise(self, x: Tensor) -> Tensor:
        return self.drawn.setdefault(x.shape, super().noise(x))


class seeds_itself_in_every_call(Declared):
    def noise(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().noise(x)


class alternates_between_two_masks(Declared):
    """A pool of masks that is too small: the next call differs, the one after does not."""

    calls = 0

    def noise(self, x: Tensor) -> Tensor:
        self.calls += 1
        state = torch.get_rng_state()
        torch.manual_seed(self.calls % 2)
        drawn = super().noise(x)
        torch.set_rng_state(state)
        return drawn


class repeats_masks_by_the_detectable_effect(Declared):
    """Some units keep the fate that they had in the call before: the correlation is their share."""

    last: Tensor | None = None

    def noise(self, x: Tensor) -> Tensor:
        drawn = super().noise(x)
        if self.last is not None and self.last.shape == drawn.shape:
            share = detectable(1.0, N - 1, coordinates=3)
            drawn = torch.where(torch.rand(drawn.shape, device=x.device) < share, self.last, drawn)
        self.last = drawn
        return drawn


@check(
    kind="dropout",
    options={"block": False},
    rejects=[
        broken(repeats_masks_by_the_detectable_effect),
        broken(draws_one_mask_for_good),
        broken(seeds_itself_in_every_call),
        broken(alternates_between_two_masks),
    ],
    tags=["statistical"],
    once=True,
)
def draws_a_new_mask_in_each_call(subject: Implementation, case: Case) -> Evidence:
    """The masks of three calls in a row on one input are independent of each other.

    Fisher's exact test of the pairs (first, second), (second, third) and (first, third) over
    6,000 units with Bonferroni's correction: needs no p. With Gaussian noise a unit counts as kept
    where the noise raises it.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §4: a mask is sampled for each case.
    """
    subject = where_it_shows(subject)
    law = law_of(subject)

    def test(stream: Stream, n: int) -> Finding:
        calls: list[list[Tensor]] = [[], [], []]
        for x in inputs(subject, case, law, stream.torch(), n, thin=True):
            for masks in calls:
                masks.append(draw(subject, case, law, x).kept().flatten())
        kept = [torch.cat(masks)[:n] for masks in calls]
        return bonferroni([independence(kept[i], kept[j]) for i, j in ((0, 1), (1, 2), (0, 2))])

    what = "correlation of the masks of two calls"
    n = affordable(subject, case, law, N * case.profile.effort)
    return three_strikes(case.root, case.claim, n, test, what=what)


def free_axes(law: Law, x: Tensor) -> list[int]:
    """The axes along which each index has its own mask."""
    shared = law.shared(x)
    return [axis for axis in range(x.dim()) if axis not in shared]


class shares_along_one_axis_too_many(Declared):
    """The mask of the first sample serves the whole batch, or that of a channel all channels."""

    def noise(self, x: Tensor) -> Tensor:
        axis = free_axes(self.law, x)[0]
        return super().noise(x).narrow(axis, 0, 1)


class repeats_the_mask_after_half_the_batch(Declared):
    def noise(self, x: Tensor) -> Tensor:
        axis = free_axes(self.law, x)[0]
        drawn = super().noise(x)
        half = (drawn.shape[axis] + 1) // 2
        first = drawn.narrow(axis, 0, half)
        return torch.cat([first, first], axis).narrow(axis, 0, drawn.shape[axis])


class drops_neighbours_together(Declared):
    """Where an element falls, so does the next one half of the time."""

    def noise(self, x: Tensor) -> Tensor:
        axis = free_axes(self.law, x)[-1]
        drawn = super().noise(x)
        joined = (torch.rand(drawn.shape, device=x.device) < 0.5).to(x.dtype)
        return joined * drawn.roll(1, axis) + (1 - joined) * drawn


@check(
    kind="dropout",
    options={"block": False},
    rejects=[
        broken(shares_along_one_axis_too_many),
        broken(repeats_the_mask_after_half_the_batch),
        broken(drops_neighbours_together),
    ],
    tags=["statistical"],
    once=True,
)
def masks_are_independent_along_other_axes(subject: Implementation, case: Case) -> Evidence:
    """Along the batch axis, and each axis that is not declared to share, units fall independently.

    Fisher's exact test over 6,000 units of disjoint pairs along each such axis: neighbours
    (0, 1), (2, 3), …, and partners half the axis apart; Bonferroni over all of them. An axis of
    length 1 says nothing.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §4; Tompson et al., Efficient Object
    Localization Using Convolutional Networks, CVPR 2015, §3.2, for a mask per channel.
    """
    subject = where_it_shows(subject)
    law = law_of(subject)

    def test(stream: Stream, n: int) -> Finding:
        firsts: dict[tuple[int, str], list[Tensor]] = {}
        seconds: dict[tuple[int, str], list[Tensor]] = {}
        for x in inputs(subject, case, law, stream.torch(), n, calls=CALLS, thin=True):
            kept = draw(subject, case, law, x).kept()
            for place, first, second in pairs_along(kept, free_axes(law, x)):
                firsts.setdefault(place, []).append(first)
                seconds.setdefault(place, []).append(second)
        if not firsts:
            raise NotApplicable("every axis shares the mask: a call has one unit")
        return bonferroni(
            [independence(torch.cat(firsts[place]), torch.cat(seconds[place])) for place in firsts]
        )

    what = "correlation of the masks of two units"
    n = affordable(subject, case, law, N * case.profile.effort)
    return three_strikes(case.root, case.claim, n, test, what=what)


def pairs_along(kept: Tensor, axes: list[int]) -> Iterator[tuple[tuple[int, str], Tensor, Tensor]]:
    """Disjoint pairs of units along each axis: ((axis, how), first, second), each flat."""
    for axis in axes:
        length = kept.shape[axis]
        half = length // 2
        if half == 0:
            continue
        even = torch.arange(0, 2 * half, 2, device=kept.device)
        yield (
            (axis, "neighbours"),
            kept.index_select(axis, even).flatten(),
            kept.index_select(axis, even + 1).flatten(),
        )
        if half > 1:
            yield (
                (axis, "half apart"),
                kept.narrow(axis, 0, half).flatten(),
                kept.narrow(axis, length - half, half).flatten(),
            )


class drops_every_element_by_itself(Declared):
    def unit_shape(self, x: Tensor) -> list[int]:
        return list(x.shape)


class shares_along_one_axis_too_few(Declared):
    def unit_shape(self, x: Tensor) -> list[int]:
        shape = super().unit_shape(x)
        axis = self.law.shared(x)[-1]
        shape[axis] = x.shape[axis]
        return shape


class forgets_the_last_row_of_an_axis(Declared):
    """An off-by-one: the last index of a shared axis is never dropped."""

    def noise(self, x: Tensor) -> Tensor:
        drawn = super().noise(x).expand_as(x).clone()
        axis = self.law.shared(x)[0]
        drawn.narrow(axis, x.shape[axis] - 1, 1).fill_(1)
        return drawn


@check(
    kind="dropout",
    options={"axes": True},
    rejects=[
        broken(drops_every_element_by_itself),
        broken(shares_along_one_axis_too_few),
        broken(forgets_the_last_row_of_an_axis),
    ],
    once=True,
)
def masks_are_shared_along_declared_axes(subject: Implementation, case: Case) -> Evidence:
    """Along the declared axes all elements fall or stay together, exactly.

    Every element of 1,000 units is compared with the first of its unit; the bound is 0. With
    Gaussian noise it is the factors y/x that are compared: each is off by its own rounding and by
    that of the quotient, which γ₄ holds twice over for the two of them.
    Source: Tompson et al., Efficient Object Localization Using Convolutional Networks, CVPR 2015,
    §3.2; the declaration.
    """
    law = law_of(subject)
    if not law.axes:
        raise NotApplicable("no axis is declared to share a mask")
    different = elements = 0
    for x in inputs(subject, case, law, case.generator("units"), 1000):
        drawn = draw(subject, case, law, x)
        y = drawn.y
        if law.noise == "gaussian":
            own, first = ratio(x, y), ratio(*drawn.units())
            apart = (own - first).abs() > gamma(4, x.dtype) * (1 + own.abs() + first.abs())
        else:
            apart = law.kept(x, y) != drawn.kept()
        different += int(apart.sum())
        elements += x.numel() - drawn.kept().numel()
    return Evidence(
        error=float(different),
        bound=0.0,
        signal=float(elements),
        unit="elements",
        what="elements that do not fall with their unit",
    )


def _drops_by_value(law: Law, x: Tensor, score: Tensor) -> Tensor:
    """Noise of the declared rate whose order follows the score of each unit, half of the time."""
    honest = torch.rand(score.shape, device=x.device) < 0.5
    ranks = score.flatten().argsort().argsort().reshape(score.shape)
    by_value = ranks < law.keep * score.numel()
    by_chance = torch.rand(score.shape, device=x.device) >= law.p
    return torch.where(honest, by_chance, by_value)


class drops_large_values_first(Declared):
    def noise(self, x: Tensor) -> Tensor:
        cut = tuple(slice(0, size) for size in self.unit_shape(x))
        kept = _drops_by_value(self.law, x, x[cut].detach().abs())
        return (2 * kept - 1).to(x.dtype) if self.law.noise == "gaussian" else kept.to(x.dtype)


class drops_negative_values_first(Declared):
    def noise(self, x: Tensor) -> Tensor:
        cut = tuple(slice(0, size) for size in self.unit_shape(x))
        kept = _drops_by_value(self.law, x, -x[cut].detach())
        return (2 * kept - 1).to(x.dtype) if self.law.noise == "gaussian" else kept.to(x.dtype)


@check(
    kind="dropout",
    options={"block": False},
    rejects=[
        broken(drops_large_values_first),
        broken(drops_negative_values_first),
    ],
    tags=["statistical"],
    once=True,
)
def mask_ignores_the_values(subject: Implementation, case: Case) -> Evidence:
    """Which units fall does not depend on what they hold.

    Fisher's exact test between "kept" and "above the median", for x and for |x|, over 6,000 units
    with Bonferroni's correction. A shared unit is represented by its first element.
    Source: Srivastava et al., Dropout, JMLR 15, 2014, §4: the mask is drawn independently of x.
    """
    subject = where_it_shows(subject)
    law = law_of(subject)

    def test(stream: Stream, n: int) -> Finding:
        x, y = sample(subject, case, law, stream.torch(), n)
        kept = law.kept(x, y)
        scores = (x, x.abs())
        return bonferroni([independence(kept, score > score.median()) for score in scores])

    what = "correlation of mask and value"
    n = affordable(subject, case, law, N * case.profile.effort)
    return three_strikes(case.root, case.claim, n, test, what=what)
