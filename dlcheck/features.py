"""Small classifiers of handwritten digits: the features and probabilities that metrics score.

Trained in under a second, seeded and kept, so that IS and FID meet real pictures without a
download. They stand where an Inception network stands for photographs: `digits_study` is a
convolutional network, `local_study` three ways to make features of small patches.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlcheck.datasets import digits

_TRAINING_ROWS, _EPOCHS, _BATCH, _RATE = 900, 20, 64, 4e-3
FEATURES, CLASSES = 64, 10
TILE = 4  # pixels: a picture is 2 × 2 tiles
_CHANNELS, _RIDGE, _SHARPNESS = 32, 1e-2, 8.0  # of features of patches


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

    `known`, `unseen` [n, 1, 8, 8] float32 on the CPU; `labels` of the unseen ones; `reference`,
    the features [n, 64] of the known ones, from which `distance` is.
    """

    classifier: DigitsClassifier
    known: Tensor
    unseen: Tensor
    labels: Tensor
    reference: Tensor

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """[n, 64] float64."""
        return self.classifier.body(pictures).double()  # type: ignore[no-any-return]

    @torch.no_grad()
    def probabilities(self, pictures: Tensor) -> Tensor:
        """[n, 10] float64; each row sums to 1."""
        return self.classifier(pictures).double().softmax(1)  # type: ignore[no-any-return]

    def kinds(self, count: int) -> Tensor:
        """The unseen pictures of the first `count` digits."""
        return self.unseen[self.labels < count]

    def distance(self, pictures: Tensor) -> float:
        """The Fréchet distance of the features of pictures from those of the known ones."""
        return frechet_distance(self.reference, self.features(pictures))

    @property
    def accuracy(self) -> float:
        """Share of the unseen pictures that it names."""
        named = self.probabilities(self.unseen).argmax(1)
        return float((named == self.labels).double().mean())


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """Random features of patches with a linear head that was solved for.

    `features` maps pictures [n, 1, 8, 8] to [n, d] float64; `distance` is that of pictures to the
    ones that trained the head.
    """

    features: Callable[[Tensor], Tensor]
    reference: Tensor  # features of the pictures that trained the head
    head: Tensor  # [d + 1, 10]

    def probabilities(self, pictures: Tensor) -> Tensor:
        """[n, 10] float64; each row sums to 1."""
        return (_SHARPNESS * _with_ones(self.features(pictures)) @ self.head).softmax(1)

    def distance(self, pictures: Tensor) -> float:
        return frechet_distance(self.reference, self.features(pictures))


@functools.lru_cache(maxsize=4)
def local_study(seed: int = 0) -> Mapping[str, LocalFeatures]:
    """Three features of the digits, each the ReLU of 32 random filters; 0.05 s, then kept.

    `"pooled"`: of 4 × 4 tiles, averaged over the picture (79 to 87 % accuracy): no trace of where
    a tile lay. `"in place"`: of the same tiles, side by side (93 to 96 %). `"overlapping"`: of
    every 3 × 3 patch, averaged over the picture (86 to 87 %): patches across a seam change.
    """
    known, _ = digits().split(_TRAINING_ROWS, seed)
    generator = torch.Generator().manual_seed(seed)
    tiles, patches = (
        torch.randn(_CHANNELS, 1, side, side, generator=generator) / side for side in (TILE, 3)
    )
    bias = 0.3 * torch.randn(_CHANNELS, generator=generator)

    def of_tiles(pictures: Tensor) -> Tensor:
        return functional.conv2d(pictures - 0.3, tiles, bias, stride=TILE).relu().double()

    def of_patches(pictures: Tensor) -> Tensor:
        return functional.conv2d(pictures - 0.3, patches, bias, padding=1).relu().double()

    maps: Mapping[str, Callable[[Tensor], Tensor]] = {
        "pooled": lambda x: of_tiles(x).mean((2, 3)),
        "in place": lambda x: of_tiles(x).flatten(1),
        "overlapping": lambda x: of_patches(x).mean((2, 3)),
    }
    with _one_thread(), torch.no_grad():
        pictures = known.x.float().view(-1, 1, 8, 8)
        return {name: _solved(features, pictures, known.y) for name, features in maps.items()}


def _solved(
    features: Callable[[Tensor], Tensor], pictures: Tensor, labels: Tensor
) -> LocalFeatures:
    """A head by ridge regression on one-hot labels."""
    rows = features(pictures)
    x = _with_ones(rows)
    gram = x.mT @ x + _RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    targets = functional.one_hot(labels, CLASSES).to(x.dtype)
    return LocalFeatures(features, rows, torch.linalg.solve(gram, x.mT @ targets))


def _with_ones(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.ones_like(rows[:, :1])], 1)


def shuffled_tiles(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture [n, 1, 8, 8] with its four tiles of 4 × 4 pixels in a random order."""
    tiles = functional.unfold(pictures, TILE, stride=TILE)  # [n, 16, 4]
    count = tiles.shape[2]
    order = torch.rand(len(tiles), count, generator=generator).argsort(1)
    moved = tiles.gather(2, order[:, None].expand_as(tiles))
    return functional.fold(moved, pictures.shape[-2:], TILE, stride=TILE)


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """‖Δμ‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of the rows of two float64 sets [n, d] and [m, d].

    With Σᵢ = AᵢᵀAᵢ the trace of the root is the sum of the singular values of A₁A₂ᵀ.
    """
    (mean, a), (other_mean, b) = _centred(first), _centred(second)
    root = torch.linalg.svdvals(a @ b.mT).sum()
    total = (mean - other_mean).square().sum() + a.square().sum() + b.square().sum()
    return float((total - 2 * root).clamp_min(0))


def _centred(rows: Tensor) -> tuple[Tensor, Tensor]:
    mean = rows.mean(0)
    factor = (rows - mean) / max(len(rows) - 1, 1) ** 0.5
    return mean, torch.linalg.qr(factor, mode="r").R if len(rows) > rows.shape[1] else factor


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
        rest = unseen.x.float().view(-1, 1, 8, 8)
        reference = classifier.eval().body(pictures).detach().double()
    return DigitsStudy(classifier, pictures, rest, unseen.y, reference)


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
    """Adam written out: importing that of torch takes longer than the training."""
    parameters = list(classifier.parameters())
    means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    step = 0
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(pictures)).split(_BATCH):
            loss = nn.functional.cross_entropy(classifier(pictures[rows]), labels[rows])
            gradients = torch.autograd.grad(loss, parameters)
            step += 1
            rate = _RATE * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            with torch.no_grad():
                for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
                    m.lerp_(g, 0.1)
                    v.lerp_(g.square(), 0.001)
                    p.addcdiv_(m, v.sqrt().add_(1e-8), value=-rate)
