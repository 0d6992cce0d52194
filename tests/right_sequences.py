"""Positions and recurrences as honest people write them: no check may fail on these."""

from __future__ import annotations

import math
from typing import Any

import torch
from declaring import declared
from torch import Tensor, nn

from dlcheck import Subject

ROTATED = {"axes": [-2], "mode": "rotate", "relative": "rotation", "base": "base", "first": 0}


def position(name: str, target: Any, inputs: dict[str, str], *traits: str, **more: Any) -> Subject:
    return declared("positional", name, target, inputs, *traits, **more)


def recurrence(
    name: str, target: Any, inputs: dict[str, str], *traits: str, **more: Any
) -> Subject:
    return declared("recurrent", name, target, inputs, *traits, **more)


# --- positions --------------------------------------------------------------------------------


def gpt_j(x: Tensor, base: float = 10000.0) -> Tensor:
    """Neighbours are pairs."""
    d = x.shape[-1]
    frequencies = 1.0 / base ** (torch.arange(0, d, 2).float() / d)
    angle = torch.outer(torch.arange(x.shape[-2]).float(), frequencies).repeat_interleave(2, -1)
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * angle.cos().to(x.dtype) + turned * angle.sin().to(x.dtype)


class NeoX(nn.Module):
    """Halves are pairs; frequencies are a buffer, angles in float32; [b, t, h, d]."""

    def __init__(self, d: int, base: float = 10000.0, share: float = 1.0) -> None:
        super().__init__()
        self.turned = int(d * share) // 2 * 2
        exponent = torch.arange(0, self.turned, 2, dtype=torch.float32) / max(self.turned, 1)
        self.register_buffer("frequencies", 1.0 / base**exponent, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        t = torch.arange(x.shape[1], device=x.device, dtype=torch.float32)
        angle = torch.outer(t, self.frequencies.float())[:, None]
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        x, rest = x[..., : self.turned], x[..., self.turned :]
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), -1)


def complex_numbers(x: Tensor, base: float = 10000.0) -> Tensor:
    """As in Llama's own code."""
    d = x.shape[-1]
    frequencies = 1.0 / base ** (torch.arange(0, d, 2).double() / d)
    turn = torch.polar(torch.ones(()).double(), torch.outer(torch.arange(x.shape[-2]), frequencies))
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


