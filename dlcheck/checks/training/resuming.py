"""Training that is broken off and gone on with ends where it would have ended."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.checks.training.calling import argument, keywords
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.checks.training.modes import network, state
from dlcheck.checks.training.rehearsal import Rehearsal
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROWS, _BATCH = 22, 4


def resumes_without_the_random_streams(subject: Subject) -> Subject:
    """Only where they are promised: else the weights are lost."""
    stated = subject.options.get("resume")
    promised = isinstance(stated, Mapping) and stated.get("random")
    fault = "resumes_without_the_random_streams" if promised else "resumes_without_weights"
    return faulty(fault)(subject)


@check(
    kind="training",
    forbids={"replaces_head"},
    options={"resume": True},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("resumes_without_weights"),
        faulty("resumes_without_the_optimizer"),
        resumes_without_the_random_streams,
        faulty("starts_counting_epochs_again"),
    ],
)
def training_resumes_where_it_stopped(subject: Implementation, case: Case) -> Evidence:
    """Two epochs, a new process and two more end in the weights and buffers of four epochs.

    The second run starts from other weights, a new optimizer with momentum, a new schedule where
    one is declared, and other random streams; all it knows is the checkpoint. With
    `resume = { random = true }` the network has dropout and the order is drawn from the global
    stream, else neither. The bound is one rounding per row and step.
    Source: a checkpoint holds the whole state of training; torch documentation, Saving and
    loading a general checkpoint.
    """
    run = Rehearsal.of(subject, case, rows=_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        whole = _trained(subject, case, run, Path(folder, "whole.pt"), epochs=(4,))
        parts = _trained(subject, case, run, Path(folder, "parts.pt"), epochs=(2, 4))
        half = _trained(subject, case, run, Path(folder, "half.pt"), epochs=(2,))
    moved = float((whole - half).abs().amax())
    return Evidence(
        error=float((parts - whole).abs().amax()),
        bound=gamma(4 * _ROWS, case.dtype) * float(whole.abs().amax()),
        signal=moved,
        what="weights and buffers after 2 epochs, a new start and 2 more, beside 4 in one go",
        cause="nothing was gone on from: the last two epochs were not trained"
        if torch.equal(parts, half)
        else "",
    )


def _trained(
    subject: Implementation, case: Case, run: Rehearsal, path: Path, epochs: tuple[int, ...]
) -> Tensor:
    """The state at the end of runs that share nothing but the checkpoint."""
    stated = subject.options["resume"]
    random = isinstance(stated, Mapping) and bool(stated.get("random"))
    first = network(run, case) if random else copy.deepcopy(run.model)
    for number, count in enumerate(epochs):
        model = copy.deepcopy(first)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * number)  # the weights of a new start are others
        optimizer = run.optimizer(model)
        given: dict[str, Any] = {argument(subject, "resume"): str(path)}
        if subject.options.get("scheduler"):
            given["scheduler"] = LambdaLR(optimizer, lambda t: 1 / (1 + t))
        seed_everything(case.recipe.seed + number)
        loader = _shuffled(run) if random else run.loader(_BATCH)
        subject(model, loader, optimizer, run.loss, **{**keywords(subject, epochs=count), **given})
    return state(model)


def _shuffled(run: Rehearsal) -> DataLoader[Any]:
    return DataLoader(TensorDataset(run.x, run.y), batch_size=_BATCH, shuffle=True)
