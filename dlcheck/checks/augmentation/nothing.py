"""Where an augmentation must do nothing: at strength 0, at probability 0, in evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.augmentation.answers import weights_of
from dlcheck.checks.augmentation.broken import on_images
from dlcheck.checks.augmentation.declared import (
    argument_of_probability,
    in_mode,
    rebuilt_with,
)
from dlcheck.checks.augmentation.studio import Studio, open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, default_of
from dlcheck.targets import load_target

_DRAWS = 16


def difference(studio: Studio, built: Implementation, *, exact: bool) -> Iterator[Evidence]:
    """Evidence that images and labels come out as they went in, over sixteen draws."""
    others, low, high = studio.others(), *studio.range
    bound = 0.0 if exact else gamma(64, torch.float32) * (high - low)
    worst, changed = 0.0, 0.0
    for draw in range(_DRAWS):
        motif = studio.noise()
        given = studio.views(studio.develop(motif))
        answer = studio.shoot(motif, draw, others, subject=built)
        shown = studio.views(answer.images)
        if shown.shape != given.shape:
            raise NotApplicable("returns images of another size")
        off = float((shown - given).abs().max()) * (high - low)
        worst = off if off != off or off > worst else worst
        changed = max(changed, _labels_off(studio, others, answer.labels))
        for target, tensor in answer.targets.items():
            before = others[studio.signature.targets[target]]
            alike = before.shape == tensor.shape
            moved = (before.double() - tensor.double()).abs().max() if alike else torch.inf
            changed = max(changed, float(moved))
    yield Evidence(
        error=worst, bound=bound, signal=high - low, what="change of the images, where none is due"
    )
    if studio.signature.labels or studio.signature.targets:
        yield Evidence(
            error=changed,
            bound=gamma(64, torch.float32) * max(studio.side),
            signal=1.0,
            what="change of labels or targets, where none is due",
        )


def _labels_off(studio: Studio, others: dict[str, Tensor], labels: tuple[Tensor, ...]) -> float:
    if studio.signature.labels is None:
        return 0.0
    given, k = others[studio.signature.labels], studio.classes
    if len(labels) == 1 and labels[0].shape == given.shape:
        return float((labels[0].double() - given.double()).abs().max())
    epsilon = float(studio.subject.argument("smoothing", 0.0))
    expected = (1 - epsilon) * weights_of((given,), k) + epsilon / k
    return float((weights_of(labels, k) - expected).abs().max())


def with_another(change: Callable[[Any], Any], name: str) -> Any:
    """Built with another value of the neutral or probability argument than it is told."""

    def mutate(subject: Subject) -> Subject:
        neutral = subject.options.get("neutral", {})
        arguments = list(neutral) or [subject.options["probability"]]
        target = subject.target

        def implementation(*inputs: Tensor, **args: Any) -> Any:

            changed = {key: change(args.get(key)) for key in arguments}
            return load_target(target, near=subject.file)(*inputs, **{**args, **changed})

        told = {key: default_of(subject, key) for key in arguments}
        return dataclasses.replace(
            subject,
            name=f"{subject.name}:{name}",
            target=implementation,
            args={**told, **subject.args},
        )

    mutate.__name__ = name
    return mutate


@around
def darkens_by_a_thousandth(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: 0.999 * x)


@around
def clips_to_the_middle(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x.clamp(0.1, 0.9))


@around
def moves_by_one_pixel(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: x.roll(1, -1))


@around
def rounds_to_bytes(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(original(images, *rest), lambda x: (x * 255).round() / 255)


@check(
    kind="augmentation",
    options={"neutral": True},
    rejects=[
        darkens_by_a_thousandth,
        clips_to_the_middle,
        moves_by_one_pixel,
        rounds_to_bytes,
        with_another(lambda strength: strength + 1, "is_one_step_stronger"),
    ],
    once=True,
)
def changes_nothing_at_neutral_arguments(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Built with the arguments of `neutral` it returns the images and labels that it is given.

    Sixteen draws; to γ₆₄ of float32, as colours go through others and back, and a rotation by 0°
    through an interpolation.
    Source: the declaration.
    """
    built = rebuilt_with(subject, case, **subject.options["neutral"])
    studio = open_studio(built, case)
    yield from difference(studio, built, exact=False)


