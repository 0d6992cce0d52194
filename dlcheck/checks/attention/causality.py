"""The past does not depend on the future, and a window is as wide as declared."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcheck.checks.agreement import agreement, largest_of
from dlcheck.checks.attention import broken
from dlcheck.checks.attention.calls import Attention, backward, changed, drawn_mask
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters


class _CausalSelfAttention(nn.Module):
    """Two heads over x [b, t, 6] with dropout; mask [t, t] is true where a pair is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        kept = past if mask is None else past & mask
        p = 0.2 if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=kept, dropout_p=p)
        return F.linear(y.transpose(1, 2).flatten(2), self.out.weight, self.out.bias)


def _from_the_end(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last query sees the last key, as in FlashAttention from 2.1 on."""
    m, n = q.shape[-2], k.shape[-2]
    kept = torch.ones(m, n, dtype=torch.bool, device=q.device).tril(n - m)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=kept)


def _windowed(q: Tensor, k: Tensor, v: Tensor, window: int = 2) -> Tensor:
    """Query i sees keys i − window … i."""
    m, n = q.shape[-2], k.shape[-2]
    behind = torch.arange(m, device=q.device)[:, None] - torch.arange(n, device=q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(behind >= 0) & (behind <= window))


def _window_behind_one_late(q: Tensor, k: Tensor, v: Tensor, window: int = 2) -> Tensor:
    return _windowed(q, k, v, window + 1)


def _window_that_never_ends(q: Tensor, k: Tensor, v: Tensor, window: int = 2) -> Tensor:
    return _windowed(q, k, v, q.shape[-2])


def _window_half_as_wide(q: Tensor, k: Tensor, v: Tensor, window: int = 2) -> Tensor:
    return _windowed(q, k, v, 0)


QKV = {"q": "float b t d", "k": "float b t d", "v": "float b t e"}
ACCEPTED = [
    Subject(
        name="causal_self_attention",
        target=_CausalSelfAttention,
        kind="attention",
        inputs={"x": "float b t 6"},
        traits=frozenset({"causal", "stochastic"}),
        options={"mask": {"name": "mask", "meaning": "keep", "axis": "pair"}},
    ),
    Subject(
        name="causal_from_the_end",
        target=_from_the_end,
        kind="attention",
        inputs={"q": "float b h m d", "k": "float b h n d", "v": "float b h n e"},
        traits=frozenset({"causal"}),
    ),
]
WINDOWED = Subject(
    name="windowed",
    target=_windowed,
    kind="attention",
    inputs=QKV,
    traits=frozenset({"causal"}),
    options={"window": "window"},
)


def _window_mutant(target: object, name: str) -> Subject:
    return Subject(
        name=name,
        target=target,
        kind="attention",
        inputs=QKV,
        traits=frozenset({"causal"}),
        options={"window": "window"},
    )


@check(
    kind="attention",
    needs={"causal"},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[
        broken.sees_one_token_too_far,
        broken.adds_the_mean_of_all_values,
        broken.leaks_the_future_into_the_gradient,
    ],
    accepts=[*ACCEPTED, WINDOWED],
)
def future_leaves_the_past(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What comes after token t changes no output up to t, in train and eval.

    Later tokens move to 10⁵; the outputs up to t stay, within rounding, and their gradient of
    later tokens is exactly 0. With m queries and n > m keys a causal mask may count from the
    start or from the end, so query i is only held not to see keys after i + n − m.
    """
    scatter_parameters(subject, case.recipe.seed)
    modes = (False, True) if subject.module is not None else (False,)
    if subject.module is None and "stochastic" in subject.traits:
        modes = (True,)
    for train in modes:
        made = Attention.of(subject, case, train=train)
        mode = "train" if train else "eval"
        yield from _past_of(made, made.xs, None, mode)
        yield _gradient_of_future(made)


@check(
    kind="attention",
    needs={"causal"},
    options={"mask": True},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[broken.forgets_causality_beside_a_mask, broken.sees_one_token_too_far],
    accepts=[ACCEPTED[0]],
)
def future_leaves_the_past_beside_a_mask(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A mask that is given does not replace the causal one.

    As `future_leaves_the_past`, with a random mask that leaves every query a key.
    """
    scatter_parameters(subject, case.recipe.seed)
    for train in (False, True) if subject.module is not None else (False,):
        made = Attention.of(subject, case, train=train)
        xs = made.aligned(made.xs)
        yield from _past_of(made, xs, drawn_mask(made, xs, "mask"), "train" if train else "eval")


def _cut(made: Attention, xs: tuple[Tensor, ...]) -> tuple[int, int]:
    """A query, and the last key that it may see under either way to count."""
    _, m, n = made.counts(xs)
    extra = max(0, n - m)
    last = min(m, n - extra) - 2  # one later key at least
    if last < 0:
        raise NotApplicable("has one token: there is no future")
    query = int(torch.randint(0, last + 1, (), generator=made.case.generator("cut")))
    return query, query + extra


def _past_of(
    made: Attention, xs: tuple[Tensor, ...], kept: Tensor | None, mode: str
) -> Iterator[Evidence]:
    query, key = _cut(made, xs)
    later = {0: query + 1, **{i: (key if i in made.seen else query) + 1 for i in range(len(xs))}}
    moved = [made.far(x, slice(later[i], None), f"future {i}") for i, x in enumerate(xs)]
    past = slice(0, query + 1)
    yield agreement(
        f"output up to query {query} in {mode}, after later tokens moved",
        made.pick(made(*moved, kept=kept), past),
        made.pick(made(*xs, kept=kept), past),
        made.pick(made.room(xs, kept), past),
        where=f"key {key} being the last to be seen",
    )


def _gradient_of_future(made: Attention) -> Evidence:
    query, key = _cut(made, made.xs)
    leaves = [x.clone().requires_grad_() for x in made.xs]
    y = made.pick(made(*leaves), slice(0, query + 1))
    z = torch.randn(y.shape, generator=made.case.generator("gradient"), dtype=torch.float64)
    found = backward(y, leaves, z.to(y))
    future = [made.pick(found[i], slice(key + 1, None)) for i in made.seen]
    return Evidence(
        error=max(float(g.abs().amax()) for g in future),
        bound=0.0,
        signal=max(largest_of(g) for g in found),
        what=f"gradient of tokens after {key} from outputs up to query {query}",
    )


@check(
    kind="attention",
    needs={"causal"},
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[broken.sees_not_its_own_token],
    accepts=[ACCEPTED[1], WINDOWED],
)
def each_query_sees_its_own_token(subject: Implementation, case: Case) -> Evidence:
    """With as many keys as queries, query i sees key i.

    The value of a token moves, and so does its output; the first query sees no other key. Not
    judged for self-attention, where an output depends on its token as a query anyway.
    """
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    if made.is_self:
        raise NotApplicable("queries are the keys")
    xs = made.shortened(made.xs, min(x.shape[made.tokens] for x in made.xs))
    count = xs[0].shape[made.tokens]
    tried = sorted({0, int(torch.randint(0, count, (), generator=case.generator("token")))})
    plain, blind = made(*xs), 0
    for token in tried:
        part = made.pick(xs[-1], [token])
        moved = made.with_tokens(xs[-1], [token], part + 1)
        blind += changed(made.pick(made(*xs[:-1], moved), token), made.pick(plain, token)) == 0
    return Evidence(
        error=float(blind),
        bound=0.0,
        signal=float(len(tried)),
        unit="queries",
        what="queries that do not see the key of their own place",
        where=f"of {tried}",
    )


@check(
    kind="attention",
    options={"window": True},
    dtypes=["float64", "float32"],
    regimes=["normal"],
    rejects=[
        _window_mutant(_window_behind_one_late, "window_one_too_wide"),
        _window_mutant(_window_that_never_ends, "window_that_never_ends"),
        _window_mutant(_window_half_as_wide, "window_too_narrow"),
    ],
    accepts=[WINDOWED],
)
def window_is_as_declared(subject: Implementation, case: Case) -> Evidence:
    """A query sees keys at a distance below the window, and none beyond it.

    options.window is the distance w, on both sides unless causal, or [left, right], where −1 is
    no limit. Whether a key at distance w itself is seen differs between libraries, and is not
    judged. Seen is what the gradient of a query's output reaches.
    """
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    left, right = _widths(made)
    xs = made.shortened(made.xs, min(x.shape[made.tokens] for x in made.xs))
    count = xs[0].shape[made.tokens]
    query = int(torch.randint(0, count, (), generator=case.generator("query")))
    leaves = [x.clone().requires_grad_() for x in xs]
    y = made.pick(made(*leaves), [query])
    z = torch.randn(y.shape, generator=case.generator("gradient"), dtype=torch.float64)
    reached = backward(y, leaves, z.to(y))[-1].abs()
    others = [axis for axis in range(reached.dim()) if axis != made.tokens]
    seen = (reached.amax(others) > 0).cpu()
    ahead = torch.arange(count) - query
    beyond, inside = (ahead < -left) | (ahead > right), (ahead > -left) & (ahead < right)
    inside |= ahead == 0
    if not bool(beyond.any()):
        raise NotApplicable("no key lies beyond the window")
    wrong = (seen & beyond) | (~seen & inside)
    return Evidence(
        error=float(wrong.sum()),
        bound=0.0,
        signal=float(count),
        unit="keys",
        what=f"keys that query {query} sees wrongly, or wrongly does not see",
        expected=f"distances up to {left:g} behind and {right:g} ahead",
        got=f"distances {sorted(int(a) for a in ahead[seen])}",
    )


def _widths(made: Attention) -> tuple[float, float]:
    """How far a query sees behind and ahead."""
    given = made.subject.argument("window")
    pair = list(given) if isinstance(given, (list, tuple)) else [given, given]
    left, right = (float("inf") if w is None or w < 0 else float(w) for w in pair)
    if left == right == float("inf"):
        raise NotApplicable("its window has no limit")
    return left, 0.0 if made.is_causal else right
