"""A set has no order: permuting its elements permutes the answer, or leaves it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from dlcheck.checks.axes import batch_dim, stated_axes
from dlcheck.checks.every.broken_symmetry import (
    adds_its_position,
    answers_in_another_order,
    sees_the_first_element_everywhere,
    weighs_positions_differently,
)
from dlcheck.checks.still import held, part_of, without_noise
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _centred_set(x: Tensor) -> Tensor:
    """Each element beside the mean of its set: x [b, n, d]."""
    return torch.tanh(x - x.mean(1, keepdim=True)) + x


def _mean_of_set(x: Tensor) -> Tensor:
    return torch.logsumexp(x, 1) - torch.log1p(x.square().sum(1))


def _neighbours(x: Tensor, adjacency: Tensor) -> Tensor:
    """One round of messages on a graph: x [b, n, d], adjacency [b, n, n]."""
    return torch.relu(adjacency @ x) + x


def _scattered(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Messages along edges: x [n, d], source and target [e] are rows of x."""
    return x.index_add(0, target, torch.tanh(x[source]))


class Permutation:
    """A permutation of one dim: of every axis that has its name, and of what counts its rows."""

    def __init__(self, case: Case, name: str) -> None:
        self.case, self.name, self.size = case, name, case.sizes[name]
        self.order = torch.randperm(self.size, generator=case.generator(f"order of {name}"))
        if self.size > 1 and bool((self.order == torch.arange(self.size)).all()):
            self.order = self.order.roll(1)
        self.place = torch.argsort(self.order)

    def of_inputs(self) -> list[Tensor]:
        moved = []
        for key, x in zip(self.case.specs, self.case.fresh(), strict=True):
            spec = self.case.specs[key]
            for axis, dim in enumerate(spec.dims):
                if dim.name == self.name and dim.times == 1:
                    x = x.index_select(axis, self.order.to(x.device))
            if spec.count is not None and spec.count.name == self.name:
                x = self.place.to(x.device)[x]
            moved.append(x)
        return moved

    def of_answer(self, y: Tensor, axes: Sequence[int]) -> Tensor:
        for axis in axes:
            y = y.index_select(axis, self.order.to(y.device))
        return y


@check(
    kind=["op", "layer", "activation", "loss"],
    needs={"permutation_equivariant"},
    rejects=[
        weighs_positions_differently,
        adds_its_position,
        answers_in_another_order,
        sees_the_first_element_everywhere,
    ],
    accepts=[
        Subject(
            name="centred_set",
            target=_centred_set,
            kind="op",
            inputs={"x": "float b n d"},
            traits=frozenset({"permutation_equivariant"}),
        ),
        Subject(
            name="graph_messages",
            target=_neighbours,
            kind="op",
            inputs={"x": "float b n d", "adjacency": "unit b n n"},
            traits=frozenset({"permutation_equivariant", "nonsmooth"}),
            options={"axes": ["n"]},
        ),
        Subject(
            name="edge_messages",
            target=_scattered,
            kind="op",
            inputs={"x": "float n d", "source": "index[n] e", "target": "index[n] e"},
            traits=frozenset({"permutation_equivariant"}),
            options={"axes": [0]},
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=[
        "normal", "outliers", "small", "ascending", "zeros", "large", "negative", "ties", "offset",
        "duplicated", "huge", "tiny", "onehot", "extreme", "uniform", "noise", "constant",
    ],
)  # fmt: skip
def permutation_equivariant(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Permuting the elements of the input permutes those of the answer: f(Px) = P f(x).

    A dim is permuted by its name, at every axis that has it, in every input; indices into it are
    renamed. Which one: `options.axes`, else that along which f is nearest to it, of the named dims
    of the first input but the batch. An answer is permuted along its axes of that size.
    """
    function = without_noise(subject, case)
    before = function(*case.fresh())
    room = function.room()

    def judged(order: Permutation) -> list[Evidence]:
        after = function(*order.of_inputs())
        return [
            _nearest(order, place, after[place], before[place], room)
            for place in range(len(before))
        ]

    yield from _best(subject, case, judged)


@check(
    kind=["op", "layer", "activation", "loss"],
    needs={"permutation_invariant"},
    rejects=[weighs_positions_differently, sees_the_first_element_everywhere],
    accepts=[
        Subject(
            name="mean_of_set",
            target=_mean_of_set,
            kind="op",
            inputs={"x": "float b n d"},
            traits=frozenset({"permutation_invariant"}),
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=[
        "normal", "outliers", "small", "ascending", "zeros", "large", "negative", "ties", "offset",
        "duplicated", "huge", "tiny", "onehot", "extreme", "uniform", "noise", "constant",
    ],
)  # fmt: skip
def permutation_invariant(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Permuting the elements of the input leaves the answer: f(Px) = f(x).

    The dims are chosen as in permutation_equivariant.
    """
    function = without_noise(subject, case)
    before = function(*case.fresh())
    room = function.room()

    def judged(order: Permutation) -> list[Evidence]:
        after = function(*order.of_inputs())
        return [
            held(
                f"answer {place} with {order.name} permuted",
                after[place],
                before[place],
                part_of(room, place),
            )
            for place in range(len(before))
        ]

    yield from _best(subject, case, judged)


def _best(
    subject: Implementation, case: Case, judged: Callable[[Permutation], list[Evidence]]
) -> list[Evidence]:
    """The evidence of every stated dim; where none is stated, of the one that agrees best."""
    stated, names = _dims(subject, case)
    if not names or any(case.sizes[name] < 2 for name in names):
        raise NotApplicable("a set has fewer than two elements; see options.axes")
    found = [judged(Permutation(case, name)) for name in names]
    if stated:
        return [piece for pieces in found for piece in pieces]
    return min(found, key=lambda pieces: max(piece.tightness for piece in pieces))


def _dims(subject: Implementation, case: Case) -> tuple[bool, list[str]]:
    """The dims that are permuted, and whether they are stated."""
    dims = next(iter(case.specs.values())).dims
    stated = [dims[axis].name for axis in stated_axes(subject, case) if dims[axis].name]
    if stated:
        return True, stated
    try:
        batch = batch_dim(subject, case)
    except NotApplicable:
        batch = ""
    names = [dim.name for dim in dims if dim.name and dim.name != batch and dim.times == 1]
    return False, list(dict.fromkeys(names))


def _nearest(
    order: Permutation,
    place: int,
    after: Tensor,
    before: Tensor,
    room: Callable[[], list[Tensor]],
) -> Evidence:
    """The answer permuted along one axis of the set's size, or along all of them: the nearest."""
    axes = [axis for axis in range(before.dim()) if before.shape[axis] == order.size]
    choices = [[axis] for axis in axes] + ([axes] if len(axes) > 1 else [])
    if not choices:
        raise NotApplicable(f"answer {place} has no axis of the size of {order.name}")
    return min(
        (
            held(
                f"answer {place} with {order.name} permuted",
                after,
                order.of_answer(before, choice),
                part_of(room, place, functools.partial(order.of_answer, axes=choice)),
            )
            for choice in choices
        ),
        key=lambda piece: piece.tightness,
    )
