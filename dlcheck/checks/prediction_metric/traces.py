"""A score looks at its inputs, and leaves them and itself as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.prediction_metric.broken import number
from dlcheck.checks.prediction_metric.row_order import same_answer
from dlcheck.checks.prediction_metric.scored import Scored
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around, rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded


@around
def sorts_its_prediction_in_place(original: Any, prediction: Tensor, *rest: Tensor) -> Any:
    value = original(prediction, *rest)
    prediction.copy_(prediction.sort(0).values)
    return value


@around
def zeroes_its_target(original: Any, prediction: Tensor, target: Tensor, *rest: Tensor) -> Any:
    value = original(prediction, target, *rest)
    target.zero_()
    return value


def _with_memory(original: Any) -> Any:
    seen: list[Tensor] = []

    def call(*inputs: Any) -> Any:
        seen.append(number(original(*inputs)))
        return torch.stack(seen).mean() + 0.01 * (len(seen) - 1)

    return call


keeps_a_list_between_calls = rebuilt("keeps_a_list_between_calls", _with_memory)


@check(
    kind="prediction_metric",
    forbids={"stochastic", "stochastic_in_eval"},
    rejects=[keeps_a_list_between_calls, sorts_its_prediction_in_place, zeroes_its_target],
    once=True,
)
def scoring_leaves_no_trace(score: Implementation, case: Case) -> Iterator[Evidence]:
    """The same rows score the same after other rows were scored, and inputs are not written to.

    Rows [n, …] as usual, 31, 24 and the 31 again. A default argument that is a list, or a buffer
    that is not cleared, shows here.
    """
    scored = Scored.of(score, case)
    rows, others = scored.draw(31, "trace"), scored.draw(24, "other rows")
    given = scored.given(rows)
    kept = [torch.as_tensor(x).clone() for x in given]
    before = scored.answer(rows)
    scored.answer(others)
    after = scored.answer(rows)
    yield same_answer(scored, before, after, rows, "change of the score after other rows")
    guarded(score, *given)
    for name, x, old in zip(rows, given, kept, strict=True):
        now = torch.as_tensor(x)
        changed = int((now != old).sum()) if now.shape == old.shape else old.numel()
        yield Evidence(
            error=float(changed),
            bound=0.0,
            signal=1.0,
            what=f"elements of {name} that the score has written to",
        )


@around
def counts_ignored_targets(original: Any, prediction: Tensor, target: Tensor) -> Any:
    return original(prediction, target.clamp(min=0))


@around
def takes_the_ignored_for_class_one(original: Any, prediction: Tensor, target: Tensor) -> Any:
    return original(prediction, torch.where(target < 0, 1, target))


@around
def divides_by_all_targets(original: Any, prediction: Tensor, target: Tensor) -> Any:
    return number(original(prediction, target)) * (target >= 0).sum() / target.numel()


@check(
    kind="prediction_metric",
    options={"ignore_index": True},
    rejects=[counts_ignored_targets, divides_by_all_targets, takes_the_ignored_for_class_one],
    once=True,
)
def ignored_targets_change_no_score(score: Implementation, case: Case) -> Iterator[Evidence]:
    """Rows whose target is `ignore_index`, and what is predicted there, leave the score.

    Rows [n, …] against the same with 9 ignored rows appended, with two predictions for them.
    """
    scored = Scored.of(score, case)
    ignored = scored.ignored
    if ignored is None:
        raise NotApplicable("no label is ignored")
    rows, extra = scored.draw(31, "kept"), scored.draw(9, "ignored")
    before = scored.answer(rows)
    other = scored.draw(9, "other prediction")
    for padding, what in ((extra, "appended"), (other, "appended with other predictions")):
        marked = {**padding, scored.target: torch.full_like(padding[scored.target], ignored)}
        after = scored.answer(scored.joined(rows, marked))
        yield same_answer(
            scored, before, after, rows, f"change of the score with ignored targets {what}"
        )
