"""Positions and recurrences with the bugs that people really make, honestly declared."""

from __future__ import annotations

import math
from typing import Any

import torch
from right_sequences import EVEN, HAND, HEADS, ROTATED, SIZE, ByHand, H, X, position, recurrence
from torch import Tensor, nn


def _angles(x: Tensor, base: float = 10000.0) -> Tensor:
    d = x.shape[-1]
    return torch.outer(torch.arange(x.shape[-2]).float(), base ** -(torch.arange(0, d, 2) / d))


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def sine_for_cosine(x: Tensor, base: float = 10000.0) -> Tensor:
    return _turned(x, _angles(x).sin(), _angles(x).cos())


def no_minus(x: Tensor, base: float = 10000.0) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = _angles(x).cos().to(x.dtype), _angles(x).sin().to(x.dtype)
    return torch.cat((a * cos + b * sin, b * cos + a * sin), -1)


def mixed_layouts(x: Tensor, base: float = 10000.0) -> Tensor:
    angle = _angles(x).repeat(1, 2)
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * angle.cos().to(x.dtype) + turned * angle.sin().to(x.dtype)


def over_the_heads(x: Tensor, base: float = 10000.0) -> Tensor:
    return sine_free(x.transpose(-2, -3)).transpose(-2, -3)


def sine_free(x: Tensor) -> Tensor:
    return _turned(x, _angles(x).cos(), _angles(x).sin())


def from_the_batch(x: Tensor, base: float = 10000.0) -> Tensor:
    return sine_free(x.transpose(0, -2)).transpose(0, -2)


def starts_at_one(x: Tensor, base: float = 10000.0) -> Tensor:
    return sine_free(torch.cat((x[..., :1, :], x), -2))[..., 1:, :]


def exponent_without_two(x: Tensor, base: float = 10000.0) -> Tensor:
    angle = _angles(x, math.sqrt(base))
    return _turned(x, angle.cos(), angle.sin())


def half_positions(x: Tensor, base: float = 10000.0) -> Tensor:
    d = x.shape[-1]
    t = torch.arange(x.shape[-2]).to(x.dtype)
    angle = t[:, None].float() * base ** -(torch.arange(0, d, 2) / d)
    return _turned(x, angle.cos(), angle.sin())


def half_angles(x: Tensor, base: float = 10000.0) -> Tensor:
    angle = _angles(x).to(x.dtype)
    return _turned(x, angle.cos(), angle.sin())


