"""Metrics and scorers of scikit-learn, called f(prediction, target) with tensors.

A metric function is a subject as it is, where the declaration says how it is called:

    [[subject]]
    name = "f1"
    target = "sklearn.metrics:f1_score"
    kind = "prediction_metric"
    args = { average = "macro" }
    options = { task = "classification", target_first = true, arrays = "numpy", … }

`scored` is the same by the name of the function; `scorer` calls a scorer, by the name that
get_scorer knows or what make_scorer returned, on a model that predicts what it is given.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dlcheck.errors import UsageError

Array = NDArray[Any]


def _metrics() -> Any:
    try:
        return importlib.import_module("sklearn.metrics")
    except ImportError as error:
        raise UsageError(
            f"dlcheck.adapters.scikit_learn needs scikit-learn: pip install scikit-learn ({error})"
        ) from error


def scored(prediction: Any, target: Any, *, metric: str = "accuracy_score", **args: Any) -> Any:
    """What sklearn.metrics.<metric>(target, prediction, **args) says.

    prediction, target: tensors or arrays. Raises UsageError for a name that is not there.
    """
    function = getattr(_metrics(), metric, None)
    if function is None:
        raise UsageError(f"sklearn.metrics has no {metric!r}")
    return function(_array(target), _array(prediction), **args)


def scorer(prediction: Any, target: Any, *, scorer: Any = "accuracy", **args: Any) -> Any:
    """What a scorer says of a model that predicts this, on rows of which it sees nothing else.

    scorer: a name, as "neg_mean_squared_error", or what make_scorer returned. prediction: labels
    or values [n], scores [n], or probabilities [n] and [n, k]; it answers predict, predict_proba
    and decision_function, whichever the scorer asks. args: passed to the scorer.
    """
    found = _metrics().get_scorer(scorer) if isinstance(scorer, str) else scorer
    said, wanted = _array(prediction), _array(target)
    return found(_said(said, wanted), np.arange(len(wanted))[:, None], wanted, **args)


def _array(values: Any) -> Array:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _said(prediction: Array, target: Array) -> Any:
    """A fitted model whose every answer is the prediction."""
    base = importlib.import_module("sklearn.base")
    classifies = not np.issubdtype(target.dtype, np.floating)
    mixin = base.ClassifierMixin if classifies else base.RegressorMixin

    class Said(mixin, base.BaseEstimator):  # type: ignore[misc, name-defined, valid-type]
        def __sklearn_is_fitted__(self) -> bool:
            return True

        def fit(self, x: Array, y: Array) -> Any:
            return self

        def predict(self, x: Array) -> Array:
            return prediction.argmax(-1) if prediction.ndim > target.ndim else prediction

        def predict_proba(self, x: Array) -> Array:
            if prediction.ndim > 1:
                return prediction
            return np.stack([1 - prediction, prediction], 1)

        def decision_function(self, x: Array) -> Array:
            return prediction

    model = Said()
    if classifies:
        many = prediction.shape[-1] if prediction.ndim > 1 else int(max(target.max(), 1)) + 1
        model.classes_ = np.arange(many)
    return model
