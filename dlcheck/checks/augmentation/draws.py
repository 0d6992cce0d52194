"""Who shares a draw with whom: rows of a call, calls in a row, and equal seeds."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.checks.augmentation.broken import on_images, row_by_row
from dlcheck.checks.augmentation.declared import probability_of
from dlcheck.checks.augmentation.studio import Studio, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Mutant
from dlcheck.mutants import around, rebuilt
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, bonferroni, detectable, independence, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BATCH = 8
_PAIRS = 200  # a correlation of .48 is noticed
_CALLS = 24  # of one draw for a whole batch
_REPEATS = 6


def signatures(studio: Studio, calls: int) -> list[Tensor]:
    """For each call, what became of the same picture in each row: [rows, 2] of 0 and 1.

    Did it change; and is a fixed projection of it above its mean over all calls and rows?
    """
    motif = studio.noise(rows=1).expand(studio.rows, -1, -1, -1)
    inputs = studio.loaded(motif)
    given = studio.views(inputs[list(studio.signature.specs).index(studio.signature.images)])
    changed, heights = [], []
    for _ in range(calls):
        shown = studio.views(studio.again(inputs).images)
        same = shown.shape == given.shape
        changed.append(
            (shown != given).flatten(1).any(1) if same else torch.ones(len(shown)).bool()
        )
        heights.append(_projection(studio, shown))
    middle = torch.cat(heights).mean()
    return [
        torch.stack([moved, height > middle], 1)
        for moved, height in zip(changed, heights, strict=True)
    ]


def _projection(studio: Studio, shown: Tensor) -> Tensor:
    weights = torch.randn(
        shown.shape[1:], generator=studio.case.generator("projection"), dtype=torch.float64
    )
    return (shown * weights).flatten(1).sum(1)


def _together(pairs: list[tuple[Tensor, Tensor]]) -> Finding:
    """Are the marks of each pair, [n, 2] twice, independent? A mark that never varies is none."""
    found = [independence(a[:, mark], b[:, mark]) for a, b in pairs for mark in (0, 1)]
    telling = [one for one in found if math.isfinite(one.detectable)]
    if not telling:
        raise NotApplicable("nothing is drawn: one picture comes out alike in nearly all calls")
    return bonferroni(telling)


@around
def draws_once_for_the_batch(original: Any, *inputs: Tensor) -> Any:
    """`random.random() < p` before a batch where one for each image was meant."""
    return row_by_row(original, inputs, lambda row: 0)


@around
def shares_draws_in_pairs(original: Any, *inputs: Tensor) -> Any:
    return row_by_row(original, inputs, lambda row: row // 2)


@around
def repeats_draws_after_half_the_batch(original: Any, *inputs: Tensor) -> Any:
    half = (len(inputs[0]) + 1) // 2
    return row_by_row(original, inputs, lambda row: row % half)


@around
def shares_by_the_detectable_effect(original: Any, *inputs: Tensor) -> Any:
    """A row has the draw of the one before so often that the correlation is the detectable one."""
    share = detectable(1.0, _PAIRS - 1, coordinates=4)
    joined = torch.rand(len(inputs[0])) < share
    return row_by_row(
        original, inputs, lambda row: row - 1 if row % 2 and bool(joined[row]) else row
    )


@check(
    kind="augmentation",
    options={"unit": ["sample"], "labels": [None, "kept", "moved"]},
    rejects=[
        draws_once_for_the_batch,
        shares_draws_in_pairs,
        repeats_draws_after_half_the_batch,
        shares_by_the_detectable_effect,
    ],
    tags=["statistical"],
    once=True,
)
def rows_have_draws_of_their_own(subject: Implementation, case: Case) -> Evidence:
    """Where `unit` is sample, what happens to one image says nothing of what happens to another.

    One picture in all eight rows of a call; Fisher's exact test that two rows change, and that a
    projection of them is above its mean, independently: neighbours and rows half the batch
    apart, 200 pairs each, with Bonferroni's correction. By three strikes; needs no probability.
    Source: the declaration.
    """
    studio = open_studio(subject, case, b=_BATCH)
    if studio.rows < 2:
        raise NotApplicable("takes one image at a time")
    half = studio.rows // 2

    def test(stream: Stream, n: int) -> Finding:
        calls = signatures(studio, math.ceil(n / half))
        marks = torch.stack(calls)  # [calls, rows, 2]
        neighbours = marks[:, 0 : 2 * half : 2], marks[:, 1 : 2 * half : 2]
        apart = marks[:, :half], marks[:, half : 2 * half]
        pairs = [neighbours] if half == 1 else [neighbours, apart]
        return _together([(a.flatten(0, 1), b.flatten(0, 1)) for a, b in pairs])

    n = _PAIRS * case.profile.effort
    return three_strikes(case.root, case.claim, n, test, what="correlation of two rows of a call")


@around
def draws_for_every_row(original: Any, *inputs: Tensor) -> Any:
    return row_by_row(original, inputs, lambda row: row)


@around
def draws_again_for_the_last_row(original: Any, *inputs: Tensor) -> Any:
    last = len(inputs[0]) - 1
    return row_by_row(original, inputs, lambda row: int(row == last))


@around
def draws_for_each_half(original: Any, *inputs: Tensor) -> Any:
    half = (len(inputs[0]) + 1) // 2
    return row_by_row(original, inputs, lambda row: row // half)


@around
def leaves_out_the_first_row(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(
        original(images, *rest),
        lambda x: torch.cat([images[:1], x[1:]]) if x.shape == images.shape else x.roll(1, -1),
    )


@check(
    kind="augmentation",
    options={"unit": ["batch"], "labels": [None, "kept", "moved"]},
    rejects=[
        draws_for_every_row,
        draws_again_for_the_last_row,
        draws_for_each_half,
        leaves_out_the_first_row,
    ],
    once=True,
)
def the_batch_shares_one_draw(subject: Implementation, case: Case) -> Evidence:
    """Where `unit` is batch, equal pictures in all rows come out equal.

    Twenty-four calls; to 2⁻²⁰ of the interval, as a vectorised loop may round its last rows
    otherwise. Masks, videos and pairs of views need it.
    Source: the declaration.
    """
    studio = open_studio(subject, case)
    if studio.rows < 2:
        raise NotApplicable("takes one image at a time")
    motif = studio.noise(rows=1).expand(studio.rows, -1, -1, -1)
    inputs = studio.loaded(motif)
    worst = 0.0
    studio.seed("shared")
    for _ in range(_CALLS):
        shown = studio.views(studio.again(inputs).images)
        worst = max(worst, float((shown - shown[:1]).abs().max()))
    return Evidence(
        error=worst,
        bound=2.0**-20,
        signal=1.0,
        what="difference of two rows that show one picture",
        cause="draws of their own are declared by unit = sample" if worst > 2.0**-20 else "",
    )


@around
def seeds_itself_in_every_call(original: Any, *inputs: Tensor) -> Any:
    seed_everything(0)
    return original(*inputs)


class _Pool:
    """A pool of draws that is too small."""

    def __init__(self, original: Any, size: int) -> None:
        self.original, self.size, self.calls = original, size, 0

    def __call__(self, *inputs: Tensor) -> Any:
        self.calls += 1
        seed_everything(self.calls % self.size)
        return self.original(*inputs)


def _pooled(name: str, size: int) -> Mutant:
    return rebuilt(name, lambda original: _Pool(original, size))


@around
def repeats_the_last_call_often(original: Any, *inputs: Tensor) -> Any:
    """The generator is set back after two calls of three."""
    torch_state, numpy_state, state = (
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
    )
    answer = original(*inputs)
    if int.from_bytes(os.urandom(1), "little") < 170:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(state)
    return answer


@check(
    kind="augmentation",
    options={"labels": [None, "kept", "moved"]},
    rejects=[
        seeds_itself_in_every_call,
        _pooled("alternates_between_two_draws", 2),
        _pooled("has_three_draws_in_all", 3),
        repeats_the_last_call_often,
    ],
    tags=["statistical"],
    once=True,
)
def draws_anew_in_each_call(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What happens in one call says nothing of what happens in the next ones.

    Of a subject that is declared random (trait `stochastic` or `stochastic_in_eval`, or a
    probability between 0 and 1): not all of 200 calls on one picture answer alike, and by
    Fisher's exact test the marks of calls one, two and three apart are independent, with
    Bonferroni's correction and three strikes. NumPy's generator, copied into each worker, or one
    seeded in the call, repeats itself.
    Source: the definition; PyTorch, Randomness in multi-process data loading.
    """
    if not _is_random(subject):
        raise NotApplicable("is not declared random: no trait stochastic, no probability")
    studio = open_studio(subject, case, b=1)
    n = _PAIRS * case.profile.effort
    studio.seed("alike")
    marks = _first_rows(studio, n)
    yield Evidence(
        error=float((marks == marks[:1]).all()),
        bound=0.0,
        signal=1.0,
        what=f"are {n} calls on one picture all alike",
        expected="a random change",
        cause="one that is not random is declared without these traits",
    )

    def test(stream: Stream, n: int) -> Finding:
        marks = _first_rows(studio, n + 3)
        return _together([(marks[:n], marks[lag : n + lag]) for lag in (1, 2, 3)])

    if not bool((marks == marks[:1]).all()):
        yield three_strikes(
            case.root, case.claim, n, test, what="correlation of two calls, one to three apart"
        )


