"""The weights of the keys: they sum to 1, are a softmax of bilinear logits, and do not overflow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dlcheck.checks.agreement import agreement
from dlcheck.checks.attention import broken
from dlcheck.checks.attention.calls import Attention, backward, drawn_mask
from dlcheck.checks.attention.independence import ACCEPTED, CROSS, GROUPED, SLICED
from dlcheck.checks.attention.scale import (
    scale_of_function,
    scale_of_self_attention,
    set_to_identity,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters


def _softmax_over_the_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-2) @ v


def _mask_after_the_softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    return (weights if mask is None else weights * mask) @ v


def _keys_reshaped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    logits = q @ k.reshape(*k.shape[:-2], k.shape[-1], k.shape[-2]) / math.sqrt(q.shape[-1])
    return logits.softmax(-1) @ v


def _two_softmaxes(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1).softmax(-1) @ v


def _softmax_without_the_largest(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    powers = (q @ k.mT / math.sqrt(q.shape[-1])).exp()
    return powers / powers.sum(-1, keepdim=True) @ v


def _scaled(factor: object, name: str) -> Subject:
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, scale=factor(q.shape[-1]))  # type: ignore[operator]

    return Subject(name=name, target=attention, kind="attention", inputs=CROSS)


def _unscaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def _cosine(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Logits 10 cos(q, k), as in Swin v2: they do not grow with q and k."""
    return (10 * F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1) @ v


