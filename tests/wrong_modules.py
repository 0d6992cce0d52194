"""Wrong gradients of modules: `.data`, detached branches, hooks, buffers that change."""

from __future__ import annotations

import torch
from gradient_cases import Call, Draw, Wrong, claiming, registered
from torch import Tensor, nn

MODULES: dict[str, Wrong] = {}
wrong = registered(MODULES, Wrong)

LOST = r"zero|none|detach|drop|depend|miss"


class DataLinear(nn.Module):
    """A layer that reads its weight through `.data`."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(3, 4))
        self.bias = nn.Parameter(draw(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(nn.functional.linear(x, self.weight.data, self.bias))


@wrong(cause=LOST)
def weight_read_through_data(draw: Draw) -> Call:
    return DataLinear(draw), draw.leaf(5, 4)


class NormedByData(nn.Module):
    """Weight normalisation v / ‖v‖ whose norm is cut off the graph."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.direction = nn.Parameter(draw(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        norm = self.direction.data.norm(dim=1, keepdim=True)
        return torch.tanh(x @ (self.direction / norm).T)


@wrong()
def weight_norm_through_data(draw: Draw) -> Call:
    return NormedByData(draw), draw.leaf(5, 4)


class FrozenBranch(nn.Module):
    """A residual block whose branch runs without a graph."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            branch = torch.tanh(x @ self.weight)
        return x + branch


@wrong(cause=LOST + "|term")
def residual_branch_without_a_graph(draw: Draw) -> Call:
    return FrozenBranch(draw), draw.leaf(5, 4)


@wrong(cause=r"2|0\.5|half|factor|scal")
def hook_halves_a_gradient(draw: Draw) -> Call:
    def hooked(x: Tensor) -> Tensor:
        hidden = torch.tanh(x)
        if hidden.requires_grad:
            hidden.register_hook(lambda g: g / 2)
        return hidden * hidden

    return hooked, [draw.leaf(20)]


@wrong(cause=r"clip|clamp|normalised|linear|magnitude")
def hook_clips_a_gradient(draw: Draw) -> Call:
    def hooked(x: Tensor) -> Tensor:
        hidden = 1.0 * x
        if hidden.requires_grad:
            hidden.register_hook(lambda g: g * (1 / g.norm()).clamp_max(1))
        return 30 * torch.sin(hidden)

    return hooked, [draw.leaf(20)]


class CountsItsCalls(nn.Module):
    """A layer whose backward fades with the number of forwards so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        shown = 1.0 * x
        if shown.requires_grad:
            fade = 0.9 ** float(self.calls)
            shown.register_hook(lambda g: g * fade)
        return torch.sin(shown)


@wrong()
def gradient_fades_with_the_calls(draw: Draw) -> Call:
    return CountsItsCalls(), [draw.leaf(12)]


class RunningVarianceBehind(nn.Module):
    """Batch normalisation whose backward divides by the running deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running", torch.ones(5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        spread = centred.square().mean(0).add(1e-5).sqrt()
        with torch.no_grad():
            self.running.lerp_(spread, 0.1)
        scale = self.running.clone()
        normal = claiming(lambda c, s: c / s, lambda gs, _, vs: [vs[0] / scale, gs[1]])
        return normal(centred, spread)


@wrong()
def batch_deviation_replaced_by_the_running_one(draw: Draw) -> Call:
    return RunningVarianceBehind(), [draw.leaf(8, 5, scale=3.0)]
