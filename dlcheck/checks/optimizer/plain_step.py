"""A plain step: what else does an optimizer want, and which declaration says so?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.optimizer.broken import Plain, Scaled, wrong
from dlcheck.checks.optimizer.state import ACCEPTED
from dlcheck.checks.optimizer.trials import gradients_at, parameters_of, started
from dlcheck.errors import SubjectError
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subject_source import raised_at
from dlcheck.subjects import Implementation


class WantsNames(Plain):
    """Takes model.named_parameters()."""

    def __init__(self, named: Iterable[tuple[str, Tensor]], lr: float = 0.1) -> None:
        super().__init__([parameter for _, parameter in named], lr)


class WantsAModule(Plain):
    def __init__(self, model: nn.Module, lr: float = 0.1) -> None:
        super().__init__(model.parameters(), lr)


class WantsAClosure(Plain):
    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        return super().step(closure)


class WantsMatrices(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        if p.dim() != 2:
            raise ValueError("only 2-D parameters are supported")
        super().update(group, p, gradient)


class MixesTypes(Scaled):
    """Mixes a constant of another type into what it is given."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        one = torch.ones(p.shape, dtype=torch.float16)
        super().update(group, p, torch.lerp(gradient, one, 0.0))


def _declared(target: type[Any], takes: str) -> Subject:
    return wrong(target, takes=takes)


@check(
    kind="optimizer",
    tags=["domain"],
    rejects=[
        wrong(WantsNames),
        wrong(WantsAModule),
        wrong(WantsAClosure),
        wrong(WantsMatrices),
        wrong(MixesTypes),
    ],
    accepts=[
        *ACCEPTED,
        _declared(WantsNames, "named_parameters"),
        _declared(WantsAModule, "module"),
        wrong(WantsAClosure, "needs_closure"),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def takes_a_plain_step(subject: Implementation, case: Case) -> Evidence:
    """Built over a list of parameters and given their gradients, it takes a step.

    What it wants otherwise is declared: `takes`, `inputs`, needs_closure, sparse_gradient. The
    error is 1 where the step raises, the bound 0. All other checks leave out an optimizer that
    does not take one, so that one refusal is one failure.
    """
    raised = refusal(subject, case)
    return Evidence(
        error=float(raised is not None),
        bound=0.0,
        signal=1.0,
        unit="steps",
        what="plain steps that raise",
        expected="a step",
        got=f"{type(raised).__name__}: {raised}"[:300] if raised is not None else "",
        where=raised_at(raised),
        cause=_remedy(subject, case, raised) if raised is not None else "",
    )


def refusal(subject: Implementation, case: Case) -> BaseException | None:
    """What it raises when it is built and takes one step; None where it takes it."""
    try:
        run = started(subject, case)
        run.step([*gradients_at(case, run.parameters, 0)])
    except SubjectError as error:
        found: BaseException = error
        while isinstance(found, SubjectError) and found.__cause__ is not None:
            found = found.__cause__
        return found
    return None


def _remedy(subject: Implementation, case: Case, raised: BaseException) -> str:
    """The declaration under which it does take a step, as tried; else what the words point to."""
    for said, changed in _variants(subject):
        try:
            if parameters_of(case) and refusal(changed, case) is None:
                return f"it takes one if {said}"
        except Exception:  # a variant that cannot be tried is no remedy
            continue
    if _steps_on(subject, case, lambda x: x.dim() == 2):
        return 'only matrices are taken: declare inputs = { weight = "float n m" }'
    sparse = _with(subject, traits=subject.traits | {"sparse_gradient"})
    if _steps_on(sparse, case, lambda x: x.dim() == 2):
        return 'it takes sparse gradients: declare sparse_gradient and inputs = { w = "float n m" }'
    if _steps_in_float32(subject, case):
        return "float64 is not taken: run it in float32 (--dtype float32)"
    if isinstance(raised, SubjectError):
        return ""  # it says itself what is missing
    words = str(raised)
    if "required positional argument" in words:
        return "give the arguments that it needs in args"
    if "does not require grad" in words:
        return "it differentiates its gradients: these are given as numbers here, without a graph"
    return "if it wants its parameters in groups of its own form, declare a factory that makes them"


def _variants(subject: Implementation) -> list[tuple[str, Implementation]]:
    found = [
        (f"{trait} is declared", _with(subject, traits=subject.traits | {trait}))
        for trait in ("needs_closure", "sparse_gradient")
    ]
    found += [
        (f'options takes = "{form}" is declared', _with(subject, options={
            **subject.options, "takes": form}))
        for form in ("named_parameters", "module")
    ]  # fmt: skip
    return found


def _with(subject: Implementation, **changes: Any) -> Implementation:
    return replace(subject, declared=replace(subject.declared, **changes))


def _steps_on(subject: Implementation, case: Case, fits: Callable[[Tensor], bool]) -> bool:
    kept = [x for x in parameters_of(case) if fits(x)]
    return bool(kept) and _steps(subject, case, kept)


def _steps_in_float32(subject: Implementation, case: Case) -> bool:
    return _steps(subject, case, [x.float() for x in parameters_of(case)])


def _steps(subject: Implementation, case: Case, values: list[Tensor]) -> bool:
    try:
        run = started(subject, case, values)
        run.step([*gradients_at(case, run.parameters, 0)])
    except SubjectError:
        return False
    return True
