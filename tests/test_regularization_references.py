"""The references of the regularization family against closed forms, torch and scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from sklearn.linear_model import Lasso, Ridge
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dlcheck.numerics.least_squares import LeastSquares, elastic_net
from dlcheck.references.layers.additive_noise import GaussianNoise, drop_connect, noisy_weights
from dlcheck.references.layers.alpha_dropout import AlphaDropout
from dlcheck.references.layers.dropout import DropPath, LockedDropout
from dlcheck.references.layers.spectral_normalization import SpectralLinear
from dlcheck.references.layers.tied_autoencoder import TiedAutoencoder
from dlcheck.references.losses.cross_entropy import cross_entropy, soft_cross_entropy
from dlcheck.references.losses.label_smoothing import smoothed_target, uniform_divergence_smoothing
from dlcheck.references.losses.multi_task import UncertaintyWeighting, weighted_sum_of_tasks
from dlcheck.references.penalties.elastic_net import elastic_net_penalty
from dlcheck.references.penalties.group_lasso import group_lasso_penalty
from dlcheck.references.penalties.l1 import l1_penalty
from dlcheck.references.penalties.l2 import l2_penalty, weight_decay_penalty
from dlcheck.references.penalties.orthogonality import orthogonality_penalty
from dlcheck.references.penalties.spectral_norm import spectral_norm_penalty
from dlcheck.references.proximal.projection import box_projection, row_ball_projection
from dlcheck.references.regression.lasso import fista, ista
from dlcheck.references.regression.ridge import ridge_regression

PENALTIES = [
    l1_penalty, l2_penalty, weight_decay_penalty, group_lasso_penalty, spectral_norm_penalty,
    orthogonality_penalty,
]  # fmt: skip


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- regressions ------------------------------------------------------------------------------


def test_ridge_is_scikit_learns_and_its_gradient_is_right() -> None:
    x, y = normal(9, 4), normal(9, seed=1)
    theirs = Ridge(alpha=0.7, fit_intercept=False).fit(x.numpy(), y.numpy()).coef_
    assert torch.allclose(ridge_regression(x, y, 0.7), torch.tensor(theirs), rtol=0, atol=1e-12)
    leaves = (x.requires_grad_(), y.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, y: ridge_regression(x, y, 0.7), leaves)
    with pytest.raises(ValueError, match=r"0\.0"):
        ridge_regression(x, y, 0.0)


def test_ista_and_fista_come_to_the_lasso_at_their_proven_rates() -> None:
    x, y, strength = normal(30, 6), normal(30, seed=1), 0.1
    best = elastic_net(LeastSquares(x, y), strength)
    theirs = Lasso(alpha=strength, fit_intercept=False, tol=1e-14).fit(x.numpy(), y.numpy()).coef_
    assert torch.allclose(best, torch.tensor(theirs), rtol=0, atol=1e-10)

    def objective(w: Tensor) -> float:
        return float((x @ w - y).square().sum() / 60 + strength * w.abs().sum())

    reach = float(x.square().sum() / 30 * best.square().sum())  # L‖w*‖²
    for steps in (5, 20, 80):
        assert objective(ista(x, y, strength, steps)) - objective(best) <= reach / (2 * steps)
        gap = objective(fista(x, y, strength, steps)) - objective(best)
        assert gap <= 2 * reach / (steps + 1) ** 2
    found = fista(x, y, strength, 3000)
    assert torch.allclose(found, best, rtol=0, atol=1e-9)
    assert torch.equal(found == 0, best == 0)


# --- penalties --------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda f: f.__name__)
def test_penalties_take_what_users_pass(penalty: Callable[..., Tensor]) -> None:
    w = normal(3, 4)
    assert float(penalty([])) == 0
    assert float(penalty(p for p in [w])) == float(penalty([w]))
    assert float(penalty([w.to_sparse()])) == pytest.approx(float(penalty([w])))
    with pytest.raises(TypeError, match="int64"):
        penalty([torch.ones(2, 2, dtype=torch.int64)])
    with pytest.raises(ValueError, match="rewards large weights"):
        penalty([w], strength=-1.0)


def test_elastic_net_refuses_a_reward() -> None:
    with pytest.raises(ValueError, match="rewards large weights"):
        elastic_net_penalty([normal(2, 2)], 0.1, -0.1)


def test_spectral_norm_penalty_is_half_the_squared_norm() -> None:
    w = normal(4, 3)
    largest = torch.linalg.matrix_norm(w, 2)
    assert float(spectral_norm_penalty(w, 0.3)) == pytest.approx(0.15 * float(largest) ** 2)
    assert torch.autograd.gradcheck(lambda w: spectral_norm_penalty(w, 0.3), w.requires_grad_())
    zero = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    spectral_norm_penalty(zero).backward()
    assert not zero.grad.any()


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3)])
def test_orthogonality_penalty_is_zero_at_orthonormal_weights(shape: tuple[int, ...]) -> None:
    w = torch.nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64))
    assert float(orthogonality_penalty(w)) == pytest.approx(0, abs=1e-28)
    assert torch.autograd.gradcheck(orthogonality_penalty, normal(*shape).requires_grad_())


def test_projections_are_onto_their_sets() -> None:
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(row_ball_projection(x, 5.0, 1.0), expected)
    assert torch.equal(box_projection(x, 1.0, 0.35), x.clamp(-0.35, 0.35))
    with pytest.raises(ValueError, match=r"-1"):
        row_ball_projection(x, 1.0, -1.0)


# --- layers -----------------------------------------------------------------------------------


def test_spectral_linear_is_torchs() -> None:
    torch.manual_seed(0)
    theirs = parametrizations.spectral_norm(nn.Linear(5, 3)).double()
    ours = SpectralLinear(5, 3).double()
    inner = theirs.parametrizations.weight
    with torch.no_grad():
        ours.weight.copy_(inner.original)
        ours.bias.copy_(theirs.bias)
        ours.u.copy_(inner[0]._u)
        ours.v.copy_(inner[0]._v)
    x = normal(4, 5)
    for mode in (True, True, False):
        found, expected = ours.train(mode)(x), theirs.train(mode)(x)
        assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(ours.weight.grad, inner.original.grad, rtol=0, atol=1e-13)
    for _ in range(200):
        ours.train()(x)
    sigma = torch.linalg.matrix_norm(ours.weight.detach(), 2)
    assert float(ours.u @ ours.weight.detach() @ ours.v) == pytest.approx(float(sigma), rel=1e-12)


def test_drop_path_is_torchvisions_in_law() -> None:
    torch.manual_seed(0)
    x = torch.ones(20_000, 2, 1, 1, dtype=torch.float64)
    ours, theirs = DropPath(0.3)(x), torchvision.ops.StochasticDepth(0.3, "row")(x)
    for found in (ours, theirs):
        assert torch.equal(found[:, 0], found[:, 1])
        assert set(found.unique().tolist()) <= {0.0, 1 / 0.7}
        assert float((found == 0).double().mean()) == pytest.approx(0.3, abs=0.02)


def test_locked_dropout_repeats_its_mask_over_time() -> None:
    torch.manual_seed(0)
    found = LockedDropout(0.5)(torch.ones(40, 6, 5))
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert 0 < float((found == 0).double().mean()) < 1


def test_alpha_dropout_has_torchs_two_values() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, dtype=torch.float64)
    ours, theirs = AlphaDropout(0.2)(x).unique(), nn.AlphaDropout(0.2)(x).unique()
    assert torch.allclose(ours, theirs, rtol=1e-6)  # torch keeps its constants in float32
    assert not AlphaDropout(1.0)(x).any()


def test_additive_noise_and_random_weights_have_their_moments() -> None:
    torch.manual_seed(0)
    x, w = normal(1, 3).expand(40_000, 3), normal(2, 3, seed=1)
    noisy = GaussianNoise(0.5)(x) - x
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.02)
    assert torch.equal(GaussianNoise(0.5).eval()(x), x)
    laws = {
        "noise": (noisy_weights(x, w, 0.5), 0.25 * x[0].square().sum().expand(2)),
        "mask": (drop_connect(x, w, 0.3), 0.3 / 0.7 * w.square() @ x[0].square()),
    }
    for y, variance in laws.values():
        assert torch.allclose(y.mean(0), w @ x[0], atol=6 * float(variance.max()) ** 0.5 / 200)
        assert torch.allclose(y.var(0), variance, rtol=0.05)


def test_drop_connect_by_all_its_masks() -> None:
    """E (m ⊙ W)x = Wx over the 2⁴ masks of a weight, by the law that is declared."""
    x, w, p = normal(4), normal(4, seed=1), 0.3
    masks = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    chance = (1 - p) ** masks.sum(1) * p ** (4 - masks.sum(1))
    y = (masks / (1 - p) * w) @ x
    assert float(chance @ y) == pytest.approx(float(w @ x), rel=1e-13)
    variance = float(chance @ y.square()) - float(w @ x) ** 2
    assert variance == pytest.approx(p / (1 - p) * float((w * x).square().sum()), rel=1e-12)


def test_tied_autoencoder_has_one_weight() -> None:
    module = TiedAutoencoder(5, 3)
    names = dict(module.named_parameters())
    assert len(names) == 3
    assert module(normal(2, 5).float()).shape == (2, 5)


# --- losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_label_smoothing_is_one_thing_in_three_forms(reduction: str) -> None:
    x, y = normal(6, 4), torch.arange(6) % 4
    one_hot = nn.functional.one_hot(y, 4).double()
    inside = cross_entropy(x, y, label_smoothing=0.2, reduction=reduction)
    outside = soft_cross_entropy(x, smoothed_target(one_hot, 0.2), reduction=reduction)
    penalty = uniform_divergence_smoothing(x, y, smoothing=0.2, reduction=reduction)
    torchs = nn.functional.cross_entropy(x, y, label_smoothing=0.2, reduction=reduction)
    for found in (inside, outside, penalty):
        assert torch.allclose(found, torchs, rtol=1e-14)
    with pytest.raises(ValueError, match=r"1\.5"):
        smoothed_target(one_hot, 1.5)


def test_tasks_are_summed_and_weighed() -> None:
    losses = torch.tensor([2.0, 3.0], dtype=torch.float64)
    assert float(weighted_sum_of_tasks(losses, [1.0, 0.5])) == 3.5
    with pytest.raises(ValueError, match="2 losses, but 3 weights"):
        weighted_sum_of_tasks(losses, [1.0, 0.5, 0.1])
    module = UncertaintyWeighting(2).double()
    with torch.no_grad():
        module.log_variances.copy_(losses.log())
    module(losses).backward()
    assert module.log_variances.grad.abs().max() < 1e-15  # least at s = log ℓ
    assert float(module(losses).detach()) == pytest.approx(
        sum(0.5 + 0.5 * math.log(loss) for loss in losses.tolist())
    )
