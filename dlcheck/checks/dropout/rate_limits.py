"""The rate at the end of its range: everything is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.dropout.broken import Declared, broken
from dlcheck.checks.dropout.law import in_mode
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_OPTIONS: dict[str, Any] = {"p": "p", "rescale": "train", "knobs": {"p": [0.0, 1.0]}}
_WHOLE_RANGE: dict[str, Any] = {
    "kind": "dropout",
    "args": {"p": 0.3},
    "traits": frozenset({"stochastic"}),
    "options": _OPTIONS,
}
_TORCH = [
    Subject(name="torch_dropout", target=nn.Dropout, **_WHOLE_RANGE),
    Subject(name="torch_dropout2d", target=nn.Dropout2d,
            **{**_WHOLE_RANGE, "inputs": {"x": "float b c h w"},
               "options": {**_OPTIONS, "axes": [2, 3]}}),
]  # fmt: skip


def _argument(subject: Implementation) -> str:
    name = subject.options["p"]
    if not isinstance(name, str):
        raise NotApplicable("p is a number, not the name of an argument that could be 1")
    knob = subject.options["knobs"].get(name)
    if not knob or not max(knob) >= 1:
        raise NotApplicable(f"p = 1 is not declared as valid: knobs = {{ {name} = [0.0, 1.0] }}")
    return name


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
    options={
        "p": True,
        "knobs": True,
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
    """Built with p = 1 every output in train is 0 with the gradient 0.

    For a subject that declares p = 1 as valid, `knobs = { p = [0.0, 1.0] }`. Exact, and no NaN:
    1/(1 − p) is infinite there, and 0 · ∞ is NaN. The error counts elements of output and gradient
    that are not 0. Source: the definition; torch.nn.Dropout(1) gives zeros.
    """
    name = _argument(subject)
    given = list(case.fresh(requires_grad=case.floating[:1]))
    x = given[list(case.inputs).index(case.floating[0])]
    built = in_mode(subject.rebuilt(**{name: 1.0}), "train")
    y = built.tensor(*given)
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
