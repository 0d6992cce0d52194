"""The factor of the logits, read off the weights of two keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement
from dlcheck.checks.attention.calls import Attention
from dlcheck.errors import NotApplicable
from dlcheck.isolation import guarded
from dlcheck.model import Evidence
from dlcheck.subjects import Implementation

_BILINEAR = 1e-3  # relative change of the factor with twice the query that is rounding, no law


def scale_of_function(made: Attention) -> Iterator[Evidence]:
    """Of f(query, key, value): key 0 is 0, key 1 and query 1 are u, and values are one-hot.

    Query 1 sees both keys, causal or not, and a rotation by its distance to key 1 is none.
    """
    if made.has_window or min(made.counts(made.xs)[1:]) < 2:
        return
    xs = made.shortened(made.xs, 2)
    u = _direction(made, xs[0].shape[-1])

    def odds(q: Tensor, k: Tensor) -> Tensor:
        """Log odds of key 1 for query 1: one number per row, head and feature of the values."""
        weights = []
        for key in (1, 0):
            value = torch.zeros_like(xs[2])
            value = made.with_tokens(value, key, torch.ones((), dtype=value.dtype))
            weights.append(made.pick(made(q, k, value), 1))
        return (weights[0] / weights[1]).log()

    def factor(u: Tensor) -> Tensor:
        one = torch.zeros_like(xs[0]) + u
        key = made.with_tokens(torch.zeros_like(xs[1]), 1, u)
        return (odds(one, key) - odds(-one, key)) / (2 * (u * u).sum() / _heads(made))

    yield from _judged(made, factor, u)


def scale_of_self_attention(made: Attention) -> Iterator[Evidence]:
    """Of m(x) whose projections are the identity: tokens 0 and u, of which the second gives wu.

    log w/(1 − w) = s u·u + c for each head, and c does not depend on u.
    """
    if made.has_window or made.counts(made.xs)[1] < 2:
        raise NotApplicable("has too few tokens")
    x = made.shortened(made.xs, 2)[0]
    u = _direction(made, x.shape[-1])

    def odds(u: Tensor) -> Tensor:
        y = made.pick(made(made.with_tokens(torch.zeros_like(x), 1, u)), 1)
        return (y / (u - y)).log()

    def factor(u: Tensor) -> Tensor:
        return (odds(u) - odds(u / 2)) / (0.75 * (u * u).sum() / _heads(made))

    yield from _judged(made, factor, u)


def _heads(made: Attention) -> int:
    """Heads among the features of a token."""
    return int(made.subject.argument("heads", 1)) if made.heads is None else 1


def _declared(made: Attention, features: int) -> float:
    given = made.subject.argument("scale")
    return float(given) if given is not None else math.sqrt(_heads(made) / features)


def _direction(made: Attention, features: int) -> Tensor:
    """u, the same for every head, with s u·u = 1 under the declared law."""
    heads = _heads(made)
    if features % heads:
        raise NotApplicable("its features do not divide into heads")
    shape = (features // heads,)
    z = torch.rand(shape, generator=made.case.generator("u"), dtype=torch.float64) + 0.5
    z = z / (torch.linalg.vector_norm(z) * math.sqrt(abs(_declared(made, features)) or 1.0))
    repeated: Tensor = z.repeat(heads).to(made.xs[0])
    return repeated


def _judged(made: Attention, factor: Callable[[Tensor], Tensor], u: Tensor) -> Iterator[Evidence]:
    """The measured factor against the declared one, if logits are bilinear."""
    expected = _declared(made, u.numel())
    with torch.no_grad():
        found, doubled = factor(u), factor(2 * u)
    gap, size = (doubled - found).abs(), found.abs()
    bilinear = (gap <= _BILINEAR * size) & (size > _BILINEAR**2 * abs(expected))
    if bool(torch.isfinite(doubled).all()) and not bool(bilinear.all()):
        return
    room = made.room_of(factor, [u])
    ratio = float(found.flatten()[0]) / expected if expected else math.nan
    yield agreement(
        "factor s of the logits s q·k",
        found,
        torch.full_like(found, expected),
        room,
        where=f"{u.numel() // _heads(made)} features a head: measured {ratio:.4g} of the factor",
    )


def set_to_identity(subject: Implementation) -> bool:
    """Set the declared projections to the identity, in place. Were there any?

    A weight [k·d, d] becomes k identities, as of queries, keys and values at once; biases 0.
    Raises NotApplicable for sub-modules without such a weight.
    """
    names: dict[str, Any] = dict(subject.options.get("projections", {}))
    if subject.module is None or not names:
        return False
    for name in names.values():
        part = guarded(subject.module.get_submodule, name)
        weight, bias = getattr(part, "weight", None), getattr(part, "bias", None)
        if weight is None or weight.dim() != 2 or weight.shape[0] % weight.shape[1]:
            raise NotApplicable(f"{name} is no square projection")
        rows, columns = weight.shape
        with torch.no_grad():
            weight.copy_(torch.eye(columns).repeat(rows // columns, 1))
            if bias is not None:
                bias.zero_()
    return True
