"""What may be done to predictions without an effect on their score, or with a known one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import (
    adds_a_hundredth,
    answers_nan,
    clips_its_prediction,
    leaks_its_prediction,
    negates,
    number,
    or_nan,
    rounds_its_prediction,
    takes_one_minus,
)
from dlcheck.checks.prediction_metric.row_order import same_answer
from dlcheck.checks.prediction_metric.scored import Scored
from dlcheck.checks.prediction_metric.values import wrong
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.numerics.perturbations import bounds_of
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

Change = Callable[[Tensor], Tensor]


def _unchanged(scored: Scored, changes: dict[str, Change]) -> Iterator[Evidence]:
    """The score of usual and of tied rows does not move when the prediction is changed so."""
    for tied in (False, True):
        rows = scored.draw(31, f"invariance {tied}", tied=tied)
        before = scored.answer(rows)
        for what, change in changes.items():
            prediction = change(rows[scored.prediction].double())
            after = scored.answer(scored.with_prediction(rows, prediction))
            yield same_answer(scored, before, after, rows, f"change of the score {what}")


def _free(scored: Scored) -> bool:
    """May predictions be any real number?"""
    spec = scored.case.specs[scored.prediction]
    unbounded = spec.element in ("float", "logit", "log_probability", "positive")
    return unbounded and bounds_of(spec) is None


@check(
    kind="prediction_metric",
    needs={"shift_invariant"},
    rejects=[clips_its_prediction, leaks_its_prediction, rounds_its_prediction],
    once=True,
)
def shifted_predictions_score_alike(score: Implementation, case: Case) -> Iterator[Evidence]:
    """A constant added to every prediction leaves the score. Usual and tied rows [n, …]."""
    scored = Scored.of(score, case)
    if not _free(scored) or case.specs[scored.prediction].element == "positive":
        raise NotApplicable("a shift leaves the domain of the prediction")
    yield from _unchanged(
        scored,
        {
            "with predictions + 2.25": lambda p: p + 2.25,
            "with predictions − 3.5": lambda p: p - 3.5,
        },
    )


@check(
    kind="prediction_metric",
    needs={"scale_invariant"},
    rejects=[clips_its_prediction, leaks_its_prediction, rounds_its_prediction],
    once=True,
)
def scaled_predictions_score_alike(score: Implementation, case: Case) -> Iterator[Evidence]:
    """A positive factor on every prediction leaves the score. Usual and tied rows [n, …]."""
    scored = Scored.of(score, case)
    if not _free(scored):
        raise NotApplicable("a factor leaves the domain of the prediction")
    yield from _unchanged(
        scored, {"with predictions · 4": lambda p: 4 * p, "with predictions / 8": lambda p: p / 8}
    )


@check(
    kind="prediction_metric",
    needs={"monotone_invariant"},
    rejects=[clips_its_prediction, leaks_its_prediction, rounds_its_prediction],
    once=True,
)
def monotone_maps_of_predictions_score_alike(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """A strictly rising map of every prediction leaves the score: only their order counts.

    Usual and tied rows [n, …]; p³ + p for any real number, p² and √p between 0 and 1.
    """
    scored = Scored.of(score, case)
    if _free(scored):
        changes: dict[str, Change] = {
            "with predictions p³ + p": lambda p: p**3 + p,
            "with predictions (p + 3) |p + 3|": lambda p: (p + 3) * (p + 3).abs(),
        }
        if case.specs[scored.prediction].element == "log_probability":
            raise NotApplicable("a map leaves the domain of the prediction")
    elif bounds_of(case.specs[scored.prediction]) == (0.0, 1.0) and scored.form.says == "scores":
        changes = {"with predictions p²": torch.square, "with predictions √p": torch.sqrt}
    else:
        raise NotApplicable("a map leaves the domain of the prediction")
    yield from _unchanged(scored, changes)


@around
def favours_its_prediction(original: Any, prediction: Tensor, target: Tensor) -> Any:
    value = number(original(prediction, target))
    return value + 0.05 * (prediction.double() - 2 * target.double()).mean()


@around
def drops_rows_of_low_predictions(original: Any, prediction: Tensor, target: Tensor) -> Any:
    kept = prediction.double() >= prediction.double().mean()
    return or_nan(original, prediction[kept], target[kept])


@around
def weights_by_the_target(original: Any, prediction: Tensor, target: Tensor) -> Any:
    """Rows of high targets count twice."""
    twice = target.double() > target.double().mean()
    index = torch.cat([torch.arange(len(target), device=target.device), twice.nonzero()[:, 0]])
    return original(prediction[index], target[index])


@check(
    kind="prediction_metric",
    needs={"symmetric"},
    rejects=[drops_rows_of_low_predictions, favours_its_prediction, weights_by_the_target],
    once=True,
)
def exchanging_prediction_and_target_changes_nothing(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """f(t, p) = f(p, t), where both have the same form. Rows [n, …] as usual."""
    scored = Scored.of(score, case)
    if case.specs[scored.prediction] != case.specs[scored.target]:
        raise NotApplicable("prediction and target have different forms")
    for count in (9, 12, 24, 31, 40):
        rows = scored.draw(count, f"exchange {count}")
        turned = scored.with_target(rows, rows[scored.prediction])
        turned = scored.with_prediction(turned, rows[scored.target])
        before, after = scored.answer(rows), scored.answer(turned)
        what = "change of the score when prediction and target are exchanged"
        yield same_answer(scored, before, after, rows, what)


def _roc_without_ties(prediction: Tensor, target: Tensor) -> Tensor:
    pairs = prediction[target == 1][:, None] > prediction[target == 0]
    return pairs.double().mean()


def _tau_a(prediction: Tensor, target: Tensor) -> Tensor:
    """Kendall's τ with one tie in three counted as agreement."""
    p = (prediction[:, None] - prediction).sign()
    t = (target[:, None] - target).sign()
    return (torch.where(p == 0, 0.3, p) * t.abs()).mean()


