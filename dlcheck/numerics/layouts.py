"""The same values, lying otherwise in memory."""

from __future__ import annotations

import torch
from torch import Tensor

REARRANGED = ("transposed", "sliced", "channels_last")
LAYOUTS = ("contiguous", *REARRANGED)


def lay_out(values: Tensor, layout: str) -> Tensor:
    """A copy that is "contiguous", "transposed", "sliced" (with an offset) or "channels_last"."""
    if layout == "transposed" and values.dim() >= 2:
        return values.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced" and values.dim() >= 1:  # an offset, and a stride of 2 in the last axis
        room = values.new_zeros((*values.shape[:-1], 2 * values.shape[-1] + 1))
        room[..., 1::2] = values
        return room[..., 1::2]
    if layout == "channels_last" and values.dim() == 4:
        return values.contiguous(memory_format=torch.channels_last)
    return values.contiguous()


def clone_as_laid_out(tensor: Tensor) -> Tensor:
    """A copy with the same sizes, strides and offset, sharing no memory with the original.

    One whose elements share memory, as an expanded tensor's do, becomes contiguous.
    """
    if any(
        stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    ):
        return tensor.detach().contiguous().clone()
    room = tensor.storage_offset() + 1
    room += sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.numel() == 0:
        return tensor.detach().clone()
    copy = tensor.new_zeros(room).as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    return copy.copy_(tensor.detach())
