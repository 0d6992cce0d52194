"""How far the gradient of a batch lies from that of all rows, by the law of a finite population.

For B of N rows without replacement E‖g_B − G‖² = (tr Σ/B)(N − B)/(N − 1), where tr Σ is the
mean of ‖gᵢ − G‖² over the rows: the law is exact, whatever the model. B_n = tr Σ/‖G‖² is the batch
at which noise and signal are alike.
Source: Cochran, Sampling Techniques, theorem 2.2; McCandlish et al., An Empirical Model of
Large-Batch Training, 2018, equation 2.9.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlcheck.measure.workload import Workload, gradient

_FEW = 8  # rows that show whether they depend on each other
_COUPLED = 1e-3  # relative distance of the mean of the rows' gradients from the batch's own


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientNoise:
    """tr Σ and ‖G‖² of `population` rows, and batches that were measured beside the law."""

    population: int  # rows whose gradients were taken, all N or a sample of them
    rows: int  # N, of the data set
    trace: float
    square: float
    sizes: tuple[int, ...]
    variances: tuple[float, ...]  # mean of ‖g_B − G‖² over the measured batches
    deviations: tuple[float, ...]  # standard error of that mean
    cosines: tuple[float, ...]
    mode: str  # train, or eval where rows depend on each other in train

    @property
    def noise_scale(self) -> float:
        """B_n of the whole data set; infinite where the gradient is lost in its own noise.

        The gradient of a sample of R rows is too long by noise: E‖G_R‖² = ‖G‖² + (S²/R)(N − R)/N,
        S² = tr Σ_R · R/(R − 1), which is taken off.
        """
        n, r = self.rows, self.population
        spread = self.trace * r / max(r - 1, 1)
        square = self.square - spread / r * (n - r) / n
        return spread * (n - 1) / n / square if square > 0 else math.inf

    def variance(self, size: int) -> float:
        """(tr Σ/B)(N − B)/(N − 1), over the population that was measured."""
        n = self.population
        return self.trace / size * (n - size) / max(n - 1, 1)

    def cosine(self, size: int) -> float:
        """1/√(1 + Var(g_B)/‖G‖²): the cosine with the full gradient, from mean squares."""
        return 1 / math.sqrt(1 + self.variance(size) / self.square) if self.square > 0 else 0.0

    @property
    def misfits(self) -> tuple[float, ...]:
        """measured/law of every size; 1 where both are 0."""
        pairs = zip(self.sizes, self.variances, strict=True)
        return tuple(found / law if (law := self.variance(b)) > 0 else 1.0 for b, found in pairs)


def measure_gradient_noise(
    workload: Workload,
    model: nn.Module,
    sizes: Sequence[int],
    *,
    population: int = 512,
    batches: int = 200,
    seconds: float = 10.0,
    seed: int = 0,
) -> GradientNoise:
    """The noise of the gradient at the model's present weights, which are left as they are.

    Of at most `population` rows each gives its own gradient; then up to `batches` batches of every
    size among them are measured, at least four, within about so many seconds. In train mode where
    rows do not depend on each other; else (batch statistics, dropout) in evaluation mode.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randperm(len(workload.rows), generator=generator)[:population]
    was_training = model.training
    buffers = [b.clone() for b in model.buffers()]
    try:
        mode, full, squares = _by_row(workload, model, numbers)
        fitting = [b for b in sizes if b <= len(numbers)]
        share = seconds / max(len(fitting), 1)
        found = [
            _measured(workload, model, numbers, full, b, batches, share, generator) for b in fitting
        ]
    finally:
        model.train(was_training)
        for buffer, kept in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(kept)
    square = float(full.square().sum())
    return GradientNoise(
        population=len(numbers),
        rows=len(workload.rows),
        trace=max(squares - square, 0.0),
        square=square,
        sizes=tuple(fitting),
        variances=tuple(f[0] for f in found),
        deviations=tuple(f[1] for f in found),
        cosines=tuple(f[2] for f in found),
        mode=mode,
    )


def _by_row(workload: Workload, model: nn.Module, numbers: Tensor) -> tuple[str, Tensor, float]:
    """Mode, G, and the mean of ‖gᵢ‖²; rows one by one, so that memory holds two gradients."""
    for mode in ("train", "eval"):
        model.train(mode == "train")
        try:
            if mode == "eval" or _rows_add_up(workload, model, numbers[:_FEW]):
                total, squares = _summed(workload, model, numbers)
                return mode, total / len(numbers), squares / len(numbers)
        except Exception:
            if mode == "eval":
                raise
            # BatchNorm refuses a batch of one row in train mode.
    raise AssertionError("evaluation mode returns or raises")


def _summed(workload: Workload, model: nn.Module, numbers: Tensor) -> tuple[Tensor, float]:
    total, squares = torch.zeros((), dtype=torch.float64), 0.0
    for number in numbers.split(1):
        row = gradient(workload, model, workload.batch(number))
        total = total.to(row) + row
        squares += float(row.square().sum())
    return total, squares


def _rows_add_up(workload: Workload, model: nn.Module, numbers: Tensor) -> bool:
    """Is the gradient of a batch the mean of its rows' own? Not beside batch statistics."""
    total, squares = _summed(workload, model, numbers)
    whole = gradient(workload, model, workload.batch(numbers))
    size = math.sqrt(squares / len(numbers))
    return float((total / len(numbers) - whole).norm()) <= _COUPLED * max(size, 1e-300)


def _measured(
    workload: Workload,
    model: nn.Module,
    numbers: Tensor,
    full: Tensor,
    size: int,
    most: int,
    seconds: float,
    generator: torch.Generator,
) -> tuple[float, float, float]:
    """Mean of ‖g_B − G‖², its standard error, and the mean cosine over batches of one size."""
    squares, cosines, start = list[float](), list[float](), time.perf_counter()
    while len(squares) < most and (len(squares) < 4 or time.perf_counter() - start < seconds):
        chosen = torch.randperm(len(numbers), generator=generator)[:size]
        found = gradient(workload, model, workload.batch(numbers[chosen]))
        squares.append(float((found - full).square().sum()))
        cosines.append(float(torch.cosine_similarity(found, full, dim=0)))
        if size == len(numbers):
            break  # there is but one such batch
    values = torch.tensor(squares, dtype=torch.float64)
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(values.mean()), error, sum(cosines) / len(cosines)