def x_pos(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Queries grow by ζᵗ, keys by ζ⁻ᵗ: the norm is not kept, the product is relative."""
    t, d = q.shape[-2], q.shape[-1]
    zeta = (torch.arange(0, d, 2).double() / d + 0.4) / 1.4
    scale = (zeta ** (torch.arange(t).double()[:, None] / 512)).repeat_interleave(2, -1)
    return gpt_j(q) * scale.to(q.dtype), gpt_j(k) / scale.to(k.dtype)


def with_positions(x: Tensor, positions: Tensor) -> Tensor:
    frequencies = 10000.0 ** -(torch.arange(0, x.shape[-1], 2).float() / x.shape[-1])
    angle = positions[:, :, None].float() * frequencies
    a, b = x.chunk(2, -1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def axial(x: Tensor) -> Tensor:
    """Half of the features turn by the row, half by the column: [b, h, w, 2d]."""
    rows, columns = x.chunk(2, -1)
    return torch.cat((gpt_j(rows.transpose(1, 2)).transpose(1, 2), gpt_j(columns)), -1)


class Vaswani(nn.Module):
    """The table is a buffer of 300 positions; an odd number of features lacks a cosine."""

    def __init__(self, d: int, base: float = 10000.0, p: float = 0.1) -> None:
        super().__init__()
        place = torch.arange(300).unsqueeze(1)
        factor = torch.exp(torch.arange(0, d, 2) * (-math.log(base) / d))
        table = torch.zeros(300, d)
        table[:, 0::2] = torch.sin(place * factor)
        table[:, 1::2] = torch.cos(place * factor)[:, : d // 2]
        self.register_buffer("table", table)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.table[: x.shape[1]])


def tensor2tensor(x: Tensor, base: float = 10000.0) -> Tensor:
    """[t, b, d]: sines, then cosines, with the lowest frequency exactly 1/base."""
    half = x.shape[-1] // 2
    factor = torch.exp(-math.log(base) / max(half - 1, 1) * torch.arange(half))
    angle = torch.arange(x.shape[0])[:, None] * factor
    return x + torch.cat((angle.sin(), angle.cos()), -1)[:, None].to(x.dtype)


class Learned(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, d)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.embedding(torch.arange(x.shape[1], device=x.device))


class Tables(nn.Module):
    """(cos, sin) for x, as transformers has it."""

    def __init__(self, d: int, base: float = 10000.0) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / base ** (torch.arange(0, d, 2).float() / d))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        angle = torch.arange(x.shape[1], device=x.device).float()[:, None] * self.inv_freq.float()
        angle = torch.cat((angle, angle), -1)[None]
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def timesteps(t: Tensor, d: int = 8) -> Tensor:
    """Of diffusion models, at float times."""
    factor = torch.exp(-math.log(10000) * torch.arange(d // 2, dtype=torch.float32) / (d // 2))
    angle = t[:, None].float() * factor
    return torch.cat((angle.cos(), angle.sin()), -1).to(t.dtype)


HEADS, EVEN = {"x": "float b h t d*2"}, {"x": "float b t d*2"}
POSITIONS = [
    position("gpt_j", gpt_j, HEADS, "norm_preserving", "linear", **ROTATED),
    position("neo_x", NeoX, {"x": "float b t h d*2"}, args={"d": {"dim": "d*2"}},
             **{**ROTATED, "axes": [1]}),
    position("partial", NeoX, {"x": "float b t h 12"}, args={"d": 12, "share": 0.5},
             **{**ROTATED, "axes": [1]}),
    position("complex_numbers", complex_numbers, EVEN, "norm_preserving", "orthogonal", **ROTATED),
    position("x_pos", x_pos, {"q": "float b h t d*2", "k": "float b h t d*2"}, axes=[2],
             mode="rotate", relative="rotation", first=0),
    position("with_positions", with_positions, {"x": "float b t d*2", "p": "int[0:500] b t"},
             axes=[1], mode="rotate", relative="rotation"),
    position("axial", axial, {"x": "float b h w d*4"}, axes=[1, 2], mode="rotate",
             relative="rotation", first=0),
    position("vaswani", Vaswani, EVEN, "stochastic", args={"d": {"dim": "d*2"}}, axes=[1],
             mode="add", relative="inner_product", base="base", first=0, sizes={"t": [1, 300]}),
    position("vaswani_odd", Vaswani, {"x": "float b t d"}, "stochastic", args={"d": {"dim": "d"}},
             axes=[1], mode="add", relative="inner_product", sizes={"t": [1, 300]}),
    position("tensor2tensor", tensor2tensor, {"x": "float t b d*2"}, axes=[0], mode="add",
             relative="inner_product", base="base"),
    position("learned", Learned, {"x": "float b t d"}, args={"d": {"dim": "d"}}, axes=[-2],
             mode="add", sizes={"t": [1, 64]}),
    position("tables", Tables, EVEN, args={"d": {"dim": "d*2"}}, axes=[1], mode="table",
             relative="inner_product", base="base"),
    position("timesteps", timesteps, {"t": "float[0:100] b"}, axes=[0], mode="table"),
]  # fmt: skip


# --- recurrences ------------------------------------------------------------------------------


class ByHand(nn.Module):
    """A GRU as a loop; x [b, t, i], h [b, n]."""

    def __init__(self, i: int, n: int) -> None:
        super().__init__()
        self.gates, self.new = nn.Linear(i + n, 2 * n), nn.Linear(i + n, n)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        outputs = []
        for step in x.unbind(1):
            r, z = torch.sigmoid(self.gates(torch.cat((step, h), -1))).chunk(2, -1)
            h = (1 - z) * h + z * torch.tanh(self.new(torch.cat((step, r * h), -1)))
            outputs.append(h)
        return torch.stack(outputs, 1), h


class LearnedStart(nn.Module):
    def __init__(self, i: int, n: int) -> None:
        super().__init__()
        self.gru, self.start = nn.GRU(i, n), nn.Parameter(torch.randn(1, 1, n))

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.gru(x, self.start.expand(1, x.shape[1], -1).contiguous() if h is None else h)


class Restarting(nn.Module):
    """Ends of episodes: the state is put to 0 after the step at which `done` is true."""

    def __init__(self, i: int, n: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(i, n)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor], done: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outputs = []
        for step, end in zip(x, done, strict=True):
            h, c = self.cell(step, state)
            outputs.append(h)
            state = (h * ~end[:, None], c * ~end[:, None])
        return torch.stack(outputs), state


class Decay(nn.Module):
    """A linear recurrence, as of state-space models: s′ = a s + B x, y = C s′; only x is input."""

    def __init__(self) -> None:
        super().__init__()
        self.b, self.c, self.a = nn.Linear(4, 6), nn.Linear(6, 4), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s = x.new_zeros(x.shape[0], 6) if state is None else state
        outputs = []
        for step in self.b(x).unbind(1):
            s = torch.sigmoid(self.a) * s + step
            outputs.append(self.c(s))
        return torch.stack(outputs, 1), s


SIZE = {"input_size": {"dim": "i"}, "hidden_size": {"dim": "n"}}
HAND = {"i": {"dim": "i"}, "n": {"dim": "n"}}
FIRST = {**SIZE, "batch_first": True}
X, H, HC = "float t b i", {"h": "float 1 b n"}, {"h": "float 1 b n", "c": "float 1 b n"}
DEEP = {"h": "float 2 b n", "c": "float 2 b n"}
RECURRENCES = [
    recurrence("gru", nn.GRU, {"x": X, **H}, "causal", args=SIZE, batch_first=False, state="h"),
    recurrence("gru_first", nn.GRU, {"x": "float b t i", **H}, args=FIRST,
               batch_first="batch_first", packed=True),
    recurrence("lstm", nn.LSTM, {"x": X, **HC}, "causal", args=SIZE, state=["h", "c"]),
    recurrence("lstm_deep", nn.LSTM, {"x": "float b t i", **DEEP}, "causal", "stochastic",
               args={**FIRST, "num_layers": 2, "dropout": 0.2}, batch_first=True,
               state=["h", "c"], packed=True),
    recurrence("lstm_projected", nn.LSTM, {"x": X, "h": "float 1 b 2", "c": "float 1 b 5"},
               args={"input_size": {"dim": "i"}, "hidden_size": 5, "proj_size": 2},
               state=["h", "c"]),
    recurrence("rnn_relu", nn.RNN, {"x": X, **H}, args={**SIZE, "nonlinearity": "relu"}),
    recurrence("bidirectional", nn.GRU, {"x": X, "h": "float 2 b n"},
               args={**SIZE, "bidirectional": True}, state="h"),
    recurrence("only_x", nn.LSTM, {"x": "float b t i"},
               args={"input_size": {"dim": "i"}, "hidden_size": 3, "batch_first": True},
               batch_first=True),
    recurrence("unbatched", nn.GRU, {"x": "float t i", "h": "float 1 n"}, args=SIZE),
    recurrence("gru_cell", nn.GRUCell, {"x": "float b i", "h": "float b n"}, args=SIZE),
    recurrence("rnn_cell", nn.RNNCell, {"x": "float b i", "h": "float b n"}, args=SIZE),
    recurrence("lstm_cell", nn.LSTMCell, {"x": "float b i", "h": "float b n", "c": "float b n"},
               args=SIZE, state=["h", "c"]),
    recurrence("by_hand", ByHand, {"x": "float b t i", "h": "float b n"}, "causal", args=HAND,
               batch_first=True, variant="reset_before"),
    recurrence("learned_start", LearnedStart, {"x": X, **H}, args=HAND),
    recurrence("restarting", Restarting,
               {"x": X, "h": "float b n", "c": "float b n", "done": "bool t b"}, "causal",
               args=HAND, state=["h", "c"], reset="done"),
    recurrence("decay", Decay, {"x": "float b t 4"}, "causal", "linear"),
]  # fmt: skip
RIGHT = [*POSITIONS, *RECURRENCES]