def _distances_behind(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """ALiBi: logits fall by the distance."""
    m, n = q.shape[-2], k.shape[-2]
    behind = torch.arange(m, device=q.device)[:, None] - torch.arange(n, device=q.device)
    bias = -0.25 * behind.abs().to(q)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


PLAIN = ACCEPTED[0]
T5 = replace(PLAIN, name="unscaled", target=_unscaled, options={"scale": 1.0})
COSINE = replace(PLAIN, name="cosine", target=_cosine)
ALIBI = replace(PLAIN, name="alibi", target=_distances_behind, traits=frozenset())


def _broken(target: object, name: str) -> Subject:
    return replace(PLAIN, name=name, target=target)


@check(
    kind="attention",
    forbids={"attention_sink"},
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "small"],
    rejects=[
        broken.weights_sum_to_less_than_one,
        broken.mixes_the_queries,
        _broken(_softmax_over_the_queries, "softmax_over_the_queries"),
        Subject(
            name="mask_after_the_softmax",
            target=_mask_after_the_softmax,
            kind="attention",
            inputs=CROSS,
            options={"mask": {"name": "mask", "meaning": "keep", "axis": "pair"}},
        ),
    ],
    accepts=[PLAIN, GROUPED, SLICED, COSINE, ALIBI],
)
def weights_are_a_distribution(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Values that are the same for every key come back, whatever the queries, keys and mask.

    The weights of a row sum to 1. A function of query, key and value gives the value itself; a
    module gives every query the same output, and self-attention over equal tokens gives equal
    outputs, with a mask and without. Trait `attention_sink`: weights may sum to less.
    """
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    xs = list(made.aligned(made.xs))
    value = made.pick(made.drawn("value", len(xs) - 1), [0])
    if made.is_plain and made.heads is not None:
        value = value.select(made.heads, 0).unsqueeze(made.heads)
    xs[-1] = value.expand(xs[-1].shape).clone()
    y, room = made(*xs), made.room(xs)
    expected = value.expand(y.shape) if made.is_plain and value.shape[-1] == y.shape[-1] else None
    same = made.pick(y, [0]).expand(y.shape) if expected is None else expected
    yield agreement("output for values that are all the same", y, same, room)
    if made.mask is not None:
        kept = drawn_mask(made, xs, "mask")
        limit = torch.maximum(room, made.room(xs, kept))
        yield agreement("the same with a mask", made(*xs, kept=kept), y, limit)


@check(
    kind="attention",
    dtypes=["float64", "float32"],
    once=True,
    rejects=[
        broken.centres_the_output,
        _broken(_two_softmaxes, "two_softmaxes"),
        _broken(_keys_reshaped, "keys_reshaped_not_transposed"),
        _scaled(lambda d: 1.0, "scale_left_out"),
        _scaled(lambda d: 1 / d, "divided_by_d"),
        _scaled(lambda d: d**-0.25, "root_of_the_root"),
        _scaled(lambda d: (d + 1) ** -0.5, "one_feature_too_many"),
        _scaled(lambda d: d**0.5, "multiplied_by_the_root"),
    ],
    accepts=[PLAIN, GROUPED, SLICED, T5, COSINE, ALIBI],
)
def weights_are_a_scaled_softmax(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The output is linear in the values; keys compete by e^S, S of one key alone, S = q·k/√d.

    Linear: f(v + v′) − f(v) = f(v′) − f(0). The odds of two keys, read off one-hot values, do not
    depend on a third one: true with any positions, windows and kernels (not of sparsemax). The
    scale: beside a key that is 0, the log odds of key k are s q·k and a part that −q leaves, so
    s = [odds(q) − odds(−q)]/(2 q·k) = 1/√d, d being the features of a head, which gives logits of
    unit variance; options.scale declares another. It is judged where logits are bilinear, which
    those of cosine attention are not. Of a module only the linear part is seen, and the scale of
    self-attention where `projections` names what may be set to the identity.
    Source: Luce, Individual Choice Behavior, 1959, §1.C; Vaswani et al., NeurIPS 2017, §3.2.1.
    """
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    xs = made.aligned(made.xs)
    if made.is_self and set_to_identity(subject):
        scale = list(scale_of_self_attention(made))
        if not scale:
            raise NotApplicable("has logits that are not bilinear")
        yield from scale
        return
    if len(made.sources) < 3:
        raise NotApplicable("has no values of its own")
    yield _linear(made, xs)
    if made.is_plain:
        yield from _odds(made, xs)
        yield from scale_of_function(made)


def _linear(made: Attention, xs: Sequence[Tensor]) -> Evidence:
    one, two = xs[2], made.aligned((*xs[:2], made.drawn("value", 2)))[2]

    def gap(*moved: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, w = moved
        return made(q, k, v + w) - made(q, k, v), made(q, k, w) - made(q, k, 0 * w)

    with torch.no_grad():
        found, expected = gap(*xs[:2], one, two)
    room = made.room_of(lambda *moved: gap(*moved)[0], (*xs[:2], one, two))
    return agreement("change of the output by values that are added", found, expected, room)


def _odds(made: Attention, xs: Sequence[Tensor]) -> Iterator[Evidence]:
    n = made.counts(xs)[2]
    if n < 3:
        return
    a, b, c = torch.randperm(n, generator=made.case.generator("keys"))[:3].tolist()

    def odds(q: Tensor, k: Tensor) -> Tensor:
        weights = [made(q, k, one_hot(key)) for key in (a, b)]
        return weights[0].log() - weights[1].log()

    def one_hot(key: int) -> Tensor:
        return made.with_tokens(torch.zeros_like(xs[2]), key, torch.ones((), dtype=xs[2].dtype))

    other = made.with_tokens(xs[1], c, made.pick(made.drawn("another key", 1), 0))
    with torch.no_grad():
        before, after = odds(xs[0], xs[1]), odds(xs[0], other)
        present = torch.isfinite(before) & torch.isfinite(after) & (before.abs() < 30)
    if not bool(present.any()):
        return
    room = torch.maximum(made.room_of(odds, xs[:2]), made.room_of(odds, (xs[0], other)))[present]
    yield agreement(
        f"log odds of keys {a} and {b} after key {c} was drawn anew",
        after[present],
        before[present],
        room,
    )


@check(
    kind="attention",
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[
        broken.overflows_without_the_largest_logit,
        _broken(_softmax_without_the_largest, "softmax_without_the_largest"),
    ],
    accepts=[*ACCEPTED, GROUPED, COSINE, ALIBI],
)
def large_logits_do_not_overflow(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Queries and keys of size 150 give finite outputs and gradients, and weights of at most 1.

    Logits of 2·10⁴: e^S overflows from 88 on in float32 and from 709 on in float64, unless the
    largest is subtracted first. Outputs of a function of query, key and value stay within the
    largest |value|, but for rounding, n roundings in a sum of n.
    """
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    xs = made.aligned(made.xs)
    if made.counts(xs)[2] < 2:
        raise NotApplicable("one key has weight 1, whatever its logit")
    leaves = [
        (x * (1 if made.is_plain and i == 2 else 150)).requires_grad_() for i, x in enumerate(xs)
    ]
    y = made(*leaves)
    z = torch.randn(y.shape, generator=case.generator("gradient"), dtype=torch.float64)
    wrong = [y, *backward(y, leaves, z.to(y))]
    yield Evidence(
        error=float(sum(int((~torch.isfinite(x)).sum()) for x in wrong)),
        bound=0.0,
        signal=float(sum(x.numel() for x in wrong)),
        unit="elements",
        what="elements of output and gradients that are not finite",
        cause="" if bool(torch.isfinite(y).all()) else "e^S overflows: subtract the largest logit",
    )
    if made.is_plain and y.numel():
        largest = float(xs[2].abs().amax())
        yield Evidence(
            error=max(0.0, float(y.detach().abs().amax()) - largest),
            bound=4 * gamma(made.counts(xs)[2] + 8, case.dtype) * largest,
            signal=largest,
            what="how far the output exceeds the largest value",
        )
