"""The references for metrics against closed forms, SciPy and the `lpips` package."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dlcheck.checks.metrics.image_pairs import blur
from dlcheck.features import digits_study
from dlcheck.model import Subject
from dlcheck.numerics.moments import Moments
from dlcheck.references.metrics.frechet_distance import (
    StreamingFrechetDistance,
    by_matrix_root,
    frechet_distance,
)
from dlcheck.references.metrics.inception_score import (
    inception_score,
    inception_score_from_logits,
)
from dlcheck.references.metrics.lpips import LPIPS, PackageLPIPS
from dlcheck.suite import applying

ALGORITHMS = ("auto", "cholesky", "singular_values", "procrustes")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transported(rows: int, features: int) -> tuple[Tensor, Tensor, float]:
    """X, Y = XT + v, and ‖Δμ‖² + tr((I − T) Σ (I − T))."""
    x, a, v = normal(rows, features), normal(features, features, seed=1), normal(features, seed=2)
    t = a @ a.mT / features + 0.1 * torch.eye(features, dtype=torch.float64)
    y = x @ t + v
    centred = x - x.mean(0)
    moved = (centred - centred @ t).square().sum() / (rows - 1)
    return x, y, float((x.mean(0) - y.mean(0)).square().sum() + moved)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("rows", "features"), [(200, 16), (40, 1), (17, 16), (16, 16), (5, 16)])
def test_frechet_distance_is_right_for_any_rank(algorithm: str, rows: int, features: int) -> None:
    x, y, expected = transported(rows, features)
    # From moments an eigenvalue 0 is known to √ε; from the rows themselves to ε.
    precise = rows > features + 1 or algorithm in ("singular_values", "procrustes")
    tolerance = 1e-11 if precise else 1e-6
    assert float(frechet_distance(x, y, algorithm=algorithm)) == pytest.approx(
        expected, rel=tolerance
    )


def test_frechet_distance_agrees_with_the_matrix_root() -> None:
    x, y = normal(60, 8), 1.3 * normal(45, 8, seed=1) + 0.2
    assert float(by_matrix_root(x, y)) == pytest.approx(float(frechet_distance(x, y)), rel=1e-10)


def test_procrustes_keeps_its_digits_near_zero() -> None:
    x = normal(60, 8)
    y = x + 1e-7 * normal(60, 8, seed=1)
    exact = frechet_distance(1e7 * x, 1e7 * y, algorithm="procrustes") / 1e14
    value = frechet_distance(x, y, algorithm="procrustes")
    assert 0 < float(value) < 1e-12
    assert float(value) == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_frechet_distance_is_never_negative(algorithm: str) -> None:
    for rows in (3, 8, 50):
        x = normal(rows, 8)
        assert 0 <= float(frechet_distance(x, x.clone(), algorithm=algorithm)) < 1e-6


def test_two_points_show_the_degrees_of_freedom() -> None:
    first, second = torch.tensor([[-3.0], [3.0]]), torch.tensor([[-1.0], [1.0]])
    assert float(frechet_distance(first, second)) == pytest.approx(8.0)
    assert float(frechet_distance(first, second, ddof=0)) == pytest.approx(4.0)


@pytest.mark.parametrize("sizes", [[1, 2, 57], [30, 30], [60]])
def test_streaming_in_any_split_is_one_shot(sizes: list[int]) -> None:
    x, y = normal(60, 8), normal(60, 8, seed=1) + 1
    metric = StreamingFrechetDistance()
    for a, b in zip(x.split(sizes), y.split(sizes), strict=True):
        metric.update(a, b)
    assert float(metric.compute()) == pytest.approx(float(frechet_distance(x, y)), rel=1e-12)
    metric.reset()
    metric.update(y, y)
    assert float(metric.compute()) == pytest.approx(0.0, abs=1e-12)


def test_moments_survive_a_large_offset() -> None:
    x = normal(2000, 4)
    near, far = Moments.of(x).covariance(), Moments.of(x + 1e6).covariance()
    torch.testing.assert_close(near, torch.cov(x.mT), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(far, near, rtol=0, atol=1e-8)


def test_inception_score_of_two_known_rows() -> None:
    p = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    kl = [
        0.8 * math.log(0.8 / 0.6) + 0.2 * math.log(0.2 / 0.4),
        0.4 * math.log(0.4 / 0.6) + 0.6 * math.log(0.6 / 0.4),
    ]
    assert float(inception_score(p).mean) == pytest.approx(math.exp(sum(kl) / 2), rel=1e-7)


def test_inception_score_of_a_collapse_is_one() -> None:
    collapsed = torch.zeros(20, 5)
    collapsed[:, 2] = 1
    assert float(inception_score(collapsed).mean) == 1.0
    assert float(inception_score_from_logits(1e4 * collapsed).mean) == 1.0


def test_inception_score_takes_logits_too() -> None:
    logits = 3 * normal(50, 7)
    expected = float(inception_score(logits.softmax(1)).mean)
    assert float(inception_score_from_logits(logits).mean) == pytest.approx(expected, rel=1e-12)


def test_splits_report_mean_deviation_and_whole() -> None:
    p = (2 * normal(53, 6)).softmax(1)
    score = inception_score(p, splits=5)
    assert float(score.whole) == pytest.approx(float(inception_score(p).mean), rel=1e-14)
    assert float(score.deviation) > 0
    assert score == inception_score(p, splits=5)  # the shuffle is seeded
    # The geometric mean of equal splits is at most the whole.
    assert float(inception_score(p[:50], splits=5).mean) < 1.1 * float(score.whole)


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_equals_the_package(net: str) -> None:
    x, y = (torch.tanh(normal(2, 3, 64, 80, seed=seed)) for seed in (0, 1))
    own, package = LPIPS(net).double(), PackageLPIPS(net).double()
    torch.testing.assert_close(own(x, y), package(x, y).flatten(), rtol=1e-13, atol=1e-15)


def test_lpips_says_where_its_backbone_is_from(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    other = LPIPS("squeeze", seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    path = tmp_path / "squeeze.pth"
    torch.save({f"features.{k}": v for k, v in other.features.state_dict().items()}, path)
    loaded = LPIPS("squeeze", weights=str(path))
    assert loaded.origin == str(path)
    x, y = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(x, y), other(x, y))
    assert not list(loaded.parameters()) or not any(p.requires_grad for p in loaded.parameters())
    with pytest.raises(ValueError, match="alex, vgg, squeeze"):
        LPIPS("resnet")


def test_lpips_has_a_finite_gradient_where_features_vanish() -> None:
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    LPIPS("alex")(x, torch.rand(1, 3, 64, 64)).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_digits_classifier_is_right_seeded_and_leaves_the_random_state() -> None:
    before = torch.random.get_rng_state()
    study = digits_study(5)
    assert torch.equal(before, torch.random.get_rng_state())
    assert study.accuracy > 0.9
    assert study is digits_study(5)
    again = digits_study.__wrapped__(5)
    assert torch.equal(study.features(study.unseen), again.features(again.unseen))


def test_blur_keeps_constants_and_means() -> None:
    flat = torch.full((1, 2, 20, 30), 0.7, dtype=torch.float64)
    torch.testing.assert_close(blur(flat, 2.0), flat)
    point = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    point[..., 15, 15] = 1
    spread = blur(point, 2.0)
    assert float(spread.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(spread, spread.mT)


def names_for(**options: object) -> set[str]:
    """The checks of a distance that declares these options."""
    target = "dlcheck.references.metrics.frechet_distance:by_matrix_root"
    subject = Subject(
        name="kernel_distance", target=target, kind="distribution_metric", options=options
    )
    return {check.name for check in applying(subject) if "metrics" in check.file}


def test_a_kernel_distance_is_not_judged_by_frechets_laws() -> None:
    frechet, kernel = names_for(), names_for(estimator="unbiased")
    assert "a_transport_costs_what_it_moves" in frechet - kernel
    assert "moving_both_sets_changes_nothing" in frechet - kernel
    assert "exchanging_the_sets_changes_nothing" in frechet & kernel
    assert "noise_raises_the_distance" in frechet & kernel
