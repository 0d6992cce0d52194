"""Encodings as people get them wrong; the sequence is the last axis but one, features the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.mutants import around, on_tensors

Call = Callable[..., Any]


def at_positions(original: Call, x: Tensor, places: Tensor) -> Tensor:
    """x encoded with token t at position places[t].

    Tokens are laid at their places in a longer sequence; those that share one take turns. Where x
    holds positions, they are replaced.
    """
    if not x.is_floating_point():
        encoded: Tensor = original(places.to(x))
        return encoded
    out, left = torch.zeros_like(x), torch.arange(x.shape[-2])
    while len(left):
        here = places[left]
        alone = torch.tensor([p not in here[:i].tolist() for i, p in enumerate(here.tolist())])
        now, at = left[alone], here[alone]
        laid = x.new_zeros(*x.shape[:-2], int(places.max()) + 1, x.shape[-1])
        out = out.index_copy(-2, now, _laid(original, laid, x, now, at))
        left = left[~alone]
    return out


def _laid(original: Call, empty: Tensor, x: Tensor, now: Tensor, at: Tensor) -> Tensor:
    y: Tensor = original(empty.index_copy(-2, at, x.index_select(-2, now))).index_select(-2, at)
    return y


def _count(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-2 if x.is_floating_point() else -1])


@around
def exchanges_two_positions(original: Call, x: Tensor) -> Any:
    places = _count(x)
    places[:2] = places[:2].flip(0)
    return at_positions(original, x, places)


@around
def gives_neighbours_one_position(original: Call, x: Tensor) -> Any:
    return at_positions(original, x, _count(x) // 2)


@around
def starts_at_one(original: Call, x: Tensor) -> Any:
    return at_positions(original, x, _count(x) + 1)


@around
def counts_from_the_middle(original: Call, x: Tensor) -> Any:
    """A longer sequence moves the first position, as where positions are centred."""
    return at_positions(original, x, _count(x) + x.shape[-2] // 2)


@around
def counts_in_the_dtype_of_x(original: Call, x: Tensor) -> Any:
    """In bfloat16 positions 256 and 257 are one number."""
    return at_positions(original, x, _count(x).to(x.dtype).long())


@around
def counts_on_from_row_to_row(original: Call, x: Tensor) -> Any:
    rows = [at_positions(original, row[None], _count(x) + i) for i, row in enumerate(x)]
    return torch.cat(rows)


@around
def knows_no_position(original: Call, x: Tensor) -> Any:
    """The sequence is taken for another axis: every token is at position 0."""
    if not x.is_floating_point():
        return original(torch.zeros_like(x))
    return original(x.unsqueeze(-2)).squeeze(-2)


@around
def grows_with_the_position(original: Call, x: Tensor) -> Any:
    y = original(x)
    place = torch.arange(y.shape[-2], device=y.device, dtype=y.dtype)[:, None]
    return y * (1 + 0.01 * place)


@around
def mixes_neighbouring_tokens(original: Call, x: Tensor) -> Any:
    return on_tensors(original(x), lambda y: y + 0.1 * y.roll(1, -2))


@around
def scales_its_input(original: Call, x: Tensor) -> Any:
    """√d x + P, declared as x + P."""
    return original(1.1 * x.shape[-1] ** 0.5 * x)


@around
def moves_by_the_mean_of_x(original: Call, x: Tensor) -> Any:
    return original(x) + 0.1 * x.mean(-1, keepdim=True)


@around
def shrinks_what_it_turns(original: Call, x: Tensor) -> Any:
    return 0.99 * original(x)
