"""L1 holds weights at exactly zero."""

from __future__ import annotations

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
from dlcheck.checks.penalty.paths import lasso_path
from dlcheck.checks.penalty.regression import (
    DATA,
    Verified,
    law_here,
    penalty_of_vector,
    regression,
    slope_of,
    verified_sparse,
)
from dlcheck.checks.penalty.subgradients import by_subgradients
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import scaled_gradient, scaled_value
from dlcheck.numerics.least_squares import LeastSquares
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
    textbook={
        "id": "R1",
        "says": "L1 gives sparse weights",
        "verdict": "true if",
        "condition": "each step is proximal and of the whole batch",
    },
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

    The counter-example: SGD and Adam on subgradients of the same penalty make weights small and
    none exactly zero; zeros need proximal steps.
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
            verified = verified_sparse(name, fraction, law.l2 / law.l1, case.device)
            where = f"{name}, λ = {fraction:g} λ_max"
            yield _kink(penalty, problem, verified, law, scale, where)
            yield from _balance(penalty, problem, verified.weights, law, scale, where)
            if where == _SHOWN:
                yield from by_subgradients(penalty, problem, verified.weights, scale, where)


def _kink(
    penalty: Callable[[Tensor], Tensor],
    problem: LeastSquares,
    verified: Verified,
    law: Law,
    scale: float,
    where: str,
) -> Evidence:
    """One-sided slopes of sP at the zero weights against λ₁ (+ λ₂h/2, the curvature's share)."""
    assert law.l1 is not None
    assert law.l2 is not None
    solution = verified.weights
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
            **verified.said,
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
    left = float((force + slope).abs()[active].max())
    yield Evidence(
        error=left,
        bound=bound,
        signal=limit,
        unit="slope",
        what="gradient of f + P at the non-zero weights of the solution",
        expected="0",
        got=f"{left:.2g}, where {int(resting.sum())} of {len(solution)} weights are exactly zero",
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
