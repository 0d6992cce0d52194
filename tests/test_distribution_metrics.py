"""Distances of feature sets: the references against definitions, and what the checks find."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dlcheck
from dlcheck.numerics.moments import Moments, MomentStream
from dlcheck.references.metrics.frechet_distance import (
    StreamingFrechetDistance,
    frechet_distance,
    frechet_distance_from_moments,
)
from dlcheck.references.metrics.kernel_distance import (
    StreamingKernelInceptionDistance,
    kernel_inception_distance,
)
from dlcheck.references.metrics.manifold import (
    density_and_coverage,
    generative_precision,
    generative_precision_and_recall,
    generative_recall,
)

NAN = float("nan")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brenier(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """X, Y = XT + v, and ‖Δμ‖² + tr((I − T) Σ (I − T))."""
    d = x.shape[1]
    a, v = normal(d, d, seed=1), 0.1 * normal(d, seed=2)
    t = a @ a.mT / d + 0.1 * torch.eye(d, dtype=torch.float64)
    y, centred = x @ t + v, x - x.mean(0)
    moved = (centred - centred @ t).square().sum() / (len(x) - 1)
    return x, y, float((x.mean(0) - y.mean(0)).square().sum() + moved)


def streamed(x: Tensor, y: Tensor, sizes: list[int], others: list[int]) -> float:
    metric = StreamingFrechetDistance()
    empty = x[:0]
    parts = itertools.zip_longest(x.split(sizes), y.split(others), fillvalue=empty)
    for a, b in parts:
        metric.update(a, b)
    return float(metric.compute())


# --- moments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1] * 40, [700, 3, 600, 40], [1343]])
def test_moments_of_a_stream_are_those_of_all_rows(sizes: list[int]) -> None:
    x = normal(sum(sizes), 130)  # wider than a stripe
    stream = MomentStream()
    for part in x.split(sizes):
        stream.update(part)
    moments = stream.moments()
    assert moments.rows == len(x)
    torch.testing.assert_close(moments.mean, x.mean(0), rtol=0, atol=1e-14)
    torch.testing.assert_close(moments.covariance(), torch.cov(x.mT), rtol=0, atol=1e-13)
    assert torch.equal(moments.scatter, moments.scatter.mT)


def test_a_stream_keeps_no_reference_to_its_batches() -> None:
    x = normal(10, 3)
    batch, stream = x.clone(), MomentStream()
    stream.update(batch)
    batch.zero_()
    torch.testing.assert_close(stream.moments().mean, x.mean(0), rtol=0, atol=1e-15)


@pytest.mark.parametrize("cuts", [(10, 20), (700, 1400), (5, 1400)])
def test_merged_streams_are_one(cuts: tuple[int, int]) -> None:
    x = normal(2000, 8)
    streams = []
    for origin, rows in zip((x[3], None, x[0]), x.tensor_split(cuts), strict=True):
        streams.append(MomentStream(origin))
        streams[-1].update(rows)
    first, *rest = streams
    for other in rest:
        first.merge(other)
    merged, whole = first.moments(), Moments.of(x - x[3])
    assert merged.rows == 2000
    torch.testing.assert_close(merged.mean, whole.mean, rtol=0, atol=1e-13)
    torch.testing.assert_close(merged.scatter, whole.scatter, rtol=0, atol=1e-10)


# --- the Fréchet distance -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(normal(60, 20) @ normal(20, 40, seed=7), id="low rank, many rows"),
        pytest.param(normal(41, 40), id="one row more than features"),
        pytest.param(normal(7, 40), id="few rows"),
        pytest.param(normal(500, 40) * 1e8 ** -torch.linspace(0, 0.5, 40).double(), id="1e8"),
        pytest.param((normal(500, 40) * 2**20).round() / 2**20 + 1e6, id="offset of a million"),
    ],
)
@pytest.mark.parametrize("algorithm", ["auto", "streaming"])
def test_frechet_distance_keeps_twelve_digits(algorithm: str, x: Tensor) -> None:
    far = float(x.mean()) > 1e5
    x, y, expected = brenier(x - 1e6 if far else x)
    if far:  # on a grid that holds the offset too
        y = (y * 2**20).round() / 2**20
        expected = float(frechet_distance(x, y, algorithm="procrustes"))
        x, y = x + 1e6, y + 1e6
    if algorithm == "streaming":
        value = streamed(x, y, *([[29] * (len(x) // 29) + [len(x) % 29]] * 2))
    else:
        value = float(frechet_distance(x, y))
    assert value == pytest.approx(expected, rel=1e-12)


def test_streams_of_unequal_counts_merge_to_one_shot() -> None:
    x, y = normal(900, 8), normal(70, 8, seed=1) + 1
    expected = float(frechet_distance(x, y))
    assert streamed(x, y, [900], [30, 40]) == pytest.approx(expected, rel=1e-13)
    first, second = StreamingFrechetDistance(), StreamingFrechetDistance()
    second.update(x[:600], y[:5])
    second.update(x[600:], y[5:])
    first.merge(StreamingFrechetDistance())
    first.merge(second)
    assert float(first.compute()) == pytest.approx(expected, rel=1e-13)


def test_streams_of_other_ddof_do_not_merge() -> None:
    with pytest.raises(ValueError, match="ddof 1 and the other 0"):
        StreamingFrechetDistance().merge(StreamingFrechetDistance(ddof=0))


def test_a_stream_of_few_rows_beside_many_stays_exact() -> None:
    """One side keeps its rows, the other has folded them: singular beside regular."""
    x, y = normal(700, 40), normal(9, 40, seed=1)
    expected = float(frechet_distance(x, y, algorithm="singular_values"))
    assert streamed(x, y, [700], [4, 5]) == pytest.approx(expected, rel=1e-12)
    assert streamed(y, x, [9], [700]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.uint8])
def test_features_of_other_types_are_computed_with_in_float64(dtype: torch.dtype) -> None:
    x = (10 * normal(30, 4).abs()).to(dtype)
    y = (12 * normal(20, 4, seed=1).abs()).to(dtype)
    for distance in (frechet_distance, lambda a, b: kernel_inception_distance(a, b).mean):
        value = distance(x, y)
        assert value.dtype == torch.float64
        assert float(value) == pytest.approx(float(distance(x.double(), y.double())), rel=1e-13)


@pytest.mark.parametrize("rows", [30, 3])
def test_frechet_distance_has_a_gradient(rows: int) -> None:
    x, y = normal(rows, 5).requires_grad_(), 1.3 * normal(rows + 2, 5, seed=1)
    assert torch.autograd.gradcheck(frechet_distance, (x, y))


def test_distance_of_saved_moments_is_that_of_the_rows() -> None:
    x, y = normal(50, 5), normal(40, 5, seed=1)
    sides = [(rows.mean(0), torch.cov(rows.mT)) for rows in (x, y)]
    value = frechet_distance_from_moments(*sides[0], *sides[1])
    assert float(value) == pytest.approx(float(frechet_distance(x, y)), rel=1e-13)
    single = frechet_distance_from_moments(*(m.float() for m in (*sides[0], *sides[1])))
    assert float(single) == pytest.approx(float(value), rel=1e-5)


DISTANCES = [
    frechet_distance,
    kernel_inception_distance,
    generative_precision,
    generative_recall,
    density_and_coverage,
]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(
    ("a", "b", "error", "says"),
    [
        (normal(9, 3).fill_(NAN), normal(9, 3), ValueError, "first set holds NaN .* 9 of 9 rows"),
        (normal(9, 3), normal(9, 3) / 0, ValueError, "second set holds NaN or infinity"),
        (normal(9, 3), normal(9, 4), ValueError, "3 features and the second 4"),
        (normal(0, 3), normal(9, 3), ValueError, "first set has 0 rows"),
        (normal(9), normal(9), ValueError, r"shape \(9,\)"),
        (normal(9, 0), normal(9, 0), ValueError, "at least one feature"),
        (normal(9, 3), normal(9, 3).cfloat(), TypeError, "second set holds torch.complex64"),
        (normal(9, 3).numpy(), normal(9, 3), TypeError, "first set is a ndarray"),
        (normal(9, 3), normal(9, 3).to("meta"), ValueError, "on cpu and the second on meta"),
    ],
)
def test_what_is_no_feature_set_is_refused(
    distance: Callable[[Tensor, Tensor], object],
    a: Tensor,
    b: Tensor,
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        distance(a, b)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="second set has 1 row, and this needs at least 2"):
        frechet_distance(normal(5, 3), normal(1, 3))
    assert float(frechet_distance(normal(5, 3), normal(1, 3), ddof=0)) > 0
    with pytest.raises(ValueError, match="at least 2"):
        kernel_inception_distance(normal(1, 3), normal(5, 3))
    with pytest.raises(ValueError, match="no neighbour number 3"):
        generative_precision(normal(3, 3), normal(5, 3))


def test_unknown_settings_are_refused_with_what_is_known() -> None:
    x = normal(5, 3)
    with pytest.raises(ValueError, match="auto, cholesky, singular_values, procrustes"):
        frechet_distance(x, x, algorithm="newton")
    with pytest.raises(ValueError, match="unbiased or biased"):
        kernel_inception_distance(x, x, estimator="fair")
    with pytest.raises(ValueError, match="at least 1000"):
        kernel_inception_distance(x, x, subsets=3)
    with pytest.raises(ValueError, match="neighbours is 0"):
        generative_recall(x, x, neighbours=0)


@pytest.mark.parametrize(
    ("covariance", "says"),
    [
        (torch.eye(2), "shape"),
        (torch.eye(3) + torch.eye(3).roll(1, 0), "from its transpose"),
        (-torch.eye(3), "negative variance"),
        (torch.eye(3) * NAN, "NaN"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        frechet_distance_from_moments(torch.zeros(3), torch.eye(3), torch.zeros(3), covariance)


def test_a_refused_batch_leaves_the_stream_as_it_was() -> None:
    x, y = normal(30, 3), normal(20, 3, seed=1)
    metric = StreamingFrechetDistance()
    with pytest.raises(ValueError, match=r"call update\(\) before compute"):
        metric.compute()
    metric.update(x, y)
    for a, b in ((normal(4, 2), normal(4, 2)), (x * NAN, y), (x, y * NAN)):
        with pytest.raises(ValueError, match=r"2 features and those before had 3|NaN"):
            metric.update(a, b)
    assert float(metric.compute()) == pytest.approx(float(frechet_distance(x, y)), rel=1e-13)


# --- the kernel distance --------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize(("rows", "others"), [(9, 6), (2, 7), (1500, 1100)])
def test_kernel_distance_is_its_definition(estimator: str, rows: int, others: int) -> None:
    x, y = normal(rows, 4), normal(others, 4, seed=1) + 0.3

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (0.5 * a @ b.mT + 0.25) ** 2

    def within(a: Tensor) -> Tensor:
        if estimator == "biased":
            return k(a, a).mean()
        return (k(a, a).sum() - k(a, a).trace()) / (len(a) * (len(a) - 1))

    expected = float(within(x) + within(y) - 2 * k(x, y).mean())
    value = kernel_inception_distance(x, y, estimator, degree=2, gamma=0.5, coef0=0.25)
    assert float(value.mean) == pytest.approx(expected, rel=1e-10)
    assert float(value.deviation) == 0.0


def test_kernel_distance_streams_merges_and_resets() -> None:
    x, y = normal(9, 4), normal(6, 4, seed=1)
    first, second = (StreamingKernelInceptionDistance(degree=2) for _ in range(2))
    first.update(x[:4], y[:0])
    second.update(x[4:], y)
    first.merge(second)
    assert first.compute() == kernel_inception_distance(x, y, degree=2)
    first.reset()
    with pytest.raises(ValueError, match=r"call update\(\)"):
        first.compute()


def test_a_stream_of_kernel_distances_refuses_a_batch_before_it_is_taken() -> None:
    x, y = normal(9, 3), normal(9, 3, seed=1)
    stream, other = StreamingKernelInceptionDistance(), StreamingKernelInceptionDistance()
    stream.update(x, y)
    with pytest.raises(ValueError, match="second set holds NaN"):
        stream.update(x, y * NAN)
    with pytest.raises(ValueError, match="this batch has 4 features and those before had 3"):
        stream.update(normal(9, 4), normal(9, 4))
    other.update(normal(9, 4), normal(9, 4))
    with pytest.raises(ValueError, match="other stream has 4 features"):
        stream.merge(other)
    with pytest.raises(ValueError, match="settings"):
        stream.merge(StreamingKernelInceptionDistance(degree=2))
    assert float(stream.compute().mean) == float(kernel_inception_distance(x, y).mean)


def test_subsets_give_a_mean_and_a_deviation_by_their_seed() -> None:
    x, y = normal(50, 4), normal(60, 4, seed=1)
    first = kernel_inception_distance(x, y, subsets=8, subset_size=20)
    again = kernel_inception_distance(x, y, subsets=8, subset_size=20)
    other = kernel_inception_distance(x, y, subsets=8, subset_size=20, seed=1)
    assert first == again
    assert float(first.mean) != float(other.mean)
    assert float(first.deviation) > 0


def test_many_rows_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlcheck.references.metrics.kernel_distance._ROWS", 40)
    x, y = normal(100, 4), normal(70, 4, seed=1)
    blocks = kernel_inception_distance(x, y)
    monkeypatch.undo()
    whole = kernel_inception_distance(x, y)
    spread = float(blocks.deviation)
    assert spread > 0
    assert abs(float(blocks.mean - whole.mean)) < 4 * spread


# --- manifolds ------------------------------------------------------------------------------------


def test_precision_and_recall_of_known_sets() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    # With one neighbour the balls are [−1, 1], [0, 2], [1, 3] and [2, 18].
    generated = torch.tensor([[-1.0], [3.0], [3.5], [-1.5]])
    assert float(generative_precision(real, generated, neighbours=1)) == 0.75
    assert float(generative_precision(real[:3], generated, neighbours=1)) == 0.5
    # The generated balls are [−1.5, −0.5], [2.5, 3.5], [3, 4] and [−2, −1].
    assert float(generative_recall(real, generated, neighbours=1)) == 0.0
    precision, recall = generative_precision_and_recall(real, real.flip(0), neighbours=1)
    assert (float(precision), float(recall)) == (1.0, 1.0)


def test_density_rewards_no_outlier_and_coverage_counts_real_balls() -> None:
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    generated = torch.tensor([[5.0], [6.0], [0.5]])
    # 5 and 6 lie in the outlier's ball alone, 0.5 in those of 0 and 1.
    density, coverage = density_and_coverage(real, generated, neighbours=1)
    assert float(density) == pytest.approx(4 / 3)
    assert float(coverage) == 0.75
    assert float(generative_precision(real, generated, neighbours=1)) == 1.0


def test_repeated_rows_are_at_distance_zero_far_from_the_origin() -> None:
    real = (normal(20, 16) + 1e4).repeat(3, 1)
    assert float(generative_precision(real, real[:20], neighbours=2)) == 1.0
    assert float(generative_precision(real, real[:20] + 1e-3, neighbours=2)) == 0.0


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(50, 4), 1.2 * normal(45, 4, seed=1)
    whole = generative_precision(x, y), *density_and_coverage(x, y)
    monkeypatch.setattr("dlcheck.references.metrics.manifold._TILE", 7)
    assert (generative_precision(x, y), *density_and_coverage(x, y)) == whole


# --- what validating finds ------------------------------------------------------------------------


def eigenvalues(a: Tensor, b: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """As libraries write it: general eigenvalues of the product."""
    a, b = a.to(dtype), b.to(dtype)
    one, two = (torch.atleast_2d(torch.cov(x.mT)) for x in (a, b))
    root = torch.linalg.eigvals(one @ two).sqrt().real.sum()
    return (a.mean(0) - b.mean(0)).square().sum() + one.trace() + two.trace() - 2 * root


def in_single_precision(a: Tensor, b: Tensor) -> float:
    return float(eigenvalues(a, b, torch.float32))


def in_one_pass_of_single_precision(a: Tensor, b: Tensor) -> float:
    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        x, n = x.float(), len(x)
        mean = x.mean(0)
        return mean, (x.mT @ x - n * torch.outer(mean, mean)) / (n - 1)

    (m1, one), (m2, two) = moments(a), moments(b)
    root = torch.linalg.eigvals(one.double() @ two.double()).sqrt().real.sum()
    return float((m1 - m2).square().sum() + one.trace() + two.trace() - 2 * root)


def by_separate_roots(a: Tensor, b: Tensor) -> Tensor:
    def root(x: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(torch.atleast_2d(torch.cov(x.double().mT)))
        return (vectors * values.clamp_min(0).sqrt()) @ vectors.mT

    step = a.double().mean(0) - b.double().mean(0)
    return step.square().sum() + (root(a) - root(b)).square().sum()


# What is measured on digits takes long, and is proved with every other check.
ON_DIGITS = ("noise_*", "showing_*", "mixing_*")


def failures(subject: object, skip: Sequence[str] = ON_DIGITS, **declared: object) -> set[str]:
    options = {"better": "lower", **declared.pop("options", {})}  # type: ignore[dict-item]
    report = dlcheck.validate(
        subject,
        kind="distribution_metric",
        profile="quick",
        options=options,
        skip=skip,
        **declared,
    )
    assert {o.verdict.value for o in report.outcomes} <= {"passed", "failed", "skipped"}
    return {outcome.check for outcome in report.failures}


@pytest.mark.parametrize("right", [eigenvalues, in_single_precision])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_distances_pass_in_every_precision(
    right: Callable[[Tensor, Tensor], object], dtype: str
) -> None:
    assert not failures(right, dtype=dtype)


def test_one_pass_in_single_precision_is_found_by_an_offset() -> None:
    assert "a_large_common_offset_changes_nothing" in failures(in_one_pass_of_single_precision)


def test_the_product_of_the_separate_roots_is_found_by_transport() -> None:
    found = failures(by_separate_roots)
    assert {"a_transport_costs_what_it_moves", "gaussians_match_their_closed_form"} <= found
    assert "independent_features_add_up" not in found  # where covariances commute it is right


def on_arrays(a: np.ndarray, b: np.ndarray) -> float:
    one, two = (np.atleast_2d(np.cov(x.astype(np.float64), rowvar=False)) for x in (a, b))
    step = np.mean(a, axis=0, dtype=np.float64) - np.mean(b, axis=0, dtype=np.float64)
    root = np.sqrt(np.linalg.eigvals(one @ two).astype(np.complex128)).real.sum()
    return float(step @ step + np.trace(one) + np.trace(two) - 2 * root)


def test_a_distance_of_arrays_gets_arrays() -> None:
    assert not failures(on_arrays, options={"arrays": "numpy"})


def refuses_singular_covariances(a: Tensor, b: Tensor) -> Tensor:
    for rows in (a, b):
        if torch.linalg.matrix_rank(rows - rows.mean(0)) < rows.shape[1]:
            raise ValueError("the covariance is singular")
    return eigenvalues(a, b)


def test_a_documented_refusal_is_no_failure() -> None:
    checks = ["fewer_*", "two_points_*", "a_constant_*", "gaussians_*"]
    found = failures(refuses_singular_covariances, skip=(), checks=checks)
    assert found == {
        "fewer_rows_than_features_stay_exact",
        "two_points_are_as_far_as_their_deviations",
        "a_constant_set_is_as_far_as_the_spread_about_it",
    }
    options = {"rejects": {"exception": "ValueError"}}
    assert not failures(refuses_singular_covariances, skip=(), checks=checks, options=options)


def biased(a: Tensor, b: Tensor) -> float:
    def k(x: Tensor, y: Tensor) -> Tensor:
        return (x.double() @ y.double().mT / x.shape[1] + 1) ** 3

    return float(k(a, a).mean() + k(b, b).mean() - 2 * k(a, b).mean())


def test_a_kernel_distance_is_held_to_the_estimator_that_it_declares() -> None:
    assert not failures(biased, options={"estimator": "biased", "perfect": 0.0})
    assert "the_mean_over_all_samples_is_the_distance_of_the_laws" in failures(
        biased, options={"estimator": "unbiased"}
    )


def sliced_distance(a: Tensor, b: Tensor) -> float:
    """Sliced Wasserstein of the means and deviations along fixed directions."""
    d = a.shape[1]
    turns = normal(d, 8, seed=3) / math.sqrt(d)
    one, two = a.double() @ turns, b.double() @ turns
    return float(((one.mean(0) - two.mean(0)) ** 2 + (one.std(0) - two.std(0)) ** 2).sum())


def test_another_distance_is_held_to_what_it_declares_alone() -> None:
    declared: dict[str, Any] = {
        "skip": (),
        "traits": ("other_distance", "symmetric"),
        "options": {"perfect": 0.0, "range": [0, "inf"], "sizes": {"n": [2, 17], "m": [2, 17]}},
    }
    assert not failures(sliced_distance, **declared)
    declared["traits"] = ("other_distance", "symmetric", "motion_invariant")
    assert failures(sliced_distance, **declared) == {"a_common_motion_changes_no_invariant_measure"}


@pytest.mark.parametrize("rows", [300, 400, 600, 1400])
def test_a_stream_merged_with_itself_has_seen_everything_twice(rows: int) -> None:
    x, y = normal(rows, 6), 1.5 * normal(rows, 6, seed=1)
    stream = StreamingFrechetDistance()
    stream.update(x, y)
    stream.merge(stream)
    expected = frechet_distance(torch.cat([x, x]), torch.cat([y, y]))
    assert float(stream.compute()) == pytest.approx(float(expected), rel=1e-10)


def test_the_biased_kernel_distance_does_not_jump_where_blocks_begin() -> None:
    a, b = normal(10_002, 2), normal(10_002, 2, seed=1)
    few, more = (
        float(kernel_inception_distance(a[:n], b[:n], estimator="biased").mean)
        for n in (10_000, 10_002)
    )
    assert more == pytest.approx(few, rel=0.05)


@pytest.mark.parametrize("stream", [StreamingFrechetDistance, StreamingKernelInceptionDistance])
def test_a_stream_keeps_no_graph(stream: Any) -> None:
    metric = stream()
    metric.update(normal(40, 5).requires_grad_(), normal(30, 5, seed=1))
    value = metric.compute()
    assert not (value[0] if isinstance(value, tuple) else value).requires_grad
