"""L2 shrinks the weights and zeroes none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.broken import (
    clips_its_gradient,
    clips_large_weights,
    decays_toward_a_constant,
    forgets_the_absolute_value,
    ignores_negative_weights,
    penalises_a_copy,
    saturates,
    squares_twice,
    takes_the_mean,
    takes_the_root,
)
from dlcheck.checks.penalty.paths import restless, ridge_norms, ridge_path
from dlcheck.checks.penalty.regression import (
    DATA,
    law_here,
    penalty_of_vector,
    regression,
    ridge_solution,
    slope_of,
    verified_ridge,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure
from dlcheck.mutants import scaled_gradient, scaled_value
from dlcheck.numerics.least_squares import LeastSquares
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_STRENGTHS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
_GAP = 1e-13  # relative distance at which descent may stop


@check(
    kind="penalty",
    options={"norm": [2]},
    dtypes=["float64"],
    once=True,
    textbook={
        "id": "R2",
        "says": "L2 shrinks the weights",
        "verdict": "true if",
        "condition": "their norm is meant: single weights may grow and change sign on the way",
    },
    rejects=[
        scaled_value(2.0),
        scaled_gradient(0.5),
        scaled_gradient(-1.0),
        takes_the_root,
        takes_the_mean,
        squares_twice,
        saturates,
        ignores_negative_weights,
        forgets_the_absolute_value,
        decays_toward_a_constant,
        clips_large_weights,
        clips_its_gradient,
        penalises_a_copy,
    ],
)
def shrinks_weights(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Trained with this penalty, least squares gives ridge's weights: smaller, never zero.

    f(w) = 1/(2n)‖Xw − y‖² with s·P, s such that λ₂ runs from 30 to 0.1. On diabetes, gradient
    descent through the subject's own gradient ends at the closed form V diag(s/(s² + nλ₂)) Uᵀy,
    which is scikit-learn's Ridge(alpha = nλ₂); on breast_cancer that closed form is stationary.
    Along the path ‖w(λ)‖ falls strictly, and no weight is exactly zero. The norm, not each
    weight: some of diabetes' ten grow on the way, and change their sign.

    Bounds: k steps of size 2/(L + μ + 2λ₂) leave ((L − μ)/(L + μ + 2λ₂))^k of the distance, and
    the rounding of a gradient moves its zero by itself over μ + λ₂.
    Source: Hoerl & Kennard, Technometrics 12(1), 1970, §2; Hastie, Tibshirani & Friedman, The
    Elements of Statistical Learning, 2009, §3.4.1; Nesterov, Introductory Lectures, 2004, §2.1.5.
    """
    penalty = penalty_of_vector(subject, case)
    weights = torch.zeros_like(regression(DATA[0], case.device).correlation)
    l2 = law_here(subject, penalty, weights).l2 or 0.0
    if not l2 > 0:
        raise NotApplicable(f"the strength of its L2 part is {l2:g}")
    for name in DATA:
        yield _stationary(penalty, regression(name, case.device), name, l2)
    path = []
    for strength in _STRENGTHS:
        weights, piece = _descended(penalty, strength / l2, strength, weights)
        path.append((strength, weights))
        yield piece
    yield from _shrinking(path)


def _stationary(
    penalty: Callable[[Tensor], Tensor], problem: LeastSquares, name: str, l2: float
) -> Evidence:
    """∇f + s∇P at ridge's closed form, worst over the strengths."""
    found = []
    for strength in _STRENGTHS:
        solution = ridge_solution(name, strength, problem.x.device)
        slope = strength / l2 * slope_of(penalty, solution)
        left = float((problem.gradient(solution) + slope).abs().max())
        # The closed form's own rounding, through singular values over σ_min² + nλ₂ …
        bound = 16 * problem.rounding(solution) * _condition(problem, strength)
        signal = float((strength * solution).abs().max())
        found.append((left, bound, signal, strength))
    left, bound, signal, strength = max(found, key=lambda row: (row[0] != row[0], row[0] / row[1]))
    return Evidence(
        error=left,
        bound=bound,
        signal=signal,
        unit="slope",
        what="gradient of f + P at ridge's closed form",
        expected="0",
        where=f"{name}, λ = {strength:g}",
        values=verified_ridge(name, strength, problem.x.device).said,
    )


