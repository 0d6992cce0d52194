"""The rate at every step: by its formula, in every group, as it is reported, and after a pause."""

from __future__ import annotations

import copy
import inspect
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from dlcheck import formulas
from dlcheck.checks.scheduler import broken
from dlcheck.checks.scheduler.broken import FORMULA, Warmed, wrong
from dlcheck.checks.scheduler.schedule import BASES, Schedule, metric_at, steps_of
from dlcheck.constructors import default_of
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Figure, Subject
from dlcheck.numerics import schedules
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded
from dlcheck.targets import load_target

_PAST = 7  # steps beyond the nominal end
_ROUNDING = 2.0**-52

_TORCH = [
    Subject(name="torch_cosine", target="torch.optim.lr_scheduler:CosineAnnealingLR",
            kind="scheduler", args={"T_max": 20}),
    Subject(name="torch_one_cycle", target="torch.optim.lr_scheduler:OneCycleLR",
            kind="scheduler", args={"max_lr": 0.3, "total_steps": 40}, options={"steps": 33}),
    Subject(name="torch_plateau", target="torch.optim.lr_scheduler:ReduceLROnPlateau",
            kind="scheduler", args={"patience": 2}),
]  # fmt: skip
_ACCEPTED = [wrong(Warmed), *_TORCH]


def _names(subject: Implementation) -> dict[str, Any]:
    """The constructor's arguments that are numbers or lists of numbers, with their defaults."""
    target = load_target(subject.declared.target, near=subject.declared.file)
    found: dict[str, Any] = {}
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment]
    for name in parameters:
        value = subject.args.get(name, default_of(subject.declared, name))
        is_list = isinstance(value, (list, tuple))
        if isinstance(value, (int, float)) or (
            is_list and all(isinstance(v, (int, float)) for v in value)
        ):
            found[name] = value
    given = {n: v for n, v in subject.args.items() if isinstance(v, (int, float, list, tuple))}
    return {**found, **given}


@check(
    kind="scheduler",
    options={"closed_form": True},
    rejects=[
        wrong(broken.StartsOneLate, closed_form=FORMULA, steps=12),
        wrong(broken.RisesAgain, closed_form=FORMULA, steps=12),
        wrong(broken.CountsEpochs, closed_form=FORMULA, steps=12),
        wrong(broken.SharesTheFirstRate, closed_form=FORMULA, steps=12),
        wrong(broken.CompoundsItsFactor, closed_form=FORMULA, steps=12),
        wrong(broken.SetsNothing, closed_form=FORMULA, steps=12),
    ],
    accepts=[
        wrong(Warmed, closed_form=FORMULA, steps=12),
        Subject(
            name="torch_step",
            target="torch.optim.lr_scheduler:StepLR",
            kind="scheduler",
            args={"step_size": 5, "gamma": 0.3},
            options={"closed_form": "base_lr * gamma ** (t // step_size)"},
        ),
    ],
    once=True,
)
def follows_its_closed_form(subject: Implementation, case: Case) -> Evidence:
    """The t-th step of the optimizer, counted from 0, uses the rate that the formula gives.

    At every step to the nominal end and seven beyond it, in two groups of different base rates:
    `closed_form` in t, base_lr, the constructor's arguments and math, or the name of a schedule:
    cosine_warm_restarts, one_cycle, cyclic, plateau (dlcheck/numerics/schedules.py). A recursion
    that multiplies at each step rounds once a step: the bound is 8 (t + 8) u of the largest rate.
    """
    last = steps_of(subject) + _PAST
    schedule = Schedule(subject, case)
    rates = schedule.run(0, last)
    formula = _formula(subject, last)
    wanted = [[formula(t, base) for base in BASES] for t in range(last)]
    largest = max(abs(lr) for row in wanted for lr in row) or 1.0
    errors = [
        max(abs(a - b) for a, b in zip(got, due, strict=True))
        for got, due in zip(rates, wanted, strict=True)
    ]
    broken_ones = [e if e == e else math.inf for e in errors]
    t = max(range(last), key=lambda k: broken_ones[k])
    group = max(range(len(BASES)), key=lambda g: abs(rates[t][g] - wanted[t][g]))
    return Evidence(
        error=errors[t],
        bound=8 * (last + 8) * _ROUNDING * largest,
        signal=largest,
        what=f"learning rate of step {t}, group {group} of {len(BASES)}",
        expected=f"{wanted[t][group]:.9g}",
        got=f"{rates[t][group]:.9g}",
        cause=_shift(rates, wanted) if errors[t] > 1e-9 * largest else "",
        figures=(
            Figure(
                title="Learning rate",
                x="step",
                y="learning rate",
                series={
                    "used": [(float(k), row[0]) for k, row in enumerate(rates)],
                    "closed form": [(float(k), row[0]) for k, row in enumerate(wanted)],
                },
            ),
        ),
    )


