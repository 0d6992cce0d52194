"""The real regressions on which penalties prove themselves, with solutions that were verified.

Each solution comes from our own solver and from scikit-learn's; where they disagree the oracle
is wrong, which is an error of dlcheck and no failure of the subject.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dlcheck import datasets
from dlcheck.checks.penalty.law import Law, as_stored, completed, counted, law_of, value
from dlcheck.domains import size_bounds
from dlcheck.errors import DlcheckError, NotApplicable
from dlcheck.numerics.least_squares import LeastSquares, elastic_net, kkt_violation, ridge
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

DATA = ("diabetes", "breast_cancer")
AGREEMENT = 1e-9  # of two solvers whose KKT conditions hold to 1e-10, times 10 for conditioning
KKT = 1e-10


@functools.cache
def regression(name: str, device: torch.device) -> LeastSquares:
    """Standardised features and a standardised target (a class is regressed as a number)."""
    table = {"diabetes": datasets.diabetes, "breast_cancer": datasets.breast_cancer}[name]()
    y = table.y.double()
    y = (y - y.mean()) / y.std(correction=0)
    return LeastSquares(table.x.to(device), y.to(device))


@dataclass(frozen=True, slots=True)
class Verified:
    """A solution on which two solvers agree, how far they are apart, and its KKT violation."""

    weights: Tensor
    apart: float
    violation: float

    @property
    def said(self) -> dict[str, float | str]:
        return {"distance from scikit-learn's": self.apart, "KKT violation": self.violation}


def sparse_solution(name: str, fraction: float, mixing: float, device: torch.device) -> Tensor:
    """The weights of `verified_sparse`: [d]."""
    return verified_sparse(name, fraction, mixing, device).weights


def ridge_solution(name: str, l2: float, device: torch.device) -> Tensor:
    """The weights of `verified_ridge`: [d]."""
    return verified_ridge(name, l2, device).weights


@functools.cache
def verified_sparse(name: str, fraction: float, mixing: float, device: torch.device) -> Verified:
    """argmin f + λ₁‖w‖₁ + (λ₂/2)‖w‖² with λ₁ = fraction · λ_max and λ₂ = mixing · λ₁: [d].

    Our FISTA and scikit-learn's coordinate descent agree to 1e-9, both fulfil the KKT conditions
    to 1e-10, and both have the same exact zeros. Raises DlcheckError if not.
    """
    from sklearn.linear_model import ElasticNet

    problem = regression(name, device)
    l1 = fraction * problem.largest_penalty
    l2 = mixing * l1
    ours = elastic_net(problem, l1, l2)
    # alpha · l1_ratio = λ₁ and alpha · (1 − l1_ratio) = λ₂; l1_ratio = 1 is Lasso(alpha)
    other = ElasticNet(
        alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), fit_intercept=False, tol=1e-14, max_iter=100_000
    )
    coefficients = other.fit(problem.x.cpu().numpy(), problem.y.cpu().numpy()).coef_
    theirs = torch.as_tensor(np.asarray(coefficients), device=device)
    violation = max(kkt_violation(problem, w, l1, l2) for w in (ours, theirs))
    found = _demanded(ours, theirs, violation, f"lasso on {name} at {fraction:g} λ_max")
    if not torch.equal(ours == 0, theirs == 0):
        raise DlcheckError(f"dlcheck's lasso on {name} and scikit-learn's have other zeros")
    return found


@functools.cache
def verified_ridge(name: str, l2: float, device: torch.device) -> Verified:
    """argmin f + (λ₂/2)‖w‖² in closed form, equal to scikit-learn's Ridge(alpha = nλ₂): [d]."""
    from sklearn.linear_model import Ridge

    problem = regression(name, device)
    ours = ridge(problem, l2)
    other = Ridge(alpha=len(problem.x) * l2, fit_intercept=False, solver="svd")
    coefficients = other.fit(problem.x.cpu().numpy(), problem.y.cpu().numpy()).coef_
    theirs = torch.as_tensor(np.asarray(coefficients), device=device)
    violation = float((problem.gradient(ours) + l2 * ours).abs().max())
    return _demanded(ours, theirs, violation, f"ridge on {name} at λ = {l2:g}")


def _demanded(ours: Tensor, theirs: Tensor, violation: float, what: str) -> Verified:
    apart = float((ours - theirs).abs().max())
    if not (apart <= AGREEMENT and violation <= KKT):
        raise DlcheckError(
            f"dlcheck's own oracle is off: {what} differs by {apart:.2g} from scikit-learn's and "
            f"leaves a gradient of {violation:.2g}"
        )
    return Verified(ours, apart, violation)


def penalty_of_vector(subject: Implementation, case: Case) -> Callable[[Tensor], Tensor]:
    """w [d] ↦ P(w), as a tensor of one element that can be differentiated.

    The weights fill the first axis of the first input that counts, [d, 1, …]; further inputs are
    zeros. Raises NotApplicable where the declared sizes leave no room.
    """
    name = counted(subject, case.specs)[:1]
    if not name:
        raise NotApplicable("every declared input is excluded: declare a weight of two axes")
    (target,) = name
    dims = case.specs[target].dims
    free = all(dim.name and dim.times == 1 for dim in dims) and dims
    bounds = [size_bounds(subject.options, dim.name) for dim in dims]
    room = [b is None or (b[0] <= n <= b[1]) for b, n in zip(bounds, (30, *[1] * 9), strict=False)]
    if not free or not all(room):
        raise NotApplicable(f"{target} has no room for 30 weights of a regression: free its sizes")
    others = {n: torch.zeros_like(w, dtype=torch.float64) for n, w in case.inputs.items()}

    def penalty(weights: Tensor) -> Tensor:
        shaped = weights.reshape(len(weights), *[1] * (len(dims) - 1))
        return value(subject, *{**others, target: shaped}.values())

    return penalty


def slope_of(penalty: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
    """The penalty's own gradient at w: [d]."""
    leaf = weights.detach().clone().requires_grad_()
    answer = penalty(leaf)
    if not answer.requires_grad:
        return torch.zeros_like(weights)
    (slope,) = torch.autograd.grad(answer, leaf, allow_unused=True)
    return torch.zeros_like(weights) if slope is None else slope


def law_here(subject: Implementation, penalty: Callable[[Tensor], Tensor], like: Tensor) -> Law:
    """λ₁ and λ₂ as declared; what is left open from the penalty of one weight of 1."""
    law = law_of(subject)
    one = torch.zeros_like(like)
    one[0] = 1
    at_one = float(penalty(one))
    if law.l1 is None or law.l2 is None:
        return completed(law, at_one)
    expected = law.l1 + law.l2 / 2
    share = as_stored(expected, at_one) / expected if expected else 1.0
    return Law(share * law.l1, share * law.l2)
