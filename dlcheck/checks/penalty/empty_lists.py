"""What a penalty does with nothing."""

from __future__ import annotations

from typing import Any

from dlcheck.checks.penalty.broken import tensors
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import guarded
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in


def _of_a_list(parameters: Any, strength: float = 0.1) -> Any:
    """L1 of a list, which is 0 for an empty one."""
    return strength * sum(w.abs().sum() for w in tensors(parameters))


_L1: dict[str, Any] = {
    "kind": "penalty",
    "inputs": {"weight": "float n m", "bias": "float n"},
    "traits": frozenset({"nonnegative", "nonsmooth", "accepts_empty"}),
    "options": {"norm": 1, "strength": "strength"},
}
_RIGHT = Subject(name="l1_of_a_list", target=_of_a_list, **_L1)


def _divides_by_its_count(parameters: Any, strength: float = 0.1) -> Any:
    """A mean over nothing: a ZeroDivisionError in the middle of training."""
    given = tensors(parameters)
    return strength * sum(w.abs().sum() for w in given) / max(len(given), 0.0)


def _starts_with_the_first(parameters: Any, strength: float = 0.1) -> Any:
    first, *others = tensors(parameters)
    return strength * sum((w.abs().sum() for w in others), first.abs().sum())


def _is_nothing(parameters: Any, strength: float = 0.1) -> Any:
    return _of_a_list(parameters, strength) if len(parameters) else None


def _is_not_a_number(parameters: Any, strength: float = 0.1) -> Any:
    return _of_a_list(parameters, strength) if len(parameters) else float("nan")


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
