"""Arguments that the documentation refuses are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, tensors_in


def l1_that_refuses_rewards(weights: Tensor, strength: float = 0.1) -> Tensor:
    if strength < 0:
        raise ValueError(f"the strength is {strength}, but a penalty has one of at least 0")
    return strength * weights.abs().sum()


def l1_that_rewards(weights: Tensor, strength: float = 0.1) -> Tensor:
    """A slip of the sign, and large weights are rewarded."""
    return strength * weights.abs().sum()


def l1_that_takes_the_size(weights: Tensor, strength: float = 0.1) -> Tensor:
    return abs(strength) * weights.abs().sum()


def l1_that_clamps(weights: Tensor, strength: float = 0.1) -> Tensor:
    return max(strength, 0.0) * weights.abs().sum()


def l1_that_asserts(weights: Tensor, strength: float = 0.1) -> Tensor:
    """A TypeError by accident, where a ValueError is documented."""
    if strength < 0:
        raise TypeError("unsupported operand")
    return strength * weights.abs().sum()


class takes_percent(nn.Module):
    """30 for 0.3 is understood, and 1.5 too."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p / 100 if p > 1 else p
        if self.p < 0:
            raise ValueError(f"p is {p}")

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, self.training)


class clamps_its_rate(nn.Module):
    """A slip of the pen becomes another rate, and no one hears of it."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = min(max(p, 0.0), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, self.training)


class looks_at_nothing(nn.Module):
    """x · mask / (1 − p): a negative rate keeps everything and shrinks it."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p) if self.training else x


_L1: dict[str, Any] = {
    "kind": "penalty",
    "options": {
        "norm": 1,
        "strength": "strength",
        "rejects": {"strength": -0.5, "exception": "ValueError"},
    },
}
_DROPOUT: dict[str, Any] = {
    "kind": "dropout",
    "args": {"p": 0.3},
    "inputs": {"x": "float b n"},
    "traits": frozenset({"stochastic"}),
    "options": {"p": "p", "rejects": {"p": [-0.1, 1.5]}},
}
_WRONG = (l1_that_rewards, l1_that_takes_the_size, l1_that_clamps, l1_that_asserts)
_WRONG_RATES = (takes_percent, clamps_its_rate, looks_at_nothing)


@check(
    kind="tensors",
    options={"rejects": True},
    rejects=[
        *(Subject(name=wrong.__name__, target=wrong, **_L1) for wrong in _WRONG),
        *(Subject(name=wrong.__name__, target=wrong, **_DROPOUT) for wrong in _WRONG_RATES),
    ],
    accepts=[
        Subject(name="l1_that_refuses_rewards", target=l1_that_refuses_rewards, **_L1),
        Subject(name="torch_dropout", target=nn.Dropout, **_DROPOUT),
    ],
    once=True,
)
def documented_arguments_are_refused(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Built with an argument that its documentation refuses it raises, at the latest in a call.

    `options.rejects = { p = [-0.1, 1.5], exception = "ValueError" }`: each value in the place of
    the argument, one at a time, in train mode. The error is 1 for an answer, or for another
    exception than the documented one; the bound is 0. A wrong number that is answered (a negative
    rate keeps everything, a negative strength rewards large weights) is found weeks later.
    Source: the declaration.
    """
    refused: Mapping[str, Any] = subject.options["rejects"]
    wanted = str(refused.get("exception", "Exception"))
    named = {n: v for n, v in refused.items() if n != "exception" and n not in case.sizes}
    if not named:
        raise NotApplicable("its documented refusals name no argument, as { p = [-0.1, 1.5] }")
    for name, values in named.items():
        subject.value_of(name, "option rejects")  # raises where it is no argument
        for value in values if isinstance(values, (list, tuple)) else [values]:
            right, got = _refuses(subject, case, {name: value}, wanted)
            yield Evidence(
                error=float(not right),
                bound=0.0,
                signal=1.0,
                what=f"{name} = {value}",
                expected=wanted if wanted != "Exception" else "an exception",
                got=got,
            )


def _refuses(
    subject: Implementation, case: Case, change: Mapping[str, Any], wanted: str
) -> tuple[bool, str]:
    seed_everything(case.recipe.seed)
    try:
        built = subject.rebuilt(**change)
        if built.module is not None:
            built.module.train()
        answer = next(tensors_in(built(*case.fresh()))).detach()
    except SubjectRaised as refusal:
        raised = refusal.__cause__ or refusal
        names = [made.__name__ for made in type(raised).__mro__]
        return wanted in names, f"{type(raised).__name__}: {raised}"
    return False, f"an answer of mean {float(answer.double().mean()):.4g}"
