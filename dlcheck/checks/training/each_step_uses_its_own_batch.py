"""A training loop takes one step per batch, on the gradient of that batch."""

from __future__ import annotations

from dlcheck.checks.training import wrong_loops as wrong
from dlcheck.checks.training.calling import epochs_of
from dlcheck.checks.training.rehearsal import Rehearsal, batch_sizes, uphill
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_EPOCHS = 2


@check(
    kind="training",
    forbids={
        "freezes",
        "replaces_head",
        "returns_average",
        "restores_best",
        "perturbed_gradient",
        "reduced_precision",
    },
    dtypes=["float64"],
    regimes=["normal"],
    rejects=[
        wrong.forgets_zero_grad,
        wrong.steps_before_backward,
        wrong.zeroes_before_the_step,
        wrong.climbs,
        wrong.detaches_the_first_layer,
        wrong.steps_one_batch_late,
        wrong.forgets_momentum,
        wrong.reuses_the_first_batch,
        wrong.drops_the_last_batch,
        wrong.trains_one_epoch_only,
    ],
    textbook={
        "id": "P1",
        "says": "Backpropagation is forward, backward and update until convergence",
        "verdict": "true",
    },
)
def each_step_uses_its_own_batch(subject: Implementation, case: Case) -> Evidence:
    """Two epochs end where forward, backward and update on each batch in turn end.

    A float64 network of two layers, a real DataLoader with a short last batch, SGD with
    momentum. The error is the largest difference of a weight from a loop written for this check;
    the bound is the rounding of that many steps, by the measured response to ±2⁻²⁶ changes.
    Source: Goodfellow, Bengio & Courville, Deep Learning, algorithm 8.2.
    """
    run = Rehearsal.of(subject, case)
    batch = batch_sizes(len(run.x), case.recipe.seed)[0]
    epochs = epochs_of(subject, _EPOCHS)
    right, got = run.expected(batch, epochs=epochs), run.trained(subject, batch, epochs=epochs)
    return Evidence(
        error=float((got - right).abs().amax()),
        bound=run.rounding(batch, epochs=epochs),
        signal=float((right - run.start).abs().amax()),
        what=f"weights after {epochs} epochs of batches of {batch} from {len(run.x)} rows",
        expected=f"weights that moved by {float((right - run.start).norm()):.6g}",
        got=f"by {float((got - run.start).norm()):.6g}",
        cause=uphill(run.start, right, got),
    )
