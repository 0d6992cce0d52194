"""Along λ: the norm of the lasso's weights falls, the number of its zeros need not grow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.regression import AGREEMENT, DATA, KKT, regression
from dlcheck.checks.proximal.broken import (
    forgets_the_step,
    keeps_one_side,
    leaves_dust,
    takes_half_the_step,
    thresholds_hard,
)
from dlcheck.checks.proximal.formula import declared_or_measured, proximal_point
from dlcheck.checks.proximal.lasso import room
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Figure, Subject, Verdict
from dlcheck.numerics.fista import fista
from dlcheck.numerics.least_squares import LeastSquares, kkt_violation
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

# Shares of λ_max; between 0.0022 and 0.0014 one of diabetes' weights is zero while it changes sign.
_FRACTIONS = (1.001, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.003, 0.0018, 0.001)
_STEPS = 4000
_BATCH, _BATCHES = 64, 1000
_SHARE = 0.1  # of λ_max, for the steps on batches

Prox = Callable[[Tensor, float], Tensor]


@check(
    kind="proximal",
    options={"norm": [1]},
    dtypes=["float64"],
    tags=["experiment"],
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
        leaves_dust,
        keeps_one_side,
    ],
    accepts=[
        Subject(
            name="softshrink",
            target="torch.nn.functional:softshrink",
            kind="proximal",
            options={"norm": 1, "strength": 1.0},
            checks=("norm_falls_along_the_lasso_path",),
        ),
    ],
)
def norm_falls_along_the_lasso_path(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """FISTA with this operator solves the lasso from above λ_max to a thousandth of it; ‖w‖₁ falls.

    On diabetes: the KKT conditions hold to 1e-10, the weights are within 1e-9 of scikit-learn's
    Lasso (the accuracy that this project asks of its solvers), all are zero above λ_max = ‖Xᵀy‖∞/n,
    and ‖w(λ)‖₁ falls strictly: of two strengths the larger has the smaller norm, by adding the two
    inequalities of their minima.

    The counter-examples: the number of zeros is not monotone, for a weight that changes its sign
    passes zero; and proximal steps on batches of 64 undo the zeros that they make.
    Source: Tibshirani, JRSS B 58(1), 1996; Efron et al., Annals of Statistics 32(2), 2004, §3.1
    (a variable may leave); Xiao, Dual Averaging Methods, JMLR 11, 2010, §1 (batches).
    """
    problem = regression(DATA[0], case.device)
    prox = _operator(subject, case, problem)
    path, zeros = [], torch.zeros_like(problem.correlation)
    weights = zeros
    for fraction in _FRACTIONS:
        strength = fraction * problem.largest_penalty
        weights = _solved(problem, prox, strength, weights)
        path.append((strength, weights))
    yield from _solutions(problem, path)
    norm = _norm(path)
    yield norm
    if norm.verdict is Verdict.PASSED:
        yield _zeros(path)
        yield _on_batches(problem, prox)


def _operator(subject: Implementation, case: Case, problem: LeastSquares) -> Prox:
    """(z, threshold) ↦ the subject's point, its strength divided out."""
    shape = room(subject, case)
    like = torch.zeros_like(problem.correlation)
    law, _ = declared_or_measured(subject, like.reshape(len(like), *shape))
    if not law.l1 or law.l1 < 0:
        raise NotApplicable(f"the strength of its L1 part is {law.l1}")
    own = law.l1

    def prox(z: Tensor, threshold: float) -> Tensor:
        shaped = z.reshape(len(z), *shape)
        return proximal_point(subject, shaped, threshold / own).reshape(z.shape)

    return prox


def _solved(problem: LeastSquares, prox: Prox, strength: float, start: Tensor) -> Tensor:
    def step(z: Tensor, t: float) -> Tensor:
        return prox(z, t * strength)

    return fista(problem.gradient, step, start, problem.curvature[1], _STEPS)


