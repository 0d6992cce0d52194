"""A score is that of its declared twin."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import torch

from dlcheck.checks.every.twin import reference_of
from dlcheck.checks.prediction_metric.answers import first_of, flat
from dlcheck.checks.prediction_metric.broken import (
    adds_a_hundredth,
    drops_the_last_row,
    takes_one_minus,
)
from dlcheck.checks.prediction_metric.row_order import same_answer
from dlcheck.checks.prediction_metric.scored import Rows, Scored
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import scaled_value
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation
from dlcheck.targets import load_target

_OF_ARRAYS = ("numpy", "scipy", "sklearn")
_OF_TENSORS = ("dlcheck", "torch", "torchmetrics", "torcheval")


@check(
    kind="prediction_metric",
    options={"reference": True},
    forbids={"stochastic", "stochastic_in_eval"},
    rejects=[adds_a_hundredth, drops_the_last_row, scaled_value(1.01), takes_one_minus],
    accepts=[
        Subject(
            name="f_score_beside_scikit_learn",
            target="dlcheck.references.metrics.confusion:ClassScore",
            kind="prediction_metric",
            args={"classes": {"dim": "k"}},
            inputs={"prediction": "label[k] n", "target": "label[k] n"},
            reference="sklearn.metrics:f1_score",
            reference_args={"average": "macro"},
        ),
        Subject(
            name="spearman_beside_scipy",
            target="dlcheck.references.metrics.correlation:SpearmanCorrelation",
            kind="prediction_metric",
            inputs={"prediction": "float n", "target": "float n"},
            reference="scipy.stats:spearmanr",
        ),
    ],
    once=True,
)
def scores_match_their_twin(score: Implementation, case: Case) -> Iterator[Evidence]:
    """On the same rows the score is that of the declared reference.

    Usual and tied rows [n, …], odd and even n, perfect predictions, and all classes but one. A
    reference whose first parameter is named y_true is called target first, and gets arrays where
    it does not belong to torch.
    """
    scored = Scored.of(score, case)
    twin = reference_of(score, case, case.dtype)
    for rows, what in _sorts(scored):
        got = flat(first_of(score(*scored.given(rows))), score.declared.name)
        expected = flat(first_of(twin(*_for_twin(scored, rows, twin))), "the reference")
        yield same_answer(scored, expected, got, rows, f"score against its reference, {what}")


def _sorts(scored: Scored) -> Iterator[tuple[Rows, str]]:
    for count in (24, 31):
        yield scored.draw(count, f"twin {count}"), f"{count} usual rows"
        yield scored.draw(count, f"twin tied {count}", tied=True), f"{count} tied rows"
    yield scored.perfect(scored.draw(31, "twin perfect")), "perfect predictions"


def _for_twin(scored: Scored, rows: Rows, twin: Implementation) -> list[Any]:
    """The rows in the order and in the form in which the reference takes them."""
    live = load_target(scored.subject.declared.reference, near=scored.subject.declared.file)
    owner = (getattr(live, "__module__", None) or "").partition(".")[0]
    given = dict(zip(rows, dataclasses.replace(scored, subject=twin).given(rows), strict=True))
    if owner in _OF_ARRAYS:
        given = {name: _as_array(x) for name, x in given.items()}
    elif owner in _OF_TENSORS:
        given = {name: torch.as_tensor(x) for name, x in given.items()}
    stated = scored.subject.options.get("reference_target_first")
    if stated is None and _first_parameter(live) != "y_true":
        return list(given.values())  # the calling convention of the subject
    pair = [scored.target, scored.prediction]
    if stated is False:
        pair.reverse()
    return [given[name] for name in (*pair, *(n for n in given if n not in pair))]


def _as_array(x: Any) -> Any:
    return x.cpu().numpy() if isinstance(x, torch.Tensor) else x


def _first_parameter(live: Any) -> str:
    try:
        return next(iter(inspect.signature(live).parameters), "")
    except (TypeError, ValueError):
        return ""
