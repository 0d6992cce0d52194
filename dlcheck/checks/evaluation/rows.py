"""Every row counts once, in whatever batches and order the rows come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.evaluation import wrong_evaluations as wrong
from dlcheck.checks.evaluation.stage import ROWS, Stage
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation
from dlcheck.targets import load_target


@check(
    kind="evaluation",
    forbids={"folds", "fits", "batch_coupled_in_eval"},
    dtypes=["float64"],
    once=True,
    rejects=[
        wrong.averages_batches_not_rows,
        wrong.drops_the_last_batch,
        wrong.divides_by_batches_times_size,
        wrong.looks_at_the_first_batch_only,
        wrong.weighs_later_batches_more,
        wrong.counts_a_row_twice,
    ],
)
def batch_size_changes_nothing(subject: Implementation, case: Case) -> Evidence:
    """The value is the same for batches of 1 row, of 4, of all rows and of more than there are.

    23 rows, so that batches of 2, 4, 7 and 22 leave a short last one; the mean of batch means
    weighs its rows too much. The bound is the rounding of sums in another order.
    Source: (1/N) Σᵢ mᵢ = Σ_b (n_b/N) (1/n_b) Σ_{i∈b} mᵢ, unequal to (1/⌈N/B⌉) Σ_b (1/n_b) Σ mᵢ.
    """
    stage = Stage.of(subject, case)
    whole = stage.value(subject, ROWS)
    sizes = (1, 2, 4, 7, ROWS - 1, ROWS + 7)
    found = {size: stage.value(subject, size) for size in sizes}
    worst = max(sizes, key=lambda size: _apart(found[size], whole))
    return Evidence(
        error=_apart(found[worst], whole),
        bound=stage.rounding(whole),
        signal=_signal(stage, subject, whole),
        what=f"value for batches of {worst}, beside that of one batch of {ROWS}",
        expected=f"{whole:.6g}",
        got=f"{found[worst]:.6g}",
        cause="the mean of batch means weighs the rows of a short batch too much"
        if _is_mean_of_means(stage, subject, worst, found[worst])
        else "",
    )


def _apart(a: float, b: float) -> float:
    return abs(a - b) if math.isfinite(a) else math.inf


def _signal(stage: Stage, subject: Implementation, whole: float) -> float:
    """How far the rows' own values lie from each other: what a wrong weight can show."""
    values = stage.values(subject)
    return max(max(values) - min(values), abs(whole) * 1e-6)


def _is_mean_of_means(stage: Stage, subject: Implementation, size: int, got: float) -> bool:
    starts = range(0, len(stage.x), size)
    cuts = [range(start, min(start + size, len(stage.x))) for start in starts]
    means = [stage.value(subject, size, cut) for cut in cuts]
    return len(means) > 1 and math.isclose(sum(means) / len(means), got, rel_tol=1e-9)


@check(
    kind="evaluation",
    forbids={"folds", "fits"},
    dtypes=["float64"],
    once=True,
    rejects=[
        wrong.ignores_the_sampler,
        wrong.weighs_later_batches_more,
        wrong.divides_by_the_data_set,
        wrong.looks_at_the_first_batch_only,
    ],
)
def only_the_given_rows_count(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The value depends on the rows that the loader gives, not on their order or the data set's.

    In another order by a sampler; then a sampler that gives 14 of 23 rows, and `drop_last`, each
    beside a loader whose data set has those rows alone. The bound is the rounding of sums in
    another order.
    Source: the value of an evaluation is a mean over the rows that are evaluated.
    """
    stage = Stage.of(subject, case)
    order = torch.randperm(ROWS, generator=case.generator("order")).tolist()
    whole = stage.value(subject, 4)
    signal = _signal(stage, subject, whole)
    yield Evidence(
        error=_apart(stage.value(subject, 4, order), whole),
        bound=stage.rounding(whole),
        signal=signal,
        what="value in another order",
    )
    part = order[:14]
    alone = Stage(stage.x[part], stage.y[part], stage.model)
    value = alone.value(subject, 4)
    yield Evidence(
        error=_apart(stage.value(subject, 4, part), value),
        bound=stage.rounding(value),
        signal=signal,
        what="value of 14 rows that a sampler gives, beside a data set of these",
        cause="divide by the rows that came, not by len(loader.dataset)",
    )
    kept = Stage(stage.x[:20], stage.y[:20], stage.model)
    value = kept.value(subject, 4)
    yield Evidence(
        error=_apart(stage.value(subject, 4, drop_last=True), value),
        bound=stage.rounding(value),
        signal=signal,
        what="value under drop_last, beside a data set of the rows that are left",
    )


Metric = Callable[[Tensor, Tensor], float]

_METRICS: dict[str, Metric] = {
    "accuracy": lambda p, y: float((p.argmax(-1) == y).double().mean()),
    "error_rate": lambda p, y: float((p.argmax(-1) != y).double().mean()),
    "mean_loss": lambda p, y: float(_loss(p, y, "mean")),
    "sum_loss": lambda p, y: float(_loss(p, y, "sum")),
}


def _loss(p: Tensor, y: Tensor, reduction: str) -> Tensor:
    if y.is_floating_point():
        return F.mse_loss(p, y, reduction=reduction)
    return F.cross_entropy(p, y, reduction=reduction)


@check(
    kind="evaluation",
    forbids={"folds", "fits"},
    options={"metric": True},
    dtypes=["float64"],
    once=True,
    rejects=[
        wrong.answers_in_percent,
        wrong.answers_the_complement,
        wrong.shifts_the_targets,
        wrong.drops_the_last_batch,
        wrong.stays_in_train_mode,
    ],
)
def value_is_the_declared_metric(subject: Implementation, case: Case) -> Evidence:
    """The value is the declared metric of the model's predictions in evaluation mode.

    23 rows in batches of 4; the predictions are made in one batch, the metric by its formula.
    The bound is the rounding of sums in another order.
    Source: the formula of the metric, as `metric` names it.
    """
    stage = Stage.of(subject, case)
    named = subject.options["metric"]
    metric = _METRICS.get(named)
    if metric is None:
        if ":" not in str(named):
            raise NotApplicable(
                f"metric {named!r} has no formula here; known are {', '.join(_METRICS)}, or a "
                "path to f(predictions, targets)"
            )
        metric = load_target(named, near=subject.declared.file)
    stage.model.eval()
    with torch.no_grad():
        right = float(metric(stage.model(stage.x), stage.y))
    stage.model.train()
    got = stage.value(subject, 4)
    return Evidence(
        error=_apart(got, right),
        bound=stage.rounding(right),
        signal=max(abs(right), 1e-3),
        what=f"value beside {named}",
        expected=f"{right:.6g}",
        got=f"{got:.6g}",
        cause="the value is in percent" if math.isclose(got, 100 * right) and right else "",
    )
