"""Windows that slide over the last axes of a tensor, and what reaches back through them.

Convolution and pooling are products and sums over windows. Element (i, k) of the windows of x is
x[i·stride + k·dilation]; so element j of x is seen by output i at place k of its window wherever
i·stride + k·dilation = j. `windows` gathers in the first direction, `origins` in the second.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import pad

Sizes = Sequence[int]


def span(size: int, dilation: int) -> int:
    """How many elements a window reaches over."""
    return dilation * (size - 1) + 1


def windows(x: Tensor, sizes: Sizes, strides: Sizes, dilations: Sizes) -> Tensor:
    """[…, n₁ … n_r] → […, o₁ … o_r, k₁ … k_r], a view: (i, k) holds x[i·stride + k·dilation]."""
    first = x.dim() - len(sizes)
    for axis, (size, stride, dilation) in enumerate(zip(sizes, strides, dilations, strict=True)):
        x = x.unfold(first + axis, span(size, dilation), stride)[..., ::dilation]
    return x


def origins(v: Tensor, lengths: Sizes, sizes: Sizes, strides: Sizes, dilations: Sizes) -> Tensor:
    """[…, o₁ … o_r] → […, n₁ … n_r, k₁ … k_r]: (j, k) holds v[i] where i·stride + (K−1−k)·dilation
    = j, and 0 where no such i exists. Places in the window are counted from its end.

    With s − 1 zeros between neighbours of v, and enough zeros at both ends, this is once more a
    sliding window, now of stride 1.
    """
    first = v.dim() - len(sizes)
    for axis in range(len(sizes)):
        margin = span(sizes[axis], dilations[axis]) - 1
        v = _with_zeros(v, first + axis, strides[axis], margin, lengths[axis])
    return windows(v, sizes, [1] * len(sizes), dilations)


def _with_zeros(v: Tensor, axis: int, stride: int, margin: int, length: int) -> Tensor:
    """`margin` zeros, then v with stride − 1 zeros after each element, to `length` + `margin`."""
    v = v.transpose(axis, -1)
    if stride > 1:
        v = pad(v.unsqueeze(-1), (0, stride - 1)).flatten(-2)
    v = pad(v, (margin, length - v.shape[-1]))  # a negative end cuts zeros off
    return v.transpose(axis, -1)


def tuple_of(value: int | Sequence[int], rank: int) -> tuple[int, ...]:
    """3 → (3, 3) for two axes. Raises ValueError for another number of values."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank:
        raise ValueError(f"{value} gives {len(values)} values for {rank} axes")
    return values
