"""Convolution over one, two and three axes, as products of matrices with windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dlcheck.references.layers.linear import fill_by_fan_in
from dlcheck.references.layers.sliding import origins, span, tuple_of, windows
from dlcheck.references.precision import wide
from dlcheck.registry import reference

Spatial = tuple[int, ...]


class _Convolve(torch.autograd.Function):
    """y[b,o,i] = Σ_{c,k} x[b, c, i·stride + k·dilation] W[o,c,k], channels in groups; no padding.

    It is bilinear: dL = Σ v[b,o,i] (dx[b,c,i·s + k·d] W[o,c,k] + x[b,c,i·s + k·d] dW[o,c,k]), so
    dL/dW[o,c,k] = Σ_{b,i} v[b,o,i] x[b,c,i·s + k·d] and, collecting what reaches element j,
    dL/dx[b,c,j] = Σ_{o,k} v[b,o,i] W[o,c,k] over i·s + k·d = j.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, strides: Spatial, dilations: Spatial, groups: int
    ) -> Tensor:
        seen = windows(x, weight.shape[2:], strides, dilations)
        y = torch.einsum("bgcik,gock->bgoi", _grouped(seen, weight, groups), _split(weight, groups))
        outputs = seen.shape[2 : 2 + len(strides)]
        return y.reshape(x.shape[0], weight.shape[0], *outputs).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, *ctx.how = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight = ctx.needs_input_grad[:2]
        return (
            _to_input(gradients[0], x, weight, *ctx.how) if to_x else None,
            _to_weight(gradients[0], x, weight, *ctx.how) if to_weight else None,
            None,
            None,
            None,
        )


