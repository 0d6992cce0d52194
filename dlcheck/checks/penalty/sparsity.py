"""L1 holds weights at exactly zero."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.broken import (
    clips_its_gradient,
    clips_large_weights,
    forgets_the_absolute_value,
    ignores_negative_weights,
    penalises_a_copy,
    rounds_off_near_zero,
    smooths_the_kink,
    squares_twice,
    takes_the_mean,
    takes_the_root,
)
from dlcheck.checks.penalty.law import Law, rounding
from dlcheck.checks.penalty.regression import (
    DATA,
    law_here,
    penalty_of_vector,
    regression,
    slope_of,
    sparse_solution,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure
from dlcheck.mutants import scaled_gradient, scaled_value
from dlcheck.numerics.least_squares import LeastSquares, elastic_net
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_FRACTIONS = (0.5, 0.1, 0.02)  # of λ_max, from which on every weight is 0
_SHOWN = f"{DATA[0]}, λ = 0.1 λ_max"  # the evidence that carries the figure


@check(
    kind="penalty",
    options={"norm": [1, [1, 2], [2, 1]]},
    dtypes=["float64"],
    once=True,
    rejects=[
        smooths_the_kink,
        rounds_off_near_zero,
        takes_the_root,
        takes_the_mean,
        squares_twice,
        ignores_negative_weights,
        forgets_the_absolute_value,
        clips_large_weights,
        clips_its_gradient,
        penalises_a_copy,
        scaled_value(2.0),
        scaled_gradient(2.0),
    ],
)
def zeroes_weights_exactly(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Least squares with this penalty has its minimum where weights are exactly zero.

    On diabetes and breast_cancer, f(w) = 1/(2n)‖Xw − y‖², at three strengths (the subject's
    penalty is multiplied by s so that sλ₁ = .5, .1, .02 λ_max), at the solution w* on which
    FISTA and scikit-learn's Lasso or ElasticNet agree. Through the subject alone: where w*ⱼ = 0
    both one-sided slopes of sP, from its values, are λ₁, and at least |∂ⱼf|: the kink that holds
    the weight at zero; where w*ⱼ ≠ 0 the subject's gradient balances ∂ⱼf; its subgradients at
    zeros stay within λ₁. Bounds: rounding of P over the step, of Hw for gradients.

    The values tell the other half: subgradient descent with the same penalty makes weights small
    and none exactly zero; zeros need a proximal step.
    Source: Tibshirani 1996; Hastie, Tibshirani & Wainwright, Statistical Learning with Sparsity,
    2015, eq. 2.6 (the KKT conditions).
    """
    penalty = penalty_of_vector(subject, case)
    for name in DATA:
        problem = regression(name, case.device)
        law = law_here(subject, penalty, problem.correlation)
        assert law.l1 is not None
        assert law.l2 is not None
        if not law.l1 > 0:
            raise NotApplicable(f"the strength of its L1 part is {law.l1:g}")
        for fraction in _FRACTIONS:
            scale = fraction * problem.largest_penalty / law.l1
            solution = sparse_solution(name, fraction, law.l2 / law.l1, case.device)
            where = f"{name}, λ = {fraction:g} λ_max"
            yield _kink(penalty, problem, solution, law, scale, where)
            yield from _balance(penalty, problem, solution, law, scale, where)