def _condition(problem: LeastSquares, strength: float) -> float:
    low, high = problem.curvature
    return (high + strength) / (max(low, 0.0) + strength)


def _descended(
    penalty: Callable[[Tensor], Tensor], scale: float, strength: float, start: Tensor
) -> tuple[Tensor, Evidence]:
    """Gradient descent on f + sP from `start`, against ridge's closed form."""
    problem = regression(DATA[0], start.device)
    solution = ridge_solution(DATA[0], strength, start.device)
    low, high = problem.curvature
    ratio = (high - low) / (high + low + 2 * strength)
    steps = math.ceil(math.log(_GAP) / math.log(ratio))
    weights = start
    for _ in range(steps):
        slope = problem.gradient(weights) + scale * slope_of(penalty, weights)
        weights = weights - 2 / (high + low + 2 * strength) * slope
    distance = ratio**steps * float((start - solution).norm())
    # ‖w − argmin F‖ ≤ ‖∇F(w)‖ / (μ + λ₂), for the closed form as for what descent ends at.
    residual = float((problem.gradient(solution) + strength * solution).norm())
    residual += 8 * problem.rounding(solution)
    bound = distance + residual / (low + strength)
    return weights, Evidence(
        error=float((weights - solution).norm()),
        bound=bound,
        signal=float(solution.norm()),
        what="distance of the trained weights from ridge's closed form",
        expected=f"‖w‖ = {float(solution.norm()):.9g}",
        got=f"‖w‖ = {float(weights.norm()):.9g} after {steps} steps",
        where=f"{DATA[0]}, λ = {strength:g}",
    )


def _shrinking(path: list[tuple[float, Tensor]]) -> Iterator[Evidence]:
    """The norm along the path, from the strongest penalty to the weakest."""
    norms = [float(weights.norm()) for _, weights in path]
    rises = sum(not stronger < weaker for stronger, weaker in itertools.pairwise(norms))
    zeros = sum(int((weights == 0).sum()) for _, weights in path)
    device = path[0][1].device
    trained = [(strength, norm) for (strength, _), norm in zip(path, norms, strict=True)]
    yield Evidence(
        error=float(rises),
        bound=0.0,
        signal=float(len(norms) - 1),
        unit="steps",
        what="steps of a growing penalty in which the norm of the weights does not fall",
        got=f"{rises} of {len(norms) - 1}: " + ", ".join(f"{norm:.4g}" for norm in norms),
        figures=(
            ridge_path(DATA[0], device),
            Figure(
                title="Norm of the weights trained with the penalty",
                x="λ",
                y="‖w‖",
                series={"closed form": ridge_norms(DATA[0], device), "trained": trained},
                log_x=True,
                marks=("trained",),
            ),
        ),
    )
    yield Evidence(
        error=float(zeros),
        bound=0.0,
        signal=float(sum(len(weights) for _, weights in path)),
        unit="weights",
        what="weights that are exactly zero",
        got=f"{zeros} of {sum(len(weights) for _, weights in path)}",
    )
    if not rises:
        yield _single_weights(torch.stack([weights for _, weights in path]))


def _single_weights(path: Tensor) -> Evidence:
    """The counter-example: rows from the strongest penalty to the weakest, a column a weight."""
    sizes = path.abs()
    growing = int((sizes[:-1] > sizes[1:] * (1 + 1e-9)).any(0).sum())
    flips = int((path[:-1] * path[1:] < 0).any(0).sum())
    count = path.shape[1]
    closed = restless(DATA[0], path.device)
    return Evidence(
        error=float(growing == 0),
        bound=0.0,
        signal=1.0,
        what="whether every single weight shrinks as λ grows",
        expected="some grow",
        got=f"{growing} of {count} weights grow somewhere, {flips} change sign",
        where=DATA[0],
        values={
            "weights that grow somewhere from λ = 1e-4 to 1e3": f"{closed[0]} of {count}",
            "weights that change sign there": f"{closed[1]} of {count}",
        },
        counterexample=True,
    )
