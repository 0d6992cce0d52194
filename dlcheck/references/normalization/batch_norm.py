"""Batch normalization: each channel over the samples and places of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlcheck.references.normalization.standardization import centre, scale_and_shift, standardize
from dlcheck.references.precision import wide, wide_or_none
from dlcheck.registry import reference


class _BatchNorm(nn.Module):
    """The module for inputs whose number of axes is among `dims`."""

    dims: tuple[int, ...] = ()
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,  # noqa: FBT001, FBT002
        track_running_stats: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        kept = track_running_stats
        self.register_buffer("running_mean", torch.zeros(num_features) if kept else None)
        self.register_buffer("running_var", torch.ones(num_features) if kept else None)
        self.register_buffer("num_batches_tracked", torch.tensor(0) if kept else None)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() not in self.dims or x.shape[1] != self.num_features:
            raise ValueError(
                f"x {list(x.shape)} has not {' or '.join(map(str, self.dims))} axes, the second "
                f"of {self.num_features}"
            )
        axes = tuple(axis for axis in range(x.dim()) if axis != 1)
        z = self._by_batch(wide(x), axes) if self._uses_batch else self._by_running(wide(x))
        weight, bias = wide_or_none(self.weight), wide_or_none(self.bias)
        return scale_and_shift(z, weight, bias, 1).to(x.dtype)

    @property
    def _uses_batch(self) -> bool:
        return self.training or self.running_mean is None

    def _by_batch(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        if self.training and x.numel() == self.num_features:
            raise ValueError(f"one value per channel has no variance to train on: {list(x.shape)}")
        if self.training:
            self._follow(x.detach(), axes)
        return standardize(x, axes, self.eps)

    def _by_running(self, x: Tensor) -> Tensor:
        """(x − μ)/√(σ² + ε) with the running μ and σ², which are constants."""
        assert self.running_mean is not None
        assert self.running_var is not None
        r = (wide(self.running_var) + self.eps).rsqrt()
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        return scale_and_shift(x - wide(self.running_mean).reshape(shape), r, None, 1)

    @torch.no_grad()
    def _follow(self, x: Tensor, axes: tuple[int, ...]) -> None:
        """running ← (1 − m) running + m batch, with the variance divided by n − 1.

        Without momentum m is 1/(number of batches): the plain average of all.
        """
        if (
            self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        self.num_batches_tracked.add_(1)
        if self.momentum is None:
            share = self.num_batches_tracked.to(x).reciprocal()
        else:
            share = x.new_tensor(self.momentum)
        n = x.numel() // self.num_features
        variance = centre(x, axes).square().sum(axes) / (n - 1)
        for running, batch in ((self.running_mean, x.mean(axes)), (self.running_var, variance)):
            running.copy_(wide(running).lerp(batch, share))


@reference(
    kind="normalization",
    formula="y = γ_c (x − μ_c)/√(σ²_c + ε) + β_c,  μ_c and σ²_c over the batch, in evaluation "
    "their running averages",
    source="Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithms 1 and 2",
    inputs={"x": "float b 4"},
    args={"num_features": 4},
    traits=["smooth", "twice_differentiable", "batch_coupled", "updates_buffers"],
    options={
        "axes": [0],
        "eps": "eps",
        "centred": True,
        "running": {
            "mean": "running_mean",
            "var": "running_var",
            "momentum": "momentum",
            "ddof": 1,
        },
        "sizes": {"b": [3, 17]},
    },
)
class BatchNorm1d(_BatchNorm):
    """Each channel over samples: x [b, c] or [b, c, n], y like x.

    weight γ [c] begins 1, bias β [c] 0. momentum is the weight of the new batch in the running
    averages; None averages all batches equally. Raises ValueError for one value per channel in
    training.
    """

    dims = (2, 3)


@reference(
    kind="normalization",
    formula="y = γ_c (x − μ_c)/√(σ²_c + ε) + β_c,  μ_c and σ²_c over the batch and all places, in "
    "evaluation their running averages",
    source="Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithms 1 and 2, §3.2",
    inputs={"x": "float b 3 h w"},
    args={"num_features": 3},
    traits=["smooth", "twice_differentiable", "batch_coupled", "updates_buffers"],
    options={
        "axes": [0, 2, 3],
        "eps": "eps",
        "centred": True,
        "running": {
            "mean": "running_mean",
            "var": "running_var",
            "momentum": "momentum",
            "ddof": 1,
        },
        "sizes": {"b": [3, 9], "h": [1, 7], "w": [1, 7]},
    },
)
class BatchNorm2d(_BatchNorm):
    """Each channel over samples and places: x [b, c, h, w], y like x.

    weight γ [c] begins 1, bias β [c] 0. momentum is the weight of the new batch in the running
    averages; None averages all batches equally. Raises ValueError for one value per channel in
    training.
    """

    dims = (4,)


@reference(
    kind="normalization",
    formula="y = γ_c (x − μ_c)/√(σ²_c + ε) + β_c,  μ_c and σ²_c over the batch and all places, in "
    "evaluation their running averages",
    source="Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithms 1 and 2, §3.2",
    inputs={"x": "float b 2 t h w"},
    args={"num_features": 2},
    traits=["smooth", "twice_differentiable", "batch_coupled", "updates_buffers"],
    options={
        "axes": [0, 2, 3, 4],
        "eps": "eps",
        "centred": True,
        "running": {
            "mean": "running_mean",
            "var": "running_var",
            "momentum": "momentum",
            "ddof": 1,
        },
        "sizes": {"b": [3, 5], "t": [1, 5], "h": [1, 5], "w": [1, 5]},
    },
)
class BatchNorm3d(_BatchNorm):
    """Each channel over samples and places: x [b, c, t, h, w], y like x.

    weight γ [c] begins 1, bias β [c] 0. momentum is the weight of the new batch in the running
    averages; None averages all batches equally. Raises ValueError for one value per channel in
    training.
    """

    dims = (5,)
