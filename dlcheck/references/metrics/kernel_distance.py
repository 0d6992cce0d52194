"""The kernel distance of two feature sets (KID): a maximum mean discrepancy, squared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from dlcheck.references.metrics.feature_sets import compared_sets, must_be_finite
from dlcheck.registry import reference

_TILE = 1024  # rows: a tile of the kernel's matrix has 8 MB
_ROWS = 10_000  # beyond them the kernel's matrix is left out but for blocks of so many rows
ESTIMATORS = ("unbiased", "biased")


class KernelDistance(NamedTuple):
    """Mean and standard deviation over the subsets (or blocks); one subset has deviation 0."""

    mean: Tensor
    deviation: Tensor


@reference(
    kind="distribution_metric",
    formula="mean k(aᵢ, aⱼ) + mean k(bᵢ, bⱼ) − 2 mean k(aᵢ, bⱼ), i ≠ j;  k(x, y) = (xᵀy/d + 1)³",
    source="Bińkowski et al., Demystifying MMD GANs, ICLR 2018, §4; Gretton et al., A Kernel "
    "Two-Sample Test, JMLR 13, 2012, lemma 6",
    inputs={"a": "float n d", "b": "float m d"},
    args={"estimator": "unbiased"},
    traits=["symmetric"],
    options={
        "estimator": "estimator",
        "degree": "degree",
        "gamma": "gamma",
        "coef0": "coef0",
        "better": "lower",
        "sizes": {"n": [2, 17], "m": [2, 17]},
    },
)
def kernel_inception_distance(
    a: Tensor,
    b: Tensor,
    estimator: str = "unbiased",
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    subsets: int | None = None,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """MMD² of the rows of a [n, d] and b [m, d] with k(x, y) = (γ xᵀy + c)^degree, γ = 1/d.

    In float64 whatever the features are; the mean [] and deviation [] over subsets. The unbiased
    estimator leaves k(x, x) out, needs n, m ≥ 2, and is negative about half of the time for equal
    laws; the biased one keeps it and is ≥ 0. Without `subsets` all rows count: beyond 10⁴, blocks
    of so many, shuffled with `seed`, whose mean is unbiased too. With `subsets` each takes
    `subset_size` rows of both sets without replacement, as the literature reports it.

    Raises ValueError for an unknown estimator, NaN, infinity, other widths or devices, too few
    rows, and TypeError for what holds no real numbers.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is {' or '.join(ESTIMATORS)}, not {estimator!r}")
    if subsets is not None and subsets < 1:
        raise ValueError(f"subsets is {subsets}; give at least 1, or None for all rows")
    least = subset_size if subsets is not None else 2 if estimator == "unbiased" else 1
    compared_sets(a, b, least=least)
    must_be_finite("first", a)
    must_be_finite("second", b)
    scale = 1 / a.shape[1] if gamma is None else gamma
    kernel = _Kernel(degree, scale, coef0)
    # A mean over blocks has the bias of a block: only the unbiased estimator is cut.
    whole = _blocks(a, b, seed) if estimator == "unbiased" else iter([(a, b)])
    parts = whole if subsets is None else _subsets(a, b, subsets, subset_size, seed)
    values = torch.stack([_discrepancy(x, y, kernel, estimator) for x, y in parts])
    return KernelDistance(values.mean(), values.std(correction=0))


class StreamingKernelInceptionDistance:
    """The same by update(a, b), compute(), merge(other) and reset(): it keeps the rows.

    `settings` are the keyword arguments of `kernel_inception_distance`.
    """

    def __init__(self, **settings: object) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        self._first: list[Tensor] = []
        self._second: list[Tensor] = []

    def update(self, a: Tensor, b: Tensor) -> None:
        """Take copies of rows a [n, d] and b [m, d]; one of the two may be empty. Raises as
        `kernel_inception_distance` does, and then nothing of the batch is taken."""
        compared_sets(a, b, least=0)
        self._must_have_width("this batch has", a.shape[1])
        must_be_finite("first", a)
        must_be_finite("second", b)
        self._first.append(a.detach().clone())  # read much later: no graph is kept
        self._second.append(b.detach().clone())

    def merge(self, other: StreamingKernelInceptionDistance) -> None:
        """Take what the other saw, as if it had been given here.

        Raises ValueError where its settings or its width are others.
        """
        if self.settings != other.settings:
            raise ValueError(
                f"this stream has the settings {self.settings} and the other {other.settings}; "
                "merge streams of one metric"
            )
        if other._first:
            self._must_have_width("the other stream has", other._first[0].shape[1])
        self._first += other._first
        self._second += other._second

    def _must_have_width(self, whose: str, width: int) -> None:
        if self._first and width != self._first[0].shape[1]:
            raise ValueError(
                f"{whose} {width} features and those before had {self._first[0].shape[1]}; reset() "
                "before another network's features"
            )

    def state_dict(self) -> dict[str, Tensor]:
        """All rows of both sides; empty before the first update."""
        if not self._first:
            return {}
        return {"first": torch.cat(self._first), "second": torch.cat(self._second)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.reset()
        if state:
            self._first, self._second = [state["first"].clone()], [state["second"].clone()]

    def compute(self) -> KernelDistance:
        if not self._first:
            raise ValueError("no rows were given: call update() before compute()")
        compute: Callable[..., KernelDistance] = kernel_inception_distance
        return compute(torch.cat(self._first), torch.cat(self._second), **self.settings)


class _Kernel(NamedTuple):
    degree: int
    gamma: float
    coef0: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """k(xᵢ, yⱼ) [n, m]."""
        products = x @ y.mT
        return products.mul_(self.gamma).add_(self.coef0).pow_(self.degree)


def _discrepancy(a: Tensor, b: Tensor, kernel: _Kernel, estimator: str) -> Tensor:
    a, b = a.double(), b.double()
    cross = sum(
        (kernel(x, y).sum() for x in a.split(_TILE) for y in b.split(_TILE)), a.new_zeros(())
    )
    own = _mean_within(a, kernel, estimator) + _mean_within(b, kernel, estimator)
    return own - 2 * cross / (len(a) * len(b))


def _mean_within(rows: Tensor, kernel: _Kernel, estimator: str) -> Tensor:
    """The mean of k(xᵢ, xⱼ), without i = j where it is to be unbiased.

    The diagonal is never added rather than taken away again: it is the largest part.
    """
    total, n = rows.new_zeros(()), len(rows)
    tiles = rows.split(_TILE)
    for i, x in enumerate(tiles):
        own = kernel(x, x)
        total += own.sum() if estimator == "biased" else own.fill_diagonal_(0).sum()
        for y in tiles[i + 1 :]:
            total += 2 * kernel(x, y).sum()
    return total / (n * n if estimator == "biased" else n * (n - 1))


def _blocks(a: Tensor, b: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Both sets whole, or shuffled and cut into equally many blocks of about 10⁴ rows."""
    count = -(-max(len(a), len(b)) // _ROWS)
    if count == 1 or min(len(a), len(b)) < 2 * count:
        yield a, b
        return
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(x), generator=generator).to(x.device) for x in (a, b)]
    for one, two in zip(*(order.tensor_split(count) for order in orders), strict=True):
        yield a[one], b[two]


def _subsets(
    a: Tensor, b: Tensor, count: int, size: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        one, two = (torch.randperm(len(x), generator=generator)[:size] for x in (a, b))
        yield a[one.to(a.device)], b[two.to(b.device)]
