"""An optimizer takes the steps of its recursion, or of its reference, whatever the arguments."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.optimizer import broken_parts, broken_steps
from dlcheck.checks.optimizer.broken import Plain, Scaled, wrong
from dlcheck.checks.optimizer.trials import (
    accepts,
    built,
    counting_in_float64,
    farthest,
    gradients_at,
    learning_rate,
    parameters_of,
    take_step,
)
from dlcheck.constructors import default_of
from dlcheck.errors import DeclarationError, NotApplicable, SubjectError
from dlcheck.model import Evidence, Subject, Verdict
from dlcheck.numerics.recursions import recursion
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build
from dlcheck.targets import load_target

_STEPS = 10
_DEVIATIONS = 8.0  # λ: one rounding model fails with probability 2 exp(−λ²/2)
_COARSE = 0.25  # of the path, that a narrow type inside may leave open
_NUDGES = 3  # runs with all numbers moved by ±√u
_AWAY: Mapping[str, float] = {  # where an option of a recursion shows, away from its default
    "lr": 0.03,
    "eps": 0.05,
    "weight_decay": 0.15,
    "momentum": 0.8,
    "dampening": 0.3,
    "lr_decay": 0.2,
    "initial_accumulator_value": 0.3,
    "alpha": 0.7,
    "rho": 0.6,
    "lambd": 0.1,
    "t0": 4.0,
    "momentum_decay": 0.3,
    "trust_coefficient": 0.3,
}
_PAIRS: Mapping[str, tuple[Any, ...]] = {
    "betas": ((0.6, 0.8), (0.8, 0.95)),
    "etas": ((0.4, 1.5),),
    "step_sizes": ((1e-3, 0.06),),
}
_NEUTRAL: Mapping[str, float] = {  # where an option does nothing
    "weight_decay": 0.0,
    "eps": 1e-30,
    "momentum": 0.0,
    "dampening": 0.0,
    "lr_decay": 0.0,
    "momentum_decay": 0.0,
}
Arguments = dict[str, Any]
Rule = Callable[..., Tensor]
Route = list[list[Tensor]]


@check(
    kind="optimizer",
    options={"rule": True},
    forbids={"needs_closure", "sparse_gradient"},
    rejects=[
        wrong(broken_steps.ForgetsTheCorrection, rule="adam"),
        wrong(broken_steps.CorrectsOneStepLate, rule="adamw"),
        wrong(broken_steps.PutsEpsUnderTheRoot, rule="adamw"),
        wrong(broken_steps.SwapsItsBetas, rule="adamw"),
        wrong(broken_steps.DecaysThroughTheGradient, rule="adamw"),
        wrong(broken_steps.SumsItsMomentum, rule="sgd"),
        wrong(broken_parts.TakesTheFirstGroup, rule="sgd"),
        wrong(broken_steps.DecaysTheBuffer, rule="sgd"),
        wrong(Scaled, rule="adam"),
    ],
    accepts=[
        wrong(Plain, rule="sgd"),
        wrong(Scaled, rule="adamw"),
        wrong(broken_steps.PutsEpsUnderTheRoot, rule="adamw(eps='inside')"),
        wrong(broken_steps.SignDescent, rule="sign_sgd"),
        Subject(name="torch_adam", target="torch.optim:Adam", kind="optimizer",
                options={"rule": "adam"}),
        Subject(name="torch_nadam", target="torch.optim:NAdam", kind="optimizer",
                options={"rule": "nadam"}),
    ],
    dtypes=["float64"],
    once=True,
)  # fmt: skip
def follows_its_recursion(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Ten steps go where the published recursion goes, with every option away from its default.

    `rule` names a shipped recursion, or the path of a callable (parameter, gradient, state,
    **options) → parameter. One group with the given options, one with another step size and
    decay; the options that both know, as given, all at other values, and each switch turned
    (`matrix` and `knobs` name values); parameters of several sizes, gradients of size 1 and 0.01.
    The bound is measured: how far the recursion itself goes astray when all its numbers move by
    √u, rescaled, and λ√n·u of their size; with `compute_dtype` λ/2 times its response to gradients
    moved by the u of that type. torch keeps counters in the default type: what
    fails is run once more with float64 as the default.
    """
    rule = _rule_of(subject)
    yield from _against(subject, case, _rule_route(rule), _shared_with(subject, rule))


