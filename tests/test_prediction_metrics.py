"""Scores of predictions: references against scikit-learn and SciPy, and what validation finds."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import torch
from torch import Tensor

import dlcheck
from dlcheck.adapters import scikit_learn
from dlcheck.errors import UsageError
from dlcheck.model import Verdict
from dlcheck.references.metrics import chance, confusion, correlation, ranking, regression_errors
from dlcheck.references.metrics.accuracy import TopKAccuracy, top_k_accuracy
from dlcheck.references.metrics.calibration import (
    ExpectedCalibrationError,
    expected_calibration_error,
)
from dlcheck.references.metrics.correlation import KendallCorrelation, PearsonCorrelation
from dlcheck.references.metrics.overlap import dice, intersection_over_union
from dlcheck.references.metrics.perplexity import Perplexity, perplexity
from dlcheck.references.metrics.regression_errors import R2Score


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels(classes: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, classes, shape, generator=generator(seed))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def tied(*shape: int, seed: int = 0) -> Tensor:
    return (2 * normal(*shape, seed=seed)).round() / 2


def close(value: Tensor, expected: float) -> None:
    assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-14)


# --- references against oracles -------------------------------------------------------------------


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("seen", [5, 3])
def test_precision_recall_and_f_equal_scikit_learn(average: str, seen: int) -> None:
    prediction, target = labels(min(seen + 1, 5), 80), labels(seen, 80, seed=1)
    given = {"average": average, "zero_division": 0}
    for own, other in (
        (confusion.precision, sklearn.metrics.precision_score),
        (confusion.recall, sklearn.metrics.recall_score),
        (confusion.f_beta, sklearn.metrics.f1_score),
        (intersection_over_union, sklearn.metrics.jaccard_score),
    ):
        close(own(prediction, target, 5, average), other(target, prediction, **given))
    f2 = sklearn.metrics.fbeta_score(target, prediction, beta=2, **given)
    close(confusion.f_beta(prediction, target, 5, average, beta=2), f2)


def test_binary_and_single_classes_equal_scikit_learn() -> None:
    prediction, target = labels(2, 50), labels(2, 50, seed=1)
    close(
        confusion.f_beta(prediction, target, 2, "binary"),
        sklearn.metrics.f1_score(target, prediction),
    )
    each = dice(labels(3, 50), labels(3, 50, seed=1), 4, "none")
    assert torch.isnan(each).tolist() == [False, False, False, True]


def test_agreement_beyond_chance_equals_scikit_learn() -> None:
    prediction, target = labels(5, 80), labels(5, 80, seed=1)
    prediction[:40] = target[:40]
    kappa = sklearn.metrics.cohen_kappa_score(target, prediction)
    phi = sklearn.metrics.matthews_corrcoef(target, prediction)
    balanced = sklearn.metrics.balanced_accuracy_score(target, prediction)
    close(chance.CohenKappa(5).of(prediction, target), kappa)
    close(chance.MatthewsCorrelation(5).of(prediction, target), phi)
    close(chance.balanced_accuracy(prediction, target, 5), balanced)
    matrix = confusion.confusion_matrix(prediction, target, 5)
    assert matrix.tolist() == sklearn.metrics.confusion_matrix(target, prediction).tolist()


def test_top_k_accuracy_equals_scikit_learn() -> None:
    scores, target = normal(60, 6), labels(6, 60)
    for k in (1, 2, 5):
        expected = sklearn.metrics.top_k_accuracy_score(target, scores, k=k, labels=range(6))
        close(top_k_accuracy(scores, target, k), expected)


@pytest.mark.parametrize("scores", [normal(90), tied(90)], ids=["distinct", "tied"])
def test_ranking_equals_scikit_learn(scores: Tensor) -> None:
    target = labels(2, 90, seed=3)
    close(ranking.AreaUnderROC().of(scores, target), sklearn.metrics.roc_auc_score(target, scores))
    close(
        ranking.AveragePrecision().of(scores, target),
        sklearn.metrics.average_precision_score(target, scores),
    )


def test_multiclass_area_equals_scikit_learn() -> None:
    p, target = normal(90, 4).softmax(1), labels(4, 90)
    expected = sklearn.metrics.roc_auc_score(target, p, multi_class="ovr")
    close(ranking.MulticlassAreaUnderROC().of(p, target), expected)


@pytest.mark.parametrize("drawn", [normal, tied], ids=["distinct", "tied"])
def test_correlations_equal_scipy(drawn: Any) -> None:
    x, y = drawn(70), drawn(70, seed=1) + drawn(70)
    close(correlation.PearsonCorrelation().of(x, y), scipy.stats.pearsonr(x, y).statistic)
    close(correlation.SpearmanCorrelation().of(x, y), scipy.stats.spearmanr(x, y).statistic)
    close(correlation.KendallCorrelation().of(x, y), scipy.stats.kendalltau(x, y).statistic)


def test_errors_of_values_equal_scikit_learn() -> None:
    p, t = normal(70), normal(70, seed=1)
    close(regression_errors.MeanSquaredError().of(p, t), sklearn.metrics.mean_squared_error(t, p))
    close(
        regression_errors.RootMeanSquaredError().of(p, t),
        sklearn.metrics.root_mean_squared_error(t, p),
    )
    close(regression_errors.MeanAbsoluteError().of(p, t), sklearn.metrics.mean_absolute_error(t, p))
    close(regression_errors.R2Score().of(p, t), sklearn.metrics.r2_score(t, p))


def test_an_offset_costs_no_digits() -> None:
    p, t = normal(70), normal(70, seed=1) + normal(70)
    for score in (regression_errors.R2Score(), correlation.PearsonCorrelation()):
        near, far = float(score.of(p, t)), float(score.of(p + 1e6, t + 1e6))
        assert far == pytest.approx(near, abs=1e-8)


def test_calibration_counts_confidences_of_one_and_at_the_edges() -> None:
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.75, 0.25]], dtype=torch.float64)
    target = torch.tensor([0, 1, 0])
    # Bins (½, ¾] and (¾, 1]: gaps of ¼ and ½.
    expected = (1 * abs(0.75 - 1) + 2 * abs(1 - 0.5)) / 3
    close(expected_calibration_error(p, target, bins=4), expected)
    even = torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=torch.float64)
    close(expected_calibration_error(even, torch.tensor([0, 1]), bins=2), 0.0)


def test_perplexity_ignores_padding_and_averages_before_exp() -> None:
    logits, tokens = normal(6, 5, 7), labels(7, 6, 5)
    tokens[:, 3:] = -100
    expected = torch.nn.functional.cross_entropy(logits[:, :3].flatten(0, 1), tokens[:, :3].ravel())
    close(perplexity(logits, tokens), math.exp(expected))
    stream = Perplexity()
    for part in (slice(0, 1), slice(1, 6)):
        stream.update(logits[part], tokens[part])
    close(stream.compute(), math.exp(expected))


def test_streams_merge_save_and_reset() -> None:
    p, t = normal(40), labels(2, 40)
    one, other = ranking.AreaUnderROC(), ranking.AreaUnderROC()
    one.update(p[:7], t[:7])
    other.update(p[7:], t[7:])
    one.merge(other)
    close(one.compute(), sklearn.metrics.roc_auc_score(t, p))
    resumed = ranking.AreaUnderROC()
    resumed.load_state_dict(one.state_dict())
    assert torch.equal(resumed.compute(), one.compute())
    one.reset()
    with pytest.raises(ValueError, match="call update before compute"):
        one.compute()


@pytest.mark.parametrize(
    ("score", "prediction", "target", "message"),
    [
        (ranking.AreaUnderROC(), normal(5), torch.ones(5).long(), "every target is positive"),
        (ranking.AreaUnderROC(), normal(5) / 0, labels(2, 5), "NaN or infinite"),
        (ranking.AreaUnderROC(), normal(0), labels(2, 0), "empty"),
        (ranking.AreaUnderROC(), normal(5), labels(2, 4), "must have the same shape"),
        (ranking.AveragePrecision(), normal(5), torch.zeros(5).long(), "no target is positive"),
        (confusion.ConfusionMatrix(3), labels(4, 50), labels(3, 50), "there are 3 classes"),
        (TopKAccuracy(), labels(3, 5), labels(3, 5), "one score for each class"),
        (regression_errors.R2Score(), normal(5), torch.ones(5), "target is constant"),
        (correlation.SpearmanCorrelation(), torch.ones(5), normal(5), "one side is constant"),
    ],
)
def test_bad_rows_get_one_clear_error(
    score: Any, prediction: Tensor, target: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score.of(prediction, target)


@pytest.mark.parametrize(
    "other",
    [
        confusion.ClassScore(3, average="micro"),
        confusion.ClassScore(4),
        confusion.ConfusionMatrix(3),
    ],
)
def test_streams_of_other_settings_do_not_merge(other: Any) -> None:
    score, rows = confusion.ClassScore(3), labels(3, 20)
    other.update(rows, rows)
    with pytest.raises(ValueError, match="merge replicas of one score"):
        score.merge(other)


@pytest.mark.parametrize("classes", [1, 3])
def test_binary_scores_are_of_two_classes(classes: int) -> None:
    with pytest.raises(ValueError, match=f"class 1 of 2, and classes = {classes}"):
        confusion.ClassScore(classes, average="binary")


def test_what_is_no_probability_and_no_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"take softmax\(-1\) of logits"):
        expected_calibration_error(3 * normal(9, 4), labels(4, 9))
    with pytest.raises(ValueError, match="miss a sum of 1"):
        expected_calibration_error(0.9 * normal(9, 4).softmax(1), labels(4, 9))
    with pytest.raises(TypeError, match="labels are integers"):
        confusion.confusion_matrix(normal(9), labels(4, 9), 4)


# --- validation -----------------------------------------------------------------------------------

UNIT = {"range": [0, 1], "better": "higher", "perfect": 1.0}


def failures(subject: Any, **declared: Any) -> set[str]:
    traits, inputs = declared.pop("traits", ()), declared.pop("inputs", None)
    report = dlcheck.validate(
        subject, "prediction_metric", traits=traits, inputs=inputs, profile="quick", **declared
    )
    bad = (Verdict.FAILED, Verdict.ERRORED, Verdict.INCONCLUSIVE)
    return {o.check for o in report.outcomes if o.verdict in bad}


class BatchMean:
    """A score that is averaged over batches, as logging loops do."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def reset(self) -> None:
        self.values = []

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.values.append(confusion.f_beta(prediction, target, 6))

    def compute(self) -> Tensor:
        return torch.stack(self.values).mean()


