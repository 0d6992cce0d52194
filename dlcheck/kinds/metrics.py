"""Scores of predictions, of samples and of images."""

from __future__ import annotations

from collections.abc import Mapping

from dlcheck.model import Kind

_STREAMING = {
    "range": '[lowest, highest] value; an end may name a dim, or be "inf"',
    "better": "higher or lower",
    "perfect": "value of a perfect prediction",
    "perfect_where": "nonconstant or has_positives",
    "task": "what is predicted",
    "resets_on_compute": "true if compute() also resets",
    "merge": "method of a stream that takes in another replica: a.merge(b)",
    "merge_takes": "replica or list: what that method is given; a replica by default",
    "sync": "method that brings the states of torch.distributed's ranks together before compute(); "
    "compute where it does so itself",
    "saves_state": "true if state_dict() and load_state_dict() carry on a stream",
    "forward": "what a call of a stream answers: batch (the value of that batch) or running "
    "(of all so far); it also takes the batch in",
}

_STREAMING_VALUES: Mapping[str, tuple[str, ...]] = {
    "better": ("higher", "lower"),
    "merge_takes": ("replica", "list"),
    "forward": ("batch", "running"),
}

# What a score of predictions takes by its task and the form of its prediction; the first form is
# the one where none is declared.
SCORED: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "classification": {
        "labels": ("label[k] b", "label[k] b"),
        "logits": ("logit b k", "label[k] b"),
        "probabilities": ("probability b k", "label[k] b"),
        "log_probabilities": ("log_probability b k", "label[k] b"),
    },
    "binary": {
        "scores": ("float b", "label[2] b"),
        "labels": ("label[2] b", "label[2] b"),
        "logits": ("logit b", "label[2] b"),
        "probabilities": ("unit b", "label[2] b"),
    },
    "multilabel": {
        "scores": ("float b k", "label[2] b k"),
        "labels": ("label[2] b k", "label[2] b k"),
        "logits": ("logit b k", "label[2] b k"),
        "probabilities": ("unit b k", "label[2] b k"),
    },
    "regression": {"values": ("float b", "float b")},
    "segmentation": {
        "labels": ("label[k] b h w", "label[k] b h w"),
        "logits": ("logit b k h w", "label[k] b h w"),
        "probabilities": ("probability[k] b k h w", "label[k] b h w"),
    },
    "sequence": {
        "logits": ("logit b t k", "label[k] b t"),
        "labels": ("label[k] b t", "label[k] b t"),
        "probabilities": ("probability b t k", "label[k] b t"),
        "log_probabilities": ("log_probability b t k", "label[k] b t"),
    },
    "ranking": {
        "scores": ("float b n", "label[2] b n"),
        "probabilities": ("unit b n", "label[2] b n"),
    },
}

# What a score of class predictions takes where it is not probabilities.
CLASS_PREDICTIONS: Mapping[str, Mapping[str, str]] = {
    "log_probabilities": {"log_probabilities": "log_probability n k"},
    "logits": {"logits": "logit n k"},
}

