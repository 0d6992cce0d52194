"""Encodings for tests of the checks: right ones in several forms, and wrong ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dlcheck.model import Subject


def turns(x: Tensor, base: float = 10000.0, start: int = 0) -> Tensor:
    """Angles [t, d/2], in float32."""
    half = x.shape[-1] // 2
    frequencies = base ** -(torch.arange(half, dtype=torch.float32, device=x.device) / half)
    places = torch.arange(start, start + x.shape[-2], dtype=torch.float32, device=x.device)
    return places[:, None] * frequencies


def rotary(x: Tensor, base: float = 10000.0) -> Tensor:
    """Halves turned against each other, with angles in float32."""
    angle = turns(x, base)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def rotary_of_both(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return rotary(q), rotary(k)


class LearnedPositions(nn.Module):
    """x plus a table that is learned, for at most 64 tokens."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.table = nn.Parameter(0.02 * torch.randn(64, d))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.shape[-2]]


def sinusoid(positions: Tensor, d: int = 8, base: float = 10000.0) -> Tensor:
    """The table of given positions [t]: sines, then cosines."""
    frequencies = base ** -(torch.arange(d // 2, dtype=torch.float64) / (d // 2))
    angle = positions.double()[:, None] * frequencies.to(positions.device)
    return torch.cat((angle.sin(), angle.cos()), -1)


# --- wrong ------------------------------------------------------------------------------------


def sine_and_cosine_exchanged(x: Tensor, base: float = 10000.0) -> Tensor:
    angle = turns(x, base)
    cos, sin = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * cos), -1)


def minus_sign_left_out(x: Tensor, base: float = 10000.0) -> Tensor:
    angle = turns(x, base)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos + b * sin, b * cos + a * sin), -1)


def angles_of_the_other_layout(x: Tensor, base: float = 10000.0) -> Tensor:
    """Neighbours are paired, but angles are laid out for halves."""
    angle = turns(x, base).repeat(1, 2)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack((-b, a), -1).flatten(-2)
    return x * angle.cos().to(x) + turned * angle.sin().to(x)


def keys_one_position_late(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Right at every distance but for the first key."""
    late = torch.cat((k[..., :1, :], k), -2)
    return rotary(q), torch.cat((k[..., :1, :], rotary(late)[..., 2:, :]), -2)


def half_of_the_frequencies(x: Tensor, base: float = 10000.0) -> Tensor:
    """base^{−i/d} in the place of base^{−2i/d}: the lowest is 1/√base."""
    return rotary(x, math.sqrt(base))


def another_base(x: Tensor, base: float = 10000.0) -> Tensor:
    return rotary(x, 500.0)


def degrees(x: Tensor, base: float = 10000.0) -> Tensor:
    angle = turns(x, base) * 2 * math.pi
    a, b = x.chunk(2, -1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def angles_in_the_dtype_of_x(x: Tensor, base: float = 10000.0) -> Tensor:
    half = x.shape[-1] // 2
    frequencies = base ** -(torch.arange(half, device=x.device) / half)
    places = torch.arange(x.shape[-2], device=x.device, dtype=x.dtype)
    angle = places[:, None] * frequencies.to(x.dtype)
    a, b = x.chunk(2, -1)
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)


_OPTIONS = {"axes": [-2], "mode": "rotate", "relative": "rotation", "base": "base", "first": 0}


def turning(target: object, name: str = "") -> Subject:
    return Subject(
        name=name or getattr(target, "__name__", ""),
        target=target,
        kind="positional",
        inputs={"x": "float b h t d*2"},
        options=_OPTIONS,
    )


def turning_both(target: object) -> Subject:
    return Subject(
        name=getattr(target, "__name__", ""),
        target=target,
        kind="positional",
        inputs={"q": "float b h t d*2", "k": "float b h t d*2"},
        options={"axes": [-2], "mode": "rotate", "relative": "rotation"},
    )


LEARNED = Subject(
    name="learned_positions",
    target=LearnedPositions,
    kind="positional",
    args={"d": {"dim": "d"}},
    inputs={"x": "float b t d"},
    options={"axes": [1], "mode": "add", "sizes": {"t": [1, 64]}},
)
TABLE = Subject(
    name="sinusoid_of_positions",
    target=sinusoid,
    kind="positional",
    inputs={"positions": "int[0:5000] t"},
    options={"axes": [0], "mode": "table", "relative": "inner_product", "base": "base"},
)
