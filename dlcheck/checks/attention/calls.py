"""How an attention is called and where its tokens lie: what its declaration says, and what it does.

f(query, key, value) has three sources, m(x, context) two and m(x) one. Axes are found by the names
of the dims (the one that keys do not share with queries, or the last of the mask), and where the
names do not tell by their effect: attention mixes along the tokens and along no other axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.agreement import rounding_room
from dlcheck.checks.attention.masks import Mask
from dlcheck.domains import bound_dims, size_bounds
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import guarded, seed_everything
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_MOST = 66  # tokens of a case
FAR = 1e5  # size of tokens that must have no influence: their logits pass 1e4, but not 1e9


@dataclass(frozen=True, slots=True)
class Attention:
    """A subject with its sources, axes and mask; called with one tensor for each source."""

    subject: Implementation
    case: Case
    sources: tuple[str, ...]  # names of the inputs that hold tokens: one, two or three
    tokens: int  # axis of the tokens in every source and in the output
    batch: int | None
    heads: int | None  # axis of the heads, where they are split
    mask: Mask | None
    layout: tuple[str, ...]  # of the mask

    @classmethod
    def of(cls, subject: Implementation, case: Case, *, train: bool = False) -> Attention:
        """In eval mode unless told. Raises NotApplicable for inputs that are no tokens."""
        if subject.module is not None:
            subject.module.train(train)
        elif "stochastic" in subject.traits and not train:
            raise NotApplicable("a function that is random has no eval mode")
        mask = Mask.of(subject.options, case.specs)
        names = [name for name in case.floating if mask is None or name != mask.name]
        if not names or any(len(case.specs[name].dims) < 2 for name in names[:3]):
            raise NotApplicable("takes no queries, keys and values of two or more axes")
        sources = tuple(names[:3])
        made = cls(subject, case, sources, 0, None, None, mask, ())
        tokens = _axis_of_names(made)
        if tokens is None:
            tokens = _axis_of_effect(made)
        case = _cropped(made, tokens)
        others = [axis for axis in range(case.inputs[sources[0]].dim() - 1) if axis != tokens]
        made = replace(
            made,
            case=case,
            tokens=tokens,
            batch=others[0] if others else None,
            heads=others[1] if len(others) == 2 else None,
        )
        return made if mask is None else replace(made, layout=_layout(made, mask))

    # --- calls --------------------------------------------------------------------------------

    def __call__(self, *xs: Tensor, kept: Tensor | None = None) -> Tensor:
        """The output, [like the queries, with the features of the values].

        kept: boolean [b, m, n], what the mask keeps; without it the mask is omitted.
        """
        y = self.answer(*xs, mask=None if kept is None else self.worded(kept, xs))
        if y.dim() != xs[0].dim() or y.shape[self.tokens] != xs[0].shape[self.tokens]:
            raise NotApplicable("its output has other axes than its queries")
        return y

    def answer(self, *xs: Tensor, mask: Tensor | None = None) -> Tensor:
        given = dict(zip(self.sources, xs, strict=True))
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for name, own in self.case.inputs.items():
            if self.mask is not None and name == self.mask.name:
                keywords[name] = mask
            elif keywords:
                keywords[name] = given.get(name, own)
            else:
                positional.append(given.get(name, own))
        if self.mask is not None:
            keywords.pop(self.mask.name, None)
        if self.mask is not None and mask is not None:
            keywords[self.mask.name] = mask
        seed_everything(self.case.recipe.seed)
        try:
            return self.subject.tensors(*positional, **keywords)[0]
        except SubjectRaised as error:
            if mask is not None or self.mask is None or not _lacks_an_argument(error):
                raise
        everything = torch.ones(self.counts(xs), dtype=torch.bool)
        return self.answer(*xs, mask=self.worded(everything, xs))

    def worded(self, kept: Tensor, xs: Sequence[Tensor]) -> Tensor:
        assert self.mask is not None
        return self.mask.tensor(kept, self.layout, xs[0], self.case.sizes)

    def room(self, xs: Sequence[Tensor], kept: Tensor | None = None) -> Tensor:
        """How far rounding may move each element of the output."""
        return rounding_room(self.subject, self.case, xs, lambda *moved: self(*moved, kept=kept))[0]

    def room_of(self, call: Callable[..., Any], xs: Sequence[Tensor]) -> Tensor:
        """The same for another function of the sources."""
        return rounding_room(self.subject, self.case, xs, call)[0]

    # --- what is known ------------------------------------------------------------------------

    @property
    def is_self(self) -> bool:
        return len(self.sources) == 1

    @property
    def is_plain(self) -> bool:
        """Is it a function of query, key and value without parameters of its own?"""
        return len(self.sources) == 3 and not self.subject.parameters

    @property
    def is_causal(self) -> bool:
        return "causal" in self.subject.traits

    @property
    def has_window(self) -> bool:
        return "window" in self.subject.options

    @property
    def xs(self) -> tuple[Tensor, ...]:
        """The case's own tokens, one tensor for each source."""
        return tuple(self.case.inputs[name].detach() for name in self.sources)

    @property
    def key_source(self) -> int:
        return min(1, len(self.sources) - 1)

    @property
    def seen(self) -> range:
        """The sources that hold keys and values."""
        return range(self.key_source, len(self.sources))

    def counts(self, xs: Sequence[Tensor]) -> tuple[int, int, int]:
        """Rows b, queries m and keys n."""
        b = 1 if self.batch is None else xs[0].shape[self.batch]
        return b, xs[0].shape[self.tokens], xs[self.key_source].shape[self.tokens]

    # --- tokens -------------------------------------------------------------------------------

    def drawn(self, salt: str, source: int = 0, count: int | None = None) -> Tensor:
        """Normal tokens of a source, of the case's sizes but for their count."""
        like = self.case.inputs[self.sources[source]]
        shape = [*like.shape]
        if count is not None:
            shape[self.tokens] = count
        z = torch.randn(shape, generator=self.case.generator(salt), dtype=torch.float64)
        return z.to(like)

    def all_drawn(self, salt: str) -> tuple[Tensor, ...]:
        return tuple(self.drawn(f"{salt} {name}", i) for i, name in enumerate(self.sources))

    def aligned(self, xs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """xs, or as many queries as keys where a causal mask or a window may count from the end."""
        if not (self.is_causal or self.has_window):
            return tuple(xs)
        return self.shortened(xs, min(x.shape[self.tokens] for x in xs))

    def shortened(self, xs: Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
        return tuple(self.pick(x, slice(0, count)) for x in xs)

    def pick(self, x: Tensor, index: Any) -> Tensor:
        """The tokens of an index, a slice or a list."""
        return x[(*([slice(None)] * self.tokens), index)]

    def with_tokens(self, x: Tensor, index: Any, value: Tensor) -> Tensor:
        """x with some tokens replaced."""
        out = x.clone()
        out[(*([slice(None)] * self.tokens), index)] = value
        return out

    def far(self, x: Tensor, index: Any, salt: str) -> Tensor:
        """x with the tokens of an index far away, where any influence is seen."""
        part = self.pick(x, index)
        z = torch.randn(part.shape, generator=self.case.generator(salt), dtype=torch.float64)
        return self.with_tokens(x, index, (FAR * z).to(x))

    def may_lengthen(self, source: int, by: int) -> bool:
        """May a source have more tokens, as far as the declaration tells?"""
        declared = self.subject.declared
        dim = self.case.specs[self.sources[source]].dims[self.tokens]
        if not dim.name or dim.times != 1:
            return False
        if dim.name in {bound.name for bound in bound_dims(declared.args).values()}:
            return False
        others = [
            d.name
            for name in self.sources
            for axis, d in enumerate(self.case.specs[name].dims)
            if axis != self.tokens
        ]
        bounds = size_bounds(declared.options, dim.name)
        fits = bounds is None or self.case.sizes[dim.name] + by <= bounds[1]
        return fits and dim.name not in others

    def must_be_plain(self) -> None:
        if not self.is_plain:
            raise NotApplicable("is no function of query, key and value alone")


def _cropped(made: Attention, tokens: int) -> Case:
    """The case with 66 tokens at most, just past a tile: more would cost their square."""
    case, names = made.case, {*made.sources, *({made.mask.name} if made.mask else ())}
    free = all(case.specs[name].dims[tokens].name for name in made.sources)
    declared = made.subject.declared
    bound = {dim.name for dim in bound_dims(declared.args).values()}
    bound |= {
        name for name in case.sizes if (size_bounds(declared.options, name) or (0,))[0] > _MOST
    }
    if not free or {*case.inputs} - names:
        return case
    if bound & {case.specs[name].dims[tokens].name for name in made.sources}:
        return case
    inputs = {
        name: x.narrow(tokens, 0, min(x.shape[tokens], _MOST)) if name in made.sources else x
        for name, x in case.inputs.items()
    }
    return replace(case, inputs=inputs)


def _lacks_an_argument(error: SubjectRaised) -> bool:
    """Can the mask not be omitted?"""
    return isinstance(error.__cause__, TypeError) and "missing" in str(error)


def _axis_of_names(made: Attention) -> int | None:
    """The axis of the tokens as the dims' names tell, or None."""
    specs = [made.case.specs[name] for name in made.sources]
    own = [[dim.name for dim in spec.dims[:-1]] for spec in specs]
    if len(own[0]) == 1:
        return 0
    key = own[made.key_source]
    mask = made.mask
    if mask is not None and mask.spec is not None:
        last = mask.spec.dims[-1].name
        if last and key.count(last) == 1:
            return key.index(last)
    if len(own[0]) != len(key):
        raise NotApplicable("queries and keys have different numbers of axes")
    differ = [axis for axis, pair in enumerate(zip(own[0], key, strict=True)) if len({*pair}) > 1]
    return differ[0] if len(differ) == 1 else None


@torch.no_grad()
def _axis_of_effect(made: Attention) -> int:
    """The one axis along which changing the first index of the values changes the others."""
    xs = made.xs
    plain = made.answer(*xs)
    mixing, judged = [], []
    for axis in range(xs[-1].dim() - 1):
        if xs[0].shape[axis] < 2 or plain.dim() != xs[0].dim():
            continue
        judged.append(axis)
        value = xs[-1].clone()
        first = value.select(axis, 0)
        z = torch.randn(first.shape, generator=made.case.generator(f"axis {axis}"))
        first.add_(z.to(first))
        moved = made.answer(*xs[:-1], value)
        rest = (moved - plain).narrow(axis, 1, plain.shape[axis] - 1)
        # Rounding is no influence: another order of sums on another layout.
        if bool((rest.abs() > 1e-3 * float(z.abs().amax())).any()):
            mixing.append(axis)
    if len(mixing) == 1:
        return mixing[0]
    if not mixing and len(judged) < xs[0].dim() - 1:
        raise NotApplicable("too few tokens to tell their axis")
    return xs[0].dim() - 2


@torch.no_grad()
def _layout(made: Attention, mask: Mask) -> tuple[str, ...]:
    """The axes of the mask: declared, or the first that the subject takes."""
    batch = ""
    if made.batch is not None:
        batch = made.case.specs[made.sources[0]].dims[made.batch].name or "b"
    choices = mask.layouts(batch, made.case.inputs[made.sources[0]].dim())
    if len(choices) == 1:
        return choices[0]
    xs = made.xs
    kept = torch.ones(made.counts(xs), dtype=torch.bool)
    raised: SubjectRaised | None = None
    for layout in choices:
        try:
            made.answer(*xs, mask=mask.tensor(kept, layout, xs[0], made.case.sizes))
        except SubjectRaised as error:
            raised = raised or error
        else:
            return layout
    raise raised or NotApplicable("no mask was taken")


def drawn_mask(made: Attention, xs: Sequence[Tensor], salt: str) -> Tensor:
    """What a random mask keeps, [b, m, n]: half of the keys, and at least one for every query.

    Where the subject sees the past or a window only, all but one key are kept, never the first.
    """
    b, m, n = made.counts(xs)
    assert made.mask is not None
    rows, queries = b if "b" in made.layout else 1, m if "m" in made.layout else 1
    generator = made.case.generator(salt)
    if made.is_causal or made.has_window:
        kept = torch.ones(rows, queries, n, dtype=torch.bool)
        if n > 1:
            dropped = torch.randint(1, n, (rows, queries, 1), generator=generator)
            kept.scatter_(-1, dropped, value=False)
            if queries == n:  # a query keeps itself: it may see nothing else
                kept |= torch.eye(n, dtype=torch.bool)
    else:
        kept = torch.rand(rows, queries, n, generator=generator) < 0.5
        one = torch.randint(0, n, (rows, queries, 1), generator=generator)
        kept.scatter_(-1, one, value=True)
    return kept.expand(b, m, n)


def spread(made: Attention, rows: Tensor, y: Tensor) -> Tensor:
    """A boolean [b, m] of rows and queries as one that broadcasts to the output."""
    shape = [1] * y.dim()
    if made.batch is not None:
        shape[made.batch] = rows.shape[0]
    shape[made.tokens] = rows.shape[1]
    if made.batch is not None and made.batch > made.tokens:
        rows = rows.T
    return rows.reshape(shape).expand(y.shape).to(y.device)


def changed(a: Tensor, b: Tensor) -> float:
    """The largest difference, NaN at the same places being none."""
    same = (a == b) | ((a != a) & (b != b))
    gap = torch.where(same, 0.0, (a.double() - b.double()).abs().nan_to_num(math.inf))
    return float(gap.amax()) if gap.numel() else 0.0


def backward(y: Tensor, xs: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    """Gradients of ⟨cotangent, y⟩, zeros where there is none."""
    if not y.requires_grad:
        raise NotApplicable("its output has no gradient")
    found = guarded(torch.autograd.grad, y, list(xs), cotangent, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(xs, found, strict=True)]
