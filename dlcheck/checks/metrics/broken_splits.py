"""Ways in which the Inception Score over splits goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.class_probabilities import form_of, in_probabilities
from dlcheck.model import Mutant, Subject
from dlcheck.mutants import rebuilt


def over_splits(call: Callable[[Tensor, int], Any]) -> Mutant:
    """A mutant `call(p [n, k], splits)` in place of a function of any form."""

    def mutate(subject: Subject) -> Subject:
        form, argument = form_of(subject), subject.options.get("splits", 1)

        def change(original: Any) -> Any:
            given = getattr(original, "keywords", {})
            splits = given.get(argument, 1) if isinstance(argument, str) else argument
            return lambda p: call(in_probabilities(p, form), splits)

        return rebuilt(call.__name__, change)(subject)

    mutate.__name__ = call.__name__
    return mutate


def divergence(p: Tensor) -> Tensor:
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1).mean()


def _parts(p: Tensor, splits: int) -> list[Tensor]:
    return [p[i * len(p) // splits : (i + 1) * len(p) // splits] for i in range(splits)]


def _told(scores: list[Tensor]) -> tuple[Tensor, Tensor]:
    values = torch.stack(scores)
    return values.mean(), values.std(correction=0)


@over_splits
def drops_the_ragged_rest(p: Tensor, splits: int) -> Any:
    """n // splits samples each, and the rest is never seen."""
    size = len(p) // splits
    return _told([divergence(part).exp() for part in p[: size * splits].split(size)])


@over_splits
def scores_the_first_split_alone(p: Tensor, splits: int) -> Any:
    return divergence(_parts(p, splits)[0]).exp(), torch.zeros(())


@over_splits
def starts_each_split_one_too_late(p: Tensor, splits: int) -> Any:
    parts = [part[1:] if i else part for i, part in enumerate(_parts(p, splits))]
    return _told([divergence(part).exp() for part in parts])


@over_splits
def averages_the_divergences_of_splits(p: Tensor, splits: int) -> Any:
    """The exponential of the mean: the geometric mean of the scores."""
    values = torch.stack([divergence(part) for part in _parts(p, splits)])
    return values.mean().exp(), values.std(correction=0).exp()


@over_splits
def compares_splits_with_the_marginal_of_all(p: Tensor, splits: int) -> Any:
    m = p.mean(0)
    parts = [torch.xlogy(q, q) - torch.xlogy(q, m) for q in _parts(p, splits)]
    return _told([part.sum(1).mean().exp() for part in parts])


@over_splits
def ignores_the_splits(p: Tensor, splits: int) -> Any:
    return divergence(p).exp(), torch.zeros(())


@over_splits
def reports_the_variance(p: Tensor, splits: int) -> Any:
    mean, deviation = _told([divergence(part).exp() for part in _parts(p, splits)])
    return mean, deviation.square()


@over_splits
def divides_the_count_out_twice(p: Tensor, splits: int) -> Any:
    return _told([(divergence(part) / len(part)).exp() for part in _parts(p, splits)])


@over_splits
def divides_by_one_split_less(p: Tensor, splits: int) -> Any:
    scores = [divergence(part).exp() for part in _parts(p, splits)]
    mean, deviation = _told(scores)
    return mean * splits / max(splits - 1, 1), deviation


@over_splits
def inverts_the_scores(p: Tensor, splits: int) -> Any:
    return _told([(-divergence(part)).exp() for part in _parts(p, splits)])
