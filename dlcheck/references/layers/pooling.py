"""Pooling along one and two axes: the largest and the mean of windows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dlcheck.references.layers.sliding import origins, span, tuple_of, windows
from dlcheck.references.precision import wide
from dlcheck.registry import reference

Spatial = tuple[int, ...]


class _LargestOfWindow(torch.autograd.Function):
    """y[i] = max_k seen[i,k], with seen[i,k] = x[place[i,k]]; and the place in x where it stands.

    Where one element is the largest, dL = Σ v[i] dx[place of it]: each v[i] is added there. Among
    equals the first in the window gets it all, which is one of the subgradients.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, places: Tensor, sizes: Spatial, strides: Spatial, dilations: Spatial
    ) -> tuple[Tensor, Tensor]:
        flat = places.flatten(-len(sizes))
        seen = x.flatten(2)[..., flat.clamp(min=0)].masked_fill(flat < 0, -torch.inf)
        best = seen.argmax(-1, keepdim=True)
        # A window that holds −inf only has its maximum at its first real element.
        real = (flat >= 0).to(torch.int64).argmax(-1, keepdim=True)
        best = torch.where(seen.gather(-1, best) == -torch.inf, real, best)
        index = flat.expand(seen.shape).gather(-1, best).squeeze(-1)
        return seen.gather(-1, best).squeeze(-1), index

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        v = gradients[0].flatten(2)
        zeros = v.new_zeros(*ctx.shape[:2], prod(ctx.shape[2:]))
        return zeros.scatter_add(2, index.flatten(2), v).reshape(ctx.shape), None, None, None, None


