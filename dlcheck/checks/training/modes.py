"""Dropout and batch statistics in a training loop: in train mode for steps, and only then."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.checks.training.calling import epochs_of, keywords
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.checks.training.rehearsal import Rehearsal
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _BATCH, _EPOCHS = 22, 4, 2  # the last batch has two rows: enough for batch statistics


def network(run: Rehearsal, case: Case) -> nn.Module:
    """A network with batch statistics and dropout, for the rows of a rehearsal."""
    seed_everything(case.recipe.seed)
    features = run.x[0].numel()
    classes = int(run.model(run.x[:1]).shape[-1])
    model = nn.Sequential(
        nn.Linear(features, 8),
        nn.BatchNorm1d(8),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Linear(8, classes),
    )
    return model.to(device=case.device, dtype=case.dtype)


def state(model: nn.Module) -> Tensor:
    """Parameters and buffers as one vector, copied."""
    return torch.cat([v.detach().double().reshape(-1) for v in model.state_dict().values()]).cpu()


class Modes:
    """Listens to a model: in which mode the forwards were that a backward came back to."""

    def __init__(self, model: nn.Module) -> None:
        self.modes: list[bool] = []
        model.register_forward_hook(self._heard)

    def _heard(self, model: nn.Module, inputs: Any, output: Any) -> None:
        training = model.training
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda gradient: self.modes.append(training))

    @property
    def wrong(self) -> int:
        return self.modes.count(False)


def held_out(run: Rehearsal, case: Case) -> DataLoader[Any]:
    """A loader of other rows, whose draws are its own."""
    generator = case.generator("held out")
    order = torch.randperm(len(run.x), generator=generator)
    x = run.x.flip(0) * 0.5
    return DataLoader(
        TensorDataset(x, run.y[order]), batch_size=5, generator=torch.Generator().manual_seed(1)
    )


@check(
    kind="training",
    forbids={
        "replaces_head", "no_batch_statistics", "plain_sequential", "perturbed_gradient",
        "micro_batches", "returns_average", "restores_best"
    },
    options={"model": False},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("trains_in_evaluation_mode"),
        faulty("looks_at_the_training_rows_in_train_mode"),
        faulty("repeats_a_batch"),
        faulty("skips_the_first_batch_of_later_epochs"),
    ],
)  # fmt: skip
def steps_are_taken_in_train_mode(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A model in train mode stays in it for every step, and its batch statistics see a batch once.

    A network with BatchNorm and dropout, 22 rows in batches of 4, two epochs. Counted: forwards
    in evaluation mode whose output got a gradient; and the batches that BatchNorm counted beside
    those that came. Exact: the bound is 0.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 2: statistics are those of
    the training batches; Srivastava et al., Dropout, JMLR 15, 2014, section 4.
    """
    run, model, heard = _trained(subject, case)
    steps = max(len(heard.modes), 1)
    yield Evidence(
        error=float(heard.wrong),
        bound=0.0,
        signal=float(steps),
        unit="forwards",
        what="forwards with a gradient in evaluation mode",
        where=f"of {len(heard.modes)}",
        cause="call model.train() before each epoch" if heard.wrong else "",
    )
    epochs = epochs_of(subject, _EPOCHS)
    wanted = epochs * len(run.windows(_BATCH))
    counted = int(model[1].num_batches_tracked)  # type: ignore[index]
    yield Evidence(
        error=float(abs(counted - wanted)),
        bound=0.0,
        signal=float(wanted),
        unit="batches",
        what="batches that entered the running statistics, beside those that came",
        expected=str(wanted),
        got=str(counted),
        cause="a forward in train mode that is no step moves the running statistics"
        if counted > wanted
        else "",
    )


def _trained(subject: Implementation, case: Case) -> tuple[Rehearsal, nn.Module, Modes]:
    run = Rehearsal.of(subject, case, rows=_ROWS)
    model = network(run, case)
    heard = Modes(model)
    epochs = epochs_of(subject, _EPOCHS)
    run.trained(subject, _BATCH, model=model, epochs=epochs)
    return run, model, heard


@check(
    kind="training",
    forbids={"restores_best", "replaces_head", "plain_sequential"},
    options={"validation": True, "model": False},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("validates_in_train_mode"),
        faulty("stays_in_evaluation_mode"),
        faulty("steps_on_validation_rows"),
        faulty("adds_validation_gradients"),
        faulty("draws_a_random_number"),
    ],
)
def evaluation_leaves_no_trace(subject: Implementation, case: Case) -> Evidence:
    """Training with validation ends in the same weights and buffers as training without.

    A network with BatchNorm and dropout, three epochs with the same seed, the validation loader
    drawing from a stream of its own. Both runs make the same numbers in the same order; for
    devices that add in any order the bound is one rounding per row and step.
    Source: validation estimates and does not train; Goodfellow et al., section 5.3.
    """
    if "no_batch_statistics" in subject.traits:
        raise NotApplicable("shown with a network with batch statistics")
    run = Rehearsal.of(subject, case, rows=_ROWS)
    start, ends = network(run, case), []
    for further in ({}, {"validation": held_out(run, case)}):
        model = copy.deepcopy(start)
        given = keywords(subject, epochs=3, **further)
        seed_everything(case.recipe.seed)
        answer = subject(model, run.loader(_BATCH), run.optimizer(model), run.loss, **given)
        ends.append(state(answer if isinstance(answer, nn.Module) else model))
    without, with_it = ends
    moved = float((without - state(start)).abs().amax())
    return Evidence(
        error=float((with_it - without).abs().amax()),
        bound=gamma(3 * _ROWS, case.dtype) * float(without.abs().amax()),
        signal=moved,
        what="weights and buffers after 3 epochs with validation, beside those without",
    )
