"""A bigger batch points closer to the full gradient, by the law of a finite population."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import stats as laws
from torch import Tensor
from torch.utils.data import TensorDataset

from dlcheck.checks.loader.altered import reordered
from dlcheck.checks.loader.each_row_once import draws_rows_with_replacement
from dlcheck.checks.loader.epochs import iterate_epochs, keeps_all
from dlcheck.checks.loader.uniform_shuffle import shuffles_whole_batches_only
from dlcheck.datasets import digits
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, detectable, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _CLASSES = 128, 10
_SIZES = (8, 32, 96)
_PASSES = 12  # epochs of each batch size in the first strike


@dataclass(frozen=True, slots=True)
class Population:
    """The per-sample gradients of a small model on N rows, and what follows from them.

    Softmax regression on digits: gᵢ = (pᵢ − e_{yᵢ}) ⊗ (xᵢ, 1), so that a batch's gradient needs
    no autograd: (P − Y)ᵀ(X, 1) / B.
    """

    x: Tensor  # [N, 64], sorted by class: an order that is kept shows
    y: Tensor  # [N]
    weights: Tensor  # [10, 65], partly trained
    full: Tensor  # G [10, 65]
    trace: float  # tr Σ = (1/N) Σ ‖gᵢ − G‖²

    def variance(self, size: int) -> float:
        """E ‖g_B − G‖² = (tr Σ/B)(N − B)/(N − 1) for B rows without replacement."""
        rows = len(self.x)
        return self.trace / size * (rows - size) / (rows - 1)

    def cosine(self, size: int) -> float:
        """⟨g_B, G⟩ / (‖G‖ √E‖g_B‖²) in expectation: 1/√(1 + Var(g_B)/‖G‖²)."""
        return 1 / math.sqrt(1 + self.variance(size) / float(self.full.square().sum()))

    @property
    def noise_scale(self) -> float:
        """B_n = tr Σ/‖G‖² (McCandlish et al. 2018, equation 2.9)."""
        return self.trace / float(self.full.square().sum())


def errors(weights: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """p − e_y and (x, 1), of which each per-sample gradient is the outer product.

    x [..., d], y [...] → [..., k], [..., d + 1].
    """
    inputs = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
    chances = torch.softmax(inputs @ weights.T, dim=-1)
    return chances - torch.nn.functional.one_hot(y, _CLASSES), inputs


def gradient(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """∇ of the mean cross-entropy of softmax(W(x, 1)): x [..., B, d], y [..., B] → [..., k, d + 1].

    Leading dims are further batches.
    """
    wrong, inputs = errors(weights, x, y)
    return wrong.mT @ inputs / y.shape[-1]


@functools.cache
def spread(size: int) -> float:
    """Standard deviation of an epoch's mean of ‖g_B − G‖² over the law, under the claim.

    Measured on 1000 permutations of our own, to 2 %.
    """
    law, generator = population(), torch.Generator().manual_seed(0)
    means = []
    for _ in range(20):
        epochs = torch.stack([torch.randperm(_ROWS, generator=generator) for _ in range(50)])
        batches = epochs[:, : _ROWS // size * size].view(50, -1, size)
        g = gradient(law.weights, law.x[batches], law.y[batches])
        means.append((g - law.full).square().sum((-1, -2)).mean(1) / law.variance(size))
    return float(torch.cat(means).std())


@functools.cache
def population(rows: int = _ROWS, steps: int = 30) -> Population:
    """128 digits, sorted by class, and a model after 30 steps of full gradient descent."""
    table = digits()
    x, y = table.x[:rows], table.y[:rows]
    order = torch.argsort(y, stable=True)
    x, y = x[order], y[order]
    weights = torch.zeros(_CLASSES, x.shape[1] + 1, dtype=torch.float64)
    for _ in range(steps):
        weights = weights - 0.5 * gradient(weights, x, y)
    full = gradient(weights, x, y)
    wrong, inputs = errors(weights, x, y)
    # ‖e ⊗ z‖² = ‖e‖²‖z‖², and (1/N) Σ‖gᵢ − G‖² = (1/N) Σ‖gᵢ‖² − ‖G‖²
    squares = wrong.square().sum(1) * inputs.square().sum(1)
    trace = float(squares.mean() - full.square().sum())
    return Population(x, y, weights, full, trace)


@reordered
def deals_classes_evenly(rows: int, epoch: int, size: int) -> Sequence[int]:
    # Every k-th row of the sorted data: each batch holds all classes in proportion.
    count = max(rows // size, 1)
    parts = [list(range(start, rows, count)) for start in range(count)]
    parts = [parts[i] for i in torch.randperm(count).tolist()]
    return [i for part in parts for i in part]


@reordered
def keeps_neighbours_together(rows: int, epoch: int, size: int) -> Sequence[int]:
    return [i for s in torch.randperm(rows // 4).tolist() for i in range(4 * s, 4 * s + 4)]


@check(
    kind="loader",
    forbids={"with_replacement", "endless", "repacks", "stochastic"},
    options={"shuffle": [True]},
    tags=["statistical"],
    rejects=[
        draws_rows_with_replacement,
        shuffles_whole_batches_only,
        deals_classes_evenly,
        keeps_neighbours_together,
    ],
    once=True,
    textbook={
        "id": "B4",
        "says": "A bigger batch gives a more accurate direction and less oscillation",
        "verdict": "true",
    },
)
def batch_gradients_follow_the_law(subject: Implementation, case: Case) -> Evidence:
    """A batch gradient has the variance (tr Σ/B)(N − B)/(N − 1) around the full gradient.

    Per-sample gradients of softmax regression on 128 digits, sorted by class; batches of 8, 32
    and 96 as the loader makes them. The batches of one epoch share its permutation and
    depend on each other; each is a uniform sample without replacement, so the mean of
    ‖g_B − G‖² over the full batches of an epoch has exactly that expectation, and epochs are
    independent: its mean over 12 epochs a size is held to a gamma law of the spread that our own
    permutations have; Bonferroni over sizes, three strikes. Rows drawn
    with replacement miss the factor (N − B)/(N − 1), which is ¼ at B = 96.
    Source: Cochran, Sampling Techniques, theorem 2.2; McCandlish et al. 2018; TEXTBOOK B4.
    """
    torch.set_num_threads(1)  # small products gain nothing from more
    law = population()
    dataset = TensorDataset(law.x.to(case.dtype), law.y.clone())  # sixteenths: exact in any dtype
    refuse_other_columns(case)
    given, name = keeps_all(subject), subject.options.get("seed")
    seen: dict[int, list[tuple[float, float]]] = {}

    def sample(stream: Stream, n: int) -> Finding:
        findings = []
        for size in _SIZES:
            seed = {name: (stream.seed + size) % 2**31} if isinstance(name, str) else {}
            passes = iterate_epochs(subject, dataset, size, n, {**given, **seed})
            seen[size] = [_deviation(epoch.batches, size, law) for epoch in passes]
            relative = [square / law.variance(size) for square, _ in seen[size]]
            findings.append(_held_to_the_law(relative, size))
        return bonferroni(findings)

    n = _PASSES * case.profile.effort
    evidence = three_strikes(
        case.root,
        case.claim,
        n,
        sample,
        what="variance of the batch gradient over the law's",
        unit="of the law",
        cause="batches are no uniform samples without replacement",
        resolution=1.0,  # what breaks the law multiplies the variance
        values={"B_n": law.noise_scale, "tr Σ": law.trace, "N": float(_ROWS)},
    )
    return replace(evidence, figures=tuple(_figures(seen, law)))


def _held_to_the_law(relative: Sequence[float], size: int) -> Finding:
    """The mean of n numbers of mean 1 and known spread σ, positive and skewed: Γ(n/σ², σ²/n).

    A t test would take the wider spread of a wrong loader for noise.
    """
    n, sigma, found = len(relative), spread(size), float(np.mean(relative))
    null = laws.gamma(n / sigma**2, scale=sigma**2 / n)
    return Finding(
        p_value=min(1.0, 2 * float(min(null.cdf(found), null.sf(found)))),
        error=abs(found - 1),
        detectable=detectable(sigma, n),
        signal=1.0,
        n=n,
        expected=f"1 ± {sigma / math.sqrt(n):.2g}",
        got=f"{found:.4g}",
        where=f"B = {size}",
    )


def refuse_other_columns(case: Case) -> None:
    specs = list(case.specs.values())
    fits = (
        len(specs) == 2
        and specs[0].is_floating
        and [spec.element for spec in specs][1] == "label"
        and [len(spec.dims) for spec in specs] == [2, 1]
        and bool(specs[0].dims[1].name)
    )
    if not fits:
        raise NotApplicable('digits are { x = "float n d", y = "label[k] n" }; this loader is not')


def _deviation(
    batches: Sequence[tuple[Tensor, ...]], size: int, law: Population
) -> tuple[float, float]:
    """Means of ‖g_B − G‖² and of the cosine with G over an epoch's full batches."""
    full = [batch for batch in batches if len(batch[0]) == size]
    if not full:
        return math.nan, math.nan
    x, y = (torch.stack(column).cpu() for column in zip(*full, strict=True))
    g = gradient(law.weights, x.to(law.x), y.long())
    cosines = torch.cosine_similarity(g.flatten(1), law.full.flatten()[None], dim=1)
    return float((g - law.full).square().sum((1, 2)).mean()), float(cosines.mean())