def _solutions(problem: LeastSquares, path: list[tuple[float, Tensor]]) -> Iterator[Evidence]:
    """The KKT conditions, and scikit-learn's weights."""
    violations = [kkt_violation(problem, w, strength) for strength, w in path]
    worst = max(violations, key=lambda v: (math.isnan(v), v))
    strength, weights = path[violations.index(worst)]
    yield Evidence(
        error=worst,
        bound=KKT,
        signal=min(strength for strength, _ in path),
        unit="slope",
        what="violation of the KKT conditions along the path",
        expected="0",
        got=f"{worst:.2g}",
        where=f"{DATA[0]}, λ = {strength:.4g}",
    )
    apart = [float((w - _by_scikit_learn(problem, s)).abs().max()) for s, w in path]
    yield Evidence(
        error=max(apart, key=lambda a: (math.isnan(a), a)),
        bound=AGREEMENT,
        signal=float(weights.abs().max()) or max(float(w.abs().max()) for _, w in path),
        what="distance from scikit-learn's Lasso along the path",
        got=f"{max(apart):.2g}",
        where=DATA[0],
    )


def _by_scikit_learn(problem: LeastSquares, strength: float) -> Tensor:
    from sklearn.linear_model import Lasso

    solver = Lasso(alpha=strength, fit_intercept=False, tol=1e-14, max_iter=100_000)
    found = solver.fit(problem.x.cpu().numpy(), problem.y.cpu().numpy()).coef_
    return torch.as_tensor(found, device=problem.x.device)


def _norm(path: list[tuple[float, Tensor]]) -> Evidence:
    norms = [float(w.abs().sum()) for _, w in path]
    rises = sum(not stronger < weaker for stronger, weaker in itertools.pairwise(norms))
    return Evidence(
        error=float(rises) + float(norms[0] != 0),
        bound=0.0,
        signal=float(len(norms) - 1),
        unit="steps",
        what="steps of a growing λ in which ‖w‖₁ does not fall, down to 0 above λ_max",
        got=f"{rises} of {len(norms) - 1}: " + ", ".join(f"{norm:.3g}" for norm in norms),
    )


def _zeros(path: list[tuple[float, Tensor]]) -> Evidence:
    counts = [int((w == 0).sum()) for _, w in path]
    comes_back = any(stronger < weaker for stronger, weaker in itertools.pairwise(counts))
    return Evidence(
        error=float(not comes_back),
        bound=0.0,
        signal=1.0,
        what="whether the number of zeros grows with λ throughout",
        expected="once it falls",
        got=f"zeros from λ_max down: {', '.join(map(str, counts))} of {len(path[0][1])}",
        figures=(
            Figure(
                title="Zeros of the lasso and its norm",
                x="λ",
                y="zeros; ‖w‖₁",
                series={
                    "zeros": [(s, float(n)) for (s, _), n in zip(path, counts, strict=True)],
                    "‖w‖₁": [(s, float(w.abs().sum())) for s, w in path],
                },
                log_x=True,
                marks=("zeros",),
            ),
        ),
        counterexample=True,
    )


def _on_batches(problem: LeastSquares, prox: Prox) -> Evidence:
    """Proximal steps on batches, with a falling rate: fewer zeros than the minimum has."""
    strength = _SHARE * problem.largest_penalty
    solution = _solved(problem, prox, strength, torch.zeros_like(problem.correlation))
    generator = torch.Generator().manual_seed(0)
    weights = torch.zeros_like(solution)
    for step in range(_BATCHES):
        rows = torch.randint(len(problem.x), (_BATCH,), generator=generator)
        x, y = problem.x[rows], problem.y[rows]
        rate = 1 / (problem.curvature[1] * (1 + step / 200))
        slope = x.mT @ (x @ weights - y) / _BATCH
        weights = prox(weights - rate * slope, rate * strength)
    zeros, due = int((weights == 0).sum()), int((solution == 0).sum())
    return Evidence(
        error=float(zeros >= due),
        bound=0.0,
        signal=1.0,
        what="whether proximal steps on batches of 64 find the zeros of the minimum",
        expected=f"fewer than {due}",
        got=f"{zeros} of {len(weights)} weights are zero, where the minimum has {due}",
        where=f"{DATA[0]}, λ = {_SHARE:g} λ_max",
        values={"distance from the minimum": float((weights - solution).norm())},
        counterexample=True,
    )
