"""What repeats: calls in a row must not, and equal seeds must."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.checks.augmentation.broken import on_images
from dlcheck.checks.augmentation.declared import probability_of
from dlcheck.checks.augmentation.signatures import PAIRS, signatures, together
from dlcheck.checks.augmentation.studio import Studio, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Mutant
from dlcheck.mutants import around, rebuilt
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_REPEATS = 6


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
    n = PAIRS * case.profile.effort
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
        return together([(marks[:n], marks[lag : n + lag]) for lag in (1, 2, 3)])

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
