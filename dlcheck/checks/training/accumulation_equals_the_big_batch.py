"""Accumulating the gradients of small batches is training on the big one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from dlcheck.checks.training import wrong_loops as wrong
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.checks.training.rehearsal import Rehearsal, uphill
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind="training",
    forbids={
        "freezes", "replaces_head", "returns_average", "restores_best", "perturbed_gradient",
        "reduced_precision"
    },
    dtypes=["float64"],
    regimes=["normal"],
    rejects=[
        wrong.divides_the_tail_by_the_full_count,
        wrong.averages_batches_not_rows,
        wrong.forgets_to_divide,
        wrong.drops_the_incomplete_window,
        wrong.keeps_the_last_batch_only,
        wrong.ignores_accumulation,
    ],
)  # fmt: skip
def accumulation_equals_the_big_batch(subject: Implementation, case: Case) -> Evidence:
    """Accumulating k batches of B rows takes the steps of one batch of kB, the short tail too.

    The subject trains twice from the same weights on the same order of rows. A window's step is
    that of its concatenated rows: a short last batch counts by its rows, and an incomplete last
    window by the batches that it has. The bound is the rounding of that many steps.
    Source: the linearity of the gradient, ∇(1/n) Σᵢ ℓᵢ = Σ_b (n_b/n) ∇(1/n_b) Σ_{i∈b} ℓᵢ.
    """
    run = Rehearsal.of(subject, case)
    rows, seed = len(run.x), case.recipe.seed
    if rows < 3:
        raise NotApplicable("accumulation needs at least 3 rows")
    together = 2 + seed % 2
    batch = _batch(rows, together, seed // 2)
    got = run.trained(subject, batch, accumulate=together)
    window = subject.options.get("window", "rows")
    if window == "rows":
        right = run.trained(subject, batch * together)
    else:
        right = run.expected(batch, together=together, window=window)
    return _moved(run, batch, together, got, right, f"from {rows} rows")


@check(
    kind="training",
    forbids={
        "freezes", "replaces_head", "returns_average", "restores_best", "perturbed_gradient",
        "reduced_precision"
    },
    options={"ignore_index": True},
    dtypes=["float64"],
    regimes=["normal"],
    once=True,
    rejects=[
        faulty("counts_ignored_labels"),
        faulty("counts_batches_alike"),
        faulty("loses_the_tail"),
        wrong.forgets_to_divide,
        wrong.ignores_accumulation,
    ],
)  # fmt: skip
def accumulation_weighs_counted_labels(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A window's step averages over its counted labels, however they fall to its batches.

    About a third of the labels are `ignore_index`, so that batches of equal size count
    differently; the rows are 23, in windows of 2 and 3 batches. Compared with one batch per
    window, for which the loss itself counts. The bound is the rounding of that many steps.
    Source: (1/Σn_b) Σ_b Σ_{i∈b} ℓᵢ = Σ_b (n_b/Σn_b) (1/n_b) Σ_{i∈b} ℓᵢ with n_b counted labels.
    """
    run = Rehearsal.of(subject, case, rows=23)
    ignored = subject.argument("ignore_index")
    if run.y.is_floating_point() or "loss" in subject.options:
        raise NotApplicable("labels that are ignored need classes and the loss of dlcheck")
    run = replace(run, y=_thinned(run, ignored), loss=nn.CrossEntropyLoss(ignore_index=ignored))
    for batch, together in ((4, 2), (3, 3)):
        got = run.trained(subject, batch, accumulate=together)
        right = run.expected(batch * together)
        yield _moved(run, batch, together, got, right, "some labels of which are ignored")


def _thinned(run: Rehearsal, ignored: int) -> Tensor:
    """The labels with every third one ignored, and the first two of the middle."""
    y = run.y.clone()
    order = torch.tensor(run.order)
    y[order[1::3]] = ignored
    y[order[6:8]] = ignored
    return y


def _moved(
    run: Rehearsal, batch: int, together: int, got: Tensor, right: Tensor, rest: str
) -> Evidence:
    error, bound = float((got - right).abs().amax()), run.rounding(batch * together)
    cause = uphill(run.start, right, got)
    if not error <= bound and not cause:
        cause = _told_by_average(run, batch, together, got, bound)
    return Evidence(
        error=error,
        bound=bound,
        signal=float((right - run.start).abs().amax()),
        what=f"weights after accumulating {together} batches of {batch}, {rest}",
        expected=f"weights that moved by {float((right - run.start).norm()):.6g}",
        got=f"by {float((got - run.start).norm()):.6g}",
        cause=cause,
    )


_AVERAGES = {
    "full": "each batch was divided by the full count of batches, in the short last window too",
    "batches": "the batches of a window were averaged alike, however many rows they have",
}


def _told_by_average(run: Rehearsal, batch: int, together: int, got: Tensor, near: float) -> str:
    """In words, where the steps are those of another average over a window."""
    for window, cause in _AVERAGES.items():
        other = run.expected(batch, together=together, window=window)
        if float((got - other).abs().amax()) <= near:
            return cause
    return ""


def _batch(rows: int, together: int, seed: int) -> int:
    """A batch size whose short tail shares a window with full batches, or any other one.

    A tail that is alone in its window cannot be weighted wrongly against other batches. Where
    the windows come out even is drawn too, for a loop may lose an incomplete window.
    """
    shared = [b for b in range(2, rows) if rows % b and (rows // b) % together]
    if shared and seed % 2:
        return shared[seed // 2 % len(shared)]
    return max(1, rows // (2 * together - seed % 3))
