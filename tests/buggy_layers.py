"""Layers and functions with the bugs that people really make: found from their inputs alone.

None of them is a mutant of a check, and none declares more than what it takes. Each entry is
(kind, target, arguments, inputs, traits).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Bug:
    target: Any
    kind: str = "layer"
    args: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=lambda: {"x": "float b 6"})
    traits: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


BUGS: dict[str, Bug] = {}
SEQUENCE = {"x": "float b t 6"}
IMAGE = {"x": "float b 3 h w"}


def bug(**declared: Any) -> Callable[[Any], Any]:
    def add(target: Any) -> Any:
        BUGS[target.__name__] = Bug(target, **declared)
        return target

    return add


@bug()
class ListOfLayers(nn.Module):
    """A plain list: no optimizer sees the layers in it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [nn.Linear(6, 6).double() for _ in range(2)]
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.relu(block(x.double())).to(x)
        return self.head(x)


@bug()
class ParameterInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        scale = nn.Parameter(torch.ones(6, dtype=x.dtype))
        return self.inner(x) * scale


@bug()
class ProjectionInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return x + nn.Linear(6, 6).to(x)(y)


@bug()
class ScaledParameter(nn.Module):
    """`nn.Parameter(w) * gain` is a tensor, not a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6, dtype=torch.float64)) * 0.1

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.to(x)


@bug()
class DetachedGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x)).detach() * self.value(x)


@bug()
class NumpyInTheMiddle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).detach().cpu().numpy()
        return self.second(torch.from_numpy(np.tanh(hidden)).to(x))


@bug()
class UnusedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        self.norm(x)
        return self.inner(x)


@bug()
class TableThatIsNoBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frequencies = torch.linspace(0.1, 1.0, 6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x * self.frequencies)


@bug()
class RandomFeatures(nn.Module):
    """Random directions in an attribute: another model after loading."""

    def __init__(self) -> None:
        super().__init__()
        self.directions = torch.randn(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x @ self.directions.to(x))


@bug(inputs=SEQUENCE)
class ViewMixesRows(nn.Module):
    """[b, t, d] to [t, b, d] by a view: samples are torn apart."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.RNN(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        return self.inner(x.reshape(t, b, d))[0].reshape(b, t, d)


@bug(inputs=SEQUENCE)
class BatchFirstForgotten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


@bug()
class BatchMeanInEval(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.std(0, correction=0) + 1e-5)


@bug(traits=("stochastic",))
class DropoutAlwaysOn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.inner(x), 0.3)


@bug(traits=("batch_coupled", "updates_buffers"), inputs={"x": "float b 6"},
     options={"sizes": {"b": [3, 9]}})  # fmt: skip
class NormThatIsAlwaysTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("var", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, training=True)


@bug()
class MovingState(nn.Module):
    """The hidden state of the last call is used in the next."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(6, 6)
        self.last = 0.0

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.cell(x) + self.last)
        self.last = float(y.mean())
        return y


@bug(inputs=SEQUENCE)
class SqueezesEverything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x).squeeze()


@bug()
class WritesToItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x -= x.mean(-1, keepdim=True)
        return self.inner(x)


@bug(traits=("stochastic",))
class SeedsItself(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        torch.manual_seed(42)
        return x * (torch.rand_like(x) > 0.2) / 0.8


@bug()
class ChangesTheDefaultType(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        torch.set_default_dtype(x.dtype)
        return self.inner(x)


@bug()
class HardFloat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return self.weight.float() * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


@bug()
class IgnoresItsEps(nn.Module):
    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(6)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


@bug(traits=("stochastic",))
class ShadowedRate(nn.Module):
    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout()  # 0.5, whatever is asked for
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.inner(x))


@bug()
class IgnoresItsActivation(nn.Module):
    def __init__(self, hidden: int = 8, bias: bool = True) -> None:  # noqa: FBT001, FBT002
        super().__init__()
        self.up, self.down = nn.Linear(6, hidden), nn.Linear(hidden, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)))


@bug()
class RunningMeanInEval(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        y = x - self.mean
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
        return y


@bug(traits=("batch_coupled",), options={"sizes": {"b": [3, 9]}})
class MeanOutsideOfTheState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            return x - x.mean(0)
        return x - self.mean


@bug()
class TiedByCopy(nn.Module):
    """The decoder is the encoder's transpose, of the first day."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 4), nn.Linear(4, 6)
        self.decoder.weight.data = self.encoder.weight.data.t()

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.encoder(x)))


@bug(inputs=SEQUENCE)
class SoftmaxOverTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (torch.softmax(self.score(x), 0) * x).sum(1)


@bug(inputs={"x": "float b 8 6"})
class HeadsByView(nn.Module):
    """Tokens and heads are swapped by a view that ends in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = x.reshape(t, 2, b, 3)
        y = torch.softmax(q @ q.mT / math.sqrt(3), -1) @ q
        return self.out(y.reshape(b, t, 6))


@bug(kind="op", inputs={"x": "float b", "y": "float b"})
def column_against_row(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y).square()


@bug(kind="op", inputs={"x": "float b n"})
def divides_by_the_batch_norm(x: Tensor) -> Tensor:
    return x / x.norm()


@bug()
class EvalForGood(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(6, 6), nn.Dropout(0.0)

    def eval(self) -> EvalForGood:
        super().eval()
        self.requires_grad_(requires_grad=False)
        self.train = lambda mode=True: self  # type: ignore[method-assign, assignment]
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@bug(kind="op", inputs={"x": "float b n"})
def naive_log_sum_exp(x: Tensor) -> Tensor:
    return torch.log(torch.exp(x).sum(-1))


@bug(kind="op", inputs={"x": "float b n"})
def signed_root_by_where(x: Tensor) -> Tensor:
    return torch.where(x > 0.01, torch.sqrt(x), 0.0 * x)


@bug(inputs=IMAGE)
class CoordinatesOnTheCpu(nn.Module):
    """A grid without device and dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        rows = torch.arange(h)[:, None].expand(b, 1, h, w) / h
        return self.inner(torch.cat([x, rows.to(x.dtype)], 1))


@bug(inputs=IMAGE)
class PoolsOverTheBatch(nn.Module):
    """AdaptiveAvgPool on the wrong axes by a permute that is one off."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.permute(2, 1, 0, 3).mean((2, 3))
        return self.inner(pooled)


@bug(inputs={"i": "index[9] b t"})
class RandomWordsForUnknown(nn.Module):
    """An embedding drawn in the call."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)

    def forward(self, i: Tensor) -> Tensor:
        y = self.table(i)
        return torch.where((i == 0)[..., None], torch.randn_like(y), y)


@bug(traits=("stochastic_in_eval",))
class NoiseOfTheFirstCall(nn.Module):
    """The noise is drawn once and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.noise: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.noise is None:
            self.noise = torch.randn(6)
        return x + self.noise.to(x)


@bug()
class UnbalancedExperts(nn.Module):
    """Gates are normalized by the batch, not by the experts."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 2)
        self.experts = nn.ModuleList(nn.Linear(6, 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        gates = F.softmax(self.gate(x).t(), dim=-1)
        return sum(g[:, None] * e(x) for g, e in zip(gates, self.experts, strict=True))


@bug()
class LeavesGradientsOff(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.teacher = nn.Linear(6, 6), nn.Linear(6, 6)
        self.teacher.requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        torch.set_grad_enabled(False)
        return y + self.teacher(x)