class _MeanOfWindow(torch.autograd.Function):
    """y[i] = Σ_k x[i·stride + k] / count[i], no padding.

    It is linear: dL = Σ v[i] dx[i·s + k] / count[i], so dL/dx[j] = Σ v[i] / count[i] over the
    windows i that hold j.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, count: Tensor, sizes: Spatial, strides: Spatial) -> Tensor:
        ones = [1] * len(sizes)
        return windows(x, sizes, strides, ones).flatten(-len(sizes)).sum(-1) / count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, count, ctx.sizes, ctx.strides = inputs
        ctx.save_for_backward(count)
        ctx.lengths = x.shape[-len(ctx.sizes) :]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (count,) = ctx.saved_tensors
        ones = [1] * len(ctx.sizes)
        back = origins(gradients[0] / count, ctx.lengths, ctx.sizes, ctx.strides, ones)
        return back.flatten(-len(ctx.sizes)).sum(-1), None, None, None


def _ends(
    lengths: Sequence[int],
    sizes: Spatial,
    strides: Spatial,
    paddings: Spatial,
    dilations: Spatial,
    *,
    ceil_mode: bool,
) -> list[tuple[int, int]]:
    """What is added before and after each axis.

    In ceil_mode the last window may reach past the padding, but not begin there.
    """
    ends = []
    for n, k, s, p, d in zip(lengths, sizes, strides, paddings, dilations, strict=True):
        room = n + 2 * p - span(k, d)
        last = -(-room // s) * s if ceil_mode else room // s * s
        last -= s if last >= n + p else 0
        ends.append((p, max(p, last + span(k, d) - n - p)))
    return ends


def _flat(ends: Sequence[tuple[int, int]]) -> list[int]:
    """The last axis first, as `pad` takes it."""
    return [end for pair in reversed(ends) for end in pair]


class _Pooling(nn.Module):
    """What both kinds of pooling over `rank` axes are told."""

    rank = 0

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None,
        padding: int | Sequence[int],
        *,
        ceil_mode: bool,
    ) -> None:
        super().__init__()
        self.kernel_size = tuple_of(kernel_size, self.rank)
        self.stride = self.kernel_size if stride is None else tuple_of(stride, self.rank)
        self.padding = tuple_of(padding, self.rank)
        self.ceil_mode = ceil_mode
        for p, k in zip(self.padding, self.kernel_size, strict=True):
            if p > k // 2:
                raise ValueError(f"padding {p} is more than half of a window of {k}")


class _MaxPool(_Pooling):
    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        return_indices: bool = False,  # noqa: FBT001, FBT002
        ceil_mode: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode=ceil_mode)
        self.dilation = tuple_of(dilation, self.rank)
        self.return_indices = return_indices

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if x.dim() == self.rank + 1:  # one sample without a batch axis
            y, index = self._pooled(x.unsqueeze(0))
            y, index = y.squeeze(0), index.squeeze(0)
        else:
            y, index = self._pooled(x)
        return (y, index) if self.return_indices else y

    def _pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        how = self.kernel_size, self.stride
        ends = _ends(x.shape[2:], *how, self.padding, self.dilation, ceil_mode=self.ceil_mode)
        places = torch.arange(prod(x.shape[2:]), device=x.device).reshape(x.shape[2:])
        places = windows(pad(places, _flat(ends), value=-1), *how, self.dilation)
        y, index = _LargestOfWindow.apply(x, places, *how, self.dilation)
        return y, index


class _AvgPool(_Pooling):
    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0,
        ceil_mode: bool = False,  # noqa: FBT001, FBT002
        count_include_pad: bool = True,  # noqa: FBT001, FBT002
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode=ceil_mode)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Tensor) -> Tensor:
        lengths, ones = x.shape[x.dim() - self.rank :], (1,) * self.rank
        how = self.kernel_size, self.stride
        ends = _ends(lengths, *how, self.padding, ones, ceil_mode=self.ceil_mode)
        padded = pad(wide(x), _flat(ends))
        y: Tensor = _MeanOfWindow.apply(padded, self._count(padded, lengths, ends), *how)
        return y.to(x.dtype)

    def _count(
        self, padded: Tensor, lengths: Sequence[int], ends: Sequence[tuple[int, int]]
    ) -> Tensor:
        """How many elements count in each window [o₁ … o_r]; past the padding none do."""
        if self.divisor_override is not None:
            return padded.new_tensor(self.divisor_override)
        counted = padded.new_ones(tuple(lengths))
        inner = [(p, p) for p in self.padding]
        counted = pad(counted, _flat(inner), value=float(self.count_include_pad))
        outer = [(a - p, b - p) for (a, b), (p, _) in zip(ends, inner, strict=True)]
        seen = windows(pad(counted, _flat(outer)), self.kernel_size, self.stride, (1,) * self.rank)
        return seen.flatten(-self.rank).sum(-1)


@reference(
    kind="layer",
    formula="y[b,c,i] = max_k x[b, c, i·stride + k·dilation − padding]",
    source="Goodfellow, Bengio & Courville, Deep Learning, MIT Press 2016, §9.3",
    inputs={"x": "float b c n"},
    args={"kernel_size": 3, "stride": 2, "padding": 1},
    traits=["nonsmooth", "twice_differentiable"],
)
class MaxPool1d(_MaxPool):
    """The largest of each window: x [b, c, n] or [c, n]; y [b, c, n'], and with return_indices
    its places in n. Among equals the first gets the gradient; padding never is the largest.
    """

    rank = 1


@reference(
    kind="layer",
    formula="y[b,c,i] = max_k x[b, c, i·stride + k·dilation − padding], i and k pairs",
    source="Goodfellow, Bengio & Courville, Deep Learning, MIT Press 2016, §9.3",
    inputs={"x": "float b c h w"},
    args={"kernel_size": [2, 3], "stride": [1, 2], "padding": [1, 0], "ceil_mode": True},
    traits=["nonsmooth", "twice_differentiable"],
    options={"sizes": {"w": [3, 13]}},
)
class MaxPool2d(_MaxPool):
    """The largest of each window: x [b, c, h, w] or [c, h, w]; y [b, c, h', w'], and with
    return_indices its places in h·w. Among equals the first gets the gradient; padding never is
    the largest.
    """

    rank = 2


@reference(
    kind="layer",
    formula="y[b,c,i] = 1/k Σ_k x[b, c, i·stride + k − padding]",
    source="LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86, "
    "1998, §II.B (subsampling)",
    inputs={"x": "float b c n"},
    args={"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    traits=["smooth", "linear", "twice_differentiable"],
)
class AvgPool1d(_AvgPool):
    """The mean of each window: x [b, c, n] or [c, n]; y [b, c, n'].

    Padding counts as elements of value 0, with count_include_pad = False not at all.
    """

    rank = 1


@reference(
    kind="layer",
    formula="y[b,c,i] = 1/(k₁k₂) Σ_k x[b, c, i·stride + k − padding], i and k pairs",
    source="LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86, "
    "1998, §II.B (subsampling)",
    inputs={"x": "float b c h w"},
    args={"kernel_size": 2, "padding": [0, 1], "ceil_mode": True},
    traits=["smooth", "linear", "twice_differentiable"],
    options={"sizes": {"h": [2, 13]}},
)
class AvgPool2d(_AvgPool):
    """The mean of each window: x [b, c, h, w] or [c, h, w]; y [b, c, h', w'].

    Padding counts as elements of value 0, with count_include_pad = False not at all; the divisor
    is divisor_override where that is given.
    """

    rank = 2