@check(
    kind="augmentation",
    options={"probability": True},
    rejects=[
        darkens_by_a_thousandth,
        clips_to_the_middle,
        moves_by_one_pixel,
        with_another(lambda p: max(p, 0.1), "applies_to_one_in_ten_at_least"),
        with_another(lambda p: p or 0.5, "takes_zero_for_unset"),
    ],
    once=True,
)
def changes_nothing_at_probability_zero(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Built with probability 0 it returns the images and labels that it is given.

    Sixteen draws of six images, to γ₆₄ of float32. Needs `probability` to name its argument.
    Source: the declaration.
    """
    name = argument_of_probability(subject)
    if name is None:
        raise NotApplicable("the probability is a number, not the name of an argument")
    built = rebuilt_with(subject, case, **{name: 0.0})
    studio = open_studio(built, case)
    yield from difference(studio, built, exact=False)


class InTrainMode(nn.Module):
    """Flips in training and does nothing in evaluation: right, and the base of mutants."""

    def forward(self, images: Tensor) -> Tensor:
        return self.change(images) if self.training else self.rest(images)

    def change(self, images: Tensor) -> Tensor:
        chosen = torch.rand(len(images), device=images.device) < 0.5
        return torch.where(chosen.view(-1, 1, 1, 1), images.flip(-1), images)

    def rest(self, images: Tensor) -> Tensor:
        return images


class ChangesInEvaluationToo(InTrainMode):
    """The functional form, which knows no mode."""

    def rest(self, images: Tensor) -> Tensor:
        return self.change(images)


class ChangesSeldomInEvaluation(InTrainMode):
    def rest(self, images: Tensor) -> Tensor:
        return self.change(images) if float(torch.rand(())) < 0.2 else images


class AddsNoiseInEvaluation(InTrainMode):
    def rest(self, images: Tensor) -> Tensor:
        return images + 0.01 * torch.randn_like(images)


class HearsOnlyTheFirstMode(InTrainMode):
    """Reads the mode when it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.active = self.training

    def forward(self, images: Tensor) -> Tensor:
        return self.change(images) if self.active else images


class RepeatsTheLastDrawInEvaluation(InTrainMode):
    """Turns in evaluation what it turned last."""

    def rest(self, images: Tensor) -> Tensor:
        return images.flip(-1)


def _module(target: type[nn.Module]) -> Subject:
    return Subject(
        name=target.__name__,
        target=f"{__name__}:{target.__name__}",
        kind="augmentation",
        inputs={"images": "image b 3 h w"},
        traits=frozenset({"stochastic"}),
        options={"labels": "kept", "evaluation": "identity"},
    )


_IN_MODE = [
    _module(ChangesInEvaluationToo),
    _module(ChangesSeldomInEvaluation),
    _module(AddsNoiseInEvaluation),
    _module(HearsOnlyTheFirstMode),
]


@check(
    kind="augmentation",
    needs={"stochastic"},
    accepts=[_module(InTrainMode)],
    rejects=_IN_MODE,
    once=True,
)
def draws_nothing_in_evaluation(subject: Implementation, case: Case) -> Evidence:
    """A module that is random in train answers alike in evaluation, whatever the seeds.

    After a call in train mode, sixteen seeds in evaluation: the bound is 0. Random in evaluation
    too is declared by the trait `stochastic_in_eval`, of functions always.
    Source: the trait `stochastic`; torch.nn.Module.eval.
    """
    studio = _in_evaluation(subject, case)
    first, others = None, studio.others()
    worst = 0.0
    for draw in range(_DRAWS):
        shown = studio.shoot(studio.noise(), draw, others).images.double()
        first = shown if first is None else first
        off = float((shown - first).abs().max()) if shown.shape == first.shape else torch.inf
        worst = off if off != off or off > worst else worst
    return Evidence(
        error=worst,
        bound=0.0,
        signal=1.0,
        what="difference of two answers in evaluation",
        cause="random in evaluation too is declared by the trait stochastic_in_eval",
    )


def _in_evaluation(subject: Implementation, case: Case) -> Studio:
    if subject.module is None:
        raise NotApplicable("is no module: a function that is random is stochastic_in_eval")
    studio = open_studio(subject, case, mode="train")
    in_mode(subject, "eval")
    return studio


@check(
    kind="augmentation",
    needs={"stochastic"},
    options={"evaluation": ["identity"]},
    accepts=[_module(InTrainMode)],
    rejects=[*_IN_MODE, _module(RepeatsTheLastDrawInEvaluation)],
    once=True,
)
def is_left_out_of_evaluation(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """In evaluation a module returns the images and labels that it is given.

    After a call in train mode, sixteen seeds, exactly. Declared by `evaluation` = identity: others
    crop to the middle or normalise.
    Source: the declaration.
    """
    studio = _in_evaluation(subject, case)
    yield from difference(studio, subject, exact=True)