KINDS = (
    Kind(
        name="prediction_metric",
        form="function",
        call="f(prediction, target)",
        summary="a score of predictions; a function or update/compute/reset",
        by_task={
            task: dict(zip(("prediction", "target"), next(iter(forms.values())), strict=True))
            for task, forms in SCORED.items()
        },
        options={
            **_STREAMING,
            "perfect_where": "where a perfect prediction scores `perfect`: nonconstant (targets "
            "that differ), has_positives, or all_classes; everywhere by default",
            "prediction": "labels, logits, probabilities, log_probabilities, scores or values: "
            "what the prediction is",
            "target_first": "true where it is called f(target, prediction), as scikit-learn's are",
            "reference_target_first": "the same of the reference; where its first parameter is "
            "named y_true it is known",
            "arrays": "torch or numpy: of what it is given; torch by default",
            "average": "how classes become one number, or its argument: macro, micro, weighted, "
            "binary, none",
            "renaming": "true if renaming the classes changes nothing, where no average says so",
            "absent_classes": "what a class counts that neither side names: ignored, zero, one, "
            "or nan (then the value may be NaN)",
            "uninformed": "value of a prediction that is the same for every row: 0 for R², 0.5 "
            "for an area under the ROC curve",
            "ignore_index": "targets of this label do not count; the label or its argument",
            "ddof": "delta degrees of freedom, or its argument: the value is a sum over n - ddof",
        },
        traits={
            "monotone_invariant": "a monotone map of the prediction leaves it",
            "size_invariant": "repeating every row leaves it: a mean or a ratio, no count",
            "improves_with_each_row": "moving one prediction to its target never worsens it",
            "reverses": "negating the prediction mirrors the value in its range, as of a "
            "correlation or an area under the ROC curve",
            "ordered": "the order of the rows matters, as of a time series",
            "orders_ties": "rows of equal scores are taken in the order given",
        },
        values={
            **_STREAMING_VALUES,
            "perfect_where": ("nonconstant", "has_positives", "all_classes"),
            "prediction": (
                "labels",
                "logits",
                "probabilities",
                "log_probabilities",
                "scores",
                "values",
            ),
            "arrays": ("torch", "numpy"),
            "average": ("macro", "micro", "weighted", "binary", "none"),
            "absent_classes": ("ignored", "zero", "one", "nan"),
        },
        named=frozenset({"average", "perfect", "uninformed"}),
        numbers=frozenset({"perfect", "uninformed"}),
    ),
    Kind(
        name="score_metric",
        form="function",
        call="f(probabilities)",
        summary="a score of class probabilities (Inception Score)",
        inputs={"probabilities": "probability n k"},
        options={
            **_STREAMING,
            "splits": "number of splits, or its argument",
            "prediction": "what it takes: probabilities (by default), log_probabilities or logits",
            "arrays": "torch or numpy: of what it is given; torch by default",
        },
        values={
            **_STREAMING_VALUES,
            "prediction": ("probabilities", "log_probabilities", "logits"),
            "arrays": ("torch", "numpy"),
        },
        numbers=frozenset({"perfect"}),
        traits={"positive_only": "takes the logarithm of p by the letter: no p is exactly 0"},
    ),
    Kind(
        name="distribution_metric",
        form="function",
        call="f(features_a, features_b)",
        summary="a distance of two sets of features (FID, KID)",
        inputs={"a": "float n d", "b": "float m d"},
        options={
            **_STREAMING,
            "estimator": "biased or unbiased, or its argument; with it the metric is a kernel "
            "distance (KID)",
            "degree": "of a kernel (gamma xᵀy + coef0)^degree, or its argument; 3 by default",
            "gamma": "of that kernel, or its argument; 1/d by default, and where it is None",
            "coef0": "of that kernel, or its argument; 1 by default",
            "ddof": "delta degrees of freedom of the covariance, or its argument; 1 by default",
            "arrays": "numpy or torch: of what the sets are made; tensors by default",
        },
        traits={
            "other_distance": "neither a Fréchet nor a kernel distance: has no law of theirs",
            "motion_invariant": "a common rotation and shift of both sets leaves it",
        },
        values={
            **_STREAMING_VALUES,
            "estimator": ("biased", "unbiased"),
            "arrays": ("numpy", "torch"),
        },
        numbers=frozenset({"perfect"}),
        named=frozenset({"estimator"}),
    ),
    Kind(
        name="image_metric",
        form="function",
        call="f(x, y)",
        summary="per pair or scalar (LPIPS, SSIM, PSNR, FSIM)",
        inputs={"x": "image b 3 h w", "y": "image b 3 h w"},
        options={
            **_STREAMING,
            "data_range": "the argument of that name, or the number that it stands at",
            "interval": "[lowest, highest] value that images hold",
            "reduction": "none or mean",
            "formula": "psnr, ssim or ms_ssim: the published definition that it computes",
            "window": "of ssim: { size = 11, deviation = 1.5, padding = none }; without deviation "
            "uniform; padding is reflect, replicate or constant",
            "distorted": "the input that is the distorted image; the last by default",
            "ddof": "of ssim: delta degrees of freedom of its moments, 0 or 1; 0 by default",
            "constants": "of ssim: [K1, K2], by default [0.01, 0.03]",
            "distortions": "those of noise, blur, jpeg, contrast that worsen it; all but the last",
            "beside": "import paths of registered metrics to show in the same figures",
            "bapps": "folder of a copy of the BAPPS set (2afc/val): human judgements",
        },
        traits={
            "mirror_invariant": "mirroring both images leaves the value",
            "transpose_invariant": "exchanging rows and columns of both images leaves the value",
            "grey_is_colour": "takes 1 channel too, which counts as three equal ones",
            "flat_at_identity": "the gradient exists, and is 0, where the images are equal",
        },
        numbers=frozenset({"perfect"}),
        values={**_STREAMING_VALUES, "formula": ("psnr", "ssim", "ms_ssim")},
    ),
)
