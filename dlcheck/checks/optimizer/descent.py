"""Which way an optimizer goes: in the mirror image the mirrored way, and up where it is told to."""

from __future__ import annotations

from dlcheck.checks.optimizer import broken_steps
from dlcheck.checks.optimizer.broken import wrong
from dlcheck.checks.optimizer.parts import clear, resolution, room
from dlcheck.checks.optimizer.state import ACCEPTED
from dlcheck.checks.optimizer.trials import (
    STEPS,
    accepts,
    farthest,
    gradients_at,
    parameters_of,
    started,
    warm_up,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@check(
    kind="optimizer",
    forbids={"stochastic"},
    rejects=[
        wrong(broken_steps.ClampsPositive),
        wrong(broken_steps.PositiveMomentum),
        wrong(broken_steps.RoundsUp),
        wrong(broken_steps.UsesTheSize),
    ],
    accepts=ACCEPTED,
    dtypes=["float64", "float32"],
    once=True,
)
def the_mirror_image_goes_the_mirrored_way(subject: Implementation, case: Case) -> Evidence:
    """From −θ with gradients −g every step is the negative of that from θ with g.

    Eight steps; rounding to nearest is symmetric, so the bound is that of a few roundings where
    sums are ordered otherwise. No direction of space is special. Source: each published update is
    an odd function of (θ, g).
    """
    start = parameters_of(case)
    run = started(subject, case)
    mirrored = started(subject, case, [-x for x in start])
    steps = STEPS + warm_up(subject, case)
    for turn in range(steps):
        gradients = gradients_at(case, run.parameters, turn)
        run.step(gradients)
        mirrored.step([-g for g in gradients])
    return clear(
        case,
        Evidence(
            error=farthest([-x for x in mirrored.values()], run.values()),
            bound=room(case, start, run.values(), steps, subject.options.get("compute_dtype")),
            resolution=resolution(subject),
            signal=farthest(run.values(), start),
            what="mirror image of the run from −θ with −g against that from θ with g",
            cause="|g| stands where g is meant, or something positive is added to it",
        ),
    )


@check(
    kind="optimizer",
    forbids={"needs_closure"},
    rejects=[
        wrong(broken_steps.MaximizesTheDecayToo),
        wrong(broken_steps.IgnoresMaximize),
        wrong(broken_steps.MaximizesTheMomentumOnly),
        wrong(broken_steps.MaximizesTwice),
    ],
    accepts=[
        wrong(broken_steps.WithMaximize),
        Subject(
            name="torch_adam",
            target="torch.optim:Adam",
            kind="optimizer",
            args={"weight_decay": 0.1},
        ),
        Subject(
            name="torch_sgd",
            target="torch.optim:SGD",
            kind="optimizer",
            args={"weight_decay": 0.1, "lr": 0.1},
        ),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def maximize_climbs_what_would_be_descended(subject: Implementation, case: Case) -> Evidence:
    """With maximize = True and gradients g it goes where it goes with False and −g.

    The decay shrinks in both. Eight steps; the bound is rounding.
    Source: torch.optim, "maximize the objective with respect to the params".
    """
    if not accepts(subject, "maximize"):
        raise NotApplicable("has no argument maximize")
    start = parameters_of(case)
    climbing = started(subject, case, maximize=True)
    descending = started(subject, case, maximize=False)
    steps = STEPS + warm_up(subject, case)
    for turn in range(steps):
        gradients = gradients_at(case, climbing.parameters, turn)
        climbing.step(gradients)
        descending.step([-g for g in gradients])
    return clear(
        case,
        Evidence(
            error=farthest(climbing.values(), descending.values()),
            bound=room(case, start, climbing.values(), steps),
            signal=farthest(climbing.values(), start),
            what="run with maximize on g against one without on −g",
        ),
    )
