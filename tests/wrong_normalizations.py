"""Normalizations that are wrong as people get them wrong; none is a mutant of a check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.model import Subject

WRONG: list[Subject] = []


def wrong(inputs: str, args: dict[str, Any], *traits: str, **options: Any) -> Callable[..., Any]:
    """Declare a class as an honest author would, who does not know of the bug."""

    def enlist(made: type[nn.Module]) -> type[nn.Module]:
        WRONG.append(
            Subject(
                name=made.__name__,
                target=made,
                kind="normalization",
                args=args,
                inputs={"x": inputs},
                traits=frozenset(traits),
                options=options,
            )
        )
        return made

    return enlist


class Affine(nn.Module):
    """A weight of ones and a bias of zeros."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps


ROWS: dict[str, Any] = {"axes": [-1], "eps": "eps"}
WIDTH = {"width": {"dim": "n"}}


@wrong("float b n", WIDTH, **ROWS)
class EpsBesideTheRoot(Affine):
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        deviation = x.var(-1, keepdim=True, unbiased=False).sqrt()
        return centred / (deviation + self.eps) * self.weight + self.bias


@wrong("float b n", WIDTH, **{**ROWS, "sizes": {"n": [2, 17]}})
class UnbiasedVariance(Affine):
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(x.var(-1, keepdim=True) + self.eps) * self.weight + self.bias


@wrong("float b t n", WIDTH, **ROWS)
class OverAllButTheBatch(Affine):
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((1, 2), keepdim=True)
        variance = centred.square().mean((1, 2), keepdim=True)
        return centred / torch.sqrt(variance + self.eps) * self.weight + self.bias


@wrong("float b n", WIDTH, **ROWS)
class OverTheBatch(Affine):
    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        return centred / torch.sqrt(centred.square().mean(0) + self.eps) * self.weight + self.bias


@wrong("float b n", WIDTH, **ROWS)
class OnePassVariance(Affine):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = (x * x).mean(-1, keepdim=True) - mean * mean
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


@wrong("float b n", WIDTH, **ROWS)
class AnotherEps(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-3)


@wrong("float b n", WIDTH, **ROWS)
class WeightFirst(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x * self.weight + self.bias, x.shape[-1:], eps=self.eps)


@wrong("float b n", WIDTH, **ROWS)
class ForgetsTheBias(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], self.weight, None, self.eps)


@wrong("float b n", WIDTH, **ROWS)
class DetachedStatistics(Affine):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            mean = x.mean(-1, keepdim=True)
            deviation = (x.var(-1, keepdim=True, unbiased=False) + self.eps).sqrt()
        return (x - mean) / deviation * self.weight + self.bias


@wrong("float b n", WIDTH, **ROWS, centred=False)
class NormForRootMeanSquare(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).sum(-1, keepdim=True) + self.eps) * self.weight + self.bias


@wrong("float b n", WIDTH, **ROWS, centred=False)
class MeanSquareWithoutRoot(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return x / ((x * x).mean(-1, keepdim=True) + self.eps) * self.weight + self.bias


@wrong("float b n", WIDTH, **ROWS, centred=False)
class CentredRootMeanSquare(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


@wrong("float b n", WIDTH, **ROWS, centred=False)
class GemmaWeightWithoutTheOne(nn.Module):
    """The weight begins at 0, and is multiplied as it is."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


@wrong("float b n", WIDTH, **ROWS, centred=False)
class OnePlusAWeightOfOne(nn.Module):
    """The weight begins at 1, and is multiplied as 1 + w."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


@wrong("float b 6 t", {"width": 6}, axes=[1, 2], groups=3, eps="eps")
class GroupsInterleaved(Affine):
    """Channel c belongs to group c mod 3."""

    def forward(self, x: Tensor) -> Tensor:
        mixed = x.reshape(len(x), 2, 3, -1).transpose(1, 2).reshape(x.shape)
        y = nn.functional.group_norm(mixed, 3, eps=self.eps)
        y = y.reshape(len(x), 3, 2, -1).transpose(1, 2).reshape(x.shape)
        return y * self.weight[:, None] + self.bias[:, None]


@wrong("float b 4 h w", {"width": 4}, axes=[1], eps="eps")
class ChannelsFirstOverTheLastAxis(Affine):
    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        return y * self.weight[:, None, None] + self.bias[:, None, None]


@wrong("float b n", WIDTH, **ROWS)
class StepsOnLargeInputs(Affine):
    """Clamps what goes in, for stability."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp(-1e3, 1e3)
        return nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class Batch(Affine):
    """A batch normalization in steps that can go wrong one by one."""

    def __init__(self, width: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(width, eps)
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.statistics(x)
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        y = (x - mean.view(shape)) / torch.sqrt(variance.view(shape) + self.eps)
        return y * self.weight.view(shape) + self.bias.view(shape)

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            return self.mean, self.variance
        axes = (0, *range(2, x.dim()))
        mean, variance = x.mean(axes), x.var(axes, unbiased=False)
        self.update(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        return mean, variance

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, n: int) -> None:
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_(variance * n / (n - 1), self.momentum)


RUNNING = {"mean": "mean", "var": "variance", "momentum": "momentum"}
batch = wrong(
    "float b 3 t",
    {"width": 3},
    "batch_coupled",
    "updates_buffers",
    axes=[0, 2],
    eps="eps",
    running=RUNNING,
    sizes={"b": [2, 9], "t": [2, 9]},
)


@batch
class MomentumTheOtherWay(Batch):
    def update(self, mean: Tensor, variance: Tensor, n: int) -> None:
        self.mean.lerp_(mean, 1 - self.momentum)
        self.variance.lerp_(variance, 1 - self.momentum)


@batch
class BatchStatisticsInEval(Batch):
    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        axes = (0, *range(2, x.dim()))
        if self.training:
            return super().statistics(x)
        return x.mean(axes), x.var(axes, unbiased=False)


@batch
class UpdatesInEval(Batch):
    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        axes = (0, *range(2, x.dim()))
        mean, variance = x.mean(axes), x.var(axes, unbiased=False)
        self.update(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        return (mean, variance) if self.training else (self.mean, self.variance)


@batch
class RunningDeviation(Batch):
    """The deviation is averaged where the variance is read."""

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, n: int) -> None:
        super().update(mean, variance.sqrt(), n)


@batch
class RunningStatisticsInTrain(Batch):
    """Normalises by what it has gathered so far."""

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        super().statistics(x)
        return self.mean.clone(), self.variance.clone()


@batch
class WrongDivisor(Batch):
    """Multiplies by (n − 1)/n where n/(n − 1) was meant."""

    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, n: int) -> None:
        self.mean.lerp_(mean, self.momentum)
        self.variance.lerp_(variance * (n - 1) / n, self.momentum)


@batch
class ForgetsTheOld(Batch):
    @torch.no_grad()
    def update(self, mean: Tensor, variance: Tensor, n: int) -> None:
        self.mean.copy_(mean)
        self.variance.copy_(variance)


@batch
class NoEpsInEval(Batch):
    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = super().statistics(x)
        return (mean, variance) if self.training else (mean, variance - self.eps)


@batch
class MeanOverTheBatchOnly(Batch):
    """The places of a row keep means of their own."""

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and x.shape[-1] > 1:
            mean, variance = super().statistics(x[..., :1])
            return mean, variance
        return super().statistics(x)
