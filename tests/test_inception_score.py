"""The Inception Score's reference: streams, splits, forms and what it refuses; its checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import Tensor

from dlcheck import validate
from dlcheck.features import digits_study, frechet_distance, local_study, shuffled_tiles
from dlcheck.references.metrics import frechet_distance as frechet
from dlcheck.references.metrics.inception_score import (
    StreamingInceptionScore,
    inception_score,
    inception_score_from_logits,
)


def logits(rows: int, classes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


def probabilities(rows: int, classes: int, seed: int = 0) -> Tensor:
    return logits(rows, classes, seed).softmax(1)


def test_the_score_is_that_of_scipy() -> None:
    p = probabilities(40, 7)
    marginal = p.mean(0).numpy()
    expected = math.exp(sum(entropy(row, marginal) for row in p.numpy()) / 40)
    assert float(inception_score(p).mean) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("form", ["log_probabilities", "logits"])
def test_every_form_scores_the_same(form: str) -> None:
    z = logits(30, 5)
    given = z.log_softmax(1) if form == "log_probabilities" else z
    expected = float(inception_score(z.softmax(1)).mean)
    assert float(inception_score(given, prediction=form).mean) == pytest.approx(expected, rel=1e-13)


def test_logits_of_any_size_have_a_score() -> None:
    certain = 5000 * torch.eye(4, dtype=torch.float64)
    assert float(inception_score_from_logits(certain).mean) == pytest.approx(4.0, rel=1e-14)
    masked = torch.full((3, 4), -torch.inf, dtype=torch.float64)
    masked[:, 1] = 0
    assert float(inception_score_from_logits(masked).mean) == 1.0


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("sizes", [[53], [1, 50, 2], [20, 20, 13]])
def test_a_stream_in_any_batches_is_one_shot(splits: int, sizes: list[int]) -> None:
    p = probabilities(53, 6)
    stream = StreamingInceptionScore(splits)
    for batch in p.split(sizes):
        stream.update(batch)
    for got, expected in zip(stream.compute(), inception_score(p, splits), strict=True):
        assert float(got) == pytest.approx(float(expected), rel=1e-13)
    stream.reset()
    stream.update(p[:9])
    first = float(inception_score(p[:9], splits).mean)
    assert float(stream.compute().mean) == pytest.approx(first, rel=1e-13)
    assert float(stream.compute().mean) == float(stream.compute().mean)


@pytest.mark.parametrize("splits", [1, 3])
def test_merged_streams_are_one(splits: int) -> None:
    p = probabilities(31, 6)
    first, second, empty = (StreamingInceptionScore(splits) for _ in range(3))
    first.update(p[:10])
    second.update(p[10:])
    empty.merge(first)
    empty.merge(second)
    first.merge(StreamingInceptionScore(splits))
    expected = float(inception_score(p, splits).mean)
    assert float(empty.compute().mean) == pytest.approx(expected, rel=1e-13)
    assert float(first.compute().mean) == pytest.approx(
        float(inception_score(p[:10], splits).mean), rel=1e-13
    )


def test_one_split_keeps_nothing_but_sums() -> None:
    stream = StreamingInceptionScore()
    stream.update(probabilities(500, 6))
    kept = [x for x in vars(stream).values() if isinstance(x, list)]
    assert kept == [[]]


NAN = torch.tensor([[0.5, 0.5], [float("nan"), 0.5]])


@pytest.mark.parametrize(
    ("given", "keywords", "error", "message"),
    [
        (torch.randn(4, 3), {}, ValueError, "look like logits"),
        (torch.randn(4, 3).log_softmax(1), {}, ValueError, "look like log-probabilities"),
        (torch.full((4, 3), 0.4), {}, ValueError, "row 0 sums to 1.2"),
        (NAN, {}, ValueError, "row 1 holds nan"),
        (torch.tensor([[1.5, -0.5]]), {}, ValueError, "below 0"),
        (torch.zeros(0, 3), {}, ValueError, r"at least one row .* not \[0, 3\]"),
        (torch.ones(3), {}, ValueError, r"\[n, k\]"),
        (torch.eye(3, dtype=torch.int64), {}, TypeError, "one_hot"),
        (torch.eye(3, dtype=torch.float16), {}, TypeError, r"softmax of logits.float\(\)"),
        ([[0.5, 0.5]], {}, TypeError, "not list"),
        (torch.eye(3), {"splits": 4}, ValueError, "3 samples cannot be cut into 4 splits"),
        (torch.eye(3), {"splits": 0}, ValueError, "at least 1"),
        (torch.eye(3), {"splits": 2.0}, ValueError, "whole number"),
        (torch.eye(3), {"prediction": "odds"}, ValueError, "not 'odds'"),
        (torch.full((2, 2), torch.inf), {"prediction": "logits"}, ValueError, "row 0 holds inf"),
        (torch.eye(3), {"prediction": "log_probabilities"}, ValueError, "row 0 sums to"),
    ],
)
def test_bad_predictions_are_refused(
    given: Any, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        inception_score(given, **keywords)


@pytest.mark.parametrize("splits", [1, 4])
def test_the_row_that_is_wrong_is_named_in_a_large_set(splits: int) -> None:
    p = probabilities(20_000, 5)
    p[17_000, 2] = torch.nan
    with pytest.raises(ValueError, match="row 17000 holds nan"):
        inception_score(p, splits)


def test_float32_softmax_of_many_classes_is_a_distribution() -> None:
    p = logits(64, 20_000).float().softmax(1)
    assert 1 < float(inception_score(p).mean) < 20_000


def test_a_stream_refuses_what_does_not_fit() -> None:
    stream = StreamingInceptionScore()
    with pytest.raises(ValueError, match="no samples"):
        stream.compute()
    stream.update(probabilities(3, 4))
    with pytest.raises(ValueError, match="4 before, 5 now"):
        stream.update(probabilities(3, 5))
    with pytest.raises(ValueError, match="same form"):
        stream.merge(StreamingInceptionScore(2))


# --- the study's own distance and features --------------------------------------------------------


@pytest.mark.parametrize("rows", [5, 60])
def test_the_studys_distance_is_frechets(rows: int) -> None:
    x, y = logits(rows, 8), 1 + logits(45, 8, seed=1)
    expected = float(frechet.frechet_distance(x, y))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)


def test_pooled_features_do_not_see_where_tiles_lie() -> None:
    pictures = digits_study(0).unseen[:50]
    moved = shuffled_tiles(pictures, torch.Generator().manual_seed(0))
    assert not torch.equal(moved, pictures)
    assert torch.equal(moved.flatten(1).sort(1).values, pictures.flatten(1).sort(1).values)
    study = local_study(0)
    pooled, placed = (study[name].features for name in ("pooled", "in place"))
    torch.testing.assert_close(pooled(moved), pooled(pictures), rtol=1e-5, atol=1e-6)
    assert float((placed(moved) - placed(pictures)).abs().max()) > 0.1


# --- the kind -------------------------------------------------------------------------------------


def kl(p: Tensor, marginal: Tensor) -> Tensor:
    return (p * ((p + 1e-16).log() - (marginal + 1e-16).log())).sum(1)


def of_splits(score: Callable[[Tensor], Tensor], parts: tuple[Tensor, ...]) -> Any:
    scores = torch.stack([score(part) for part in parts])
    return scores.mean(), scores.std(correction=0)


def guarded_score(p: Tensor) -> Tensor:
    return kl(p, p.mean(0)).mean().exp()


def shuffled_splits(p: Tensor, splits: int = 10) -> Any:
    return of_splits(guarded_score, p[torch.randperm(len(p))].tensor_split(splits))


def score_of_logits(z: Tensor) -> float:
    return float(guarded_score(z.softmax(1)))


def by_the_letter(p: Tensor) -> Tensor:
    return (p * (p.log() - p.mean(0).log())).sum(1).mean().exp()


def ten_splits(p: Tensor) -> Any:
    return of_splits(guarded_score, p.tensor_split(10))


def of_arrays(p: np.ndarray) -> dict[str, float]:
    assert isinstance(p, np.ndarray)
    return {"mean": float(guarded_score(torch.from_numpy(p))), "deviation": 0.0}


@pytest.mark.parametrize(
    ("score", "declared"),
    [
        (guarded_score, {}),
        (of_arrays, {"options": {"arrays": "numpy"}}),
        (shuffled_splits, {"options": {"splits": "splits"}}),
        (score_of_logits, {"options": {"prediction": "logits"}}),
        (by_the_letter, {"traits": ["positive_only"]}),
        (ten_splits, {"options": {"splits": 10}}),
    ],
)
def test_right_scores_pass(score: Any, declared: dict[str, Any]) -> None:
    report = validate(score, kind="score_metric", profile="quick", **declared)
    assert report.passed, str(report)


def drops_the_rest(p: Tensor, splits: int = 1) -> Any:
    size = len(p) // splits
    return of_splits(guarded_score, p[: size * splits].split(size))


def over_the_batch(z: Tensor) -> Tensor:
    return guarded_score(z.softmax(0))


def base_two(p: Tensor) -> Tensor:
    return (kl(p, p.mean(0)).mean() / math.log(2)).exp()


@pytest.mark.parametrize(
    ("score", "options", "check"),
    [
        (drops_the_rest, {"splits": "splits"}, "every_sample_counts_in_some_split"),
        (by_the_letter, {}, "identical_predictions_score_one"),
        (base_two, {}, "two_known_rows_score_what_they_should"),
        (over_the_batch, {"prediction": "logits"}, "two_known_rows_score_what_they_should"),
    ],
)
def test_wrong_scores_fail(score: Any, options: dict[str, Any], check: str) -> None:
    report = validate(score, kind="score_metric", profile="quick", options=options)
    assert check in {outcome.check for outcome in report.failures}


@pytest.mark.parametrize(
    ("score", "cause"),
    [
        (base_two, "the logarithm has base 2"),
        (lambda p: guarded_score(p.softmax(1)), 'declare prediction = "logits"'),
        (lambda p: shuffled_splits(p, 10), "declare the option splits"),
        (lambda p: kl(p, p.mean(1, keepdim=True)).mean().exp(), "the marginal is uniform"),
    ],
)
def test_a_known_mistake_is_named(score: Any, cause: str) -> None:
    found = validate(score, kind="score_metric", profile="quick", checks=["two_known_rows_*"])
    assert cause in " ".join(str(found).split())


def test_a_stream_keeps_no_graph() -> None:
    score = StreamingInceptionScore()
    score.update(
        torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).requires_grad_().softmax(1)
    )
    assert not score.compute().whole.requires_grad
