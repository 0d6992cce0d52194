"""Evaluation by hand: sums over rows, divided once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dlcheck.registry import reference

Batch = tuple[Tensor, Tensor]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode of every module is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@reference(
    kind="evaluation",
    formula="(1/N) Σᵢ [argmax f(xᵢ) = yᵢ]",
    source="Goodfellow, Bengio & Courville, Deep Learning, MIT Press 2016, section 5.1.2",
    options={"metric": "accuracy"},
)
def accuracy(model: nn.Module, loader: Iterable[Batch]) -> float:
    """The share of rows whose class is predicted, in [0, 1]; 0 for no rows."""
    right, rows = 0, 0
    with evaluating(model):
        for x, y in loader:
            right += int((model(x).argmax(-1) == y).sum())
            rows += len(y)
    return right / max(rows, 1)


@reference(
    kind="evaluation",
    formula="(1/N) Σᵢ (log Σ exp zᵢ − zᵢ,yᵢ), z = f(x)",
    source="Goodfellow, Bengio & Courville, Deep Learning, section 6.2.2",
    options={"metric": "mean_loss"},
)
def mean_cross_entropy(model: nn.Module, loader: Iterable[Batch]) -> float:
    """In nats; 0 for no rows."""
    total, rows = 0.0, 0
    with evaluating(model):
        for x, y in loader:
            total += float(F.cross_entropy(model(x), y, reduction="sum"))
            rows += len(y)
    return total / max(rows, 1)


@reference(
    kind="evaluation",
    formula="(1/(N d)) Σᵢⱼ (f(xᵢ)ⱼ − yᵢⱼ)²",
    source="Goodfellow, Bengio & Courville, Deep Learning, section 5.1.4",
    inputs={"x": "float n d", "y": "float n 2"},
    options={"metric": "mean_loss"},
)
def mean_squared_error(model: nn.Module, loader: Iterable[Batch]) -> float:
    """Mean over rows and columns; 0 for no rows."""
    total, numbers = 0.0, 0
    with evaluating(model):
        for x, y in loader:
            total += float((model(x) - y).square().sum())
            numbers += y.numel()
    return total / max(numbers, 1)