def _grouped(seen: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Windows [b, c, o₁ … o_r, k₁ … k_r] → [b, g, c/g, ∏o, ∏k]."""
    b, c = seen.shape[:2]
    places = prod(weight.shape[2:])
    outputs = prod(seen.shape[2 : 2 + weight.dim() - 2])
    return seen.reshape(b, groups, c // groups, outputs, places)


def _split(weight: Tensor, groups: int) -> Tensor:
    """[o, c/g, k₁ … k_r] → [g, o/g, c/g, ∏k]."""
    outputs, inputs, *sizes = weight.shape
    return weight.reshape(groups, outputs // groups, inputs, prod(sizes))


def _to_weight(
    v: Tensor, x: Tensor, weight: Tensor, strides: Spatial, dilations: Spatial, groups: int
) -> Tensor:
    seen = _grouped(windows(x, weight.shape[2:], strides, dilations), weight, groups)
    v = v.reshape(v.shape[0], groups, v.shape[1] // groups, prod(v.shape[2:]))
    return torch.einsum("bgoi,bgcik->gock", v, seen).reshape(weight.shape)


def _to_input(
    v: Tensor, x: Tensor, weight: Tensor, strides: Spatial, dilations: Spatial, groups: int
) -> Tensor:
    spatial = list(range(2, weight.dim()))
    back = origins(v, x.shape[2:], weight.shape[2:], strides, dilations)
    flipped = _split(weight.flip(spatial), groups)  # `origins` counts places from the end
    made = torch.einsum("bgojk,gock->bgcj", _grouped(back, weight, groups), flipped)
    return made.reshape(x.shape)


class _Convolution(nn.Module):
    """The module for `rank` spatial axes: padding, convolution, bias."""

    rank = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,  # noqa: FBT001, FBT002
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{in_channels} channels in and {out_channels} out do not divide into {groups} "
                "groups"
            )
        self.kernel_size = tuple_of(kernel_size, self.rank)
        self.stride = tuple_of(stride, self.rank)
        self.dilation = tuple_of(dilation, self.rank)
        self.groups = groups
        self.ends = _ends(padding, self.kernel_size, self.dilation)
        self.padding_mode = "constant" if padding_mode == "zeros" else padding_mode
        channels = in_channels // groups
        self.weight = nn.Parameter(torch.empty(out_channels, channels, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        fill_by_fan_in(self, channels * prod(self.kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == self.rank + 1:  # one sample without a batch axis
            return self.forward(x.unsqueeze(0)).squeeze(0)
        padded = pad(wide(x), self.ends, mode=self.padding_mode) if any(self.ends) else wide(x)
        y: Tensor = _Convolve.apply(
            padded, wide(self.weight), self.stride, self.dilation, self.groups
        )
        if self.bias is not None:
            y = y + wide(self.bias).reshape(-1, *(1 for _ in self.kernel_size))
        return y.to(x.dtype)


def _ends(padding: int | str | Sequence[int], sizes: Spatial, dilations: Spatial) -> list[int]:
    """What is added before and after each axis, last axis first, as `pad` takes it.

    "same" shares span − 1 between both ends, the odd one after.
    """
    if padding == "same":
        total = [span(k, d) - 1 for k, d in zip(sizes, dilations, strict=True)]
        pairs = [(n // 2, n - n // 2) for n in total]
    elif padding == "valid":
        pairs = [(0, 0) for _ in sizes]
    elif isinstance(padding, str):
        raise ValueError(f"padding is 'same', 'valid' or a number, not {padding!r}")
    else:
        pairs = [(n, n) for n in tuple_of(padding, len(sizes))]
    return list(chain.from_iterable(reversed(pairs)))


@reference(
    kind="layer",
    formula="y[b,o,i] = β[o] + Σ_{c,k} x[b, c, i·stride + k·dilation − padding] W[o,c,k]",
    source="Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016, §2 and §4",
    inputs={"x": "float b 4 n"},
    args={
        "in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 2,
        "dilation": 2, "groups": 2,
    },
    traits=["smooth", "twice_differentiable"],
    options={"sizes": {"n": [3, 17]}, "variance": {"weight": "1 / (3 * fan_in)"}},
)  # fmt: skip
class Conv1d(_Convolution):
    """Convolution along one axis: x [b, c, n] or [c, n]; y [b, o, n'].

    weight [o, c/groups, k]; padding a number, "same" or "valid", filled as padding_mode says.
    """

    rank = 1


@reference(
    kind="layer",
    formula="y[b,o,i] = β[o] + Σ_{c,k} x[b, c, i·stride + k·dilation − padding] W[o,c,k], "
    "i and k pairs",
    source="Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016, §2 and §4",
    inputs={"x": "float b 3 h w"},
    args={"in_channels": 3, "out_channels": 4, "kernel_size": [3, 2], "stride": [1, 2]},
    traits=["smooth", "twice_differentiable"],
    options={"sizes": {"h": [3, 11], "w": [2, 11]}, "variance": {"weight": "1 / (3 * fan_in)"}},
)
class Conv2d(_Convolution):
    """Convolution along two axes: x [b, c, h, w] or [c, h, w]; y [b, o, h', w'].

    weight [o, c/groups, k₁, k₂]; padding a number, "same" or "valid", filled as padding_mode says.
    """

    rank = 2


@reference(
    kind="layer",
    formula="y[b,o,i] = β[o] + Σ_{c,k} x[b, c, i·stride + k·dilation − padding] W[o,c,k], "
    "i and k triples",
    source="Dumoulin & Visin, A guide to convolution arithmetic for deep learning, 2016, §2 and §4",
    inputs={"x": "float b 2 t h w"},
    args={"in_channels": 2, "out_channels": 3, "kernel_size": 2, "padding": 1},
    traits=["smooth", "twice_differentiable"],
    options={
        "sizes": {"b": [1, 3], "t": [1, 5], "h": [1, 5], "w": [1, 5]},
        "variance": {"weight": "1 / (3 * fan_in)"},
    },
)
class Conv3d(_Convolution):
    """Convolution along three axes: x [b, c, t, h, w] or [c, t, h, w]; y [b, o, t', h', w'].

    weight [o, c/groups, k₁, k₂, k₃]; padding a number, "same" or "valid", filled as padding_mode
    says.
    """

    rank = 3
