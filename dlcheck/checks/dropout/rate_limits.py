"""Rates at the ends of their range and beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.dropout.broken import Declared, broken
from dlcheck.checks.dropout.law import Law
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_BEYOND = (-0.1, 1.5)


class takes_any_rate(Declared):
    """Nothing is looked at: a mask of a negative rate keeps everything, scaled by less than 1."""


class clamps_its_rate(Declared):
    """A slip of the pen becomes another rate, and no one hears of it."""

    def __init__(self, law: Law) -> None:
        super().__init__(Law(min(max(law.p, 0.0), 0.99), law.rescale, law.noise, law.axes))


class refuses_when_called_alone(Declared):
    """Half of the range is looked at."""

    def __init__(self, law: Law) -> None:
        if law.p < 0:
            raise ValueError(f"p is {law.p}")
        super().__init__(law)


class takes_percent(Declared):
    """30 for 0.3 is understood, and 1.5 too."""

    def __init__(self, law: Law) -> None:
        p = law.p / 100 if law.p > 1 else law.p
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}")
        super().__init__(Law(p, law.rescale, law.noise, law.axes))


_VALIDATES: dict[str, Any] = {
    "kind": "dropout",
    "args": {"p": 0.3},
    "traits": frozenset({"stochastic", "validates"}),
    "options": {"p": "p", "rescale": "train"},
}
_TORCH = [
    Subject(name="torch_dropout", target=nn.Dropout, **_VALIDATES),
    Subject(name="torch_dropout2d", target=nn.Dropout2d,
            **{**_VALIDATES, "inputs": {"x": "float b c h w"},
               "options": {"p": "p", "rescale": "train", "axes": [2, 3]}}),
]  # fmt: skip


def _argument(subject: Implementation) -> str:
    name = subject.options["p"]
    if not isinstance(name, str):
        raise NotApplicable("p is a number, not the name of an argument that could be another")
    return name


@check(
    kind="dropout",
    needs={"validates"},
    options={"p": True},
    rejects=[
        broken(takes_any_rate),
        broken(clamps_its_rate),
        broken(refuses_when_called_alone),
        broken(takes_percent),
    ],
    accepts=_TORCH,
    once=True,
)
def rates_out_of_range_are_refused(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Built with p = −0.1 or 1.5 it raises, at the latest when it is called in train mode.

    The error counts rates that were answered; the bound is 0. Source: a probability lies between 0
    and 1; torch.nn.Dropout raises.
    """
    name = _argument(subject)
    for p in _BEYOND:
        answered, got = _answer(subject, case, name, p)
        yield Evidence(
            error=float(answered is not None),
            bound=0.0,
            signal=1.0,
            what=f"an answer at p = {p:g}",
            expected="an exception, from the constructor or the call",
            got=got,
        )


def _answer(subject: Implementation, case: Case, name: str, p: float) -> tuple[Tensor | None, str]:
    try:
        built = subject.rebuilt(**{name: p})
        if built.module is not None:
            built.module.train()
        y = built.tensor(*case.fresh())
    except SubjectRaised as refusal:
        return None, str(refusal).splitlines()[0]
    return y, f"numbers of mean {float(y.detach().double().mean()):.4g}"


class divides_by_zero(Declared):
    """x / (1 − p) times a mask of zeros: 0 · ∞ is NaN."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return x / torch.as_tensor(self.law.keep, dtype=x.dtype) * noise


class keeps_one_unit(Declared):
    """Never drops everything."""

    def noise(self, x: Tensor) -> Tensor:
        drawn = (torch.rand(self.unit_shape(x), device=x.device) >= self.rate()).to(x.dtype)
        drawn.view(-1)[0] = 1
        return drawn

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        return x * noise * (1 / self.law.keep if self.law.keep else 1.0)


class takes_one_for_off(Declared):
    """`if p in (0, 1): return x`."""

    def forward(self, x: Tensor) -> Tensor:
        if self.law.p == 1:
            return x
        return x * (torch.rand_like(x) >= self.law.p)


class sends_a_gradient_that_is_not_finite(Declared):
    """The value is 0, and its gradient 0 · ∞."""

    def apply_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        kept = torch.as_tensor(self.law.keep, dtype=x.dtype)
        return torch.where(noise.expand_as(x) > 0, x / kept, torch.zeros_like(x))


@check(
    kind="dropout",
    needs={"validates"},
    options={
        "p": True,
        "noise": [None, "bernoulli"],
        "rescale": ["train", "eval", "none"],
        "block": False,
    },
    rejects=[
        broken(divides_by_zero),
        broken(keeps_one_unit),
        broken(takes_one_for_off),
        broken(sends_a_gradient_that_is_not_finite),
    ],
    accepts=_TORCH,
    once=True,
)
def a_rate_of_one_drops_everything(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Built with p = 1 every output in train is 0 with the gradient 0, or p = 1 is refused.

    Exact, and no NaN: 1/(1 − p) is infinite there, and 0 · ∞ is NaN. The error counts elements of
    output and gradient that are not 0. Source: the definition; torch.nn.Dropout(1) gives zeros.
    """
    name = _argument(subject)
    given = list(case.fresh(requires_grad=case.floating[:1]))
    x = given[list(case.inputs).index(case.floating[0])]
    try:
        built = subject.rebuilt(**{name: 1.0})
        if built.module is not None:
            built.module.train()
        y = built.tensor(*given)
    except SubjectRaised as refusal:
        yield Evidence(error=0.0, bound=0.0, signal=1.0, what="a refusal of p = 1",
                       got=str(refusal).splitlines()[0])  # fmt: skip
        return
    (slope,) = gradients([y], [x], [torch.ones_like(y)])
    for what, found in {"outputs": y.detach(), "gradients": slope}.items():
        if found is not None:
            yield Evidence(
                error=float((~(found == 0)).sum()),
                bound=0.0,
                signal=float(found.numel()),
                unit="elements",
                what=f"{what} at p = 1 that are not 0",
            )
