"""Who depends on whom: rows, queries and heads stay apart, and order is what positions say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcheck.checks.agreement import agreement
from dlcheck.checks.attention import broken
from dlcheck.checks.attention.calls import Attention
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def _grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def _in_heads(q: Tensor, k: Tensor, v: Tensor, heads: int = 1) -> Tensor:
    """Attention of heads that are slices of the features, [b, m, d]."""
    split = [x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v)]
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


class _SelfAttention(nn.Module):
    """Two heads over x [b, t, 6] by one matrix for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return F.linear(mixed, self.out.weight, self.out.bias)


CROSS = {"q": "float b h m d", "k": "float b h n d", "v": "float b h n e"}
ACCEPTED = [
    Subject(
        name="plain_attention",
        target=_attend,
        kind="attention",
        inputs=CROSS,
        traits=frozenset({"permutation_equivariant"}),
    ),
    Subject(
        name="self_attention",
        target=_SelfAttention,
        kind="attention",
        inputs={"x": "float b t 6"},
        traits=frozenset({"permutation_equivariant"}),
        options={"heads": 2},
    ),
]
GROUPED = Subject(
    name="grouped_queries",
    target=_grouped,
    kind="attention",
    inputs={"q": "float b g*2 m d", "k": "float b g n d", "v": "float b g n e"},
)
SLICED = Subject(
    name="heads_as_slices",
    target=_in_heads,
    kind="attention",
    args={"heads": 3},
    inputs={"q": "float b m d*3", "k": "float b n d*3", "v": "float b n e*3"},
    options={"heads": "heads"},
)


def _wrong(target: object, name: str, like: Subject = ACCEPTED[0]) -> Subject:
    return replace(like, name=name, target=target)


def _every_head_has_the_keys_of_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _attend(q, k.mean(1, keepdim=True).expand_as(k), v)


