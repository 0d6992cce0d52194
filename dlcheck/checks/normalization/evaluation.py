"""In eval the running statistics are used, and nothing else of the batch; frozen ones always."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.agreement import agreement
from dlcheck.checks.normalization.affine import by_position, fit
from dlcheck.checks.normalization.keepers import (
    adds_no_eps_in_eval,
    evaluates_with_the_batch,
    forgets_the_running_mean,
    kept,
    takes_the_running_variance_for_the_deviation,
    updates_in_eval,
)
from dlcheck.checks.normalization.normalizer import FAR, Normalizer, scatter
from dlcheck.checks.normalization.statistics import known, prepared
from dlcheck.checks.normalization.torch_norms import FROZEN, RUNNING
from dlcheck.model import Evidence
from dlcheck.mutants import around, rebuilt
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_ROOM = 128  # roundings of a few operations, times coefficients up to 4


@check(
    kind="normalization",
    options={"running": True},
    rejects=[
        kept(evaluates_with_the_batch),
        kept(updates_in_eval),
        kept(takes_the_running_variance_for_the_deviation),
        kept(forgets_the_running_mean),
        kept(adds_no_eps_in_eval),
    ],
    accepts=RUNNING,
    dtypes=["float64", "float32"],
    once=True,
)
def eval_uses_the_running_statistics(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """In eval y = a(x − μ)/√(σ² + ε) + b with the running μ and σ², whatever else is in the batch.

    The statistics are set to three pairs of known values, one of them with a variance near ε, and
    a and b fitted to each position over all rows and all three: what remains is the error. Batch
    statistics, a coupling of the rows, a variance taken for a deviation or another ε than in train
    leave more than rounding does. The statistics themselves must stay as they are, bit by bit.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 2, line 11.
    """
    made, running = prepared(subject, case)
    running.module.eval()
    zs, ys, rooms, changed = [], [], [], 0
    for turn, variance in enumerate((1.0, 4.0, made.law.eps or 9.0)):
        mean, var = known(made, running, f"known {turn}", variance)
        running.set_to(mean, var)
        before = running.tensor("mean").clone(), running.tensor("var").clone()
        x = made.drawn(f"evaluated {turn}", variance**0.5)
        z, room = _by_running(made, *before, x)
        with torch.no_grad():
            ys.append(made(x).double())
        zs.append(z)
        rooms.append(room)
        changed += int((running.tensor("mean") != before[0]).sum())
        changed += int((running.tensor("var") != before[1]).sum())
    fitted, judged = fit(by_position(zs), by_position(ys))
    apart = by_position(rooms).square().sum(0).sqrt().where(judged, torch.tensor(math.inf).to(z))
    y = by_position(ys)
    yield agreement("answer in eval against a ⊙ z + b", y, fitted, apart.expand_as(y))
    yield Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(2 * running.tensor("mean").numel()),
        unit="elements",
        what="running statistics that eval changed",
    )


def _by_running(made: Normalizer, mean: Tensor, var: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """z = (x − μ)/√(σ² + ε) by the running statistics, and how far rounding may move a ⊙ z + b."""
    axes = {axis % x.dim() for axis in made.law.axes}
    if mean.numel() != math.prod(n for axis, n in enumerate(x.shape) if axis not in axes):
        axes.add(0)  # kept per channel, not per sample
    shape = [1 if axis in axes else n for axis, n in enumerate(x.shape)]
    middle = mean.double().reshape(shape)
    below = made.law.denominator(var.double().reshape(shape))
    size = (x.double().abs() + middle.abs()) / below
    room = _ROOM * unit_roundoff(made.case.dtype) * (1 + size)
    if made.law.eps is None:
        room = room + 4 * size / FAR
    return (x.double() - middle) / below, room.expand(x.shape)


@around
def moves_with_the_batch(original: Any, x: Tensor, *further: Any) -> Any:
    """Batch statistics in what was meant to be frozen."""
    return original(x, *further) - 0.1 * x.mean()


@around
def is_not_affine(original: Any, x: Tensor, *further: Any) -> Any:
    return torch.where(x.abs() < 3, original(x, *further), 3.0)


def _training_moves_the_statistics(original: nn.Module) -> nn.Module:
    """The buffers follow the batches after all."""

    def move(module: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        with torch.no_grad():
            for buffer in module.buffers():
                buffer.add_(0.1)

    original.register_forward_hook(move)
    return original


@check(
    kind="normalization",
    options={"running": ["frozen"]},
    rejects=[
        moves_with_the_batch,
        is_not_affine,
        rebuilt("training_moves_the_statistics", _training_moves_the_statistics),
    ],
    accepts=[FROZEN],
    dtypes=["float64", "float32"],
    once=True,
)
def frozen_statistics_stay(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """With frozen statistics y = αx + β for each channel, in train as in eval, and no buffer moves.

    α and β are fitted to each position behind the first axis over the rows of three inputs of
    different mean and scale. What remains is the error, beside what rounding leaves.
    Source: Wu et al., Rethinking "Batch" in BatchNorm, 2021, §3.1.
    """
    made = Normalizer.of(subject, case)
    scatter(made)
    inputs = [made.drawn("frozen", scale) for scale in (0.5, 1.0, 2.0)]
    buffers = [] if subject.module is None else list(subject.module.buffers())
    before = [buffer.clone() for buffer in buffers]
    with torch.no_grad():
        trained = by_position([made(x).double() for x in inputs])
        if subject.module is not None:
            subject.module.eval()
        evaluated = by_position([made(x).double() for x in inputs])
    x = by_position([x.double() for x in inputs])
    fitted, judged = fit(x, trained)
    size = trained.abs().amax(0) + (trained - fitted).abs().amax(0)
    room = _ROOM * unit_roundoff(made.case.dtype) * len(x) ** 0.5 * (1 + size)
    room = room.where(judged, torch.tensor(math.inf).to(room)).expand_as(trained)
    yield agreement("answer against αx + β", trained, fitted, room)
    yield agreement("answer in eval against that in train", evaluated, trained, room)
    changed = sum(int((b != old).sum()) for b, old in zip(buffers, before, strict=True))
    yield Evidence(
        error=float(changed),
        bound=0.0,
        signal=float(sum(b.numel() for b in buffers)) or 1.0,
        unit="elements",
        what="elements of buffers that changed",
    )
