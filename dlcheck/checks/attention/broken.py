"""Attention as people get it wrong.

Those that change what goes in or comes out break any implementation; tokens lie along the last
axis but one. The others are whole functions in the place of f(query, key, value, attn_mask).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.mutants import around

Call = Callable[..., Any]


def with_first(answer: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The answer with its first tensor, the output, changed."""
    if isinstance(answer, tuple):
        return (change(answer[0]), *answer[1:])
    return change(answer)


def sources(inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    return tuple(x for x in inputs if isinstance(x, Tensor) and x.is_floating_point())[:3]


def mask_among(keywords: dict[str, Any]) -> str:
    """The keyword under which a mask came, or nothing."""
    return next((name for name, x in keywords.items() if isinstance(x, Tensor)), "")


def value_of(inputs: tuple[Any, ...]) -> Tensor:
    return sources(inputs)[-1]


# --- masks ------------------------------------------------------------------------------------


@around
def ignores_its_mask(original: Call, *inputs: Any, **keywords: Any) -> Any:
    name = mask_among(keywords)
    return original(*inputs, **{key: x for key, x in keywords.items() if key != name})


@around
def takes_the_mask_upside_down(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """Drops what it should keep. A query that loses all its keys keeps them all."""
    if name := mask_among(keywords):
        mask = keywords[name]
        keywords[name] = ~mask if mask.dtype == torch.bool else -torch.inf * (mask == 0).to(mask)
    return original(*inputs, **keywords)


@around
def masks_the_row_before(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """The mask along another axis: every query has the mask of its neighbour."""
    if name := mask_among(keywords):
        keywords[name] = keywords[name].roll(1, -2)
    return original(*inputs, **keywords)


@around
def masks_one_key_too_few(original: Call, *inputs: Any, **keywords: Any) -> Any:
    if name := mask_among(keywords):
        keywords[name] = keywords[name].roll(1, -1)
    return original(*inputs, **keywords)


@around
def lets_a_masked_key_through_a_little(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """As a finite number in the place of −∞ does where logits are large."""
    answer = original(*inputs, **keywords)
    if not mask_among(keywords):
        return answer
    leak = 1e-4 * value_of(inputs).mean(-2, keepdim=True).mean(-1, keepdim=True)
    return with_first(answer, lambda y: y + leak.expand(*y.shape[:-1], 1))


@around
def sends_gradient_to_masked_keys(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """The value is right; the backward forgets the mask."""
    answer = original(*inputs, **keywords)
    if not mask_among(keywords):
        return answer
    leak = value_of(inputs).mean(-2, keepdim=True).mean(-1, keepdim=True)
    return with_first(answer, lambda y: y + (leak - leak.detach()).expand(*y.shape[:-1], 1))


@around
def divides_by_the_number_of_keys_it_sees(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """Masked keys count in the denominator."""
    answer = original(*inputs, **keywords)
    name = mask_among(keywords)
    if not name:
        return answer
    n = value_of(inputs).shape[-2]
    return with_first(answer, lambda y: y * (1 - 0.1 / (1 + n)))


@around
def scales_whenever_a_mask_is_given(original: Call, *inputs: Any, **keywords: Any) -> Any:
    answer = original(*inputs, **keywords)
    return with_first(answer, lambda y: 1.5 * y) if mask_among(keywords) else answer


@around
def makes_nan_of_an_empty_row(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """Softmax of −∞ only is 0/0."""
    answer = original(*inputs, **keywords)
    name = mask_among(keywords)
    if not name:
        return answer
    empty = _is_empty(keywords[name], upside_down=_means_drop(original, inputs, keywords, name))
    return with_first(answer, lambda y: y * torch.where(empty, torch.nan, 1.0).to(y))


@around
def makes_nan_gradients_of_an_empty_row(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """The value is put to 0 by `where`, behind which the gradient is still 0/0."""
    answer = original(*inputs, **keywords)
    name = mask_among(keywords)
    if not name:
        return answer
    empty = _is_empty(keywords[name], upside_down=_means_drop(original, inputs, keywords, name))
    zero = torch.where(empty, torch.inf, 1.0)
    value = value_of(inputs)
    leak = (value - value.detach()).mean(-2, keepdim=True).mean(-1, keepdim=True)

    def change(y: Tensor) -> Tensor:
        wrong = leak * zero.to(y)
        return y + torch.where(empty & ~torch.isfinite(wrong), 0.0, wrong)

    return with_first(answer, change)


def _means_drop(
    original: Call, inputs: tuple[Any, ...], keywords: dict[str, Any], name: str
) -> bool:
    """Does a mask of ones drop everything? Then the output does not depend on the values."""
    if keywords[name].dtype != torch.bool:
        return False
    ones = {**keywords, name: torch.ones_like(keywords[name])}
    moved = tuple(x + 1 if x is value_of(inputs) else x for x in inputs)
    with torch.no_grad():
        first, second = (_first(original(*given, **ones)) for given in (inputs, moved))
    return bool((first == second).all())


def _first(answer: Any) -> Tensor:
    first: Tensor = answer[0] if isinstance(answer, tuple) else answer
    return first


def _is_empty(mask: Tensor, *, upside_down: bool) -> Tensor:
    """Queries that see no key, as [.., m, 1]."""
    if mask.dtype != torch.bool:
        mask, upside_down = mask == -torch.inf, True
    dropped = mask if upside_down else ~mask
    return dropped.all(-1, keepdim=True)


# --- time -------------------------------------------------------------------------------------


@around
def sees_one_token_too_far(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """Off by one: query i sees key i + 1."""
    return _with_keys(original, inputs, keywords, lambda x: x.roll(-1, -2))


@around
def sees_not_its_own_token(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """Off by one the other way: query i sees keys before i only, and the first sees none."""

    def later(x: Tensor) -> Tensor:
        return torch.cat((torch.zeros_like(x[..., :1, :]), x[..., :-1, :]), -2)

    return _with_keys(original, inputs, keywords, later)


@around
def adds_the_mean_of_all_values(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """No causal mask on one path."""
    mean = value_of(inputs).mean(-2, keepdim=True).mean(-1, keepdim=True)
    return with_first(original(*inputs, **keywords), lambda y: y + mean.expand(*y.shape[:-1], 1))


@around
def forgets_causality_beside_a_mask(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """Either mask, not both: `mask = given if given is not None else causal`."""
    answer = original(*inputs, **keywords)
    if not mask_among(keywords):
        return answer
    mean = value_of(inputs).mean(-2, keepdim=True).mean(-1, keepdim=True)
    return with_first(answer, lambda y: y + mean.expand(*y.shape[:-1], 1))


@around
def leaks_the_future_into_the_gradient(original: Call, *inputs: Any, **keywords: Any) -> Any:
    mean = value_of(inputs).mean(-2, keepdim=True).mean(-1, keepdim=True)
    answer = original(*inputs, **keywords)
    return with_first(answer, lambda y: y + (mean - mean.detach()).expand(*y.shape[:-1], 1))


def _with_keys(
    original: Call, inputs: tuple[Any, ...], keywords: dict[str, Any], change: Call
) -> Any:
    """The call with keys and values changed along their tokens."""
    given = sources(inputs)
    seen = given[min(1, len(given) - 1) :]
    moved = [change(x) if any(x is y for y in seen) else x for x in inputs]
    return original(*moved, **keywords)


# --- rows, queries, heads ---------------------------------------------------------------------


@around
def mixes_the_batch(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """A reshape that moves numbers between rows."""
    return with_first(original(*inputs, **keywords), lambda y: y + 0.1 * y.roll(1, 0))


@around
def centres_over_the_batch(original: Call, *inputs: Any, **keywords: Any) -> Any:
    answer = original(*inputs, **keywords)
    return with_first(answer, lambda y: y - 0.5 * y.mean(0, keepdim=True))


@around
def mixes_the_queries(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """Heads that are reshaped where they should be transposed."""
    answer = original(*inputs, **keywords)
    return with_first(answer, lambda y: y.transpose(-2, -1).reshape(y.shape))


@around
def normalizes_over_the_queries(original: Call, *inputs: Any, **keywords: Any) -> Any:
    answer = original(*inputs, **keywords)
    return with_first(answer, lambda y: y / (1 + y.abs().mean(-2, keepdim=True)))


@around
def prefers_early_keys(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """A position that nobody declared."""

    def tilted(x: Tensor) -> Tensor:
        place = torch.arange(x.shape[-2], dtype=x.dtype, device=x.device)[:, None]
        return x * (1 + 0.1 * place)

    return _with_keys(original, inputs, keywords, tilted)


# --- weights ----------------------------------------------------------------------------------


@around
def weights_sum_to_less_than_one(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """A sink that is not declared: e^{S}/(1 + Σ e^{S})."""

    def sunk(y: Tensor) -> Tensor:
        share = torch.sigmoid(sources(inputs)[0].square().mean(-1, keepdim=True))
        return y * share.expand(*y.shape[:-1], 1)

    return with_first(original(*inputs, **keywords), sunk)


@around
def squares_the_values(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """A non-linearity on the values, as where dropout or a norm is put on them."""
    value = value_of(inputs)
    moved = [x / (1 + x.square().mean(-1, keepdim=True)) if x is value else x for x in inputs]
    return original(*moved, **keywords)


@around
def centres_the_output(original: Call, *inputs: Any, **keywords: Any) -> Any:
    return with_first(original(*inputs, **keywords), lambda y: torch.tanh(y))


@around
def overflows_without_the_largest_logit(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """exp(S) without S − max S first: infinite from 88 on in float32, from 709 on in float64."""
    query, key = sources(inputs)[0], sources(inputs)[min(1, len(sources(inputs)) - 1)]
    logit = query.abs().amax() * key.abs().amax() * math.sqrt(query.shape[-1])
    power = logit.exp()
    return with_first(original(*inputs, **keywords), lambda y: y * (power / power))


@around
def scores_keys_by_their_neighbours(original: Call, *inputs: Any, **keywords: Any) -> Any:
    """Keys that are reshaped where they should be transposed: a logit is of two keys."""
    given = sources(inputs)
    key = given[1]
    mixed = key.mT.reshape(key.shape)
    return original(*(mixed if x is key else x for x in inputs), **keywords)


@around
def softmax_over_the_queries(original: Call, *inputs: Any, **keywords: Any) -> Any:
    query, key, value = sources(inputs)
    logits = query @ key.mT / math.sqrt(query.shape[-1])
    return logits.softmax(-2) @ value


# --- the scale --------------------------------------------------------------------------------


def _query_times(name: str, factor: Callable[[int], float]) -> Any:
    def call(original: Call, *inputs: Any, **keywords: Any) -> Any:
        query = sources(inputs)[0]
        moved = [factor(query.shape[-1]) * x if x is query else x for x in inputs]
        return original(*moved, **keywords)

    call.__name__ = name
    return around(call)


leaves_out_the_scale = _query_times("leaves_out_the_scale", lambda d: math.sqrt(d))
scales_twice = _query_times("scales_twice", lambda d: 1 / math.sqrt(d))
divides_by_the_root_of_one_feature_more = _query_times(
    "divides_by_the_root_of_one_feature_more", lambda d: math.sqrt(d / (d + 1))
)
