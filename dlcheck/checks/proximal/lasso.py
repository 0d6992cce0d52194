"""Proximal steps end where the lasso is, zeros included."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.regression import DATA, regression, sparse_solution
from dlcheck.checks.proximal.broken import (
    divides_by_the_step,
    forgets_the_step,
    keeps_one_side,
    leaves_dust,
    loses_the_sign,
    moves_away,
    rounds_to_a_grid,
    shrinks_in_proportion,
    steps_twice,
    takes_a_gradient_step,
    takes_half_the_step,
    thresholds_hard,
)
from dlcheck.checks.proximal.formula import declared_or_measured, proximal_point
from dlcheck.domains import size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.numerics.fista import fista
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_FRACTIONS = (0.5, 0.1)  # of λ_max, from which on every weight is 0
_STEPS = 4000


@check(
    kind="proximal",
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
        thresholds_hard,
        forgets_the_step,
        takes_half_the_step,
        divides_by_the_step,
        leaves_dust,
        keeps_one_side,
        loses_the_sign,
        moves_away,
        steps_twice,
        takes_a_gradient_step,
        shrinks_in_proportion,
        rounds_to_a_grid,
    ],
)
def proximal_steps_zero_weights_exactly(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """FISTA with this operator reaches the lasso's weights, with the same exact zeros.

    Least squares 1/(2n)‖Xw − y‖² on diabetes and breast_cancer at .5 and .1 λ_max (the steps are
    multiplied so that tλ₁ is), against the solution on which our solver and scikit-learn's
    Lasso or ElasticNet agree. Once FISTA stands still, each of the two solutions is off by at
    most the rounding of its gradient over the least eigenvalue μ of XᵀX/n, for the objective is
    μ-strongly convex; the bound is four of them. Zeros are counted exactly.
    Source: Beck & Teboulle, SIAM J. Imaging Sciences 2(1), 2009, §4; Tibshirani 1996.
    """
    shape = room(subject, case)
    for name in DATA:
        problem = regression(name, case.device)
        zeros = torch.zeros_like(problem.correlation)
        law, _ = declared_or_measured(subject, zeros.reshape(len(zeros), *shape))
        if not law.l1 or law.l1 < 0:
            raise NotApplicable(f"the strength of its L1 part is {law.l1}")
        for fraction in _FRACTIONS:
            scale = fraction * problem.largest_penalty / law.l1
            solution = sparse_solution(name, fraction, (law.l2 or 0.0) / law.l1, case.device)

            def prox(z: Tensor, step: float, scale: float = scale) -> Tensor:
                shaped = z.reshape(len(z), *shape)
                return proximal_point(subject, shaped, scale * step).reshape(z.shape)

            found = fista(problem.gradient, prox, zeros, problem.curvature[1], _STEPS)
            bound = 4 * 2 * problem.rounding(solution) / problem.curvature[0]
            yield from _compared(found, solution, bound, f"{name}, λ = {fraction:g} λ_max")


def room(subject: Implementation, case: Case) -> tuple[int, ...]:
    """The further axes of x, of length 1; NotApplicable where 30 weights do not fit."""
    dims = next(iter(case.specs.values())).dims
    bounds = [size_bounds(subject.options, dim.name) for dim in dims]
    fits = [b is None or b[0] <= n <= b[1] for b, n in zip(bounds, (30, *[1] * 9), strict=False)]
    if not dims or not all(dim.name and dim.times == 1 for dim in dims) or not all(fits):
        raise NotApplicable("its input has no room for 30 weights of a regression")
    return (1,) * (len(dims) - 1)


def _compared(found: Tensor, solution: Tensor, bound: float, where: str) -> Iterator[Evidence]:
    count = f"{int((solution == 0).sum())} of {len(solution)}"
    yield Evidence(
        error=float((found - solution).abs().max()),
        bound=bound,
        signal=float(solution.abs().max()),
        what="weights against the verified lasso",
        where=where,
        values={"zeros": count},
    )
    yield Evidence(
        error=float(((found == 0) != (solution == 0)).sum()),
        bound=0.0,
        signal=float(len(solution)),
        unit="weights",
        what="weights that are zero in one and not in the other",
        expected=f"{count} zeros",
        got=f"{int((found == 0).sum())} zeros",
        where=where,
    )
