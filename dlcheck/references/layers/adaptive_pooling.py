"""Average pooling to a given size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.references.precision import wide
from dlcheck.registry import reference


class _MeansAlongAxis(torch.autograd.Function):
    """y = x Aᵀ along the last axis, with a fixed A [o, n]: the gradient is v A."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, averages: Tensor) -> Tensor:
        return (x @ averages.mT).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (averages,) = ctx.saved_tensors
        return gradients[0] @ averages, None


def _averages(n: int, outputs: int, x: Tensor) -> Tensor:
    """[outputs, n]: row i is uniform over ⌊i n/o⌋ … ⌈(i + 1) n/o⌉ − 1, like x in dtype."""
    i = torch.arange(outputs, device=x.device).unsqueeze(1)
    first, end = i * n // outputs, -((-(i + 1) * n) // outputs)
    place = torch.arange(n, device=x.device)
    inside = ((first <= place) & (place < end)).to(x.dtype)
    return inside / (end - first)


class _AdaptiveAvgPool(nn.Module):
    """The mean over parts is the mean along each axis in turn."""

    rank = 0

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        sizes: tuple[int | None, ...]
        if isinstance(output_size, int) or output_size is None:
            sizes = (output_size,) * self.rank
        else:
            sizes = tuple(output_size)
        if len(sizes) != self.rank:
            raise ValueError(f"output_size {output_size} does not give {self.rank} sizes")
        self.output_size = sizes

    def forward(self, x: Tensor) -> Tensor:
        y = wide(x)
        for axis, outputs in zip(range(-self.rank, 0), self.output_size, strict=True):
            if outputs is not None:
                averages = _averages(y.shape[axis], outputs, y)
                y = _MeansAlongAxis.apply(y.transpose(axis, -1), averages).transpose(axis, -1)
        return y.to(x.dtype)


@reference(
    kind="layer",
    formula="y[b,c,i] = mean of x[b, c, ⌊i n/o⌋ … ⌈(i + 1) n/o⌉ − 1]",
    source="He et al., Spatial Pyramid Pooling in Deep Convolutional Networks, ECCV 2014, §2.3",
    inputs={"x": "float b c n"},
    args={"output_size": 3},
    traits=["smooth", "linear", "twice_differentiable"],
)
class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of output_size parts, which share an element where n does not divide.

    x [b, c, n] or [c, n]; y [b, c, output_size].
    """

    rank = 1


@reference(
    kind="layer",
    formula="y[b,c,i,j] = mean of x over rows ⌊i h/o₁⌋ … ⌈(i + 1) h/o₁⌉ − 1 and columns alike",
    source="He et al., Spatial Pyramid Pooling in Deep Convolutional Networks, ECCV 2014, §2.3",
    inputs={"x": "float b c h w"},
    args={"output_size": [2, 3]},
    traits=["smooth", "linear", "twice_differentiable"],
)
class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of o₁ × o₂ parts, which share elements where sizes do not divide.

    x [b, c, h, w] or [c, h, w]; y [b, c, o₁, o₂]; a size of None keeps that axis.
    """

    rank = 2
