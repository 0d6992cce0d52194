"""A small classifier of handwritten digits: the features and probabilities that metrics score.

Trained in under a second, seeded and kept, so that IS and FID meet real pictures without a
download. It stands where an Inception network stands for photographs.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlcheck.datasets import digits

_TRAINING_ROWS, _EPOCHS, _BATCH = 900, 20, 64
FEATURES, CLASSES = 64, 10


class DigitsClassifier(nn.Module):
    """Pictures [b, 1, 8, 8] in [0, 1] → logits [b, 10], by way of 64 features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(4 * 32, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.body(pictures))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class DigitsStudy:
    """A trained classifier with the pictures that trained it and those it never saw.

    `known`, `unseen` [n, 1, 8, 8] float32 on the CPU; `labels` of the unseen ones.
    """

    classifier: DigitsClassifier
    known: Tensor
    unseen: Tensor
    labels: Tensor

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """[n, 64] float64."""
        return self.classifier.body(pictures).double()  # type: ignore[no-any-return]

    @torch.no_grad()
    def probabilities(self, pictures: Tensor) -> Tensor:
        """[n, 10] float64; each row sums to 1."""
        return self.classifier(pictures).double().softmax(1)  # type: ignore[no-any-return]

    @property
    def accuracy(self) -> float:
        """Share of the unseen pictures that it names."""
        named = self.probabilities(self.unseen).argmax(1)
        return float((named == self.labels).double().mean())


@functools.lru_cache(maxsize=4)
def digits_study(seed: int = 0) -> DigitsStudy:
    """900 digits to train on, 897 held out, and a classifier of both; about 0.5 s, then kept.

    The global random state is left as it was.
    """
    known, unseen = digits().split(_TRAINING_ROWS, seed)
    pictures = known.x.float().view(-1, 1, 8, 8)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), _one_thread():
        torch.manual_seed(seed)
        classifier = DigitsClassifier()
        _train(classifier, pictures, known.y)
    return DigitsStudy(classifier.eval(), pictures, unseen.x.float().view(-1, 1, 8, 8), unseen.y)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The same sums on every machine; and work this small only waits for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _train(classifier: nn.Module, pictures: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.Adam(classifier.parameters(), lr=4e-3)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(pictures)).split(_BATCH):
            loss = nn.functional.cross_entropy(classifier(pictures[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