def test_f1_that_is_averaged_over_batches_is_found() -> None:
    found = failures(BatchMean(), task="classification", average="macro", sizes={"k": 6}, **UNIT)
    assert "any_split_in_batches_gives_the_whole" in found
    assert "renaming_classes_changes_no_score" not in found


def own_accuracy(prediction: Tensor, target: Tensor) -> float:
    return float((prediction == target).double().mean())


def test_micro_and_macro_are_told_apart() -> None:
    declared = {"task": "classification", **UNIT}
    assert failures(own_accuracy, average="macro", **declared) == {
        "macro_averages_see_which_class_is_wrong"
    }
    assert not failures(own_accuracy, average="micro", **declared)


def numpy_f1(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    assert isinstance(y_true, np.ndarray)
    both = float((y_true * y_pred).sum())
    return 2 * both / float(y_true.sum() + y_pred.sum())


def test_arrays_and_the_order_of_scikit_learn_are_declared() -> None:
    declared = {"task": "binary", "prediction": "labels", "perfect_where": "has_positives", **UNIT}
    declared |= {"target_first": True, "arrays": "numpy"}
    assert not failures(numpy_f1, reference="sklearn.metrics:f1_score", **declared)
    found = failures(numpy_f1, reference="sklearn.metrics:precision_score", **declared)
    assert found == {"scores_match_their_twin"}


def ece_of_half_open_bins(prediction: Tensor, target: Tensor) -> Tensor:
    confidence, said = prediction.max(-1)
    right, total = (said == target).double(), prediction.new_zeros(())
    for low in torch.arange(10) / 10:
        inside = (confidence >= low) & (confidence < low + 0.1)
        if bool(inside.any()):
            total += inside.double().mean() * (confidence[inside] - right[inside]).mean().abs()
    return total


def test_a_dropped_confidence_of_one_is_found() -> None:
    declared = {"task": "classification", "prediction": "probabilities", "range": [0, 1]}
    found = failures(ece_of_half_open_bins, better="lower", perfect=0.0, **declared)
    assert "certain_predictions_count_like_all_others" in found


def byte_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().double().mean()


def test_differences_that_wrap_around_are_found() -> None:
    inputs = {"prediction": "uint8 b 4 4", "target": "uint8 b 4 4"}
    declared = {"range": [0, "inf"], "better": "lower", "perfect": 0.0}
    found = failures(byte_error, inputs=inputs, **declared)
    assert found == {"whole_numbers_score_alike_in_any_type"}


def byte_iou(prediction: Tensor, target: Tensor) -> Tensor:
    p, t = prediction.to(torch.uint8), target.to(torch.uint8)
    both = (p * t).sum(dtype=torch.uint8)
    return both / (p.sum(dtype=torch.uint8) + t.sum(dtype=torch.uint8) - both)


def test_counts_in_bytes_are_found() -> None:
    declared = {"task": "binary", "prediction": "labels", "perfect_where": "has_positives"}
    found = failures(byte_iou, traits=["size_invariant"], **declared, **UNIT)
    assert "repeating_rows_changes_no_score" in found


@pytest.mark.parametrize(
    ("scorer", "declared"),
    [
        ("neg_mean_squared_error", {"task": "regression", "range": ["-inf", 0], "perfect": 0.0}),
        ("f1_macro", {"task": "classification", "average": "macro", **UNIT}),
        ("roc_auc", {"task": "binary", "perfect_where": "nonconstant", **UNIT}),
    ],
)
def test_scorers_of_scikit_learn_pass(scorer: str, declared: dict[str, Any]) -> None:
    declared = {**declared, "better": "higher"}
    assert not failures(scikit_learn.scorer, args={"scorer": scorer}, **declared)


def test_a_made_scorer_keeps_its_sign() -> None:
    loss = sklearn.metrics.make_scorer(sklearn.metrics.mean_absolute_error, greater_is_better=False)
    x, y = normal(9), normal(9, seed=1)
    value = scikit_learn.scorer(x, y, scorer=loss)
    assert value == pytest.approx(-float((x - y).abs().mean()))
    with pytest.raises(UsageError, match="no 'f9'"):
        scikit_learn.scored(x, y, metric="f9")


# --- torchmetrics ---------------------------------------------------------------------------------


def test_metrics_of_torchmetrics_pass_as_they_are() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", reason="the peers are not installed")
    declared = {"task": "classification", "average": "average", "forward": "batch", **UNIT}
    f1 = torchmetrics.classification.MulticlassF1Score
    args = {"num_classes": {"dim": "k"}, "average": "macro"}
    assert not failures(f1, args=args, merge="merge_state", **declared)


def test_states_of_torchmetrics_are_merged_as_processes_do() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", reason="the peers are not installed")
    from dlcheck.adapters.torchmetrics import Replicated

    declared = {"task": "regression", "range": [-1, 1], "better": "higher", "perfect": 1.0}
    declared |= {"perfect_where": "nonconstant", "merge": "merge", "saves_state": True}
    pearson = torchmetrics.regression.PearsonCorrCoef
    assert not failures(Replicated, args={"metric": pearson}, **declared)


def test_feature_distances_of_torchmetrics_stream() -> None:
    pytest.importorskip("torchmetrics", reason="the peers are not installed")
    from dlcheck.adapters.torchmetrics import ClassScore, FeatureDistance

    fid = FeatureDistance("image.fid:FrechetInceptionDistance")
    x, y = normal(30, 3).float(), normal(40, 3, seed=1).float() + 1
    for a, b in ((x[:5], y[:9]), (x[5:], y[9:])):
        fid.update(a, b)
    from dlcheck.references.metrics.frechet_distance import frechet_distance

    assert float(fid.compute()) == pytest.approx(float(frechet_distance(x, y)), rel=1e-4)
    score, p = ClassScore(splits=1), normal(50, 4).softmax(1)
    score.update(p)
    from dlcheck.references.metrics.inception_score import inception_score

    assert float(score.compute()[0]) == pytest.approx(float(inception_score(p).mean), rel=1e-6)


# --- what a reader found -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -3.7e-9])
def test_a_constant_side_is_refused_whatever_its_rounding(value: float) -> None:
    constant = torch.full((12,), value, dtype=torch.float64)
    other = torch.arange(12, dtype=torch.float64)
    for score in (R2Score(), PearsonCorrelation()):
        with pytest.raises(ValueError, match="constant"):
            score.of(other, constant)
        for part in (slice(0, 3), slice(3, 7), slice(7, 12)):
            score.update(other[part], constant[part])
        with pytest.raises(ValueError, match="constant"):
            score.compute()


def test_a_small_spread_far_from_zero_is_not_constant() -> None:
    x = 1e6 + 1e-8 * torch.arange(20, dtype=torch.float64)
    assert float(PearsonCorrelation().of(x, x)) == pytest.approx(1.0, rel=1e-12)


def test_probabilities_of_narrow_types_are_taken_for_what_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 10, generator=generator)
    target = torch.randint(0, 10, (400,), generator=generator)
    for dtype in (torch.bfloat16, torch.float16):
        found = ExpectedCalibrationError().of(logits.to(dtype).softmax(-1), target)
        exact = ExpectedCalibrationError().of(logits.softmax(-1), target)
        assert float(found) == pytest.approx(float(exact), abs=0.05)
    with pytest.raises(ValueError, match="no distributions"):
        ExpectedCalibrationError().of(logits.softmax(-1) * 1.01, target)


