"""What a penalty does with nothing, and with a strength that no penalty has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dlcheck.checks.penalty.broken import tensors
from dlcheck.checks.penalty.law import strengths_of
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import guarded
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in


def _of_a_list(parameters: Any, strength: float = 0.1) -> Any:
    """L1 of a list, which is 0 for an empty one and refuses to be a reward."""
    if strength < 0:
        raise ValueError(f"the strength is {strength}, but a penalty has one of at least 0")
    return strength * sum(w.abs().sum() for w in tensors(parameters))


def _rewards(parameters: Any, strength: float = 0.1) -> Any:
    return strength * sum(w.abs().sum() for w in tensors(parameters))


def _takes_the_size(parameters: Any, strength: float = 0.1) -> Any:
    return abs(strength) * sum(w.abs().sum() for w in tensors(parameters))


def _clamps(parameters: Any, strength: float = 0.1) -> Any:
    return max(strength, 0.0) * sum(w.abs().sum() for w in tensors(parameters))


def _falls_back(parameters: Any, strength: float = 0.1) -> Any:
    return (strength if strength > 0 else 1e-4) * sum(w.abs().sum() for w in tensors(parameters))


_L1: dict[str, Any] = {
    "kind": "penalty",
    "inputs": {"weight": "float n m", "bias": "float n"},
    "traits": frozenset({"nonnegative", "nonsmooth", "validates", "accepts_empty"}),
    "options": {"norm": 1, "strength": "strength"},
}
_RIGHT = Subject(name="l1_of_a_list", target=_of_a_list, **_L1)


@check(
    kind="penalty",
    needs={"validates"},
    options={"strength": True},
    rejects=[
        Subject(name=function.__name__.strip("_"), target=function, **_L1)
        for function in (_rewards, _takes_the_size, _clamps, _falls_back)
    ],
    accepts=[_RIGHT],
    once=True,
)
def a_negative_strength_is_refused(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Built and called with a strength below 0 it raises.

    A penalty of negative strength rewards large weights and has no minimum; its absolute value, 0
    or a default in its place hides a slip. The error counts strengths that were answered.
    Source: a multiplier of an inequality constraint is not negative (Boyd & Vandenberghe, Convex
    Optimization, 2004, §5.1.1).
    """
    strengths = strengths_of(subject)
    if not strengths:
        raise NotApplicable('no strength is an argument: declare strength = "name" to vary it')
    for name in strengths:
        try:
            answer = subject.rebuilt(**{name: -0.5}).number(*case.fresh())
            answered, got = True, f"{answer:.6g}"
        except SubjectRaised as refusal:
            answered, got = False, str(refusal).splitlines()[0]
        yield Evidence(
            error=float(answered),
            bound=0.0,
            signal=1.0,
            what=f"an answer with {name} = -0.5",
            expected="an exception",
            got=got,
        )


def _divides_by_its_count(parameters: Any, strength: float = 0.1) -> Any:
    """A mean over nothing: a ZeroDivisionError in the middle of training."""
    given = tensors(parameters)
    return strength * sum(w.abs().sum() for w in given) / max(len(given), 0.0)


def _starts_with_the_first(parameters: Any, strength: float = 0.1) -> Any:
    first, *others = tensors(parameters)
    return strength * sum((w.abs().sum() for w in others), first.abs().sum())


def _is_nothing(parameters: Any, strength: float = 0.1) -> Any:
    return _rewards(parameters, strength) if len(parameters) else None


def _is_not_a_number(parameters: Any, strength: float = 0.1) -> Any:
    return _rewards(parameters, strength) if len(parameters) else float("nan")


@check(
    kind="penalty",
    needs={"accepts_empty"},
    rejects=[
        Subject(name=function.__name__.strip("_"), target=function, **_L1)
        for function in (
            _divides_by_its_count, _starts_with_the_first, _is_nothing, _is_not_a_number,
        )
    ],
    accepts=[_RIGHT],
    once=True,
)  # fmt: skip
def an_empty_list_costs_nothing(subject: Implementation, case: Case) -> Evidence:
    """Of no parameters at all the penalty is 0, as a tensor or a number.

    A model whose parameters are all frozen or excluded has none left. Exact. Source: an empty sum
    is 0.
    """
    if subject.options.get("takes", "list") != "list":
        raise NotApplicable("takes no list")
    usual = subject.number(*case.fresh())
    got, cost = "", float("nan")
    try:
        answer = guarded(subject.target, [])
        cost = float(next(tensors_in(answer), answer))
        got = f"{cost:g}"
    except (SubjectRaised, TypeError, ValueError) as error:
        got = str(error).splitlines()[0]
    return Evidence(
        error=abs(cost) if cost == cost else 1.0 + abs(usual),
        bound=0.0,
        signal=abs(usual),
        what="penalty of an empty list",
        expected="0",
        got=got,
    )