def late_keys(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The keys' positions grow twice as fast."""
    angle = 2 * _angles(k)
    return sine_free(q), _turned(k, angle.cos(), angle.sin())


def only_queries(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return sine_free(q), k


def _sinusoid(x: Tensor, factor: Tensor) -> Tensor:
    angle = torch.arange(x.shape[-2])[:, None] * factor
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(-2).to(x.dtype)


def vaswani_without_two(x: Tensor, base: float = 10000.0) -> Tensor:
    half = x.shape[-1] // 2
    return x + _sinusoid(x, base ** -(torch.arange(half) / (2 * half)))


def vaswani_sines_only(x: Tensor, base: float = 10000.0) -> Tensor:
    d = x.shape[-1]
    angle = torch.arange(x.shape[-2])[:, None] * base ** -(torch.arange(d) / d)
    return x + angle.sin().to(x.dtype)


def vaswani_in_bfloat16(x: Tensor, base: float = 10000.0) -> Tensor:
    half = x.shape[-1] // 2
    return x + _sinusoid(x, base ** -(torch.arange(half) / half)).bfloat16().to(x.dtype)


def scaled_input(x: Tensor, base: float = 10000.0) -> Tensor:
    d = x.shape[-1]
    return x * math.sqrt(2 * d) + _sinusoid(x, base ** -(torch.arange(d // 2) / (d // 2)))


def one_table_for_all(x: Tensor, base: float = 10000.0) -> Tensor:
    """Positions of [b·t] in one row."""
    half = x.shape[-1] // 2
    flat = x.flatten(0, 1)
    return (flat + _sinusoid(flat, base ** -(torch.arange(half) / half))).view_as(x)


ADDED = {"axes": [1], "mode": "add", "relative": "inner_product", "base": "base"}
BOTH = {"q": "float b h t d*2", "k": "float b h t d*2"}
POSITIONS = [
    *(
        position(f.__name__, f, HEADS, **ROTATED)
        for f in (sine_for_cosine, no_minus, mixed_layouts, over_the_heads, from_the_batch,
                  starts_at_one, exponent_without_two, half_positions, half_angles)
    ),
    *(
        position(f.__name__, f, BOTH, axes=[2], mode="rotate", relative="rotation")
        for f in (late_keys, only_queries)
    ),
    *(
        position(f.__name__, f, EVEN, **ADDED)
        for f in (vaswani_without_two, vaswani_sines_only, vaswani_in_bfloat16, scaled_input,
                  one_table_for_all)
    ),
]  # fmt: skip


# --- recurrences ------------------------------------------------------------------------------


class Wrong(ByHand):
    """The GRU by hand, one thing wrong."""

    def __init__(self, i: int, n: int, bug: str = "") -> None:
        super().__init__(i, n)
        self.bug = bug
        self.last: Tensor | None = None

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        given = h
        if self.bug == "kept_on_self" and self.last is not None and self.last.shape == h.shape:
            h = h + self.last
        if self.bug == "batch_first_mixed_up":
            x = x.reshape(x.shape[1], x.shape[0], -1).transpose(0, 1)
        if self.bug == "ignores_its_state":
            h = torch.zeros_like(h)
        if self.bug == "detached_state":
            h = h.detach()
        if self.bug == "detached_steps":
            y, h = self._detached(x, h)
        elif self.bug == "flipped":
            y, h = super().forward(x.flip(1), h)
            y = y.flip(1)
        elif self.bug == "normalized_over_time":
            y, h = super().forward(x - x.mean(1, keepdim=True), h)
        else:
            y, h = super().forward(x, h)
        if self.bug == "kept_on_self":
            self.last = h.detach()
        if self.bug == "in_place":
            with torch.no_grad():
                given.copy_(h)
        if self.bug == "state_not_updated":
            h = given
        if self.bug == "state_of_the_first_step":
            h = y[:, 0]
        if self.bug == "states_reshaped":
            h = h.T.reshape(h.shape)
        return y, h

    def _detached(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        outputs = []
        for step in x.split(1, 1):
            y, h = super().forward(step, h.detach())
            outputs.append(y)
        return torch.cat(outputs, 1), h


class StartsAtOne(nn.Module):
    def __init__(self, i: int, n: int) -> None:
        super().__init__()
        self.gru, self.n = nn.GRU(i, n), n

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.gru(x, torch.ones(1, x.shape[1], self.n).to(x) if h is None else h)


class Resets(nn.Module):
    def __init__(self, i: int, n: int, bug: str = "") -> None:
        super().__init__()
        self.cell, self.bug = nn.GRUCell(i, n), bug

    def forward(self, x: Tensor, h: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        outputs = []
        for step, end in zip(x, done, strict=True):
            kept = ~end[:, None]
            if self.bug == "inverted":
                kept = ~kept
            if self.bug == "any_row":
                kept = kept.all().expand_as(kept)
            if self.bug == "halved":
                kept = 0.5 + 0.5 * kept
            h = self.cell(step, h * kept)
            outputs.append(h)
        return torch.stack(outputs), h


def _by_hand(bug: str, *traits: str) -> Any:
    inputs = {"x": "float b t i", "h": "float b n"}
    return recurrence(bug, Wrong, inputs, *traits, args={**HAND, "bug": bug}, batch_first=True)


RECURRENCES = [
    *(
        _by_hand(bug)
        for bug in ("state_not_updated", "state_of_the_first_step", "states_reshaped",
                    "batch_first_mixed_up", "kept_on_self", "in_place", "ignores_its_state",
                    "detached_state", "detached_steps")
    ),
    _by_hand("flipped", "causal"),
    _by_hand("normalized_over_time", "causal"),
    recurrence("bidirectional_declared_causal", nn.GRU, {"x": X, "h": "float 2 b n"}, "causal",
               args={**SIZE, "bidirectional": True}),
    recurrence("starts_at_one", StartsAtOne, {"x": X, **H}, args=HAND),
    *(
        recurrence(f"reset_{bug}", Resets, {"x": X, "h": "float b n", "done": "bool t b"},
                   args={**HAND, "bug": bug}, state="h", reset="done")
        for bug in ("inverted", "any_row", "halved")
    ),
]  # fmt: skip
WRONG = [*POSITIONS, *RECURRENCES]