def _heads_in_another_order_at_the_end(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _attend(q, k, v).roll(1, 1)


def _grouped_with_all_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _grouped(q, k, v + v.roll(1, 1))


def _slices_off_by_one(q: Tensor, k: Tensor, v: Tensor, heads: int = 1) -> Tensor:
    return _in_heads(q, k.roll(1, -1), v, heads)


def _replaced(x: Tensor, axis: int, index: int, made: Attention, salt: str) -> Tensor:
    """x with one index of an axis drawn anew, ten times as large."""
    out = x.clone()
    part = out.select(axis, index)
    z = torch.randn(part.shape, generator=made.case.generator(salt), dtype=torch.float64)
    part.copy_((10 * z).to(x))
    return out


def _others(x: Tensor, axis: int, index: int) -> Tensor:
    """x without one index of an axis."""
    return torch.cat(
        (x.narrow(axis, 0, index), x.narrow(axis, index + 1, x.shape[axis] - index - 1)), axis
    )


def _random_index(made: Attention, size: int, salt: str) -> int:
    return int(torch.randint(0, size, (), generator=made.case.generator(salt)))


@check(
    kind="attention",
    forbids={"batch_coupled_in_eval"},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[broken.mixes_the_batch, broken.centres_over_the_batch],
    accepts=ACCEPTED,
)
def attention_keeps_rows_apart(subject: Implementation, case: Case) -> Evidence:
    """The output of a row of the batch does not depend on the other rows.

    One row of every source is drawn anew; the outputs of the others stay, within rounding.
    """
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    if made.batch is None or made.counts(made.xs)[0] < 2:
        raise NotApplicable("has one row")
    xs, axis = made.xs, made.batch
    row = _random_index(made, xs[0].shape[axis], "row")
    moved = [_replaced(x, axis, row, made, f"row {i}") for i, x in enumerate(xs)]
    return agreement(
        f"output of the other rows, after row {row} was drawn anew",
        _others(made(*moved), axis, row),
        _others(made(*xs), axis, row),
        _others(made.room(xs), axis, row),
    )


@check(
    kind="attention",
    needs={"permutation_equivariant"},
    forbids={"causal"},
    options={"window": False},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[broken.prefers_early_keys, broken.mixes_the_queries],
    accepts=ACCEPTED,
)
def attention_has_no_order(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Keys and values permuted together change nothing; permuted queries permute the outputs.

    For self-attention both at once: permuted tokens permute the outputs.
    """
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    xs = made.xs
    _, m, n = made.counts(xs)
    if max(m, n) < 2:
        raise NotApplicable("one token has one order")
    plain, room = made(*xs), made.room(xs)
    of_queries = torch.randperm(m, generator=case.generator("queries"))
    of_keys = torch.randperm(n, generator=case.generator("keys"))
    if made.is_self:
        of_keys = of_queries
    else:
        seen = [made.pick(x, of_keys) if i in made.seen else x for i, x in enumerate(xs)]
        yield agreement("output with permuted keys and values", made(*seen), plain, room)
    moved = [made.pick(x, of_queries) if i == 0 else x for i, x in enumerate(xs)]
    yield agreement(
        "output of permuted queries",
        made(*moved),
        made.pick(plain, of_queries),
        made.pick(room, of_queries),
    )


@check(
    kind="attention",
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[
        broken.mixes_the_queries,
        broken.normalizes_over_the_queries,
        _wrong(_every_head_has_the_keys_of_all, "keys_mixed_between_heads"),
        _wrong(_heads_in_another_order_at_the_end, "heads_shifted_at_the_end"),
        _wrong(_slices_off_by_one, "slices_off_by_one", SLICED),
        _wrong(_grouped_with_all_keys, "groups_mixed", GROUPED),
    ],
    accepts=[ACCEPTED[0], GROUPED, SLICED],
)
def queries_and_heads_are_separate(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """An output depends on its own query alone, and on its own head alone.

    One query is drawn anew: the outputs of the others stay, within rounding; softmax over the
    queries in the place of the keys couples them. Then one head of each source, for functions
    whose heads lie along an axis or, with options.heads, are slices of the features. Where each
    of g heads of keys serves H/g heads of queries, it changes H/g heads at most, and no head has
    two. Not judged for self-attention, whose queries are its keys.
    """
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    xs = made.xs
    if made.is_self:
        raise NotApplicable("its queries are its keys")
    plain, room = made(*xs), made.room(xs)
    query = _random_index(made, xs[0].shape[made.tokens], "query")
    moved = _replaced(xs[0], made.tokens, query, made, "query drawn anew")
    if xs[0].shape[made.tokens] > 1:
        yield agreement(
            f"output of the other queries, after query {query} was drawn anew",
            _others(made(moved, *xs[1:]), made.tokens, query),
            _others(plain, made.tokens, query),
            _others(room, made.tokens, query),
        )
    heads = list(_heads(made, plain, room)) if made.is_plain else []
    yield from heads
    if not heads and xs[0].shape[made.tokens] < 2:
        raise NotApplicable("has one query and one head")


def _heads(made: Attention, plain: Tensor, room: Tensor) -> Iterator[Evidence]:
    """With the heads along an axis of their own."""
    heads = int(made.subject.argument("heads", 1))
    split = _Split(made, made.heads, heads)
    if not split.is_possible:
        return
    xs, y, limit = [split.apart(x) for x in made.xs], split.apart(plain), split.apart(room)
    count, groups = xs[0].shape[split.axis], xs[-1].shape[split.axis]
    if count < 2 or count % groups or xs[1].shape[split.axis] != groups:
        return
    served = []
    for source, index in [(0, 0), *((i, g) for i in (1, 2) for g in range(min(2, groups)))]:
        new = _replaced(xs[source], split.axis, index, made, f"head {source} {index}")
        answer = split.apart(
            made(*(split.whole(new if i == source else x) for i, x in enumerate(xs)))
        )
        gap = (answer - y).abs() > 2 * limit
        reached = {h for h in range(count) if bool(gap.select(split.axis, h).any())}
        most = 1 if source == 0 else count // groups
        name = made.sources[source]
        yield _at_most(reached, {index} if source == 0 else None, most, f"head {index} of {name}")
        if source == 2:
            served.append(reached)
    if len(served) == 2:
        both = served[0] & served[1]
        yield _at_most(both, None, 0, "two heads of values at once")


def _at_most(reached: set[int], own: set[int] | None, most: int, what: str) -> Evidence:
    wrong = len(reached - own) if own is not None else max(0, len(reached) - most)
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=1.0,
        unit="heads",
        what=f"further heads whose output depends on {what}",
        expected=f"{most} at most",
        got=str(sorted(reached)),
    )


@dataclass(frozen=True, slots=True)
class _Split:
    """Heads along their own axis: as they come, or as slices of the features."""

    made: Attention
    own: int | None
    heads: int

    @property
    def is_possible(self) -> bool:
        if self.own is not None:
            return True
        return self.heads > 1 and not any(x.shape[-1] % self.heads for x in self.made.xs)

    @property
    def axis(self) -> int:
        return self.own if self.own is not None else self.made.xs[0].dim() - 1

    def apart(self, x: Tensor) -> Tensor:
        return x if self.own is not None else x.unflatten(-1, (self.heads, -1))

    def whole(self, x: Tensor) -> Tensor:
        return x if self.own is not None else x.flatten(-2)
