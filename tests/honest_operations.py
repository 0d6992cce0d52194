"""Right operations that look odd: caches, scratch memory, threads, views, their own backward.

Each entry of HONEST makes its operation afresh and says how its author declares it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from cheats import (
    Cheat,
    gelu,
    layer_norm,
    softmax,
    torch_gelu,
    torch_layer_norm,
    torch_matmul,
    torch_softmax,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Operation = Callable[..., Tensor]
HONEST: dict[str, Cheat] = {}
_ROTATED = {"x": "float b t d*2"}


def honest(
    reference: Operation | None = torch_softmax, **declared: Any
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def enlist(make: Callable[[], Any]) -> Callable[[], Any]:
        HONEST[make.__name__] = Cheat(make=make, reference=reference, **declared)
        return make

    return enlist


@honest(options={"own_kernel": True})
def two_pass_softmax() -> Operation:
    return softmax


@honest(options={"own_kernel": True})
def online_softmax() -> Operation:
    def call(x: Tensor) -> Tensor:
        m = torch.full_like(x[..., :1], -math.inf)
        s = torch.zeros_like(m)
        for part in x.split(16, -1):
            larger = torch.maximum(m, part.amax(-1, keepdim=True))
            s = s * torch.exp(m - larger) + torch.exp(part - larger).sum(-1, keepdim=True)
            m = larger
        return torch.exp(x - m) / s

    return call


@honest()
def softmax_in_base_two() -> Operation:
    def call(x: Tensor) -> Tensor:
        e = torch.exp2((x - x.amax(-1, keepdim=True)) * math.log2(math.e))
        return e / e.sum(-1, keepdim=True)

    return call


@honest()
def softmax_from_the_logarithm() -> Operation:
    return lambda x: torch.exp(x - torch.logsumexp(x, -1, keepdim=True))


@honest()
def softmax_with_scratch_memory_that_is_copied() -> Operation:
    scratch: dict[object, Tensor] = {}

    class Scratch(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            e = scratch.setdefault((x.shape, x.dtype), torch.empty(x.shape, dtype=x.dtype))
            torch.sub(x, x.amax(-1, keepdim=True), out=e).exp_()
            y = e / e.sum(-1, keepdim=True)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (y,), g = ctx.saved_tensors, gradients[0]
            return y * (g - (g * y).sum(-1, keepdim=True))

    return Scratch.apply


@honest()
def softmax_in_place_on_its_own_memory() -> Operation:
    def call(x: Tensor) -> Tensor:
        e = x - x.amax(-1, keepdim=True)
        e = e.exp_()
        return e / e.sum(-1, keepdim=True)

    return call


@honest()
def softmax_in_a_thread_pool() -> Operation:
    pool = ThreadPoolExecutor(2)

    def call(x: Tensor) -> Tensor:
        halves = pool.map(softmax, x.tensor_split(2))
        return torch.cat(list(halves))

    return call


@honest()
def softmax_row_by_row_into_empty_memory() -> Operation:
    class Rows(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            y = torch.empty_like(x, memory_format=torch.contiguous_format)
            for i in range(len(x)):
                y[i] = softmax(x[i])
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (y,), g = ctx.saved_tensors, gradients[0]
            return y * (g - (g * y).sum(-1, keepdim=True))

    return Rows.apply


@honest(reference=torch_layer_norm, options={"own_kernel": True})
def layer_norm_in_two_passes() -> Operation:
    return layer_norm


@honest(reference=torch_layer_norm)
def layer_norm_under_checkpoint() -> Operation:
    return lambda x: checkpoint(layer_norm, x, use_reentrant=False)


@honest(reference=torch_gelu)
def gelu_by_erfc() -> Operation:
    return lambda x: x * torch.special.erfc(-x / math.sqrt(2)) / 2


@honest(reference=torch_gelu)
def gelu_with_constants_by_dtype() -> Operation:
    constants: dict[torch.dtype, Tensor] = {}

    def call(x: Tensor) -> Tensor:
        half = constants.setdefault(x.dtype, torch.tensor(0.5, dtype=x.dtype, device=x.device))
        return half * x * (1 + torch.erf(x / math.sqrt(2)))

    return call


@honest(reference=torch_matmul, inputs={"x": "float b n", "y": "float n m"})
def product_in_chunks() -> Operation:
    def call(x: Tensor, y: Tensor) -> Tensor:
        parts = zip(x.split(8, 1), y.split(8, 0), strict=True)
        return sum((a @ b for a, b in parts), start=x.new_zeros(len(x), y.shape[1]))

    return call


@honest(
    reference=torch_matmul,
    inputs={"x": "float b n", "y": "float n m"},
    options={"own_kernel": True},
)
def product_of_its_own() -> Operation:
    return lambda x, y: (x.unsqueeze(-1) * y).sum(-2)


@honest(reference=None, inputs=_ROTATED)
def rotary_with_cached_tables() -> Operation:
    tables: dict[object, tuple[Tensor, Tensor]] = {}

    def table(length: int, half: int, like: Tensor) -> tuple[Tensor, Tensor]:
        key = half, like.dtype, like.device
        if key not in tables or len(tables[key][0]) < length:
            angles = torch.outer(
                torch.arange(length, dtype=torch.float64),
                1e4 ** (-torch.arange(half, dtype=torch.float64) / half),
            )
            tables[key] = angles.cos().to(like), angles.sin().to(like)
        cos, sin = tables[key]
        return cos[:length], sin[:length]

    def call(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        cos, sin = table(x.shape[1], first.shape[-1], x)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)

    return call


@honest(reference=None, inputs={"x": "float b t d"})
def cached_positions_as_they_are() -> Operation:
    """Returns a view of its table, which nobody overwrites."""
    table = torch.sin(torch.outer(torch.arange(300.0), 1 + torch.arange(300.0))).double()
    return lambda x: table[: x.shape[1], : x.shape[2]].to(x.dtype)


@honest(reference=None)
def a_view_of_its_input() -> Operation:
    return lambda x: x.flatten().view(x.shape).t()


@honest(reference=None)
def its_input() -> Operation:
    return lambda x: x


class LazilyMade(nn.Module):
    """Makes its table when it sees the first input, and casts its weight anew when it changed."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, features))
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None or self.table.dtype != x.dtype:
            self.table = torch.linspace(1, 2, x.shape[-1], dtype=x.dtype, device=x.device)
        return gelu(x * self.weight) + self.table