@check(
    kind="optimizer",
    options={"reference": True},
    forbids={"needs_closure"},
    rejects=[
        wrong(broken_steps.SumsItsMomentum, reference="torch.optim:SGD"),
        wrong(broken_steps.DecaysTheBuffer, reference="torch.optim:SGD"),
        wrong(broken_steps.CorrectsOneStepLate, reference="torch.optim:AdamW"),
        wrong(broken_steps.PutsEpsUnderTheRoot, reference="torch.optim:AdamW"),
    ],
    accepts=[
        wrong(Plain, reference="torch.optim:SGD"),
        wrong(Scaled, reference="torch.optim:AdamW"),
    ],
    dtypes=["float64"],
    once=True,
)
def steps_match_the_reference(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Ten steps go where those of the declared reference go, whatever options both take.

    As follows_its_recursion, with the reference in the place of the recursion, built with the
    same arguments or `reference_args`. Source: numerics/rounding.py.
    """
    stated = subject.declared.reference
    if stated is None:
        raise NotApplicable("declares no reference")
    own = subject.declared.reference_args
    reference = Subject(name="reference", target=stated, kind="optimizer", args=dict(own))

    def make(values: Sequence[Tensor], groups: Sequence[Arguments]) -> tuple[Any, list[Any]]:
        parameters = [nn.Parameter(x.clone()) for x in values]
        made = build(reference, case.sizes, case.device, values[0].dtype, case.recipe.seed)
        pairs = [{"params": [p], **_known(reference, g)}
                 for p, g in zip(parameters, groups, strict=True)]  # fmt: skip
        return built(made, case, pairs), parameters

    def route(
        values: Sequence[Tensor], gradients: Route, groups: Sequence[Arguments], _: torch.dtype
    ) -> Route:
        optimizer, parameters = make(values, groups)
        return [_stepped(subject, optimizer, parameters, g) for g in gradients]

    both = [n for n in _numeric(subject) if _knows(reference, n)]
    yield from _against(subject, case, route, both)


def _known(reference: Subject, group: Arguments) -> Arguments:
    return {name: value for name, value in group.items() if _knows(reference, name)}


def _knows(subject: Subject, name: str) -> bool:
    return default_of(subject, name) is not inspect.Parameter.empty


def _rule_of(subject: Implementation) -> Rule:
    stated = subject.options["rule"]
    if callable(stated):
        return stated  # type: ignore[no-any-return]
    if ":" in str(stated):
        found = load_target(str(stated), near=subject.declared.file)
        if not callable(found):
            raise DeclarationError(f"rule {stated!r} is no callable")
        return found  # type: ignore[no-any-return]
    return recursion(str(stated))


def _shared_with(subject: Implementation, rule: Rule) -> list[str]:
    """The constructor's arguments that the recursion knows too."""
    known = inspect.signature(rule).parameters
    return [name for name in list(known)[3:] if accepts(subject, name)]


def _numeric(subject: Implementation) -> list[str]:
    names = [*_AWAY, *_PAIRS, "nesterov", "maximize", "amsgrad", "centered",
             "decoupled_weight_decay"]  # fmt: skip
    return [name for name in names if accepts(subject, name)]


def _rule_route(rule: Rule) -> Callable[..., Route]:
    def route(
        values: Sequence[Tensor], gradients: Route, groups: Sequence[Arguments], _: torch.dtype
    ) -> Route:
        known = inspect.signature(rule).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        options = [{n: v for n, v in group.items() if takes_all or n in known} for group in groups]
        states: list[dict[str, Any]] = [{} for _ in values]
        here = [x.clone() for x in values]
        found = []
        for step in gradients:
            here = [
                rule(p, g, state, **given)
                for p, g, state, given in zip(here, step, states, options, strict=True)
            ]
            found.append([p.detach().clone() for p in here])
        return found

    return route


def _stepped(
    subject: Implementation, optimizer: Any, parameters: Sequence[Any], gradients: Sequence[Tensor]
) -> list[Tensor]:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.to(parameter).clone()
    take_step(subject, optimizer, parameters)
    return [p.detach().clone() for p in parameters]


def _against(
    subject: Implementation, case: Case, route: Callable[..., Route], shared: Sequence[str]
) -> Iterator[Evidence]:
    """The subject's route beside the other's, for each choice of the arguments."""
    judged = 0
    for changes in _choices(subject, shared):
        try:
            evidence = _compared(subject, case, route, shared, changes)
        except SubjectError:
            if not changes:
                raise
            continue  # a combination that it does not take
        judged += 1
        if evidence.verdict is Verdict.FAILED and evidence.cause:
            blamed = _blamed(subject, case, route, shared, changes)
            evidence = replace(evidence, cause=evidence.cause + blamed)
        yield evidence
    if not judged:
        raise NotApplicable("takes none of the arguments that were tried")


def _blamed(
    subject: Implementation,
    case: Case,
    route: Callable[..., Route],
    shared: Sequence[str],
    changes: Arguments,
) -> str:
    """Without which option, or which two, the routes are one."""
    names = [name for name in _NEUTRAL if name in shared]
    for count in (1, 2):
        for some in itertools.combinations(names, count):
            without = {name: _NEUTRAL[name] for name in some}
            with contextlib.suppress(SubjectError):
                evidence = _compared(subject, case, route, shared, {**changes, **without})
                if evidence.verdict is Verdict.PASSED:
                    said = " and ".join(f"{name} = {value:g}" for name, value in without.items())
                    return f"; with {said} they agree"
    return ""


def _choices(subject: Implementation, shared: Sequence[str]) -> list[Arguments]:
    """As given; all away from that; then each switch, and each value of matrix and knobs."""
    away: Arguments = {}
    for name in shared:
        value = subject.value_of(name)
        if name in _PAIRS:
            away[name] = _PAIRS[name][0]
        elif name in _AWAY and isinstance(value, (int, float)) and not isinstance(value, bool):
            away[name] = _AWAY[name]
    flags = [n for n in shared if isinstance(subject.value_of(n), bool)]
    found: list[Arguments] = [{}, away]
    found += [{**away, flag: not subject.value_of(flag)} for flag in flags]
    for name, values in subject.declared.matrix.items():
        found += [{name: value} for value in values if name in shared]
    for name, ends in subject.options.get("knobs", {}).items():
        found += [{name: end} for end in ends if name in shared]
    # Nesterov's step takes no dampening, and some switches exclude each other.
    found += [{**away, "dampening": 0.0, "nesterov": True}] * ({"nesterov", "dampening"} <= {
        *shared})  # fmt: skip
    unique: list[Arguments] = []
    for one in found:
        if one not in unique:
            unique.append(one)
    return unique


def _compared(
    subject: Implementation,
    case: Case,
    route: Callable[..., Route],
    shared: Sequence[str],
    changes: Arguments,
) -> Evidence:
    values = parameters_of(case)
    values = [*values, -0.5 * values[0]]
    given = {name: changes.get(name, subject.value_of(name)) for name in shared}
    second = dict(given)
    name, rate = _rate(subject, given)
    if name in given:
        second[name] = rate / 3
    if isinstance(given.get("weight_decay"), (int, float)) and given["weight_decay"]:
        second["weight_decay"] = 2 * given["weight_decay"]
    groups = [given] * (len(values) - 1) + [second]
    scales = [1.0, 0.01, 1.0, 3.0] * 3
    gradients = [
        [scales[turn] * g for g in gradients_at(case, values, turn)] for turn in range(_STEPS)
    ]
    expected = route(values, gradients, groups, case.dtype)
    got = _route_of(subject, case, values, gradients, groups, changes)
    bound = _room(subject, case, route, values, gradients, groups, expected)
    error, turn = _worst(got, expected)
    if not error <= bound:
        with contextlib.suppress(SubjectError), counting_in_float64():
            again = _route_of(subject, case, values, gradients, groups, changes)
            error, turn = min((error, turn), _worst(again, expected), key=lambda one: (
                one[0] if one[0] == one[0] else math.inf))  # fmt: skip
    path = max(farthest(step, values) for step in expected)
    said = ", ".join(f"{n} = {v!r}" for n, v in changes.items()) or "the given arguments"
    return Evidence(
        error=error,
        bound=bound,
        signal=path,
        resolution=_COARSE if subject.options.get("compute_dtype") else 0.01,
        what=f"parameters after step {turn + 1} of {_STEPS}, with {said}",
        cause=_what_differs(got, expected, values, bound) if not error <= bound else "",
    )


def _rate(subject: Implementation, given: Arguments) -> tuple[str, float]:
    try:
        name, rate = learning_rate(subject)
    except NotApplicable:
        return "", 0.0
    return name, float(given.get(name, rate))


def _route_of(
    subject: Implementation,
    case: Case,
    values: Sequence[Tensor],
    gradients: Route,
    groups: Sequence[Arguments],
    changes: Arguments,
) -> Route:
    parameters = [nn.Parameter(x.clone()) for x in values]
    given = [{"params": parameters[:-1]}, {"params": parameters[-1:]}]
    for name in ("lr", "weight_decay", str(subject.options.get("lr", "lr"))):
        if name in groups[-1] and groups[-1][name] != groups[0].get(name):
            given[1][name] = groups[-1][name]
    optimizer = built(subject, case, given, **changes)
    return [_stepped(subject, optimizer, parameters, g) for g in gradients]


def _room(
    subject: Implementation,
    case: Case,
    route: Callable[..., Route],
    values: Sequence[Tensor],
    gradients: Route,
    groups: Sequence[Arguments],
    expected: Route,
) -> float:
    """How far rounding may lead astray: the response to moves of all numbers, rescaled to u."""
    inside = subject.options.get("compute_dtype")
    u = unit_roundoff(case.dtype)
    h = math.sqrt(u) if not inside else unit_roundoff(getattr(torch, str(inside)))
    nudge = functools.partial(_nudged, h=h, generator=case.generator("nudges"))
    response = 0.0
    for _ in range(_NUDGES):
        start = values if inside else [nudge(x) for x in values]
        steps = [[nudge(g) for g in step] for step in gradients]
        moved = route(start, steps, groups, case.dtype)
        found, _turn = _worst(moved, expected)
        response = max(response, found)
    size = max(farthest(step, [torch.zeros_like(x) for x in step]) for step in expected)
    numbers = 16.0 * _STEPS
    if inside:  # what a narrower type inside rounds is like a move of the gradients by its u
        return _DEVIATIONS / 2 * response
    return _DEVIATIONS * math.sqrt(numbers) * u * (response / h + size)


def _nudged(x: Tensor, *, h: float, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1
    return x * (1 + h * signs)


def _worst(got: Route, expected: Route) -> tuple[float, int]:
    """The largest difference of all steps, and the step."""
    found = [farthest(a, b) for a, b in zip(got, expected, strict=True)]
    turn = max(range(len(found)), key=lambda k: found[k] if found[k] == found[k] else math.inf)
    return found[turn], turn


def _what_differs(got: Route, expected: Route, start: Sequence[Tensor], bound: float) -> str:
    """What the first step that differs says: which it is, in which group, by what factor."""
    turn = next((k for k in range(len(got)) if not farthest(got[k], expected[k]) <= bound), 0)
    wrong_ones = [
        k for k in range(len(start)) if not farthest(got[turn][k : k + 1],
                                                     expected[turn][k : k + 1]) <= bound
    ]  # fmt: skip
    where = f"the first step that differs is number {turn + 1}"
    if wrong_ones == [len(start) - 1]:
        return f"{where}, in the second group alone: its options are not read"
    if turn == 0:
        ours = torch.cat([(a - b).flatten() for a, b in zip(got[0], start, strict=True)])
        theirs = torch.cat([(a - b).flatten() for a, b in zip(expected[0], start, strict=True)])
        ratio = (ours / theirs)[theirs != 0].double()
        if ratio.numel() and float(ratio.max() - ratio.min()) <= 1e-6 * abs(float(ratio.mean())):
            return f"{where}, which is {float(ratio.mean()):.6g} times as long as it should be"
    return where