@check(
    kind="prediction_metric",
    needs={"reverses"},
    options={"range": True},
    rejects=[
        adds_a_hundredth,
        answers_nan,
        Subject(
            name="roc_without_ties",
            target=_roc_without_ties,
            kind="prediction_metric",
            options={"task": "binary", "range": [0, 1]},
            traits=frozenset({"reverses"}),
        ),
        Subject(
            name="tau_with_ties_as_agreement",
            target=_tau_a,
            kind="prediction_metric",
            options={"task": "regression", "range": [-1, 1]},
            traits=frozenset({"reverses"}),
        ),
    ],
    once=True,
)
def reversed_predictions_mirror_the_score(score: Implementation, case: Case) -> Iterator[Evidence]:
    """The negated prediction scores low + high − value: a tie counts one half either way.

    Usual and tied rows [n]; [low, high] is the declared range. Predictions in an interval are
    mirrored in it.
    """
    scored = Scored.of(score, case)
    low, high = scored.ends
    bounds = bounds_of(case.specs[scored.prediction])
    turn = sum(bounds) if bounds is not None else 0.0
    for tied in (False, True):
        rows = scored.draw(31, f"reverse {tied}", tied=tied)
        expected = low + high - scored.value(rows)
        got = scored.value(scored.with_prediction(rows, turn - rows[scored.prediction].double()))
        yield Evidence(
            error=abs(got - expected),
            bound=2 * scored.room(rows, expected),
            signal=max(abs(low), abs(high)),
            what=f"score of the negated prediction of {'tied' if tied else 'usual'} rows",
            expected=f"{expected:.9g}",
            got=f"{got:.9g}",
            cause="ties are not counted one half" if tied else "",
        )


@around
def wobbles(original: Any, *inputs: Tensor) -> Any:
    """Better and worse by turns."""
    return (25 * number(original(*inputs))).sin()


@check(
    kind="prediction_metric",
    needs={"improves_with_each_row"},
    options={"better": ["higher", "lower"]},
    rejects=[negates, takes_one_minus, wobbles],
    once=True,
)
def mending_one_prediction_never_worsens_the_score(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """One prediction moved to its target, the others kept, scores no worse.

    Rows [12, …], mended one after the other until all are perfect: from predictions as usual, and
    from wrong ones where it is known what is wrong.
    """
    scored = Scored.of(score, case)
    sign = -1.0 if score.options["better"] == "lower" else 1.0
    usual = scored.draw(_MENDED, "mending")
    starts = [usual, scored.draw(_MENDED, "mending more")]
    if scored.form.says == "scores":  # not all at the ends: ties there may be worse than none
        bounds = bounds_of(case.specs[scored.prediction])
        turn = sum(bounds) if bounds is not None else 0.0
        starts.append(scored.with_prediction(usual, turn - usual[scored.prediction].double()))
    else:
        with contextlib.suppress(NotApplicable):
            starts.append(wrong(scored, usual))
    for start in starts:
        both = scored.joined(start, scored.perfect(start))
        before = scored.value(start)
        for place in range(1, _MENDED + 1):
            index = [row + _MENDED if row < place else row for row in range(_MENDED)]
            mended = scored.take(both, index)
            value = scored.value(mended)
            fall = sign * (before - value)
            yield Evidence(
                error=max(fall, 0.0) if fall == fall else fall,
                bound=2 * scored.room(mended, before),
                signal=max(abs(before), 1.0),
                what=f"how much worse the score is when one more of {_MENDED} rows is mended",
                expected=f"no worse than {before:.9g}",
                got=f"{value:.9g}",
            )
            before = value


_MENDED = 12  # rows
