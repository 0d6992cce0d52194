"""Masked keys have no influence, and a mask changes nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlcheck.checks.agreement import agreement, largest_of
from dlcheck.checks.attention import broken
from dlcheck.checks.attention.calls import Attention, backward, drawn_mask, spread
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters

_LONGER = 3  # masked keys that are appended


class _PaddedSelfAttention(nn.Module):
    """One head over x [b, t, d]; padding [b, t] is true where a token is padding."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(d, 3 * d)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        kept = None if padding is None else ~padding[:, None, :]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=kept)


def _with_bias(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


ACCEPTED = [
    Subject(
        name="padded_self_attention",
        target=_PaddedSelfAttention,
        kind="attention",
        args={"d": {"dim": "d"}},
        inputs={"x": "float b t d"},
        options={"mask": {"name": "padding", "meaning": "drop", "axis": "key"}},
    ),
    Subject(
        name="additive_mask",
        target=_with_bias,
        kind="attention",
        inputs={"q": "float b m d", "k": "float b n d", "v": "float b n e"},
        options={"mask": {"name": "bias", "meaning": "additive", "axis": "pair"}},
    ),
]


def _asked(subject: Implementation, case: Case) -> tuple[Attention, tuple[Tensor, ...]]:
    scatter_parameters(subject, case.recipe.seed)
    made = Attention.of(subject, case)
    return made, made.aligned(made.xs)


@check(
    kind="attention",
    options={"mask": True},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[
        broken.ignores_its_mask,
        broken.takes_the_mask_upside_down,
        broken.masks_one_key_too_few,
        broken.lets_a_masked_key_through_a_little,
        broken.sends_gradient_to_masked_keys,
    ],
    accepts=ACCEPTED,
)
def masked_keys_have_no_influence(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What a masked key holds changes no output of a query that does not see it, nor has gradient.

    A random mask in the declared meaning and along the declared axis; one key and its value, or
    one token of self-attention, then move to 10⁵. Outputs of queries for which it is masked must
    stay, within rounding, and their gradient of it is exactly 0: its weight is e^{−∞}. So −10⁴ in
    the place of −∞ is found.
    """
    made, xs = _asked(subject, case)
    n = made.counts(xs)[2]
    kept = drawn_mask(made, xs, "mask")
    key = int((~kept).sum((0, 1)).argmax())
    unseen = ~kept[:, :, key]
    if made.is_self:
        unseen = unseen.clone()
        unseen[:, key] = False  # as a query, the token has its own output
    if n < 2 or not bool(unseen.any()):
        raise NotApplicable("too few keys to mask one")
    moved = [made.far(x, key, "far") if i in made.seen else x for i, x in enumerate(xs)]
    plain = made(*xs, kept=kept)
    rows = spread(made, unseen, plain)
    room = made.room(xs, kept)
    yield agreement(
        "output of queries that do not see a key, after it moved",
        made(*moved, kept=kept)[rows],
        plain[rows],
        room[rows],
        where=f"key {key} of {n}",
    )
    yield _gradient_of_masked(made, xs, kept, rows, key)


def _gradient_of_masked(
    made: Attention, xs: Sequence[Tensor], kept: Tensor, rows: Tensor, key: int
) -> Evidence:
    leaves = [x.clone().requires_grad_() for x in xs]
    y = made(*leaves, kept=kept)
    z = torch.randn(y.shape, generator=made.case.generator("gradient"), dtype=torch.float64)
    found = backward(y, leaves, z.to(y) * rows)
    own = [made.pick(found[i], key) for i in made.seen]
    return Evidence(
        error=max(float(g.abs().amax()) for g in own),
        bound=0.0,
        signal=max(largest_of(g) for g in found),
        what="gradient of a key from queries that do not see it",
        where=f"key {key}",
    )


@check(
    kind="attention",
    options={"mask": True},
    forbids={"causal"},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[
        broken.ignores_its_mask,
        broken.takes_the_mask_upside_down,
        broken.masks_one_key_too_few,
        broken.divides_by_the_number_of_keys_it_sees,
        broken.lets_a_masked_key_through_a_little,
    ],
    accepts=ACCEPTED,
)
def appending_masked_keys_changes_nothing(
    subject: Implementation, case: Case
) -> Iterator[Evidence]:
    """Padding with masked keys leaves every output and has gradient 0.

    Three tokens of size 10⁵ are appended to the keys and values, or to the tokens of
    self-attention, and masked. Queries get as many where a window may count from the end. Of a
    causal subject they would be the future, whatever the mask says.
    """
    made, xs = _asked(subject, case)
    grow = range(len(xs)) if made.has_window else made.seen
    if not all(made.may_lengthen(i, _LONGER) for i in grow):
        raise NotApplicable("the number of its keys is fixed")
    kept = drawn_mask(made, xs, "mask")
    longer = [_padded(made, x, i) if i in grow else x for i, x in enumerate(xs)]
    b, m, n = made.counts(longer)
    wider = torch.zeros(b, m, n, dtype=torch.bool)
    wider[:, :, : n - _LONGER] = True  # new queries of self-attention see the old keys
    wider[:, : kept.shape[1], : n - _LONGER] = kept
    leaves = [x.clone().requires_grad_() for x in longer]
    y = made(*leaves, kept=wider)
    y = made.pick(y, slice(0, kept.shape[1]))
    z = torch.randn(y.shape, generator=case.generator("gradient"), dtype=torch.float64)
    found = backward(y, leaves, z.to(y))
    yield agreement(
        "output after masked keys were appended",
        y,
        made(*xs, kept=kept),
        made.room(xs, kept),
        where=f"{n - _LONGER} keys and {_LONGER} of padding",
    )
    own = [made.pick(found[i], slice(n - _LONGER, n)) for i in made.seen]
    yield Evidence(
        error=max(float(g.abs().amax()) for g in own),
        bound=0.0,
        signal=max(largest_of(g) for g in found),
        what="gradient of padding",
    )


def _padded(made: Attention, x: Tensor, source: int) -> Tensor:
    extra = made.far(made.drawn("padding", source, _LONGER), slice(None), f"padding {source}")
    return torch.cat((x, extra), made.tokens)


@check(
    kind="attention",
    options={"mask": True},
    forbids={"mask_keeps_one"},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[broken.makes_nan_of_an_empty_row, broken.makes_nan_gradients_of_an_empty_row],
    accepts=ACCEPTED,
)
def fully_masked_row_is_finite(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A query that may see no key has a finite output and finite gradients, and disturbs no other.

    Softmax of −∞ only is 0/0. Subjects that leave it so declare the trait `mask_keeps_one`. The
    outputs of the other queries are those without the mask.
    """
    made, xs = _asked(subject, case)
    b, m, n = made.counts(xs)
    row = int(torch.randint(0, b, (), generator=case.generator("row")))
    query = int(torch.randint(0, m, (), generator=case.generator("query")))
    kept = torch.ones(b, m, n, dtype=torch.bool)
    which = (
        row if "b" in made.layout else slice(None),
        query if "m" in made.layout else slice(None),
    )
    kept[which] = False
    leaves = [x.clone().requires_grad_() for x in xs]
    y = made(*leaves, kept=kept)
    empty = spread(made, ~kept.any(-1), y)
    yield _finite("output", [y])
    z = torch.randn(y.shape, generator=case.generator("gradient"), dtype=torch.float64)
    parameters = list(subject.parameters.values())
    yield _finite("gradients", backward(y, [*leaves, *parameters], z.to(y)))
    if bool(empty.all()):
        return
    room = made.room(xs)
    yield agreement("output of the other queries", y[~empty], made(*xs)[~empty], room[~empty])


def _finite(what: str, tensors: Sequence[Tensor]) -> Evidence:
    wrong = sum(int((~torch.isfinite(x)).sum()) for x in tensors)
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(sum(x.numel() for x in tensors)),
        unit="elements",
        what=f"elements of the {what} that are not finite, where a query sees no key",
        cause="softmax over no key is 0/0" if wrong else "",
    )


@check(
    kind="attention",
    options={"mask": True},
    dtypes=["float64", "float32"],
    regimes=["normal", "zeros", "ties", "small"],
    rejects=[
        broken.takes_the_mask_upside_down,
        broken.scales_whenever_a_mask_is_given,
        broken.lets_a_masked_key_through_a_little,
    ],
    accepts=ACCEPTED,
)
def a_mask_that_keeps_all_is_no_mask(subject: Implementation, case: Case) -> Evidence:
    """With a mask that masks nothing the output is that without a mask, within rounding."""
    made, xs = _asked(subject, case)
    kept = torch.ones(made.counts(xs), dtype=torch.bool)
    return agreement(
        "output with a mask that keeps every key", made(*xs, kept=kept), made(*xs), made.room(xs)
    )
