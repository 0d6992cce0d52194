"""DropBlock: squares fall together, and together they cover the declared share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.dropout.draws import answer, is_free
from dlcheck.checks.dropout.law import Law, law_of
from dlcheck.checks.dropout.moments import DROP_BLOCK
from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, mean, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

ROWS = 2_000  # samples, each with squares of its own
_LONGEST = 12  # of a spatial axis, where it is free
_POOLS = {1: nn.functional.max_pool1d, 2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}


class _Blocks(nn.Module):
    """DropBlock with squares that lie inside; subclasses override one step."""

    def __init__(self, p: float = 0.1, block_size: int = 3) -> None:
        super().__init__()
        self.p, self.block_size = p, block_size

    def rate(self, h: int, w: int) -> float:
        """γ, with which a square starts at each place."""
        k = self.block_size
        return self.p / k**2 * (h * w) / ((h - k + 1) * (w - k + 1))

    def squares(self, starts: Tensor) -> Tensor:
        k = self.block_size
        return nn.functional.max_pool2d(nn.functional.pad(starts, [k - 1] * 4), k, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        b, c, h, w = x.shape
        k = self.block_size
        places = (b, c, h - k + 1, w - k + 1)
        starts = (torch.rand(places, device=x.device) < self.rate(h, w)).to(x.dtype)
        kept = 1 - self.squares(starts)
        return x * kept * kept.numel() / kept.sum()


class forgets_the_area(_Blocks):
    """γ = p: every element that is drawn takes a whole square with it."""

    def rate(self, h: int, w: int) -> float:
        return self.p


class divides_by_the_side(_Blocks):
    """γ = p/k for p/k²."""

    def rate(self, h: int, w: int) -> float:
        return self.p / self.block_size


class forgets_the_borders(_Blocks):
    """γ = p/k² though fewer squares fit than there are elements."""

    def rate(self, h: int, w: int) -> float:
        return self.p / self.block_size**2


class takes_the_rate_of_keeping(_Blocks):
    def rate(self, h: int, w: int) -> float:
        k = self.block_size
        return (1 - self.p) / k**2 * (h * w) / ((h - k + 1) * (w - k + 1))


class drops_smaller_squares(_Blocks):
    """A window of k − 1."""

    def squares(self, starts: Tensor) -> Tensor:
        k = self.block_size
        grown = nn.functional.max_pool2d(nn.functional.pad(starts, [k - 2] * 4), k - 1, 1)
        return nn.functional.pad(grown, [0, 1, 0, 1])


class drops_rows_of_squares(_Blocks):
    """One axis of the window is 1."""

    def squares(self, starts: Tensor) -> Tensor:
        k = self.block_size
        padded = nn.functional.pad(starts, [k - 1] * 4)[..., : -(k - 1), :]
        return nn.functional.max_pool2d(padded, (1, k), 1)


class drops_elements_alone(_Blocks):
    """The squares are forgotten."""

    def squares(self, starts: Tensor) -> Tensor:
        k = self.block_size
        return nn.functional.pad(starts, [0, k - 1, 0, k - 1])


class cuts_its_squares(_Blocks):
    """Every square has a hole, as of a mask that is multiplied by another one."""

    def squares(self, starts: Tensor) -> Tensor:
        whole = super().squares(starts)
        return whole * (torch.rand_like(whole) < 0.99).to(whole)


_DECLARED: dict[str, Any] = {
    "kind": "dropout",
    "args": {"p": 0.1, "block_size": 3},
    "inputs": {"x": "float b c h w"},
    "traits": frozenset({"stochastic"}),
    "options": {
        "p": "p",
        "rescale": "realized",
        "block": "block_size",
        "sizes": {"h": [5, 12], "w": [5, 12]},
    },
}


def _subject(target: type[nn.Module]) -> Subject:
    return Subject(name=target.__name__, target=target, **_DECLARED)


def _dropped(subject: Implementation, case: Case, law: Law, rows: int) -> Tensor:
    """Which elements of so many samples fell: [rows, c, …], bool, of the largest maps allowed."""
    name = case.floating[0]
    dims = case.specs[name].dims
    if not 3 <= len(dims) <= 5:
        raise NotApplicable("has no maps [b, c, …] in which a block could fall")
    shape = list(case.inputs[name].shape)
    for axis in range(2, len(dims)):
        bounds = size_bounds(subject.options, dims[axis].name)
        if dims[axis].name and dims[axis].times == 1:
            shape[axis] = min(_LONGEST, bounds[1]) if bounds else _LONGEST
    calls = 1
    if is_free(subject, case, 0) or size_bounds(subject.options, dims[0].name) is None:
        shape[0], shape[1] = rows, shape[1] if 1 in law.axes else 1
    else:
        calls = math.ceil(rows / shape[0])
    x = torch.ones(shape, dtype=case.dtype, device=case.device)
    found = [answer(subject, case, x, "train") == 0 for _ in range(calls)]
    return torch.cat(found)[:rows]


def _side(subject: Implementation, dropped: Tensor) -> list[int]:
    block = int(subject.argument("block"))
    return [min(block, size) for size in dropped.shape[2:]]


@check(
    kind="dropout",
    options={"block": True},
    rejects=[
        _subject(drops_smaller_squares),
        _subject(drops_rows_of_squares),
        _subject(drops_elements_alone),
        _subject(cuts_its_squares),
    ],
    accepts=[DROP_BLOCK, _subject(_Blocks)],
    once=True,
)
def it_drops_whole_blocks(subject: Implementation, case: Case) -> Evidence:
    """Every element that falls lies in a square of the declared side that fell as a whole.

    What fell is opened by the square (eroded, then grown by it) and must come back as it was;
    beyond the border everything counts as fallen, since squares may reach over it. Exact: the
    error counts elements. Source: Ghiasi, Lin & Le, DropBlock, NeurIPS 2018, algorithm 1.
    """
    law = law_of(subject)
    dropped = _dropped(subject, case, law, 500).to(case.dtype)
    side = _side(subject, dropped)
    around = [k - 1 for k in reversed(side) for _ in (0, 1)]
    pool = _POOLS[len(side)]
    eroded = -pool(-nn.functional.pad(dropped, around, value=1.0), side, 1)
    grown = pool(nn.functional.pad(eroded, around, value=0.0), side, 1)
    opened = grown
    for axis, k in enumerate(side, start=2):
        opened = opened.narrow(axis, k - 1, dropped.shape[axis])
    if not bool(dropped.any()):
        raise NotApplicable("nothing fell in 500 samples")
    return Evidence(
        error=float((opened != dropped).sum()),
        bound=0.0,
        signal=float(dropped.sum()),
        unit="elements",
        what=f"elements that fell outside of a block of {' × '.join(map(str, side))}",
    )


@check(
    kind="dropout",
    options={"block": True, "p": True},
    rejects=[
        _subject(forgets_the_area),
        _subject(divides_by_the_side),
        _subject(forgets_the_borders),
        _subject(takes_the_rate_of_keeping),
    ],
    accepts=[DROP_BLOCK, _subject(_Blocks)],
    tags=["statistical"],
    once=True,
)
def blocks_cover_the_declared_share(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The share that falls is p, less the overlap of blocks, more what they reach over the border.

    A place that n blocks could cover falls with probability 1 − (1 − γ)ⁿ, which lies between
    nγ − (nγ)²/2 and nγ. With γ = p/k² · HW/((H − k + 1)(W − k + 1)) the mean of nγ is p where
    blocks lie inside, and no nγ is above c = p · HW/((H − k + 1)(W − k + 1)), also where they may
    reach over the border: so the mean share is between p(1 − c/2) and c. A t test of the nearest
    end over the shares of 2,000 samples, by three strikes.
    Source: Ghiasi, Lin & Le, DropBlock, NeurIPS 2018, eq. 1.
    """
    law = law_of(subject)
    shape = _dropped(subject, case, law, 2)
    side = _side(subject, shape)
    fitting = math.prod((n - k + 1) / n for k, n in zip(side, shape.shape[2:], strict=True))
    high = law.p / fitting
    low = max(law.p * (1 - high / 2), 0.0)
    if high >= 0.5:
        raise NotApplicable(f"at p = {law.p:g} blocks fill maps of this size")

    def test(stream: Stream, n: int) -> Finding:
        shares = _dropped(subject, case, law, n).double().flatten(1).mean(1)
        centre = float(shares.mean())
        nearest = min(max(centre, low), high)
        return mean(shares, nearest, signal=law.p)

    n = ROWS * case.profile.effort
    what = f"share that falls, between {low:.4g} and {high:.4g}"
    yield three_strikes(case.root, case.claim, n, test, what=what)
