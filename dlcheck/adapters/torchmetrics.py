"""Metrics of torchmetrics in the forms that dlcheck feeds.

A torchmetrics.Metric is a stream as it is: name its class as the target, with its arguments.

    [[subject]]
    name = "f1"
    target = "torchmetrics.classification:MulticlassF1Score"
    kind = "prediction_metric"
    args = { num_classes = { dim = "k" } }
    options = { task = "classification", average = "macro", merge = "merge_state", … }

`Replicated` merges it as processes of torch.distributed do, by the reductions of its states.
`FeatureDistance` (FID, KID) and `ClassScore` (Inception Score) are fed with features and
probabilities instead of images.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import UsageError


def _made(metric: Any, args: Mapping[str, Any]) -> Any:
    """A metric of torchmetrics by its name, as "image.fid:FrechetInceptionDistance"; or itself."""
    if not isinstance(metric, str):
        return metric(**args) if isinstance(metric, type) else metric
    module, _, name = metric.rpartition(":")
    try:
        found = importlib.import_module(f"torchmetrics.{module}".rstrip("."))
    except ImportError as error:
        raise UsageError(
            f"dlcheck.adapters.torchmetrics needs torchmetrics: pip install torchmetrics ({error})"
        ) from error
    if not hasattr(found, name):
        raise UsageError(f"torchmetrics.{module} has no metric {name!r}")
    with _quiet():
        return getattr(found, name)(**args)


class Replicated:
    """A metric whose replicas are merged as torch.distributed merges processes.

    metric: a class, an instance, or a name below torchmetrics, as "classification:MulticlassAUROC";
    args: its arguments. Each state of the replicas is stacked, or its lists are joined, and
    reduced by the metric's own `dist_reduce_fx`. A saved state keeps all states.
    """

    def __init__(self, metric: Any, **args: Any) -> None:
        self.metric = _made(metric, args)
        self.metric.persistent(mode=True)

    def __call__(self, *inputs: Any) -> Any:
        with _quiet():
            return self.metric(*inputs)

    def update(self, *inputs: Any) -> None:
        with _quiet():
            self.metric.update(*inputs)

    def compute(self) -> Any:
        with _quiet():
            return self.metric.compute()

    def reset(self) -> None:
        self.metric.reset()

    def state_dict(self) -> dict[str, Any]:
        return dict(self.metric.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.metric.load_state_dict(state)
        self.metric._update_count = 1  # else compute() warns that nothing came

    def merge(self, other: Replicated) -> None:
        """Take in the other's state by the reductions that both declare."""
        for name, reduction in self.metric._reductions.items():
            own, theirs = getattr(self.metric, name), getattr(other.metric, name)
            setattr(self.metric, name, _reduced(reduction, own, theirs))
        self.metric._update_count += other.metric._update_count
        self.metric._computed = None


def _reduced(reduction: Any, own: Any, theirs: Any) -> Any:
    if isinstance(own, list):
        return [*own, *theirs]
    if reduction is None:
        return torch.stack([own, theirs])
    return reduction(torch.stack([own, theirs]))


class _Identity(nn.Module):
    """The extractor of features that are there already."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, rows: Tensor) -> Tensor:
        return rows


class FeatureDistance:
    """A distance of two sets of images, fed with their features: update(a, b), unequal counts.

    metric: a name below torchmetrics, as "image.fid:FrechetInceptionDistance"; args: its
    arguments but `feature`. How many features there are the first rows say.
    """

    def __init__(self, metric: Any, **args: Any) -> None:
        self._made = lambda features: _made(metric, {"feature": _Identity(features), **args})
        self.metric: Any = None

    def update(self, real: Tensor, other: Tensor) -> None:
        if self.metric is None:
            self.metric = self._made(real.shape[1]).to(real.device)
        with _quiet():
            self.metric.update(real, real=True)
            self.metric.update(other, real=False)

    def compute(self) -> Any:
        with _quiet():
            return self.metric.compute()

    def reset(self) -> None:
        self.metric = None


class ClassScore:
    """A score of images by their classes, fed with probabilities [n, k]: the softmax of log p.

    A probability of 0 is given as the smallest number: no network's softmax answers less.
    """

    def __init__(self, metric: Any = "image.inception:InceptionScore", **args: Any) -> None:
        self.metric = _made(metric, {"feature": _Identity(0), **args})

    def update(self, probabilities: Tensor) -> None:
        least = torch.finfo(probabilities.dtype).tiny
        with _quiet():
            self.metric.update(probabilities.clamp_min(least).log())

    def compute(self) -> Any:
        with _quiet():
            return self.metric.compute()

    def reset(self) -> None:
        self.metric.reset()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the notices that a metric keeps its rows, or was not updated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
