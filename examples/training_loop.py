"""A training loop with gradient accumulation and clipping, and the same with a common mistake.

dlcheck run examples/training_loop.toml
dlcheck run examples/training_loop.toml --subject loop=training_loop.py:broken_train
"""

from __future__ import annotations

import itertools

import torch
from torch import nn


def train(model, loader, optimizer, loss, *, accumulate=1, epochs=1, max_norm=None):
    """One step per window of `accumulate` batches, on the mean over the rows of the window."""
    model.train()
    for _ in range(epochs):
        batches = iter(loader)
        while window := list(itertools.islice(batches, accumulate)):
            rows = sum(len(x) for x, _ in window)
            optimizer.zero_grad()
            for x, y in window:
                (loss(model(x), y) * (len(x) / rows)).backward()
            if max_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()


def broken_train(model, loader, optimizer, loss, *, accumulate=1, epochs=1, max_norm=None):
    """Divides by `accumulate`: right for full batches, wrong for the last window of an epoch."""
    model.train()
    for _ in range(epochs):
        batches = iter(loader)
        while window := list(itertools.islice(batches, accumulate)):
            optimizer.zero_grad()
            for x, y in window:
                (loss(model(x), y) / accumulate).backward()
            if max_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()


def evaluate(model, loader):
    """The share of rows whose class is predicted."""
    was_training = model.training
    model.eval()
    right, rows = 0, 0
    with torch.no_grad():
        for x, y in loader:
            right += int((model(x).argmax(-1) == y).sum())
            rows += len(y)
    model.train(was_training)
    return right / rows


def broken_evaluate(model, loader):
    """The mean of the batches' accuracies: the rows of a short last batch count too much."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        shares = [float((model(x).argmax(-1) == y).float().mean()) for x, y in loader]
    model.train(was_training)
    return sum(shares) / len(shares)