def _formula(subject: Implementation, last: int) -> Callable[[int, float], float]:
    """(t, base_lr) → rate: by the formula in words, or by the schedule of that name."""
    stated, names = subject.options["closed_form"], _names(subject)
    if stated == schedules.plateau.__name__:
        metrics = [metric_at(turn) for turn in range(last)]
        known = _known_to(schedules.plateau, subject)
        by_base = {base: [base, *schedules.plateau(metrics, base, **known)] for base in BASES}
        return lambda t, base: by_base[base][t]
    if stated in schedules.SCHEDULES:
        schedule = schedules.SCHEDULES[stated]
        known = _known_to(schedule, subject)
        if "base_lr" in inspect.signature(schedule).parameters and "base_lr" not in known:
            return lambda t, base: schedule(t, base, **known)
        return lambda t, base: schedule(t, **known)
    return lambda t, base: formulas.evaluate(stated, {**names, "base_lr": base, "t": t})


def _known_to(schedule: Callable[..., Any], subject: Implementation) -> dict[str, Any]:
    """The arguments of the subject, given or by default, that a schedule takes by name."""
    found = {}
    for name in inspect.signature(schedule).parameters:
        value = subject.args.get(name, default_of(subject.declared, name))
        if name not in ("t", "metrics") and value not in (None, inspect.Parameter.empty):
            found[name] = value
    return found


def _shift(rates: list[list[float]], wanted: list[list[float]]) -> str:
    """Is the schedule right, but a step early or late, or in one group alone?"""
    for by, said in ((1, "a step late"), (-1, "a step early")):
        pairs = list(zip(rates[1:], wanted, strict=False)) if by > 0 else list(
            zip(rates, wanted[1:], strict=False)
        )  # fmt: skip
        if all(abs(a[0] - b[0]) <= 1e-9 * max(abs(b[0]), 1e-12) for a, b in pairs):
            return f"it is the declared schedule, {said}"
    if all(abs(a[0] - b[0]) <= 1e-9 * max(abs(b[0]), 1e-12)
           for a, b in zip(rates, wanted, strict=True)):  # fmt: skip
        return "the first group is right, the second is not: base rates are mixed up"
    return ""


@check(
    kind="scheduler",
    rejects=[
        wrong(broken.ReportsAnotherRate),
        wrong(broken.SetsNothing),
        wrong(broken.ReportsTheBase),
        wrong(broken.SetsTheFirstGroup),
    ],
    accepts=_ACCEPTED,
    once=True,
)
def the_reported_rate_is_used(subject: Implementation, case: Case) -> Evidence:
    """get_last_lr() is what the optimizer's groups hold, at every step and past the end.

    Exact. Source: torch.optim.lr_scheduler.LRScheduler.get_last_lr.
    """
    schedule = Schedule(subject, case)
    if schedule.reported is None:
        raise NotApplicable("has no get_last_lr()")
    worst, at, largest = 0.0, 0, 0.0
    for turn in range(steps_of(subject) + _PAST):
        pairs = zip(schedule.rates, schedule.reported or [], strict=True)
        apart = max(abs(a - b) for a, b in pairs)
        largest = max(largest, *map(abs, schedule.rates))
        if not apart <= worst:
            worst, at = apart, turn
        schedule.advance(turn)
    return Evidence(
        error=worst,
        bound=0.0,
        signal=largest or 1.0,
        what="get_last_lr() against the optimizer's rate",
        where=f"step {at}",
    )


