"""A training loop with what one comes to need: a limit, a schedule, validation and checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from dlcheck.references.training.minibatch_training import Batch, windows
from dlcheck.registry import reference

Loss = Callable[[Tensor, Tensor], Tensor]


@reference(
    kind="training",
    formula="g = ∇ (1/n) Σᵢ ℓ(f(xᵢ; θ), yᵢ);  g ← g · min(1, c/‖g‖);  θ ← θ − η_t g;  t ← t + 1",
    source="Goodfellow, Bengio & Courville, Deep Learning, algorithm 8.1 and section 10.11.1; "
    "the checkpoint holds all that decides the next step: weights, optimizer, schedule, streams",
    options={
        "clip": "clip",
        "scheduler": "step",
        "validation": "validation",
        "resume": {"path": "checkpoint", "random": True},
    },
    traits=["sets_epoch"],
)
def complete_training(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    *,
    accumulate: int = 1,
    epochs: int = 1,
    clip: float | None = None,
    scheduler: LRScheduler | None = None,
    validation: Iterable[Batch] | None = None,
    checkpoint: str | None = None,
) -> list[float]:
    """Train in place up to `epochs` epochs in all; returns the validation loss of each new one.

    clip: limit of the global norm of a window's gradient. scheduler: stepped after every step of
    the optimizer. checkpoint: a file, written after every epoch; one that exists is gone on from.
    """
    done = _load(checkpoint, model, optimizer, scheduler)
    history = []
    for epoch in range(done, epochs):
        model.train()
        tell_epoch(loader, epoch)
        for window in windows(loader, accumulate):
            backward_of_mean(model, window, optimizer, loss)
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
        if validation is not None:
            history.append(mean_loss(model, validation, loss))
        _save(checkpoint, epoch + 1, model, optimizer, scheduler)
    return history


def tell_epoch(loader: Any, epoch: int) -> None:
    """A sampler that shuffles by the number of the epoch shuffles anew only where it is told."""
    set_epoch = getattr(getattr(loader, "sampler", None), "set_epoch", None)
    if set_epoch is not None:
        set_epoch(epoch)


def backward_of_mean(
    model: nn.Module, window: list[Batch], optimizer: torch.optim.Optimizer, loss: Loss
) -> None:
    """Set the gradients to those of the mean loss over the rows of a window."""
    rows = sum(len(x) for x, _ in window)
    optimizer.zero_grad()
    for x, y in window:
        (loss(model(x), y) * (len(x) / rows)).backward()


@torch.no_grad()
def mean_loss(model: nn.Module, loader: Iterable[Batch], loss: Loss) -> float:
    """(1/n) Σᵢ ℓᵢ in evaluation mode: a batch counts by its rows. The mode is put back."""
    was_training = model.training
    model.eval()
    total, rows = 0.0, 0
    for x, y in loader:
        total += float(loss(model(x), y)) * len(x)
        rows += len(x)
    model.train(was_training)
    return total / max(rows, 1)


def _save(
    path: str | None,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None,
) -> None:
    if path is None:
        return
    state: dict[str, Any] = {
        "epoch": epoch,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    if scheduler is not None:
        state["scheduler"] = scheduler.state_dict()
    torch.save(state, path)


def _load(
    path: str | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None,
) -> int:
    """The epochs that are done already, everything being put back as it was after them."""
    if path is None or not os.path.exists(path):
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if scheduler is not None:
        scheduler.load_state_dict(state["scheduler"])
    torch.set_rng_state(state["random"])
    return int(state["epoch"])
