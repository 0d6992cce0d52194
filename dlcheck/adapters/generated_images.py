"""The scores of generated images of pytorch-fid, torch-fidelity and piq, from features.

    [[subject]]
    name = "pytorch_fid"
    target = "dlcheck.adapters.generated_images:pytorch_fid"
    kind = "distribution_metric"

What these packages publish takes images or folders of them; their arithmetic on features [n, d]
or logits [n, k] is what can be right or wrong, and is what these functions call.
"""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor

from dlcheck.errors import UsageError


def _import(package: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"dlcheck.adapters.generated_images needs {package}: pip install {package} ({error})"
        ) from None


def pytorch_fid(a: Tensor, b: Tensor) -> float:
    """`calculate_frechet_distance` of NumPy's mean and covariance, as the package takes them."""
    import numpy as np

    score = _import("pytorch-fid", "pytorch_fid.fid_score")
    sets = [x.double().cpu().numpy() for x in (a, b)]  # as the package keeps activations
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in sets]
    return float(score.calculate_frechet_distance(*moments[0], *moments[1]))


def torch_fidelity_fid(a: Tensor, b: Tensor) -> float:
    """`fid_features_to_statistics`, then `fid_statistics_to_metric`."""
    metric = _import("torch-fidelity", "torch_fidelity.metric_fid")
    one, two = metric.fid_features_to_statistics(a), metric.fid_features_to_statistics(b)
    return float(metric.fid_statistics_to_metric(one, two, False)[metric.KEY_METRIC_FID])  # noqa: FBT003


def torch_fidelity_kid(a: Tensor, b: Tensor) -> float:
    """`kid_features_to_metric` with one subset of all rows of the smaller set."""
    metric = _import("torch-fidelity", "torch_fidelity.metric_kid")
    size = min(len(a), len(b))
    settings = {"kid_subsets": 1, "kid_subset_size": size, "verbose": False, "rng_seed": 0}
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_coef0": 1.0}
    found = metric.kid_features_to_metric(a, b, **settings, **kernel)
    return float(found[metric.KEY_METRIC_KID_MEAN])


def torch_fidelity_isc(logits: Tensor, splits: int = 1) -> tuple[float, float]:
    """`isc_features_to_metric`: (mean, standard deviation)."""
    metric = _import("torch-fidelity", "torch_fidelity.metric_isc")
    found = metric.isc_features_to_metric(logits, splits=splits)
    return found[metric.KEY_METRIC_ISC_MEAN], found[metric.KEY_METRIC_ISC_STD]


def piq_fid(a: Tensor, b: Tensor) -> Tensor:
    """`piq.FID().compute_metric`."""
    found: Tensor = _import("piq", "piq").FID().compute_metric(a, b)
    return found


def piq_kid(a: Tensor, b: Tensor) -> Tensor:
    """`piq.KID().compute_metric`, the distance without its variance."""
    found = _import("piq", "piq").KID().compute_metric(a, b)
    value: Tensor = found[0] if isinstance(found, tuple) else found
    return value


def piq_inception_score(logits: Tensor, splits: int = 1) -> tuple[Tensor, Tensor]:
    """`piq.inception_score`: (mean, standard deviation)."""
    mean, deviation = _import("piq", "piq").inception_score(logits, num_splits=splits)
    return mean, deviation
