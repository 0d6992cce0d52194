"""An evaluation looks and leaves no trace: mode, gradients, statistics, weights, rows."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.evaluation import wrong_evaluations as wrong
from dlcheck.checks.evaluation.stage import Stage
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BATCH = 4


class Heard:
    """Listens to a model: in which mode its forwards were, and whether they built a graph."""

    def __init__(self, model: Any) -> None:
        self.calls = self.training = self.graphs = 0
        model.register_forward_hook(self._note)

    def _note(self, model: Any, inputs: Any, output: Any) -> None:
        self.calls += 1
        self.training += any(module.training for module in model.modules())
        self.graphs += isinstance(output, Tensor) and output.requires_grad


@check(
    kind="evaluation",
    forbids={"folds", "fits"},
    dtypes=["float64"],
    once=True,
    rejects=[
        wrong.stays_in_train_mode,
        wrong.leaves_evaluation_mode,
        wrong.ends_in_train_mode,
        wrong.moves_the_running_statistics,
    ],
)
def evaluates_in_evaluation_mode(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Every forward is in evaluation mode, and the model comes back in the mode that it came in.

    A network with BatchNorm and dropout comes in train mode, then in evaluation mode. Counted
    are forwards with a module in train mode, and modules whose mode is another one afterwards.
    Exact: the bound is 0.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 2 (inference); Srivastava
    et al., Dropout, JMLR 15, 2014, section 4.
    """
    for mode in (True, False):
        stage = Stage.of(subject, case)
        stage.model.train(mode)
        heard = Heard(stage.model)
        subject.number(stage.model, stage.loader(_BATCH))
        modules = list(stage.model.modules())
        came = "train" if mode else "evaluation"
        if heard.calls:
            yield Evidence(
                error=float(heard.training),
                bound=0.0,
                signal=float(heard.calls),
                unit="forwards",
                what=f"forwards in train mode of a model that came in {came} mode",
                cause="call model.eval()",
            )
        yield Evidence(
            error=float(sum(module.training is not mode for module in modules)),
            bound=0.0,
            signal=float(len(modules)),
            unit="modules",
            what=f"modules that are not in {came} mode afterwards, in which they came",
            cause="keep model.training and call model.train(was_training) at the end",
        )


@check(
    kind="evaluation",
    forbids={"folds", "fits"},
    dtypes=["float64"],
    once=True,
    rejects=[wrong.builds_a_graph, wrong.goes_backward,
             wrong.rounds_the_weights, wrong.moves_the_running_statistics],
)  # fmt: skip
def evaluation_changes_no_weight(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """No graph is built, and weights and buffers are after it what they were; no gradient is added.

    Gradients are set beforehand; they may be cleared, as Lightning's Trainer does, and must not
    become others. Exact: the bound is 0.
    Source: an evaluation is a function of the model; torch documentation, no_grad.
    """
    stage = Stage.of(subject, case)
    model = stage.model
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    heard, before = Heard(model), copy.deepcopy(model.state_dict())
    subject.number(model, stage.loader(_BATCH))
    if heard.calls:
        yield Evidence(
            error=float(heard.graphs),
            bound=0.0,
            signal=float(heard.calls),
            unit="forwards",
            what="forwards that built a graph",
            cause="evaluate under torch.no_grad() or torch.inference_mode()",
        )
    after = model.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    grads = [p.grad for p in model.parameters()]
    lost = sum(g is not None and not _kept(g) for g in grads)
    yield Evidence(
        error=float(len(changed) + lost),
        bound=0.0,
        signal=float(len(before) + len(grads)),
        unit="tensors",
        what="weights, buffers and gradients that the evaluation changed",
        where=", ".join(changed) + f"{lost} gradients" * bool(lost),
    )


def _kept(gradient: Tensor) -> bool:
    """As it was set, or cleared."""
    return bool((gradient == 0.25).all()) or not bool(gradient.any())


@check(
    kind="evaluation",
    forbids={"folds", "stochastic_in_eval"},
    dtypes=["float64"],
    once=True,
    rejects=[wrong.adds_up_over_calls, wrong.scales_the_rows_in_place,
             wrong.moves_the_running_statistics, wrong.stays_in_train_mode],
)  # fmt: skip
def evaluating_again_gives_the_same(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A second evaluation of the same model with the same loader gives the same value.

    To the bit, whatever stands in the global random streams. The rows of the data set are
    compared too. Exact: the bound is 0.
    Source: an evaluation is a function of model and rows.
    """
    stage = Stage.of(subject, case)
    loader, x = stage.loader(_BATCH), stage.x.clone()
    first = subject.number(stage.model, loader)
    torch.rand(7)
    second = subject.number(stage.model, loader)
    yield Evidence(
        error=abs(first - second),
        bound=0.0,
        signal=max(abs(first), 1e-3),
        what="value of a second call",
        expected=f"{first:.6g}",
        got=f"{second:.6g}",
    )
    yield Evidence(
        error=float((stage.x != x).sum()),
        bound=0.0,
        signal=float(x.numel()),
        unit="numbers",
        what="numbers of the data set that the evaluation changed",
    )
