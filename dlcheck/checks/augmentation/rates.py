"""How often an augmentation applies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.broken import untouched
from dlcheck.checks.augmentation.declared import (
    argument_of_probability,
    in_mode,
    probability_of,
    rebuilt_with,
)
from dlcheck.checks.augmentation.studio import Studio, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Mutant, Subject
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, at_least, binomial, detectable, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, default_of
from dlcheck.targets import load_target

_ROWS, _CALLS = 1024, 200  # images with a draw of their own; calls, where they share one
_BATCH = 16


def visible(studio: Studio, subject: Implementation, motif: Tensor, n: int) -> int:
    """In how many of n independent draws the images changed.

    Every row counts where each has a draw of its own; each call where its rows share one; the
    first row of each call where neither is declared.
    """
    unit = subject.options.get("unit")
    inputs = studio.loaded(motif)
    given = inputs[list(studio.signature.specs).index(studio.signature.images)]
    changed = counted = 0
    while counted < n:
        shown = studio.again(inputs, subject).images
        if shown.shape != given.shape:
            raise NotApplicable("returns images of another size: all of them changed")
        different = (shown != given) | (shown != shown)
        each = different.flatten(1).any(1) if studio.signature.is_batched else different.any()[None]
        rows = {"sample": each, "batch": each.any()[None]}.get(str(unit), each[:1])
        changed += int(rows[: n - counted].sum())
        counted += len(rows)
    return changed


def draws_for_each_row(subject: Implementation) -> bool:
    """Has each image of a call its own draw?"""
    return subject.options.get("unit") == "sample"


def batch_for(subject: Implementation) -> int:
    """Images in a call: few where the first one tells, many where one may be its own partner."""
    shared = not draws_for_each_row(subject) and subject.options.get("labels") != "mixed"
    return 2 if shared else _BATCH


def units(studio: Studio, subject: Implementation) -> int:
    """How many draws a first sample has."""
    each = draws_for_each_row(subject) and studio.rows > 1
    return (_ROWS if each else _CALLS) * studio.case.profile.effort


@around
def never_applies(original: Any, *inputs: Tensor) -> Any:
    return untouched(inputs)


@around
def skips_every_third_image(original: Any, *inputs: Tensor) -> Any:
    return _skipping(original, inputs, 1 / 3)


def _skipping(original: Any, inputs: tuple[Tensor, ...], share: float) -> Any:
    """Some rows as they went in."""
    kept = torch.rand(len(inputs[0])) < share
    answer, old = original(*inputs), untouched(inputs)
    if isinstance(answer, Tensor):
        answer, old = (answer,), (old,)
    mixed = [
        torch.where(kept.view(-1, *[1] * (new.dim() - 1)), before, new)
        for before, new in zip(old, answer, strict=True)
    ]
    return mixed[0] if len(mixed) == 1 else tuple(mixed)


def skips_by_the_detectable_effect(subject: Subject) -> Subject:
    """Skips δ/p of the images to which it should apply, δ being the smallest detectable effect."""
    p = _stated(subject)
    share = detectable((p * (1 - p)) ** 0.5, _ROWS) / p

    def call(original: Any, *inputs: Tensor) -> Any:
        return _skipping(original, inputs, share)

    call.__name__ = "skips_by_the_detectable_effect"
    return around(call)(subject)


def rebuilt_at(name: str, change: Callable[[float], float]) -> Mutant:
    """Built with another probability than it is told, where that is an argument."""

    def mutate(subject: Subject) -> Subject:
        argument = subject.options["probability"]
        target = load_target(subject.target, near=subject.file)

        def implementation(*inputs: Tensor, **args: Any) -> Any:
            given = args.get(argument, default_of(subject, argument))
            return target(*inputs, **{**args, argument: change(given)})

        told = {argument: default_of(subject, argument), **subject.args}
        return dataclasses.replace(
            subject, name=f"{subject.name}:{name}", target=implementation, args=told
        )

    mutate.__name__ = name
    return mutate


# `rand() > p` where `rand() < p` was meant: hidden at ½.
applies_with_the_complement = rebuilt_at("applies_with_the_complement", lambda p: 1 - p)
applies_always = rebuilt_at("applies_always", lambda p: 1.0)
applies_half_as_often_again = rebuilt_at("applies_half_as_often_again", lambda p: min(1.0, 1.5 * p))


def _stated(subject: Subject) -> float:
    p = subject.options["probability"]
    return float(subject.args.get(p, default_of(subject, p)) if isinstance(p, str) else p)


@around
def tries_again_where_nothing_changed(original: Any, *inputs: Tensor) -> Any:
    """1 − (1 − p)²."""
    answer = original(*inputs)
    images = answer if isinstance(answer, Tensor) else answer[0]
    kept = (images == inputs[0]).flatten(1).all(1)
    again = original(*inputs)
    if isinstance(answer, Tensor):
        return torch.where(kept.view(-1, *[1] * (answer.dim() - 1)), again, answer)
    return tuple(
        torch.where(kept.view(-1, *[1] * (old.dim() - 1)), new, old)
        for old, new in zip(answer, again, strict=True)
    )


@check(
    kind="augmentation",
    forbids={"may_leave_unchanged"},
    options={"labels": [None, "kept", "moved"], "probability": True},
    rejects=[
        never_applies,
        skips_every_third_image,
        skips_by_the_detectable_effect,
        applies_with_the_complement,
    ],
    tags=["statistical"],
    once=True,
)
def applies_with_the_declared_probability(
    subject: Implementation, case: Case
) -> Iterator[Evidence]:
    """The share of images that change is the declared probability.

    An exact binomial test by three strikes over 1,024 images (200 calls where `unit` is not
    sample), at the declared p and, where that names an argument, at ¼, since at ½ the chance of
    applying and of not applying are the same. At p = 1 a change must show at least once: a shift by
    0 does not. Where applying often changes nothing the trait `may_leave_unchanged` makes p an
    upper bound.
    Source: the declaration.
    """
    for built, studio in _at_several(subject, case):
        p = probability_of(built)
        motif = studio.noise()

        def test(
            stream: Stream,
            n: int,
            built: Implementation = built,
            studio: Studio = studio,
            p: float = p,
            motif: Tensor = motif,
        ) -> Finding:
            changed = visible(studio, built, motif, n)
            if p == 1.0:
                return binomial(int(changed > 0), 1, 1.0)
            return binomial(changed, n, p)

        yield three_strikes(
            case.root,
            f"{case.claim}/p={p:g}",
            units(studio, built),
            test,
            what=f"share of images that changed at p = {p:g}",
            cause="if applying may change nothing, declare the trait may_leave_unchanged",
        )


def _at_several(subject: Implementation, case: Case) -> Iterator[tuple[Implementation, Studio]]:
    """The subject as declared and, where p names an argument, with p = ¼."""
    name = argument_of_probability(subject)
    changes: list[dict[str, Any]] = [{}] if name is None else [{}, {name: 0.25}]
    for change in changes:
        built = rebuilt_with(subject, case, **change) if change else subject
        studio = open_studio(
            in_mode(built, "train"), case, b=_BATCH if draws_for_each_row(subject) else 2
        )
        if probability_of(built) > 0:
            yield built, studio


# Of the smallest effect that is seen in 200 calls at p = ½.
applies_more_by_the_detectable_effect = rebuilt_at(
    "applies_more_by_the_detectable_effect", lambda p: p + detectable(0.5, _CALLS)
)


@check(
    kind="augmentation",
    options={"probability": True},
    rejects=[
        applies_always,
        applies_half_as_often_again,
        tries_again_where_nothing_changed,
        applies_more_by_the_detectable_effect,
    ],
    tags=["statistical"],
    once=True,
)
def applies_no_more_often_than_declared(subject: Implementation, case: Case) -> Evidence:
    """The share of images that change is at most the declared probability.

    For mixtures too, where an image that is its own partner does not change. An exact one-sided
    binomial test by three strikes over 1,024 images (200 calls where `unit` is not sample).
    Source: the declaration.
    """
    p = probability_of(subject)
    if not p < 1:
        raise NotApplicable("a probability of 1 bounds nothing")
    studio = open_studio(subject, case, b=batch_for(subject))
    motif = studio.noise()

    def test(stream: Stream, n: int) -> Finding:
        changed = visible(studio, subject, motif, n)
        return at_least(n - changed, n, 1 - p)

    return three_strikes(
        case.root,
        case.claim,
        units(studio, subject),
        test,
        what=f"share of images left alone at p = {p:g}",
        resolution=1.0,
    )