def _kink(
    penalty: Callable[[Tensor], Tensor],
    problem: LeastSquares,
    solution: Tensor,
    law: Law,
    scale: float,
    where: str,
) -> Evidence:
    """One-sided slopes of sP at the zero weights against λ₁ (+ λ₂h/2, the curvature's share)."""
    assert law.l1 is not None
    assert law.l2 is not None
    step = float(solution.abs().max()) * 2.0**-10
    base = float(penalty(solution))
    expected = scale * (law.l1 + law.l2 * step / 2)
    zeros = [j for j, w in enumerate(solution.tolist()) if w == 0]
    slopes = {
        (j, sign): scale * (float(penalty(_moved(solution, j, sign * step))) - base) / step
        for j in zeros
        for sign in (1, -1)
    }
    forces = problem.gradient(solution).tolist()
    (j, sign), got = max(
        slopes.items(), key=lambda item: (item[1] != item[1], abs(item[1] - expected))
    )
    held = min(slopes[j, sign] + sign * forces[j] for j, sign in slopes)
    relative = rounding(len(solution), torch.float64)
    return Evidence(
        error=abs(got - expected),
        bound=2 * relative * scale * (base + expected * step) / step,
        signal=expected,
        unit="slope",
        what="one-sided slope of the penalty at a zero weight",
        expected=f"λ₁ = {expected:.9g}, which holds the weight against {abs(forces[j]):.4g}",
        got=f"{got:.9g} toward {'+' if sign > 0 else '−'}",
        where=f"{where}, weight {j}",
        cause="a smoothed |w| has no kink, so no weight stays at zero" if got < expected else "",
        values={
            "zeros": f"{len(zeros)} of {len(solution)}",
            "least slack": held,
            **_by_descent(penalty, problem, solution, scale),
        },
        figures=(lasso_path(DATA[0], problem.x.device),) if where == _SHOWN else (),
    )


def _moved(weights: Tensor, index: int, by: float) -> Tensor:
    moved = weights.clone()
    moved[index] += by
    return moved


def _balance(
    penalty: Callable[[Tensor], Tensor],
    problem: LeastSquares,
    solution: Tensor,
    law: Law,
    scale: float,
    where: str,
) -> Iterator[Evidence]:
    """∇f + s∇P: 0 at the weights that are not zero, and within λ₁ at those that are."""
    assert law.l1 is not None
    slope = scale * slope_of(penalty, solution)
    force = problem.gradient(solution)
    limit = scale * law.l1
    active, resting = solution != 0, solution == 0
    # The gradient's rounding and the residual of the solution, which balances no better.
    bound = 4 * problem.rounding(solution)
    yield Evidence(
        error=float((force + slope).abs()[active].max()),
        bound=bound,
        signal=limit,
        unit="slope",
        what="gradient of f + P at the non-zero weights of the solution",
        expected="0",
        where=where,
    )
    excess = (slope[resting].abs() - limit).clamp(min=0)
    yield Evidence(
        error=float(excess.max()),
        bound=bound,
        signal=limit,
        unit="slope",
        what="excess of the subgradient over λ₁ at zero weights",
        where=where,
    )


def _by_descent(
    penalty: Callable[[Tensor], Tensor],
    problem: LeastSquares,
    solution: Tensor,
    scale: float,
    steps: int = 300,
) -> dict[str, float | str]:
    """What plain subgradient descent with falling steps comes to: small weights, no zeros."""
    weights = torch.full_like(solution, 0.01)
    for k in range(steps):
        step = 1 / (problem.curvature[1] * (1 + k / 20))
        weights = weights - step * (problem.gradient(weights) + scale * slope_of(penalty, weights))
    left = weights[solution == 0].abs()
    return {
        "zeros by subgradient descent": f"{int((weights == 0).sum())} of {len(weights)}",
        "largest weight there that should be zero": float(left.max()),
    }


@functools.cache
def lasso_path(name: str, device: torch.device, points: int = 40) -> Figure:
    """The coefficients of the lasso against λ, from λ_max down to a thousandth of it."""
    problem = regression(name, device)
    ends = torch.logspace(0, -3, points, dtype=torch.float64)
    weights = torch.zeros_like(problem.correlation)
    rows = []
    for fraction in ends.tolist():
        strength = fraction * problem.largest_penalty
        weights = elastic_net(problem, strength, start=weights)
        rows.append((strength, weights.tolist()))
    zeros = [sum(w == 0 for w in row) for _, row in rows]
    return Figure(
        title=f"Lasso path on {name}",
        x="λ",
        y="weight",
        series={
            f"w{j}": [(strength, row[j]) for strength, row in rows] for j in range(len(weights))
        },
        log_x=True,
        note=f"Weights are exactly zero, from {max(zeros)} of them at λ_max to {min(zeros)}.",
    )
