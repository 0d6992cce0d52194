"""An average of the weights over the steps: with the declared decay, and of all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dlcheck.checks.training.calling import keywords
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.checks.training.rehearsal import Rehearsal
from dlcheck.errors import SubjectError
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BATCH, _EPOCHS = 4, 2


@check(
    kind="training",
    needs={"returns_average"},
    forbids={"freezes", "replaces_head", "perturbed_gradient", "reduced_precision",
             "restores_best"},
    options={"average_decay": True},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("swaps_the_weights_of_the_average"),
        faulty("averages_the_first_tensor_only"),
        faulty("averages_gradients"),
        faulty("returns_the_last_weights"),
        faulty("never_moves_the_average_off_the_start"),
    ],
)  # fmt: skip
def average_follows_its_decay(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The averaged model's weights are a_t = d a_{t−1} + (1 − d) θ_t over all steps.

    Decays of 0 (the last weights), 0.5 and 0.9. The average may start from the first weights, as
    a copy of the weights after the first step, or from 0 with the correction 1/(1 − dᵗ); the
    nearest of the three counts. The bound is the rounding of the steps.
    Source: Tarvainen & Valpola, Mean teachers, NeurIPS 2017, section 2; Kingma & Ba, Adam, ICLR
    2015, section 3 (the correction).
    """
    run = Rehearsal.of(subject, case, rows=23)
    taken = run.steps(_BATCH, epochs=_EPOCHS)
    bound = run.rounding(_BATCH, epochs=_EPOCHS)
    for decay in (0.0, 0.5, 0.9):
        model = copy.deepcopy(run.model)
        given = keywords(subject, epochs=_EPOCHS, average_decay=decay)
        answer = subject(model, run.loader(_BATCH), run.optimizer(model), run.loss, **given)
        if not isinstance(answer, nn.Module):
            raise SubjectError(
                f"{subject.declared.name} declares returns_average and returned "
                f"{type(answer).__name__}; it must return the averaged model"
            )
        got = run.weights(answer)
        apart = [float((got - right).abs().amax()) for right in _averages(taken, decay)]
        other = taken[-1] if decay else run.start
        right = _averages(taken, decay)[0]
        yield Evidence(
            error=min(apart),
            bound=bound,
            signal=float((right - other).abs().amax()),
            what=f"averaged weights for a decay of {decay:g}",
            expected=f"a distance of {float((right - run.start).norm()):.6g} from the start",
            got=f"{float((got - run.start).norm()):.6g}",
        )


def _averages(taken: list[Tensor], decay: float) -> list[Tensor]:
    """The average after the last step, for each way to start it."""
    start, first, corrected = taken[0].clone(), taken[1].clone(), torch.zeros_like(taken[0])
    for number, weights in enumerate(taken[1:]):
        start = decay * start + (1 - decay) * weights
        first = decay * first + (1 - decay) * weights if number else first
        corrected = decay * corrected + (1 - decay) * weights
    return [start, first, corrected / (1 - decay ** (len(taken) - 1))]
