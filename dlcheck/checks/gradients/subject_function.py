"""A subject and a case as what the gradient engine differentiates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import NotApplicable
from dlcheck.gradients.examination import Examination, Thoroughness
from dlcheck.gradients.expectations import Expectation, expectation
from dlcheck.gradients.function import Function
from dlcheck.gradients.judge import Judge
from dlcheck.gradients.variables import Variable
from dlcheck.isolation import kept_buffers
from dlcheck.numerics.layouts import LAYOUTS, REARRANGED
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation
from dlcheck.targets import load_target

# Hypothesis draws many points: two looks at each, and one more where the certificate is loose.
OF_A_CASE = Thoroughness(looks=2, precise=1e-9, conditions=True)


def examination(subject: Implementation, case: Case) -> Examination:
    """The engine, set up for one case of a subject."""
    expected = _expected(subject)
    names = _with_gradient(subject, case, _wanted(subject, case))
    function = differentiable(subject, case, names)
    truth = None
    if expected.surrogate is not None:
        truth = differentiable(subject, case, names, instead=expected.surrogate)
    judge = Judge(
        function,
        case.generator("gradient"),
        precise=OF_A_CASE.precise,
        expected=expected,
        truth=truth,
    )
    return Examination(judge, OF_A_CASE, case.recipe.seed, case.explains)


def differentiable(
    subject: Implementation,
    case: Case,
    names: Sequence[str],
    *,
    instead: Callable[..., Any] | None = None,
) -> Function:
    """The subject as a function of these inputs and of all its parameters.

    instead: a function of the same inputs whose values count in place of the subject's.
    """
    variables = [
        Variable(name, case.inputs[name].detach(), spec=case.specs[name]) for name in names
    ]
    variables += [
        Variable(name, parameter.detach().clone(), parameter=parameter)
        for name, parameter in subject.parameters.items()
    ]
    module = subject.module
    called = instead or subject

    def call(leaves: Sequence[Tensor]) -> Any:
        moved = dict(zip(names, leaves, strict=False))
        return called(*(moved.get(name, tensor) for name, tensor in case.inputs.items()))

    def meanwhile(_: Sequence[Tensor]) -> Any:
        """Another call where no input can move: the same integers in another order."""
        return called(*(x.flatten().roll(1).reshape(x.shape) for x in case.inputs.values()))

    return Function(
        call,
        tuple(variables),
        buffers=tuple((b, b.clone()) for b in kept_buffers(module)),
        constants=tuple(
            (name, tensor) for name, tensor in case.inputs.items() if name not in names
        ),
        seed=case.recipe.seed,
        overwrites="in_place" in subject.traits,
        meanwhile=None if names else meanwhile,
        layouts=[each for each in REARRANGED if each in subject.options.get("layouts", LAYOUTS)],
    )


def _expected(subject: Implementation) -> Expectation:
    """What the author declares of a gradient that is no derivative.

    Raises NotApplicable where it is declared that it is none, but not what it is.
    """
    given = subject.options.get("surrogate", subject.options.get("expect"))
    if given is None and "surrogate_gradient" in subject.traits:
        raise NotApplicable(
            "a surrogate gradient is declared, but not which: give options.surrogate = the path "
            "of the function whose gradient it is, or options.expect"
        )
    if "surrogate" in subject.options and isinstance(given, str):
        given = load_target(given, near=subject.declared.file)
    return expectation(given)


def _wanted(subject: Implementation, case: Case) -> list[str]:
    """The inputs that are to have a gradient."""
    stopped = subject.options.get("stop_gradient", ())
    stopped = [stopped] if isinstance(stopped, str) else stopped
    wanted = subject.options.get("wrt", case.floating)
    wanted = [wanted] if isinstance(wanted, str) else wanted
    return [name for name in case.floating if name in wanted and name not in stopped]


def _with_gradient(subject: Implementation, case: Case, names: list[str]) -> list[str]:
    """Without a loss's targets that get no gradient: none was promised.

    One that is computed all the same must be right.
    """
    optional = [name for name in names if _may_go_without(subject, case, name)]
    if not optional or not any(case.inputs[name].numel() for name in names):
        return names
    function = differentiable(subject, case, names)
    function.meet()
    ones = [torch.ones(shape, dtype=y.dtype, device=y.device) for shape, y in _outputs(function)]
    unreached = function.gradient(ones).unreached
    return [name for name in names if name not in optional or name not in unreached]


def _outputs(function: Function) -> list[tuple[torch.Size, Tensor]]:
    return list(zip(function.shapes, function.shaped(function.value), strict=True))


def _may_go_without(subject: Implementation, case: Case, name: str) -> bool:
    if subject.kind.name != "loss" or "wrt" in subject.options:
        return False
    roles = subject.options.get("roles", {})
    pairwise = subject.options.get("task") in ("contrastive", "triplet")
    targets = [roles["target"]] if "target" in roles else []
    if not targets and not pairwise:
        targets = list(case.inputs)[1:2]
    data = roles.get("data", ())
    return name in targets or name in ([data] if isinstance(data, str) else data)
