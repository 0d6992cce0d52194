"""What `dlcheck batch-size examples/batch_size.py:setup` studies: a small classifier of digits."""

import torch
from sklearn.datasets import load_digits
from torch import nn


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def setup() -> dict[str, object]:
    x, y = load_digits(return_X_y=True)
    return {
        "model": model,  # builds a fresh one
        "loss": nn.CrossEntropyLoss(),
        "data": (torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)),
        "optimizer": torch.optim.SGD,
        "lr": 0.5,  # where the search begins
    }
