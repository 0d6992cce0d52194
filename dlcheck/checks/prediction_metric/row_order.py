"""A score belongs to the set of its rows: not to their order, and not to how often it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.answers import same_numbers
from dlcheck.checks.prediction_metric.broken import (
    counts_the_last_row_twice,
    divides_by_one_row_less,
    drops_the_last_row,
    number,
    shifts_the_targets,
    smooths_with_one_row,
    sums_over_rows,
)
from dlcheck.checks.prediction_metric.scored import Rows, Scored
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def same_answer(
    scored: Scored, before: Tensor, after: Tensor, rows: Rows, what: str, cause: str = ""
) -> Evidence:
    """Two answers, of one number or many, are the same but for rounding; NaN where NaN was."""
    return same_numbers(before, after, lambda size: scored.room(rows, size), what, cause)


@check(
    kind="prediction_metric",
    forbids={"ordered", "stochastic", "stochastic_in_eval"},
    rejects=[counts_the_last_row_twice, drops_the_last_row, shifts_the_targets],
    once=True,
)
def reordering_rows_changes_no_score(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Rows shuffled, predictions with their targets, score the same, number for number.

    Rows [n, …] as usual, odd and even n, without ties.
    """
    scored = Scored.of(score, case)
    for count in (24, 31, 40):
        rows = scored.draw(count, f"order {count}")
        before = scored.answer(rows)
        order = torch.randperm(count, generator=case.generator(f"shuffle {count}"))
        for index, what in ((order, "shuffled"), (torch.arange(count).flip(0), "reversed")):
            after = scored.answer(scored.take(rows, index))
            yield same_answer(scored, before, after, rows, f"change of the score of rows {what}")


@around
def takes_ties_in_order(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    """Equal scores are told apart by their place, as by a sort that is stable."""
    place = torch.arange(len(prediction), dtype=prediction.dtype, device=prediction.device)
    return original(prediction + 1e-9 * place, *rest)


@around
def takes_ties_from_behind(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    place = torch.arange(len(prediction), dtype=prediction.dtype, device=prediction.device)
    return original(prediction - 1e-9 * place, *rest)


@around
def takes_ties_of_odd_places_down(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    """Equal scores are told apart by the half of the row in which they were computed."""
    odd = torch.arange(len(prediction), device=prediction.device) % 2
    return original(prediction - 1e-9 * odd, *rest)


@check(
    kind="prediction_metric",
    needs={"monotone_invariant"},
    forbids={"ordered", "orders_ties", "stochastic", "stochastic_in_eval"},
    rejects=[takes_ties_from_behind, takes_ties_in_order, takes_ties_of_odd_places_down],
    once=True,
)
def tied_rows_have_no_order(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Where rows have equal scores, the value does not depend on which comes first.

    Scores [n] in steps of ½, so that most are tied; rows by rising and by falling target.
    """
    scored = Scored.of(score, case)
    if scored.form.says not in ("scores", "values") or scored.count_dims > 1:
        raise NotApplicable("ranks no rows by one score each")
    for count in (12, 24, 31, 40):
        rows = scored.draw(count, f"ties {count}", tied=True)
        order = rows[scored.target].double().argsort(0)
        rising = scored.answer(scored.take(rows, order))
        falling = scored.answer(scored.take(rows, order.flip(0)))
        yield same_answer(
            scored, rising, falling, rows,
            "change of the score when tied rows change places",
            cause="ties are broken by the order of rows; equal scores should count alike",
        )  # fmt: skip


@check(
    kind="prediction_metric",
    needs={"size_invariant"},
    forbids={"ordered", "stochastic", "stochastic_in_eval"},
    rejects=[divides_by_one_row_less, smooths_with_one_row, sums_over_rows],
    once=True,
)
def repeating_rows_changes_no_score(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Every row twice, or 30 times, scores the same: a score of shares, not of counts.

    Rows [n, …] as usual; 30 times 24 of them overflow what is counted in bytes.
    """
    scored = Scored.of(score, case)
    for count in (24, 31):
        rows = scored.draw(count, f"repeat {count}")
        before = scored.answer(rows)
        for times in (2, 30):
            again = scored.joined(*[rows] * times)
            after = scored.answer(again)
            what = f"change of the score when each row is there {times} times"
            yield same_answer(scored, before, after, again, what)


def _variance(prediction: Tensor, target: Tensor, ddof: int = 1) -> Tensor:
    """Σ (p − t)² / (n − ddof)."""
    return (prediction - target).square().sum() / (len(target) - ddof)


@around
def forgets_the_ddof(original: Any, prediction: Tensor, target: Tensor, **_: Any) -> Any:
    return number(original(prediction, target, ddof=0))


@around
def takes_one_more_degree(original: Any, prediction: Tensor, target: Tensor, **_: Any) -> Any:
    return number(original(prediction, target, ddof=3))


@around
def divides_by_the_rows_less_one_twice(
    original: Any, prediction: Tensor, target: Tensor, **_: Any
) -> Any:
    rows = len(target)
    return number(original(prediction, target, ddof=2)) * rows / (rows - 1)


@check(
    kind="prediction_metric",
    options={"ddof": True},
    forbids={"ordered", "size_invariant", "stochastic", "stochastic_in_eval"},
    rejects=[divides_by_the_rows_less_one_twice, forgets_the_ddof, takes_one_more_degree],
    accepts=[
        Subject(
            name="residual_variance",
            target=_variance,
            kind="prediction_metric",
            args={"ddof": 2},
            inputs={"prediction": "float n", "target": "float n"},
            options={"ddof": "ddof"},
        ),
    ],
    once=True,
)
def repeating_rows_leaves_the_sum_over_n_less_ddof(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """A sum over n − ddof: with every row m times, value · (mn − ddof) is m times what it was.

    Rows [n, …] as usual, n = 9 and 24; m = 2.
    """
    scored, ddof = Scored.of(score, case), int(score.argument("ddof"))
    for count in (9, 24):
        rows = scored.draw(count, f"ddof {count}")
        again = scored.joined(rows, rows)
        expected = scored.value(rows) * 2 * (count - ddof) / (2 * count - ddof)
        got = scored.value(again)
        yield Evidence(
            error=abs(got - expected),
            bound=2 * scored.room(again, expected),
            signal=max(abs(expected), 1.0),
            what=f"value of rows that are each there twice, with ddof = {ddof}",
            expected=f"{expected:.9g}",
            got=f"{got:.9g}",
        )
