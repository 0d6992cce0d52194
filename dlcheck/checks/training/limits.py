"""Clipping and skipping: a step that is limited, and a batch that is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from dlcheck.checks.training.calling import windows_of
from dlcheck.checks.training.faulty_loops import faulty
from dlcheck.checks.training.rehearsal import Rehearsal, uphill
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_TORCH_ADDS = 1e-6  # clip_grad_norm_ divides by the norm + 1e-6


@check(
    kind="training",
    forbids={
        "freezes", "replaces_head", "returns_average", "restores_best", "perturbed_gradient",
        "reduced_precision"
    },
    options={"clip": True},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("limits_before_unscaling"),
        faulty("limits_each_batch"),
        faulty("limits_after_the_step"),
        faulty("limits_each_value"),
        faulty("limits_each_tensor"),
        faulty("limits_nothing"),
    ],
)  # fmt: skip
def clipping_limits_each_step(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A step uses the gradient of its whole window, unscaled, limited in its global norm.

    24 rows in batches of 4, alone and two to a window, with limits of 0.9 and of 0.2 of the
    first gradient's norm: some steps are limited, and so is each part of a window. The bound is the
    rounding of the steps and what torch's divisor ‖g‖ + 10⁻⁶ makes of each.
    Source: Pascanu et al., On the difficulty of training recurrent neural networks, ICML 2013,
    algorithm 1; Micikevicius et al., Mixed Precision Training, ICLR 2018: unscale, then clip.
    """
    run = Rehearsal.of(subject, case, rows=24)
    norm, window = run.norm(4), subject.options.get("window", "rows")
    for together in windows_of(subject, 1, 2):
        limit = norm * (0.9 if together == 1 else 0.2)
        got = run.trained(subject, 4, clip=limit, accumulate=together)
        taken = run.steps(4, together=together, clip=limit, window=window)
        right = taken[-1]
        slack = 10 * (len(taken) - 1) * _TORCH_ADDS * float((right - run.start).norm()) / limit
        yield Evidence(
            error=float((got - right).abs().amax()),
            bound=run.rounding(4, together=together, clip=limit, window=window) + slack,
            signal=float((right - run.expected(4, together=together)).abs().amax()),
            what=f"weights with gradients limited to {limit:.3g}, windows of {together}",
            expected=f"weights that moved by {float((right - run.start).norm()):.6g}",
            got=f"by {float((got - run.start).norm()):.6g}",
            cause=uphill(run.start, right, got),
        )


@check(
    kind="training",
    needs={"skips_nonfinite"},
    forbids={"freezes", "replaces_head", "returns_average", "restores_best", "perturbed_gradient",
             "reduced_precision", "plain_sequential"},
    dtypes=["float64"],
    once=True,
    rejects=[
        faulty("steps_on_nan"),
        faulty("replaces_nan_by_zero"),
        faulty("clears_the_momentum"),
        faulty("forgets_the_rest"),
    ],
)  # fmt: skip
def recovers_from_a_bad_batch(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A batch whose gradient is not finite is left out, as if it had not come; the next trains.

    23 rows in batches of 4; a row of the third batch is NaN, or infinite. The weights must be
    those of the loop without that batch, momentum included. The bound is the rounding of the
    steps.
    Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.2.
    """
    run = Rehearsal.of(subject, case, rows=23)
    if not run.x.is_floating_point():
        raise NotApplicable("rows that are no numbers cannot be NaN")
    for value in (math.nan, math.inf):
        bad = replace(run, x=_spoilt(run, value))
        got = bad.trained(subject, 4)
        right = run.expected(4, without=(2,))
        yield Evidence(
            error=float((got - right).abs().amax()),
            bound=run.rounding(4, without=(2,)),
            signal=float((right - run.expected(4)).abs().amax()),
            what=f"weights after an epoch with a row of {value} in its third batch",
            got="weights that are not finite" if not bool(torch.isfinite(got).all()) else "",
        )


def _spoilt(run: Rehearsal, value: float) -> Tensor:
    x = run.x.clone()
    x[run.order[9]] = value
    return x
