"""Penalties, proximal operators and their solvers against scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from torch import Tensor

from dlcheck.checks.penalty.gradient import pulls_each_weight_by_its_law
from dlcheck.checks.penalty.law import Law, law_of
from dlcheck.checks.penalty.paths import restless
from dlcheck.checks.penalty.regression import ridge_solution, sparse_solution
from dlcheck.datasets import breast_cancer, diabetes
from dlcheck.domains import parse_inputs
from dlcheck.errors import SubjectError
from dlcheck.expansion import Overrides, expand
from dlcheck.model import NOTHING, Recipe, Subject, Suite, Verdict
from dlcheck.numerics.fista import fista
from dlcheck.numerics.least_squares import LeastSquares, elastic_net, kkt_violation, ridge
from dlcheck.references.penalties.elastic_net import elastic_net_penalty
from dlcheck.references.penalties.group_lasso import group_lasso_penalty
from dlcheck.references.penalties.l1 import l1_penalty
from dlcheck.references.penalties.l2 import half_l2_penalty, l2_penalty, weight_decay_penalty
from dlcheck.references.proximal.ridge_shrinkage import half_ridge_shrinkage, ridge_shrinkage
from dlcheck.references.proximal.soft_threshold import (
    block_soft_threshold,
    elastic_net_proximal,
    soft_threshold,
)
from dlcheck.registry import catalogue
from dlcheck.runner import run_trial
from dlcheck.strategies import Case
from dlcheck.subjects import build

CPU = torch.device("cpu")


def weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(name: str) -> LeastSquares:
    table = {"diabetes": diabetes, "breast_cancer": breast_cancer}[name]()
    y = table.y.double()
    return LeastSquares(table.x, (y - y.mean()) / y.std(correction=0))


# --- solvers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.02])
def test_lasso_agrees_with_scikit_learn_to_the_last_zero(name: str, fraction: float) -> None:
    regression = problem(name)
    strength = fraction * regression.largest_penalty
    ours = elastic_net(regression, strength).numpy()
    model = Lasso(alpha=strength, fit_intercept=False, tol=1e-14, max_iter=100_000)
    theirs = model.fit(regression.x.numpy(), regression.y.numpy()).coef_
    assert np.abs(ours - theirs).max() < 1e-10
    assert ((ours == 0) == (theirs == 0)).all()
    assert 0 < (ours == 0).sum() < len(ours)
    assert kkt_violation(regression, torch.tensor(ours), strength) < 1e-14


def test_elastic_net_agrees_with_scikit_learn() -> None:
    regression = problem("diabetes")
    model = ElasticNet(alpha=0.2, l1_ratio=0.3, fit_intercept=False, tol=1e-14, max_iter=100_000)
    theirs = model.fit(regression.x.numpy(), regression.y.numpy()).coef_
    ours = elastic_net(regression, 0.2 * 0.3, 0.2 * 0.7)
    assert np.abs(ours.numpy() - theirs).max() < 1e-12


def test_lasso_is_zero_from_its_largest_penalty_on() -> None:
    regression = problem("diabetes")
    assert not elastic_net(regression, 1.0001 * regression.largest_penalty).any()
    assert elastic_net(regression, 0.999 * regression.largest_penalty).count_nonzero() == 1


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_ridge_agrees_with_scikit_learn(strength: float) -> None:
    regression = problem("diabetes")
    model = Ridge(alpha=len(regression.x) * strength, fit_intercept=False, solver="svd")
    theirs = model.fit(regression.x.numpy(), regression.y.numpy()).coef_
    assert np.abs(ridge(regression, strength).numpy() - theirs).max() < 1e-12


def test_fista_with_an_identity_prox_solves_least_squares() -> None:
    regression = problem("diabetes")
    found = fista(
        regression.gradient,
        lambda z, step: z,
        torch.zeros_like(regression.correlation),
        regression.curvature[1],
        steps=5000,
    )
    expected = torch.linalg.lstsq(regression.x, regression.y).solution
    assert torch.allclose(found, expected, rtol=0, atol=1e-11)


def test_kkt_violation_sees_a_wrong_zero_and_a_wrong_weight() -> None:
    regression = problem("diabetes")
    strength = 0.1 * regression.largest_penalty
    solution = elastic_net(regression, strength)
    moved = solution.clone()
    moved[int(solution.abs().argmax())] += 1e-3
    wrongly_zero = torch.where(solution.abs() == solution.abs().max(), 0.0, solution)
    for wrong in (moved, wrongly_zero):
        assert kkt_violation(regression, wrong, strength) > 1e-4


def test_single_weights_grow_on_the_ridge_path() -> None:
    assert restless("diabetes", CPU) == (8, 5)


def test_oracles_are_verified_on_both_data_sets() -> None:
    for name in ("diabetes", "breast_cancer"):
        assert (sparse_solution(name, 0.1, 0.0, CPU) == 0).any()
        assert (ridge_solution(name, 0.1, CPU) != 0).all()


# --- references -------------------------------------------------------------------------------


def test_penalties_have_their_values() -> None:
    w, v = weights(3, 4), weights(5, seed=1)
    total = float(w.abs().sum() + v.abs().sum())
    squares = float(w.square().sum() + v.square().sum())
    assert float(l1_penalty([w, v], 0.3)) == pytest.approx(0.3 * total, rel=1e-14)
    assert float(l2_penalty([w, v], 0.3)) == pytest.approx(0.3 * squares, rel=1e-14)
    assert float(half_l2_penalty([w, v], 0.3)) == pytest.approx(0.15 * squares, rel=1e-14)
    mixed = 0.2 * total + 0.5 * 0.7 * squares
    assert float(elastic_net_penalty([w, v], 0.2, 0.7)) == pytest.approx(mixed, rel=1e-14)
    matrices = 0.15 * float(w.square().sum())
    assert float(weight_decay_penalty([w, v], 0.3)) == pytest.approx(matrices, rel=1e-14)
    rows = 0.3 * 2 * sum(math.hypot(*row) for row in w.tolist())
    assert float(group_lasso_penalty(w, 0.3)) == pytest.approx(rows, rel=1e-14)


def test_weight_decay_of_vectors_alone_is_zero() -> None:
    assert float(weight_decay_penalty([weights(3)])) == 0


def test_penalties_are_minus_scipys_log_densities() -> None:
    w = weights(50)
    laplace = -stats.laplace(scale=1 / 0.7).logpdf(w.numpy()).sum() - 50 * math.log(2 / 0.7)
    assert float(l1_penalty(w, 0.7)) == pytest.approx(laplace, rel=1e-12)
    for penalty, variance in ((l2_penalty, 1 / 1.4), (half_l2_penalty, 1 / 0.7)):
        normal = -stats.norm(scale=variance**0.5).logpdf(w.numpy()).sum()
        normal -= 50 * 0.5 * math.log(2 * math.pi * variance)
        assert float(penalty(w, 0.7)) == pytest.approx(normal, rel=1e-12)


def test_no_draw_from_the_laplace_prior_is_zero() -> None:
    assert (stats.laplace.rvs(size=100_000, random_state=0) != 0).all()


@pytest.mark.parametrize(
    ("prox", "penalty"),
    [
        (soft_threshold, l1_penalty),
        (ridge_shrinkage, l2_penalty),
        (half_ridge_shrinkage, half_l2_penalty),
        (elastic_net_proximal, elastic_net_penalty),
    ],
)
@pytest.mark.parametrize("x", [-2.0, -0.05, 0.0, 0.3, 5.0])
def test_proximal_operators_minimise_in_one_dimension(prox, penalty, x: float) -> None:
    step = 1.7
    found = float(prox(torch.tensor([x], dtype=torch.float64), step))

    def objective(u: float) -> float:
        at = torch.tensor([u], dtype=torch.float64)
        return 0.5 * (u - x) ** 2 + step * float(penalty(at))

    other = optimize.minimize_scalar(objective, bounds=(-6, 6), options={"xatol": 1e-12})
    assert objective(found) <= other.fun + 1e-15
    assert found == pytest.approx(other.x, abs=1e-5)


def test_block_soft_threshold_keeps_directions_and_zeroes_rows() -> None:
    x = torch.tensor([[3.0, 4.0], [0.03, 0.04], [0.0, 0.0]], dtype=torch.float64)
    found = block_soft_threshold(x, 1.0, strength=0.5)
    assert torch.allclose(found[0], x[0] * (1 - 0.5 * 2**0.5 / 5))
    assert not found[1:].any()


def test_block_soft_threshold_has_finite_gradients_at_zero_rows() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    block_soft_threshold(x, 1.0).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_soft_threshold_equals_torch() -> None:
    x = weights(100)
    assert torch.equal(soft_threshold(x, 0.5, 1.0), torch.nn.functional.softshrink(x, 0.5))


# --- declarations -----------------------------------------------------------------------------


def of_lists(parameters, lam=0.1):
    assert isinstance(parameters, list)
    return lam * sum(p.abs().sum() for p in parameters)


def of_a_model(model, lam=0.1):
    return lam * sum(p.pow(2).sum() for p in model.parameters())


def of_names(named, lam=0.1):
    return 0.5 * lam * sum(p.pow(2).sum() for name, p in named if "bias" not in name)


class GroupedByClass(torch.nn.Module):
    def __init__(self, lam: float) -> None:
        super().__init__()
        self.lam = lam

    def forward(self, w: Tensor) -> Tensor:
        return self.lam * torch.linalg.vector_norm(w, 1)


def outcomes(subject: Subject) -> dict[str, Verdict]:
    suite = Suite(name="s", subjects=(subject,))
    trials = expand(suite, Overrides(devices=("cpu",), profile="quick"))
    return {t.check.name: run_trial(t).verdict for t in trials if "penalty" in t.check.kinds}


LAYER = {"weight": "float n m", "bias": "float n"}


@pytest.mark.parametrize(
    ("target", "more"),
    [
        (of_lists, {"inputs": LAYER, "options": {"norm": 1, "strength": "lam"}}),
        (of_a_model, {"inputs": LAYER, "options": {"norm": 2, "takes": "module"}}),
        (
            of_names,
            {
                "inputs": LAYER,
                "options": {"norm": 2, "takes": "named_parameters", "exclude": "bias"},
            },
        ),
        (GroupedByClass, {"args": {"lam": 0.3}, "options": {"norm": 1, "strength": "lam"}}),
    ],
)
def test_penalties_of_every_form_pass(target, more) -> None:
    found = outcomes(Subject(name="theirs", target=target, kind="penalty", **more))
    assert len(found) >= 6
    assert set(found.values()) <= {Verdict.PASSED, Verdict.SKIPPED}


@pytest.mark.parametrize(
    ("convention", "expected"),
    [("full", Law(0.0, 0.6)), ("half", Law(0.0, 0.3)), (None, Law(0.0, None))],
)
def test_a_convention_is_never_assumed(convention: str | None, expected: Law) -> None:
    options = {"norm": 2, "strength": 0.3, **({"convention": convention} if convention else {})}
    declared = Subject(name="p", target=l2_penalty, kind="penalty", options=options)
    assert law_of(build(declared, NOTHING, CPU, torch.float64, seed=0)) == expected


def test_the_other_convention_fails_where_one_is_declared() -> None:
    options = {"norm": 2, "strength": "strength", "convention": "half"}
    found = outcomes(Subject(name="p", target=l2_penalty, kind="penalty", options=options))
    assert found["pulls_each_weight_by_its_law"] is Verdict.FAILED
    assert found["shrinks_weights"] is Verdict.FAILED


def test_a_penalty_of_several_numbers_breaks_its_contract() -> None:
    declared = Subject(
        name="rows", target=lambda w: w.abs().sum(-1), kind="penalty", options={"norm": 1}
    )
    assert outcomes(declared)["pulls_each_weight_by_its_law"] is Verdict.FAILED


@pytest.mark.parametrize("name", ["l1_penalty", "l2_penalty", "elastic_net_penalty"])
def test_weights_that_are_all_zero_are_inconclusive_and_no_failure(name: str) -> None:
    declared = catalogue().references[name].subject()
    case = Case(
        recipe=Recipe(sizes={"n": 1, "m": 2}, regimes=NOTHING, layouts=NOTHING, seed=0),
        specs=parse_inputs({"weights": "float n m"}),
        inputs={"weights": torch.zeros(1, 2, dtype=torch.float64)},
        device=CPU,
        dtype=torch.float64,
    )
    made = build(declared, NOTHING, CPU, torch.float64, seed=0)
    (piece,) = pulls_each_weight_by_its_law(made, case)
    assert piece.verdict is Verdict.INCONCLUSIVE


def test_a_strength_that_no_argument_holds_is_told() -> None:
    declared = Subject(
        name="p", target=l1_penalty, kind="penalty", options={"norm": 1, "strength": "lam"}
    )
    made = build(declared, NOTHING, CPU, torch.float64, seed=0)
    with pytest.raises(SubjectError, match="'lam'"):
        law_of(made)
