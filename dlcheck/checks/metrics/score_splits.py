"""What the Inception Score over splits is: the mean of the splits' own scores, and no other.

Splits may be cut in order or after a shuffle, into parts that differ by one sample or by more:
nothing here depends on which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from dlcheck.checks.metrics.broken_splits import (
    averages_the_divergences_of_splits,
    compares_splits_with_the_marginal_of_all,
    divergence,
    divides_by_one_split_less,
    divides_the_count_out_twice,
    drops_the_ragged_rest,
    ignores_the_splits,
    inverts_the_scores,
    reports_the_variance,
    scores_the_first_split_alone,
    starts_each_split_one_too_late,
)
from dlcheck.checks.metrics.class_probabilities import (
    answer_of,
    resolvable,
    score_of,
    softmax_rows,
    taken,
    unsplit,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_MOST = 5  # splits of pairs: 945 ways to pair ten samples


@dataclass(frozen=True, slots=True)
class Splits:
    """What a subject says of its splits; no deviation where it answers one number."""

    mean: float
    deviation: float | None


@check(
    kind="score_metric",
    options={"splits": True},
    rejects=[
        drops_the_ragged_rest,
        scores_the_first_split_alone,
        starts_each_split_one_too_late,
    ],
    once=True,
)
def every_sample_counts_in_some_split(score: Implementation, case: Case) -> Evidence:
    """Each sample changes the mean over splits, also where the splits do not divide their number.

    probabilities [3 s − 1, k] for s splits, at least two samples in each, whether they are cut at
    i·n // s or into parts of ⌈n / s⌉; one row after the other is replaced by another. Where the
    cut is after a shuffle, that of one seed.
    """
    splits = 3 if isinstance(score.options["splits"], str) else int(score.options["splits"])
    score, n = _with_splits(score, splits), 3 * splits - 1
    p, other = softmax_rows(case, n, "rows"), softmax_rows(case, 1, "other")
    if p.shape[1] < 2:
        raise NotApplicable("there is one class, and nothing to tell apart")
    before, unseen = _scored(score, case, p).mean, []
    for row in range(n):
        changed = p.clone()
        changed[row] = other[0]
        if not abs(_scored(score, case, changed).mean - before) > 1e-9 * abs(before):
            unseen.append(row)
    return Evidence(
        error=float(len(unseen)),
        bound=0.0,
        signal=float(n),
        unit="samples",
        what=f"samples of {n} in {splits} splits that may be replaced without effect",
        expected="none",
        got=", ".join(map(str, unseen)) or "none",
        cause="the rest of n / splits is dropped" if len(unseen) == splits - 1 else "",
    )


@check(
    kind="score_metric",
    options={"splits": True},
    rejects=[
        averages_the_divergences_of_splits,
        compares_splits_with_the_marginal_of_all,
        ignores_the_splits,
        reports_the_variance,
    ],
    once=True,
)
def splits_are_scored_apart_and_averaged(score: Implementation, case: Case) -> Iterator[Evidence]:
    """The score over splits is the arithmetic mean of the scores of its parts, each with its own
    marginal; a second number is their standard deviation.

    probabilities [2 s, k]: for s = 2 and 3 splits of two samples, the subject must agree with one
    of the 3 or 15 ways in which samples can be paired, whatever its order; the deviation is that
    of the population or of a sample.
    Source: Salimans et al., NeurIPS 2016, §4, which reports the mean of ten splits.
    """
    fixed = score.options["splits"]
    for splits in (2, 3) if isinstance(fixed, str) else (int(fixed),):
        if not 2 <= splits <= _MOST:
            raise NotApplicable(f"{splits} splits of two can be made in too many ways, or in one")
        yield _of_some_pairing(_with_splits(score, splits), case, splits)


def _of_some_pairing(score: Implementation, case: Case, splits: int) -> Evidence:
    p = softmax_rows(case, 2 * splits, f"rows of {splits}").double().cpu()
    if p.shape[1] < 2:
        raise NotApplicable("there is one class, and nothing to tell apart")
    told = _scored(score, case, p)
    pairs = {
        (i, j): float(divergence(p[[i, j]]).exp())
        for i, j in itertools.combinations(range(len(p)), 2)
    }
    ways = [[pairs[pair] for pair in way] for way in _pairings(tuple(range(len(p))))]
    best = min(ways, key=lambda way: _off(told, way))
    mean, deviation = _mean(best), _deviation(best, 0)
    got = told.mean if told.deviation is None else (told.mean, told.deviation)
    return Evidence(
        error=_off(told, best),
        bound=resolvable(score, case, mean),
        signal=mean,
        what=f"score over {splits} splits of two samples, to the nearest way to split",
        expected=f"{mean:.9g}, deviation {deviation:.9g}",
        got=f"{got}",
    )


def _pairings(items: tuple[int, ...]) -> Iterator[list[tuple[int, int]]]:
    if not items:
        yield []
        return
    first, *others = items
    for other in others:
        rest = tuple(item for item in others if item != other)
        for way in _pairings(rest):
            yield [(first, other), *way]


def _off(told: Splits, scores: Sequence[float]) -> float:
    """How far what is told is from the mean and the nearer deviation; NaN stays NaN."""
    mean = abs(told.mean - _mean(scores))
    if told.deviation is None:
        return mean
    off = [abs(told.deviation - _deviation(scores, correction)) for correction in (0, 1)]
    return mean + min(off)


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


def _deviation(scores: Sequence[float], correction: int) -> float:
    squares = math.fsum((score - _mean(scores)) ** 2 for score in scores)
    return math.sqrt(squares / (len(scores) - correction))


@check(
    kind="score_metric",
    options={"splits": True},
    rejects=[divides_by_one_split_less, divides_the_count_out_twice, inverts_the_scores],
    regimes=["normal"],
)
def halves_do_not_outscore_the_whole(score: Implementation, case: Case) -> Evidence:
    """The geometric mean of the scores of two equal halves is at most the score of the whole.

    probabilities [2 n, k]. log IS is concave in the set, as for two sets that are pooled. From
    the mean a and the deviation d of two halves, √(a² − d²) is their geometric mean where d is of
    the population, and less where it is of a sample. Not so for the arithmetic mean.
    """
    if not isinstance(score.options["splits"], str):
        raise NotApplicable("the number of splits is fixed, so there is no whole to compare with")
    halves, p = _with_splits(score, 2), softmax_rows(case, 2 * len(case.tensors[0]), "rows")
    told = _scored(halves, case, p)
    if told.deviation is None:
        raise NotApplicable("it reports no deviation, without which the splits are not known")
    whole = score_of(unsplit(score), p, case)
    geometric = max(told.mean**2 - told.deviation**2, 0.0) ** 0.5
    return Evidence(
        error=geometric if geometric != geometric else max(geometric - whole, 0.0),
        bound=3 * resolvable(score, case, whole),
        signal=abs(whole),
        what="geometric mean of two halves above the score of the whole",
        expected=f"at most {whole:.9g}",
        got=f"{geometric:.9g}",
    )


def _with_splits(score: Implementation, splits: int) -> Implementation:
    argument = score.options["splits"]
    if isinstance(argument, str):
        return score.rebuilt(**{argument: splits})
    if argument == 1:
        raise NotApplicable("the score has one split")
    return score


def _scored(score: Implementation, case: Case, p: Tensor) -> Splits:
    """The subject on probabilities [n, k], with the same random stream at every call."""
    answer = answer_of(score, taken(score, p, case), case)
    mean, numbers = score.as_number(answer), answer
    if isinstance(answer, Mapping):
        numbers = list(answer.values())
    pair = isinstance(numbers, (tuple, list)) and len(numbers) > 1
    return Splits(mean, float(numbers[1]) if pair else None)
