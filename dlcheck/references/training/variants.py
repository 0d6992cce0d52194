"""Training loops that end with other weights than the last, or leave a step out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from dlcheck.references.training.complete_training import backward_of_mean, mean_loss
from dlcheck.references.training.minibatch_training import Batch, windows
from dlcheck.registry import reference

Loss = Callable[[Tensor, Tensor], Tensor]


@reference(
    kind="training",
    formula="θ* = argmin over the ends of epochs of the mean validation loss",
    source="Prechelt, Early Stopping, But When?, Neural Networks: Tricks of the Trade, 1998",
    options={"validation": "validation", "scheduler": "epoch"},
    traits=["restores_best"],
)
def best_training(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    accumulate: int = 1,
    epochs: int = 1,
    scheduler: LRScheduler | None = None,
    validation: Iterable[Batch] | None = None,
) -> list[float]:
    """Train in place; end with the weights and buffers of the epoch that validated best.

    Without validation the last weights stay. scheduler: stepped after every epoch. Returns the
    validation losses.
    """
    best, history = copy.deepcopy(model.state_dict()), []
    for _ in range(epochs):
        model.train()
        for window in windows(loader, accumulate):
            backward_of_mean(model, window, optimizer, loss)
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if validation is not None:
            history.append(mean_loss(model, validation, loss))
            if history[-1] <= min(history):
                best = copy.deepcopy(model.state_dict())
    if history:
        model.load_state_dict(best)
    return history


@reference(
    kind="training",
    formula="ā₀ = θ₀, ā_t = d ā_{t−1} + (1 − d) θ_t after every step",
    source="Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. "
    "Control Optim. 30(4), 1992; with an exponential window as in Tarvainen & Valpola, Mean "
    "teachers, NeurIPS 2017, section 2",
    options={"average_decay": "decay"},
    traits=["returns_average"],
)
def averaged_training(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    accumulate: int = 1,
    epochs: int = 1,
    decay: float = 0.99,
) -> nn.Module:
    """Train in place; returns a model with the averaged weights and the last buffers."""
    average = copy.deepcopy(model)
    model.train()
    for _ in range(epochs):
        for window in windows(loader, accumulate):
            backward_of_mean(model, window, optimizer, loss)
            optimizer.step()
            with torch.no_grad():
                for a, p in zip(average.parameters(), model.parameters(), strict=True):
                    a.lerp_(p, 1 - decay)
                for kept, b in zip(average.buffers(), model.buffers(), strict=True):
                    kept.copy_(b)
    return average


@reference(
    kind="training",
    formula="∇(s·L)/s = ∇L, the norm limited after the division; a step whose gradient is not "
    "finite is left out",
    source="Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2",
    options={"clip": "clip"},
    traits=["skips_nonfinite"],
)
def scaled_training(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    accumulate: int = 1,
    epochs: int = 1,
    clip: float | None = None,
    scale: float = 1024.0,
) -> None:
    """Train in place with the loss times `scale`, a power of two, and gradients divided by it."""
    parameters = list(model.parameters())
    model.train()
    for _ in range(epochs):
        for window in windows(loader, accumulate):
            backward_of_mean(model, window, optimizer, lambda p, y: loss(p, y) * scale)
            gradients = [p.grad for p in parameters if p.grad is not None]
            for gradient in gradients:
                gradient.div_(scale)
            norm = nn.utils.get_total_norm(gradients)
            if clip is not None and math.isfinite(norm):
                nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            if math.isfinite(norm):
                optimizer.step()


@reference(
    kind="training",
    formula="∇ Σ ℓᵢ / #{i: yᵢ ≠ ignored}, both sums over all batches of a window",
    source="the definition of a mean over counted labels; Hugging Face, Fixing Gradient "
    "Accumulation, 2024",
    options={"ignore_index": -100},
)
def token_training(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    accumulate: int = 1,
    epochs: int = 1,
    ignore_index: int = -100,
) -> None:
    """Train in place; loss: the mean over the labels that are not `ignore_index`.

    A batch counts by its counted labels, so that one without any is left out.
    """
    model.train()
    for _ in range(epochs):
        for window in windows(loader, accumulate):
            counts = [int((y != ignore_index).sum()) for _, y in window]
            optimizer.zero_grad()
            for (x, y), count in zip(window, counts, strict=True):
                if count:
                    (loss(model(x), y) * (count / sum(counts))).backward()
            if sum(counts):
                optimizer.step()