@honest(reference=None, kind="layer", args={"features": {"dim": "n"}})
def table_made_at_the_first_call() -> Any:
    return LazilyMade


class GrowingTable(nn.Module):
    """Keeps its table in a buffer outside the state dict, and its length beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(64, 1), persistent=False)
        self.length = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.length < x.shape[1]:
            self.length = x.shape[1]
            self.table[: self.length, 0] = torch.arange(self.length).to(self.table).cos()
        return x * self.table[: x.shape[1]]


@honest(reference=None, kind="layer", inputs={"x": "float b t d"}, options={"sizes": {"t": [1, 9]}})
def table_that_grows_in_a_buffer() -> Any:
    return GrowingTable


class CachingUntilTrained(nn.Module):
    """Keeps tanh(w) in evaluation, and forgets it when training begins."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, features))
        self.kept: Tensor | None = None

    def train(self, mode: bool = True) -> CachingUntilTrained:  # noqa: FBT001, FBT002
        self.kept = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x * torch.tanh(self.weight)
        if self.kept is None:
            self.kept = torch.tanh(self.weight)
        return x * self.kept if torch.is_grad_enabled() else x * self.kept.detach()


@honest(reference=None, kind="layer", args={"features": {"dim": "n"}})
def weights_kept_between_evaluations() -> Any:
    return CachingUntilTrained


@honest(reference=None, options={"layouts": ["contiguous"]})
def contiguous_only_and_said_so() -> Operation:
    def call(x: Tensor) -> Tensor:
        if not x.is_contiguous():
            raise ValueError("x must be contiguous")
        return gelu(x)

    return call


@honest(reference=None)
def refuses_nan() -> Operation:
    def call(x: Tensor) -> Tensor:
        if not bool(torch.isfinite(x).all()):
            raise ValueError("x is not finite")
        return softmax(x)

    return call