def test_a_stream_keeps_no_graph() -> None:
    stream = Perplexity()
    logits = torch.randn(2, 3, 5, requires_grad=True)
    stream.update(logits, torch.zeros(2, 3, dtype=torch.long))
    assert not copy.deepcopy(stream).compute().requires_grad


@pytest.mark.parametrize("count", [5, 17, 40])
def test_kendall_keeps_to_its_range(count: int) -> None:
    x = torch.arange(count, dtype=torch.float64)
    assert float(KendallCorrelation().of(x, x)) <= 1.0
    assert float(KendallCorrelation().of(x, -x)) >= -1.0


def test_a_mean_over_images_of_a_mean_over_classes_is_macro() -> None:
    def iou(prediction: Tensor, target: Tensor) -> Tensor:
        values = []
        for one, two in zip(prediction, target, strict=True):
            classes = torch.cat([one.flatten(), two.flatten()]).unique()
            shares = [((one == c) & (two == c)).sum() / ((one == c) | (two == c)).sum()
                      for c in classes]  # fmt: skip
            values.append(torch.stack(shares).double().mean())
        return torch.stack(values).mean()

    report = dlcheck.validate(
        iou, kind="prediction_metric", device="cpu", profile="quick",
        options={"task": "segmentation", "prediction": "labels", "average": "macro",
                 "range": [0, 1], "better": "higher", "perfect": 1.0},
    )  # fmt: skip
    report.raise_for_failures()
