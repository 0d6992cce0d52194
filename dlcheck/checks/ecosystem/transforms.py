"""`torch.func` sees the same function: grad and functional_call, vmap."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.agreement import largest_of
from dlcheck.checks.ecosystem.findings import (
    alike,
    answers,
    buffers_kept,
    excuse_torch,
    plain_answers,
    prepare,
    quiet,
    refusal,
    settle,
)
from dlcheck.checks.ecosystem.fragile_computations import (
    AsksForAGradientInside,
    BranchesOnItsInput,
    HasAnOldFunction,
    HasAWrongVmapRule,
    ReadsItsParametersFromAList,
)
from dlcheck.checks.ecosystem.fragile_modules import made_by
from dlcheck.checks.every.answers import Question, floating
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize, stream_seed
from dlcheck.subjects import Implementation, guarded

_BATCH = 3  # of vmap


@check(
    kind="tensors",
    once=True,
    forbids={"in_place", "nondifferentiable"},
    rejects=[made_by(ReadsItsParametersFromAList), made_by(AsksForAGradientInside)],
)
def survives_func_grad(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """torch.func.grad of torch.func.functional_call gives the gradients that backward gives.

    Gradients of every floating input and parameter for random incoming gradients, equal bit by
    bit or within rounding. A parameter that the call reads elsewhere than from the module (a
    plain list, a closure) has a gradient of zero here. An autograd.Function without setup_context,
    which torch.func cannot take, is skipped unless `options.ecosystem` has "func_grad".
    """
    prepare(subject, case)
    settle(subject)
    with buffers_kept(subject):
        question = Question.of(subject, case, dtype=case.dtype)
    if not question.cotangents:
        raise NotApplicable("no output is floating")
    parameters = subject.parameters
    names = [*case.floating, *parameters]
    if not names:
        raise NotApplicable("nothing can have a gradient")
    wanted = plain_answers(question, subject)

    def transformed(*inputs: Tensor) -> list[Tensor]:
        return _gradients_by_func(subject, case, question.cotangents, inputs)

    try:
        found = dict(zip(names, transformed(*case.fresh()), strict=True))
    except Exception as error:
        excuse_torch(subject, "func_grad", error)
        yield refusal("torch.func.grad", error)
        return
    for place, name in enumerate(names):
        expected = wanted.get(f"gradient of {name}")
        if expected is None:
            expected = torch.zeros_like(found[name])
        cause = ""
        if largest_of(found[name]) == 0 < largest_of(expected):
            cause = f"{name} is not what functional_call replaces: it is read from somewhere else"

        def one(*inputs: Tensor, place: int = place) -> Tensor:
            with torch.enable_grad():
                return transformed(*inputs)[place]

        yield from alike(
            f"torch.func.grad of {name}",
            [found[name]],
            [expected],
            subject,
            case,
            call=one,
            cause=cause,
        )


def _gradients_by_func(
    subject: Implementation, case: Case, cotangents: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """∇⟨v, f(parameters, inputs)⟩ by torch.func: of the floating inputs, then of the parameters."""
    given = dict(zip(case.inputs, inputs, strict=True))
    moved = {name: given[name].detach() for name in case.floating}
    moved |= {_key(name): p.detach() for name, p in subject.parameters.items()}

    def slope(values: Mapping[str, Tensor]) -> Tensor:
        state = {name: values[_key(name)] for name in subject.parameters}
        made = _functional(subject, state)
        answers = made.tensors(*({**given, **{n: values[n] for n in case.floating}}).values())
        total = sum((y * v.to(y)).sum() for y, v in zip(floating(answers), cotangents, strict=True))
        assert isinstance(total, Tensor)
        return total

    seed_everything(case.recipe.seed)
    found = torch.func.grad(slope)(moved)
    return [found[name].detach() for name in moved]


def _key(parameter: str) -> str:
    return f"parameter {parameter}"  # an input may have the same name


def _functional(subject: Implementation, state: Mapping[str, Tensor]) -> Implementation:
    """The subject, its parameters replaced by these and its buffers by copies of them."""
    module = subject.module
    if module is None:
        return subject
    buffers = {name: b.clone() for name, b in module.named_buffers() if b is not None}

    def call(*inputs: Any, **keywords: Any) -> Any:
        return torch.func.functional_call(module, {**state, **buffers}, inputs, keywords)

    return dataclasses.replace(subject, target=call)


# --- vmap -------------------------------------------------------------------------------------


@check(
    kind="tensors",
    once=True,
    tags=["opt_in"],
    options={"ecosystem": ["vmap"]},
    forbids={"in_place"},
    rejects=[made_by(BranchesOnItsInput), made_by(HasAWrongVmapRule), made_by(HasAnOldFunction)],
    accepts=[
        Subject(
            name="linear_under_vmap",
            target=nn.Linear,
            kind="layer",
            args={"in_features": {"dim": "d"}, "out_features": 3},
            inputs={"x": "float b d"},
            options={"ecosystem": ["vmap"]},
        ),
        Subject(
            name="gelu_under_vmap",
            target=nn.functional.gelu,
            kind="activation",
            options={"ecosystem": ["vmap"]},
        ),
        Subject(
            name="batch_norm_under_vmap",
            target=nn.BatchNorm1d,
            kind="layer",
            args={"num_features": {"dim": "d"}},
            inputs={"x": "float b d"},
            options={"ecosystem": ["vmap"]},
        ),
    ],
)
def survives_vmap(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """torch.func.vmap over a new leading axis gives what a loop gives.

    In eval, every input with an axis of 3 cases before its own. Equal bit by bit, or within
    rounding. Control flow on the data, a number read with item(), an autograd.Function or custom
    operator without a rule for vmap are refused. Opt-in: a component may well do without.
    """
    prepare(subject, case)
    settle(subject)
    if subject.module is not None:
        guarded(subject.module.eval)
    cases = [_drawn(case, turn) for turn in range(_BATCH)]
    stacked = [torch.stack(parts) for parts in zip(*cases, strict=True)]
    try:
        with torch.no_grad(), quiet():
            seed_everything(case.recipe.seed)
            found = torch.func.vmap(subject.tensors)(*stacked)
    except Exception as error:
        yield refusal("torch.func.vmap", error, _vmap_remedy(error))
        return
    for turn, inputs in enumerate(cases):
        expected = answers(subject, inputs, case.recipe.seed)
        yield from alike(
            f"answer {turn} of {_BATCH} under vmap",
            [y[turn].detach() for y in found],
            expected,
            subject,
            case,
            inputs=inputs,
        )


def _drawn(case: Case, turn: int) -> list[Tensor]:
    """The case's inputs, then others of the same sizes."""
    if turn == 0:
        return list(case.fresh())
    seed = stream_seed(case.recipe.seed, f"vmap {turn}") % 2**31
    recipe = dataclasses.replace(case.recipe, seed=seed)
    return list(materialize(recipe, case.specs, case.device, case.dtype).values())


def _vmap_remedy(error: Exception) -> str:
    said = str(error.__cause__ if isinstance(error, SubjectRaised) else error)
    if "setup_context" in said or "generate_vmap_rule" in said:
        return "give the autograd.Function setup_context and generate_vmap_rule = True"
    if "item()" in said or "data-dependent" in said:
        return "Python reads a number of a tensor; compute with torch.where instead"
    return ""