def _first_rows(studio: Studio, calls: int) -> Tensor:
    return torch.stack([rows[0] for rows in signatures(studio, calls)])


def _is_random(subject: Implementation) -> bool:
    if subject.traits & {"stochastic", "stochastic_in_eval"}:
        return True
    try:
        return 0 < probability_of(subject) < 1
    except NotApplicable:
        return False


@around
def draws_from_the_system(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """`SystemRandom`, or a generator seeded by the time."""
    seed_everything(int.from_bytes(os.urandom(4), "little"))
    return original(images, *rest)


@around
def adds_noise_from_its_own_generator(original: Any, images: Tensor, *rest: Tensor) -> Any:
    noise = torch.as_tensor(np.random.default_rng().random(images.shape))
    return on_images(
        original(images, *rest), lambda x: x + 0.1 * noise.to(x) if x.shape == noise.shape else x
    )


class _Counting:
    """Draws that depend on how many calls there were before."""

    calls = 0

    def __init__(self, original: Any) -> None:
        self.original = original

    def __call__(self, images: Tensor, *rest: Tensor) -> Any:
        _Counting.calls += 1
        torch.manual_seed(_Counting.calls)
        return self.original(images, *rest)


depends_on_the_calls_before = rebuilt("depends_on_the_calls_before", _Counting)


@around
def moves_by_the_address_of_its_input(original: Any, images: Tensor, *rest: Tensor) -> Any:
    """`hash` or `id` for a seed."""
    seed_everything(id(object()) ^ int.from_bytes(os.urandom(2), "little"))
    return original(images, *rest)


@check(
    kind="augmentation",
    forbids={"own_generator"},
    rejects=[
        draws_from_the_system,
        adds_noise_from_its_own_generator,
        depends_on_the_calls_before,
        moves_by_the_address_of_its_input,
    ],
    once=True,
)
def repeats_with_the_seeds(subject: Implementation, case: Case) -> Evidence:
    """Seeded alike, `random`, NumPy and torch lead to the same answer, images and labels.

    The object is copied first, with what generator it has; twelve seeds, each twice. A generator
    that none of these seeds is declared by the trait `own_generator`.
    Source: PyTorch, Reproducibility.
    """
    studio = open_studio(subject, case)
    differing, labels = 0, studio.others()
    for draw in range(2 * _REPEATS):
        first = studio.shoot(studio.noise(), draw, labels)
        second = studio.shoot(studio.noise(), draw, labels)
        pairs = [(first.images, second.images), *zip(first.labels, second.labels, strict=True)]
        pairs += [(first.targets[name], second.targets[name]) for name in first.targets]
        differing += not all(_equal(a, b) for a, b in pairs)
    return Evidence(
        error=float(differing),
        bound=0.0,
        signal=float(2 * _REPEATS),
        unit="seeds",
        what="seeds whose second answer is another",
        cause="draws from a generator that the global seeds do not reach" if differing else "",
    )


def _equal(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    return bool(((first == second) | (first != first) & (second != second)).all())
