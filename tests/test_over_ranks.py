"""What the checks of metrics over ranks say of metrics that people write."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import dlcheck
from dlcheck.model import Verdict


class Accuracy:
    """As many write it: sums that compute() reduces, a copy of them."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        right = (prediction == target).sum()
        self.sums = self.sums + torch.stack([right, torch.tensor(len(target))])

    def reduced(self) -> Tensor:
        sums = self.sums.clone()
        if dist.is_initialized():
            dist.all_reduce(sums)
        return sums

    def compute(self) -> Tensor:
        sums = self.reduced()
        return sums[0] / sums[1]


class InPlace(Accuracy):
    """The state itself is reduced: a second reading has the other ranks' rows twice."""

    def reduced(self) -> Tensor:
        if dist.is_initialized():
            dist.all_reduce(self.sums)
        return self.sums


class LeavesEarly(Accuracy):
    def compute(self) -> Tensor:
        return super().compute() if bool(self.sums[1]) else torch.tensor(0.0)


class OnRankZero(Accuracy):
    """Reduced to rank 0 and sent from there, by a method of its own."""

    def together(self) -> None:
        dist.reduce(self.sums, 0)
        dist.broadcast(self.sums, 0)

    def compute(self) -> Tensor:
        return self.sums[0] / self.sums[1]


def said(metric: Any, sync: str = "compute", **declared: Any) -> dict[str, Any]:
    options = {"task": "classification", "sync": sync, **declared}
    args = options.pop("args", {})
    report = dlcheck.validate(
        metric, kind="prediction_metric", args=args, options=options, checks=["*rank*"]
    )
    return {outcome.check: outcome for outcome in report.outcomes}


def failed(outcomes: dict[str, Any]) -> list[str]:
    return [name for name, each in outcomes.items() if each.verdict is not Verdict.PASSED]


@pytest.mark.parametrize(("metric", "sync"), [(Accuracy, "compute"), (OnRankZero, "together")])
def test_a_metric_that_reduces_its_sums_passes(metric: Any, sync: str) -> None:
    outcomes = said(metric, sync)
    assert not failed(outcomes)
    assert len(outcomes) == (3 if sync == "compute" else 2)


def test_a_state_that_is_reduced_in_place_is_found() -> None:
    assert failed(said(InPlace)) == ["a_reading_over_ranks_takes_nothing_in"]


def test_ranks_that_would_wait_for_ever_are_told_at_once() -> None:
    outcomes = said(LeavesEarly)
    assert failed(outcomes) == ["a_rank_without_rows_changes_nothing"]
    message = outcomes["a_rank_without_rows_changes_nothing"].message
    assert "of 3 ranks 0 and 2 wait in a collective that not all of its ranks call" in message


def test_a_sync_method_that_is_not_there_is_told() -> None:
    outcomes = said(Accuracy, "sync")
    assert "options.sync names 'sync', a method that" in next(iter(outcomes.values())).message


def test_nothing_is_left_of_the_ranks() -> None:
    hook, threads = sys.excepthook, threading.active_count()
    said(LeavesEarly)
    assert sys.excepthook is hook
    assert threading.active_count() == threads
    assert not dist.is_initialized()


def test_the_own_collectives_of_torchmetrics_run() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", reason="the peers are not installed")
    args = {"num_classes": {"dim": "k"}}
    f1 = torchmetrics.classification.MulticlassF1Score
    assert not failed(said(f1, args=args))
    # States that are rows of two axes: a rank without any sends one of one axis.
    auroc = torchmetrics.classification.MulticlassAUROC
    outcomes = said(auroc, args=args, prediction="probabilities")
    assert failed(outcomes) == ["a_rank_without_rows_changes_nothing"]
