"""The ordinary training loop: forward, backward, update, differentiated by autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from dlcheck.registry import reference

Batch = tuple[Tensor, Tensor]


@reference(
    kind="training",
    formula="θ ← θ − η ∇ (1/n) Σᵢ ℓ(f(xᵢ; θ), yᵢ), over the n rows of a window of batches",
    source="Robbins & Monro, A Stochastic Approximation Method, Annals of Mathematical "
    "Statistics 22(3), 1951; Goodfellow, Bengio & Courville, Deep Learning, algorithm 8.1",
)
def minibatch_training(
    model: nn.Module,
    loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    accumulate: int = 1,
    epochs: int = 1,
) -> list[float]:
    """Train in place; returns the mean loss of each epoch, as seen while training.

    loss: the mean over rows. One step per window of `accumulate` batches; batches count by their
    rows, so that a window's step is that of its concatenated rows, the short last one included.
    """
    model.train()
    history = []
    for _ in range(epochs):
        total, rows = 0.0, 0
        for window in windows(loader, accumulate):
            size = sum(len(x) for x, _ in window)
            optimizer.zero_grad()
            for x, y in window:
                # mean over the window = Σ (rows of the batch / rows of the window) · batch mean
                value = loss(model(x), y) * (len(x) / size)
                value.backward()
                total += float(value.detach()) * size
            optimizer.step()
            rows += size
        history.append(total / max(rows, 1))
    return history


def windows(loader: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Lists of `size` consecutive batches; the last one may be shorter."""
    batches = iter(loader)
    while window := list(islice(batches, size)):
        yield window
