"""A penalty on a model: every parameter once, wherever it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.penalty.law import demand_numbers, rounding, size
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import guarded
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients


def l2_of_a_model(model: nn.Module, strength: float = 0.1) -> Tensor:
    return strength * sum((p.square().sum() for p in model.parameters()), torch.zeros(()))


def l2_of_matrices(model: nn.Module, strength: float = 0.1) -> Tensor:
    return strength * sum(
        (p.square().sum() for n, p in model.named_parameters() if "bias" not in n), torch.zeros(())
    )


def walks_modules_twice(model: nn.Module, strength: float = 0.1) -> Tensor:
    """parameters() of every one of modules(): a layer counts as often as it is nested."""
    total = torch.zeros(())
    for module in model.modules():
        for p in module.parameters():
            total = total + strength * p.square().sum()
    return total


def counts_a_shared_weight_twice(model: nn.Module, strength: float = 0.1) -> Tensor:
    """Over the layers' own attributes: a tied weight is penalised under each of its names."""
    total = torch.zeros(())
    for _, p in model.named_parameters(remove_duplicate=False):
        total = total + strength * p.square().sum()
    return total


def asks_for_whole_names(model: nn.Module, strength: float = 0.1) -> Tensor:
    """`name == "weight"` for `name.endswith("weight")`: true of a bare layer alone."""
    total = torch.zeros(())
    for name, p in model.named_parameters():
        if name in ("weight", "kernel", "bias"):
            total = total + strength * p.square().sum()
    return total


def looks_at_the_outermost_only(model: nn.Module, strength: float = 0.1) -> Tensor:
    """parameters(recurse=False) of the model and of its children: what is nested deeper is free."""
    total = strength * sum((p.square().sum() for p in model.parameters(recurse=False)),
                           torch.zeros(()))  # fmt: skip
    for child in model.children():
        for p in child.parameters(recurse=False):
            total = total + strength * p.square().sum()
    return total


_OF_A_MODEL: dict[str, Any] = {
    "kind": "penalty",
    "inputs": {"weight": "float n m", "kernel": "float k m 2", "bias": "float n"},
    "options": {"norm": 2, "convention": "full", "strength": "strength", "takes": "module"},
}
_WRONG = (
    walks_modules_twice,
    counts_a_shared_weight_twice,
    asks_for_whole_names,
    looks_at_the_outermost_only,
)


@check(
    kind="penalty",
    options={"takes": ["module"]},
    rejects=[Subject(name=wrong.__name__, target=wrong, **_OF_A_MODEL) for wrong in _WRONG],
    accepts=[
        Subject(name="l2_of_a_model", target=l2_of_a_model, **_OF_A_MODEL),
        Subject(
            name="l2_of_matrices",
            target=l2_of_matrices,
            **{**_OF_A_MODEL, "options": {**_OF_A_MODEL["options"], "exclude": "bias"}},
        ),
    ],
)
def each_parameter_counts_once(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A model's penalty does not depend on how its parameters are nested, nor on shared names.

    The declared tensors as parameters of one module, of modules nested three deep, and nested with
    a second name for each: value and gradient are the same, for a model's parameters are a set.
    The bound is the rounding of two sums. Source: torch.nn.Module.parameters, which yields each
    parameter once; a weight that is shared has one prior.
    """
    demand_numbers(case)
    flat = _cost(subject, _flat(case))
    if not any(slope.any() for slope in flat[1]) and not flat[0]:
        raise NotApplicable("its penalty of a flat module is 0: it looks for layers of its own")
    relative = 2 * rounding(size(case.tensors), case.dtype)
    for how, made in {
        "nested three deep": _nested(case),
        "nested, each parameter under two names": _shared(case),
    }.items():
        value, slopes = _cost(subject, made)
        yield Evidence(
            error=abs(value - flat[0]),
            bound=relative * abs(flat[0]),
            signal=abs(flat[0]),
            what=f"penalty of a model that is {how}",
            expected=f"{flat[0]:.9g}, as in one flat module",
            got=f"{value:.9g}",
        )
        pairs = list(zip(slopes, flat[1], strict=True))
        largest = max(float(own.abs().max()) for own in flat[1])
        yield Evidence(
            error=max(float((found - own).abs().max()) for found, own in pairs),
            bound=relative * largest,
            signal=largest or abs(flat[0]),
            what=f"gradient in a model that is {how}",
        )


Model = tuple[nn.Module, list[nn.Parameter]]


def _parameters(case: Case) -> dict[str, nn.Parameter]:
    return {n: nn.Parameter(w) for n, w in zip(case.inputs, case.fresh(), strict=True)}


def _flat(case: Case) -> Model:
    model, parameters = nn.Module(), _parameters(case)
    for name, parameter in parameters.items():
        model.register_parameter(name, parameter)
    return model, [*parameters.values()]


def _nested(case: Case) -> Model:
    """Each parameter in a module of its own, in a module, in the model."""
    parameters = _parameters(case)
    blocks = nn.Module()
    for place, (name, parameter) in enumerate(parameters.items()):
        layer = nn.Module()
        layer.register_parameter(name, parameter)
        blocks.add_module(f"block{place}", layer)
    model = nn.Module()
    model.add_module("body", blocks)
    return model, [*parameters.values()]


def _shared(case: Case) -> Model:
    model, parameters = _nested(case)
    head = nn.Module()
    for name, parameter in zip(case.inputs, parameters, strict=True):
        head.register_parameter(name, parameter)
    model.add_module("head", head)
    return model, parameters


def _cost(subject: Implementation, made: Model) -> tuple[float, list[Tensor]]:
    model, parameters = made
    answer = guarded(subject.target, model)
    if not isinstance(answer, Tensor) or answer.numel() != 1:
        raise SubjectError(f"{subject.declared.name} returned {answer!r:.80}, not one number")
    answer = answer.reshape(())
    found = gradients([answer], parameters, [torch.ones_like(answer)])
    slopes = [
        torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)
    ]
    return float(answer.detach()), [slope.detach() for slope in slopes]
