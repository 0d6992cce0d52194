"""Layer and RMS normalization: each sample over its last axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlcheck.references.normalization.standardization import scale_and_shift, standardize
from dlcheck.references.precision import wide, wide_or_none
from dlcheck.registry import reference


def _shape_of(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


def _refuse_other_shape(x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape[x.dim() - len(shape) :]) != shape:
        raise ValueError(f"the last axes of x {list(x.shape)} are not {list(shape)}")


@reference(
    kind="normalization",
    formula="y = γ ⊙ (x − μ)/√(σ² + ε) + β,  μ and σ² over the last axes, σ² divided by n",
    source="Ba, Kiros & Hinton, Layer Normalization, 2016, §3",
    inputs={"x": "float b t n"},
    args={"normalized_shape": {"dim": "n"}},
    traits=["smooth", "twice_differentiable"],
    options={"axes": [-1], "eps": "eps", "centred": True, "sizes": {"n": [3, 17]}},
)
class LayerNorm(nn.Module):
    """γ ⊙ (x − μ)/√(σ² + ε) + β: x […, *normalized_shape], y like x.

    weight γ begins 1 and bias β 0, both of normalized_shape. Raises ValueError for another shape.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,  # noqa: FBT001, FBT002
        bias: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape_of(normalized_shape)
        self.eps = eps
        shape = self.normalized_shape
        self.weight = nn.Parameter(torch.ones(shape)) if elementwise_affine else None
        self.bias = nn.Parameter(torch.zeros(shape)) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        _refuse_other_shape(x, self.normalized_shape)
        count = len(self.normalized_shape)
        z = standardize(wide(x), tuple(range(-count, 0)), self.eps)
        weight, bias = wide_or_none(self.weight), wide_or_none(self.bias)
        return scale_and_shift(z, weight, bias, -count).to(x.dtype)


@reference(
    kind="normalization",
    formula="y = γ ⊙ x/√(mean x² + ε),  the mean over the last axes",
    source="Zhang & Sennrich, Root Mean Square Layer Normalization, NeurIPS 2019, §4",
    inputs={"x": "float b t n"},
    args={"normalized_shape": {"dim": "n"}, "eps": 1e-5},
    traits=["smooth", "twice_differentiable"],
    options={"axes": [-1], "eps": "eps", "centred": False, "sizes": {"n": [2, 17]}},
)
class RMSNorm(nn.Module):
    """γ ⊙ x/√(mean x² + ε): x […, *normalized_shape], y like x.

    ε is the machine epsilon of the dtype computed in where none is given. weight γ begins 1.
    Raises ValueError for another shape.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__()
        self.normalized_shape = _shape_of(normalized_shape)
        self.eps = eps
        shape = self.normalized_shape
        self.weight = nn.Parameter(torch.ones(shape)) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        _refuse_other_shape(x, self.normalized_shape)
        count = len(self.normalized_shape)
        given = wide(x)
        eps = torch.finfo(given.dtype).eps if self.eps is None else self.eps
        z = standardize(given, tuple(range(-count, 0)), eps, centred=False)
        return scale_and_shift(z, wide_or_none(self.weight), None, -count).to(x.dtype)
