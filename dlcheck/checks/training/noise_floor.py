"""With noisy gradients weights hover; how high says what a batch size is worth."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dlcheck.checks.training import wrong_loops as wrong
from dlcheck.checks.training.batches_of_digits import Rows, as_it_is
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure
from dlcheck.mutants import instead
from dlcheck.numerics.noisy_quadratic import NoisyQuadratic
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, three_strikes
from dlcheck.stats.tests import normal_variance
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SIZES = (1, 8, 32)
_STEPS = 24
_RATE = 0.5
_CURVES = (1.0, 0.5)
_RATES = tuple(np.geomspace(1e-3, 1.99, 120))
_TARGET = 0.02  # of the loss at the start
_EVERY = tuple(2**k for k in range(13))
PROBLEM = NoisyQuadratic(
    curvatures=tuple(1 / k for k in range(1, 101)), variances=tuple(float(k) for k in range(1, 101))
)


class Replicas(nn.Module):
    """Weights [r, 2] of r independent problems that one loop trains at once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, len(_CURVES), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight - x  # [b, r, 2]


def half_squares(deviation: Tensor, _: Tensor) -> Tensor:
    """½ Σ λ (w − x)² of each replica, summed over replicas, the mean over rows."""
    curves = torch.tensor(_CURVES, dtype=deviation.dtype, device=deviation.device)
    return 0.5 * (curves * deviation.square()).sum((1, 2)).mean()


def _rescaled(name: str, factor: Callable[[int], float]) -> Any:
    """A loop whose mean loss is multiplied by a factor of the rows."""

    def train(
        model: nn.Module,
        loader: Any,
        optimizer: Optimizer,
        loss: Callable[[Tensor, Tensor], Tensor],
        *,
        accumulate: int = 1,
        epochs: int = 1,
    ) -> None:
        for _ in range(epochs):
            for x, y in loader:
                optimizer.zero_grad()
                (factor(len(x)) * loss(model(x), y)).backward()
                optimizer.step()

    train.__name__ = name
    return instead(train)


sums_over_the_rows = _rescaled("sums_over_the_rows", float)
scales_by_the_root_of_the_batch = _rescaled(
    "scales_by_the_root_of_the_batch", lambda rows: rows**0.5
)
divides_by_the_default_batch = _rescaled("divides_by_a_fixed_batch_size", lambda rows: rows / 32)


@check(
    kind="training",
    forbids={
        "freezes",
        "replaces_head",
        "returns_average",
        "restores_best",
        "perturbed_gradient",
        "reduced_precision",
        "plain_sequential",
        "micro_batches",
    },
    dtypes=["float64"],
    tags=["statistical"],
    rejects=[
        sums_over_the_rows,
        scales_by_the_root_of_the_batch,
        divides_by_the_default_batch,
        wrong.forgets_zero_grad,
        wrong.reuses_the_first_batch,
    ],
    once=True,
    textbook={
        "id": "B6",
        "says": "A bigger batch makes fewer updates, so the same accuracy takes longer",
        "verdict": "true if",
        "condition": "time is counted in rows: below the critical batch size steps fall in "
        "proportion",
    },
)
def weights_hover_by_the_noise_law(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """On a noisy quadratic the weights come to hover with the variance ηc/(Bλ(2 − ηλ)).

    After t steps from 0 it is (1 − (1 − ηλ)^2t) of that, c = λ²v the noise of a gradient. Rows are
    normal numbers, so that the weights of plain SGD are exactly normal: 24 steps of batches of 1,
    8 and 32 fresh rows, 400 replicas in one model, λ = 1 and ½; a χ² test of each variance,
    Bonferroni, three strikes. From the same law the steps to a target at the best learning rate
    of every batch size: they fall, and the rows shown rise, with the batch.
    Source: Schaul, Zhang & LeCun, ICML 2013, §4; Zhang et al., NeurIPS 2019, equation 3.
    """
    if "model" in subject.options or "loss" in subject.options:
        raise NotApplicable("trains a model of its own, which is no quadratic")

    def test(stream: Stream, n: int) -> Finding:
        generator = stream.torch()
        found = [_held(subject, case, size, n, generator) for size in _SIZES]
        return bonferroni([each for pair in found for each in pair])

    evidence = three_strikes(
        case.root,
        case.claim,
        400 * case.profile.effort,
        test,
        what="variance of the weights after 24 steps",
        cause="the step of a batch is not η times its mean gradient",
    )
    steps = _steps_at_the_best_rate()
    yield replace(evidence, figures=_figures(steps))
    yield _of_the_law(steps)


def _held(
    subject: Implementation, case: Case, size: int, count: int, generator: torch.Generator
) -> list[Finding]:
    """One χ² test for each curvature."""
    x = torch.randn(_STEPS * size, count, len(_CURVES), generator=generator, dtype=torch.float64)
    model = Replicas(count).to(case.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=_RATE)
    rows = Rows(x.to(case.device), torch.zeros(len(x), device=case.device))
    loader: torch.utils.data.DataLoader[object] = torch.utils.data.DataLoader(
        rows, batch_size=size, collate_fn=as_it_is
    )
    subject(model, loader, optimizer, half_squares)
    return [
        replace(
            normal_variance(model.weight.detach()[:, j], _variance(curve, size)),
            where=f"B = {size}, λ = {curve:g}",
        )
        for j, curve in enumerate(_CURVES)
    ]


def _variance(curve: float, size: int) -> float:
    hovers = _RATE * curve / (size * (2 - _RATE * curve))  # ηλv/(B(2 − ηλ)), v = 1
    return hovers * (1 - (1 - _RATE * curve) ** (2 * _STEPS))


@functools.cache
def _steps_at_the_best_rate() -> dict[int, float]:
    """Batch size → the fewest steps to the target on `PROBLEM`: pure arithmetic, done once."""
    target = _TARGET * PROBLEM.loss(0.0, 1, 0)
    return {size: PROBLEM.best(target, size, _RATES)[0] for size in _EVERY}


def _of_the_law(steps: dict[int, float]) -> Evidence:
    """Steps never rise and rows never fall: counted over the neighbours of the grid."""
    sizes = list(steps)
    pairs = list(itertools.pairwise(sizes))
    rising = sum(steps[b] > steps[a] for a, b in pairs)
    falling = sum(b * steps[b] < a * steps[a] * (1 - 1 / steps[a]) for a, b in pairs)
    return Evidence(
        error=float(rising + falling),
        bound=0.0,
        signal=float(len(pairs)),
        unit="pairs",
        what="batch sizes where steps rise, or rows fall, with the batch",
        expected="none",
        got=f"steps {steps[sizes[0]]:,.0f} → {steps[sizes[-1]]:,.0f}, rows "
        f"{steps[sizes[0]]:,.0f} → {sizes[-1] * steps[sizes[-1]]:,.0f} for B = 1 → {sizes[-1]:,}",
        counterexample=True,
    )


def _figures(steps: dict[int, float]) -> tuple[Figure, ...]:
    return tuple(
        Figure(
            title=title,
            x="batch size B",
            y=unit,
            series={
                "at the best learning rate": [(float(b), s * factor(b)) for b, s in steps.items()]
            },
            log_x=True,
            log_y=True,
            note="a noisy quadratic, exact in expectation: λ = 1/k, k = 1…100",
        )
        for title, unit, factor in (
            ("Steps to a target on a noisy quadratic", "steps", lambda b: 1.0),
            ("Rows to a target on a noisy quadratic", "rows", float),
        )
    )
