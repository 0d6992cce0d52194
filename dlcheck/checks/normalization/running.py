"""Running statistics follow the batches by the momentum, until eval gives what train gives."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement
from dlcheck.checks.normalization.keepers import (
    adds_without_decay,
    divides_otherwise_in_train,
    keeps_the_deviation_for_the_variance,
    keeps_the_last_batch,
    keeps_twice_the_variance,
    kept,
    never_updates,
    updates_the_mean_only,
    weighs_the_old_by_the_momentum,
)
from dlcheck.checks.normalization.normalizer import Normalizer
from dlcheck.checks.normalization.statistics import Running, prepared
from dlcheck.checks.normalization.torch_norms import RUNNING
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_LONG = 4096  # elements of a group, of which n − 1 cannot be told from n
_MOST = 5000  # batches until a running average has forgotten its first value


@check(
    kind="normalization",
    options={"running": True},
    rejects=[
        kept(weighs_the_old_by_the_momentum),
        kept(never_updates),
        kept(keeps_the_last_batch),
        kept(keeps_the_deviation_for_the_variance),
        kept(updates_the_mean_only),
        kept(adds_without_decay),
    ],
    accepts=RUNNING,
    dtypes=["float64", "float32"],
    once=True,
)
def running_statistics_follow_the_momentum(
    subject: Implementation, case: Case
) -> Iterator[Evidence]:
    """Each training batch moves them by exactly (1 − m)·old + m·new.

    m is the weight of the new batch; without momentum (None) all batches count alike. new is the
    mean of the batch over the declared axes, and its variance divided by n − 1 or by n (both are
    in use; `running.ddof` says which). Two batches from statistics that are off 0 and 1, each
    update within a few roundings.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 2 (the unbiased variance).
    """
    made, running = prepared(subject, case)
    if running.momentum is not None and math.isnan(running.momentum):
        raise NotApplicable("declares no momentum of its running statistics")
    x = made.drawn("first batch")
    fresh = _restarted(running)
    with torch.no_grad():
        for step in (1, 2):
            x = made.drawn(f"batch {step}")
            old = running.tensor("mean").double().clone(), running.tensor("var").double().clone()
            made(x)
            share = 1.0 / (fresh + step) if running.momentum is None else running.momentum
            yield from _updates(made, running, x, old, float(share), step)


def _restarted(running: Running) -> int:
    """How many batches were counted so far, for an average over all; set to 0 where it can be."""
    counters = [b for b in running.module.buffers() if not b.is_floating_point() and b.dim() == 0]
    for counter in counters:
        counter.zero_()
    return 0 if counters else 1  # one batch was run to learn the precision


def _updates(
    made: Normalizer,
    running: Running,
    x: Tensor,
    old: tuple[Tensor, Tensor],
    m: float,
    step: int,
) -> Iterator[Evidence]:
    """Mean and variance after one batch, the variance with the divisor that fits better."""
    batches = [running.of_batch(made, x, ddof) for ddof in running.ddofs]
    size = made.law.mean(x.double().abs()).amax() + old[0].abs().amax()
    spread = torch.maximum(old[1], batches[-1][1]).amax()
    rooms = made.share(x) * size, made.unit(x).amax() * spread
    for which, name in enumerate(("mean", "var")):
        got = running.tensor(name).double()
        candidates = [(1 - m) * old[which] + m * batch[which] for batch in batches]
        nearest = min(candidates, key=lambda c: float((got - c).abs().amax().nan_to_num(math.inf)))
        room = 4 * float(rooms[which])
        yield agreement(f"running {name} after batch {step}", got, nearest, room)


@check(
    kind="normalization",
    options={"running": True},
    rejects=[
        kept(keeps_twice_the_variance),
        kept(keeps_the_deviation_for_the_variance),
        kept(never_updates),
        kept(divides_otherwise_in_train),
    ],
    accepts=RUNNING,
    dtypes=["float64", "float32"],
    once=True,
)
def train_and_eval_agree_in_the_long_run(subject: Implementation, case: Case) -> Evidence:
    """Trained on one batch until its statistics have converged, eval gives what train gives.

    The batch is repeated until the first statistics count for less than 2⁻³⁰. What is left is the
    divisor of the variance, n against n − 1: z moves by |z|/(2(n − 1)), and by no more than that,
    which is why the batch is long. Where samples have statistics of their own (instance
    normalization) the rows are copies of one.
    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, §3.1.
    """
    made, running = prepared(subject, case)
    x = _long(made)
    steps = _until_converged(running)
    with torch.no_grad():
        for _ in range(steps):
            trained = made(x)
        running.module.eval()
        evaluated = made(x)
    n = made.law.count(x)
    z = made.law.standardized(x).abs()
    room = made.room(x) + 2 * z / max(n - 1, 1) + 2.0**-24 * (1 + z)
    return agreement("answer in eval against that in train", evaluated, trained, room)


def _long(made: Normalizer) -> Tensor:
    """Drawn values with many elements per group: as many copies of the case as that takes.

    The first of the axes is repeated, which keeps mean and variance of every group. Where each
    sample has statistics of its own, all rows are made equal.
    """
    x = made.drawn("long")
    axis = made.law.axes[0] % x.dim()
    if not made.case.specs[made.case.floating[0]].dims[axis].name:
        raise NotApplicable(f"axis {axis} of its input has a fixed length, too short for this")
    if 0 not in (other % x.dim() for other in made.law.axes):
        x = x[:1].expand_as(x)
    times = [1] * x.dim()
    times[axis] = -(-_LONG // made.law.count(x))
    return x.repeat(times)


def _until_converged(running: Running) -> int:
    m = running.momentum
    if m is None or math.isnan(m):
        counted = [b for b in running.module.buffers() if not b.is_floating_point()]
        if m is None and counted:
            _restarted(running)
            return 1  # the first batch is the average of all
        raise NotApplicable("declares no momentum, so that convergence cannot be told")
    if m >= 1:
        return 1
    steps = math.ceil(math.log(2.0**-30) / math.log1p(-m)) if m > 0 else _MOST
    if steps >= _MOST:
        raise NotApplicable(f"a momentum of {m:g} takes more than {_MOST} batches to converge")
    return steps