@check(
    kind="scheduler",
    rejects=[
        wrong(broken.ForgetsItsStep),
        wrong(broken.LoadsNothing),
        wrong(broken.StartsAnewOnLoading),
        wrong(broken.LosesItsBase),
    ],
    accepts=_ACCEPTED,
    once=True,
)
def schedule_resumes_where_it_stopped(subject: Implementation, case: Case) -> Evidence:
    """Saved in the middle and loaded into a new one, the schedule goes on as if uninterrupted.

    Stopped after a third of the steps: the state_dicts of optimizer and schedule, through
    torch.save, into new instances. The bound is 8 roundings a step. Source: torch's
    "saving and loading a general checkpoint".
    """
    last = steps_of(subject)
    stop = max(last // 3, 1)
    whole = Schedule(subject, case).run(0, last)
    first = Schedule(subject, case)
    first.run(0, stop)
    if not hasattr(first.scheduler, "state_dict"):
        raise NotApplicable("has no state_dict()")
    states = _stored((first.optimizer.state_dict(), guarded(first.scheduler.state_dict)))
    again = Schedule(subject, case)
    again.optimizer.load_state_dict(states[0])
    guarded(again.scheduler.load_state_dict, states[1])
    rest = again.run(stop, last)
    largest = max(abs(lr) for row in whole for lr in row) or 1.0
    errors = [
        max(abs(a - b) for a, b in zip(got, due, strict=True))
        for got, due in zip(rest, whole[stop:], strict=True)
    ]
    error = max((e if e == e else math.inf for e in errors), default=0.0)
    return Evidence(
        error=error,
        bound=8 * last * _ROUNDING * largest,
        signal=largest,
        what="learning rate of a resumed schedule against one that was not interrupted",
        where=f"step {stop + errors.index(error)}" if error in errors else "",
    )


def _stored(state: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(copy.deepcopy(state), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@check(
    kind="scheduler",
    rejects=[
        wrong(broken.SharesTheFirstRate),
        wrong(broken.SetsTheFirstGroup),
        wrong(broken.SetsNothingInTheSecond),
        wrong(broken.AveragesTheGroups),
    ],
    accepts=_ACCEPTED,
    once=True,
)
def each_group_has_its_own_schedule(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A group among several has the rates that it has alone, from its own base rate.

    Two groups of base rates 0.16 and 0.02. The bound is 8 roundings a step.
    Source: LRScheduler.base_lrs.
    """
    last = steps_of(subject) + _PAST
    both = Schedule(subject, case).run(0, last)
    largest = max(abs(lr) for row in both for lr in row) or 1.0
    for place, base in enumerate(BASES):
        try:
            alone = Schedule(subject, case, [base]).run(0, last)
        except SubjectRaised as error:
            raise NotApplicable(f"wants as many groups as its arguments say: {error}") from error
        errors = [abs(a[place] - b[0]) for a, b in zip(both, alone, strict=True)]
        worst = max(e if e == e else math.inf for e in errors)
        yield Evidence(
            error=worst,
            bound=8 * last * _ROUNDING * largest,
            signal=largest,
            what=f"learning rate of the group with base {base:g}, among two against alone",
            where=f"step {errors.index(worst)}" if worst in errors else "",
        )


@check(
    kind="scheduler",
    rejects=[
        wrong(broken.GoesBelowZero),
        wrong(broken.IsNeverANumber),
        wrong(broken.OverflowsInTheEnd),
        wrong(broken.TurnsNegativeAtFirst),
    ],
    accepts=_ACCEPTED,
    once=True,
)
def rates_are_finite_and_not_negative(subject: Implementation, case: Case) -> Evidence:
    """To the nominal end and seven steps past it no rate is negative, infinite or NaN.

    Nor above 10⁶ times the base rates. Source: a step against the gradient has a positive length.
    """
    rates = Schedule(subject, case).run(0, steps_of(subject) + _PAST)
    bad = [
        (turn, lr) for turn, row in enumerate(rates) for lr in row
        if not 0 <= lr <= 1e6 * max(BASES)
    ]  # fmt: skip
    return Evidence(
        error=float(len(bad)),
        bound=0.0,
        signal=float(2 * len(rates)),
        unit="rates",
        what="rates that are negative, not finite, or run away",
        where=f"step {bad[0][0]}: {bad[0][1]:.6g}" if bad else "",
    )