def _figures(seen: Mapping[int, Sequence[tuple[float, float]]], law: Population) -> list[Figure]:
    """Variance and cosine against the batch, measured in the last strike and by the law."""
    measured = {size: [sum(part) / len(found) for part in zip(*found, strict=True)]
                for size, found in seen.items()}  # fmt: skip
    every = [2**i for i in range(7)] + [96, 127]
    with_replacement = [(float(b), law.trace / b) for b in every]
    return [
        Figure(
            title="Variance of the batch gradient",
            x="batch size B",
            y="E ‖g_B − G‖²",
            series={
                "measured": [(float(b), square) for b, (square, _) in measured.items()],
                "(tr Σ/B)(N − B)/(N − 1)": [(float(b), law.variance(b)) for b in every],
                "tr Σ/B, with replacement": with_replacement,
            },
            log_x=True,
            log_y=True,
            marks=("measured",),
            note=f"{_ROWS} digits, softmax regression, tr Σ = {law.trace:.3g}",
        ),
        Figure(
            title="Direction of the batch gradient",
            x="batch size B",
            y="cosine with the full gradient",
            series={
                "measured": [(float(b), cosine) for b, (_, cosine) in measured.items()],
                "1/√(1 + (B_n/B)(N − B)/(N − 1))": [(float(b), law.cosine(b)) for b in every],
            },
            log_x=True,
            marks=("measured",),
            note=f"B_n = {law.noise_scale:.3g}; the law holds for the ratio of expectations",
        ),
    ]
