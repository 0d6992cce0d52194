"""`torch.export` keeps what is computed, for other inputs too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from dlcheck.arrangement import arranged
from dlcheck.checks.ecosystem.compiled import LINEAR, NORM, SOFTMAX
from dlcheck.checks.ecosystem.findings import alike, answers, prepare, quiet, refusal, settle
from dlcheck.checks.ecosystem.fragile_computations import (
    BakesANumberIn,
    BranchesOnItsInput,
    CallsAnOperatorWithoutAFake,
)
from dlcheck.checks.ecosystem.fragile_modules import made_by
from dlcheck.domains import bound_dims, size_bounds
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize, stream_seed
from dlcheck.subjects import Implementation, guarded, tensors_in


class _Flat(nn.Module):
    """The subject as a module that is called with its declared inputs, one after another."""

    def __init__(self, subject: Implementation) -> None:
        super().__init__()
        self.target = subject.target
        self.arrange = lambda inputs: arranged(subject.kind, subject.declared, inputs, {})

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors_in(self.target(*self.arrange(inputs))))


@check(
    kind="tensors",
    once=True,
    tags=["opt_in", "slow"],
    options={"ecosystem": ["export"]},
    forbids={"in_place"},
    rejects=[
        made_by(BranchesOnItsInput),
        made_by(CallsAnOperatorWithoutAFake),
        made_by(BakesANumberIn),
    ],
    accepts=[LINEAR, SOFTMAX, NORM],
)
def survives_export(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A program exported by torch.export gives the same answers, to other inputs too.

    In eval, with every size left to be dynamic where tracing allows it. The program answers to the
    case, to other values of the same sizes and, unless tracing made the sizes constants (reported,
    not failed), to other sizes. Equal bit by bit, or within rounding. Numbers that Python computed
    while tracing are constants of the program: they show on other values.
    """
    prepare(subject, case)
    settle(subject)
    if subject.module is not None:
        guarded(subject.module.eval)
    try:
        program = _exported(subject, case)
    except Exception as error:
        yield refusal("torch.export.export", error, _export_remedy(error))
        return
    same = _elsewhere(case, dict(case.sizes), "other values")
    grown = _elsewhere(case, _other_sizes(subject, case), "other sizes")
    for what, other in (("the traced inputs", case), ("other values", same)):
        yield from _program_agrees(what, program, subject, other)
    if grown.sizes == case.sizes:
        return
    try:
        pieces = list(_program_agrees("other sizes", program, subject, grown))
    except _Static:
        pieces = []
    yield from pieces
    yield Evidence(
        error=0.0,
        bound=0.0,
        signal=1.0,
        unit="programs",
        what="exported program",
        values={"sizes": "dynamic" if pieces else "static"},
    )


class _Static(Exception):
    """The program refuses inputs of other sizes."""


def _exported(subject: Implementation, case: Case) -> Any:
    inputs = case.fresh()
    free = tree_map(lambda x: dict.fromkeys(range(x.dim()), torch.export.Dim.AUTO), inputs)
    seed_everything(case.recipe.seed)
    flat = _Flat(subject).eval()
    with torch.no_grad(), quiet():
        return torch.export.export(flat, inputs, dynamic_shapes=(free,)).module()


def _program_agrees(
    what: str, program: Any, subject: Implementation, case: Case
) -> Iterator[Evidence]:
    seed_everything(case.recipe.seed)
    try:
        with torch.no_grad():
            found = list(program(*case.fresh()))
    except Exception as error:
        if what == "other sizes":
            raise _Static from error
        yield refusal(f"the exported program on {what}", error)
        return
    expected = answers(subject, case.fresh(), case.recipe.seed)
    yield from alike(f"answer of the exported program to {what}", found, expected, subject, case)


def _elsewhere(case: Case, sizes: dict[str, int], salt: str) -> Case:
    seed = stream_seed(case.recipe.seed, salt) % 2**31
    recipe = dataclasses.replace(case.recipe, seed=seed, sizes=sizes)
    inputs = materialize(recipe, case.specs, case.device, case.dtype)
    return dataclasses.replace(case, recipe=recipe, inputs=inputs)


def _other_sizes(subject: Implementation, case: Case) -> dict[str, int]:
    """Two more along every dim that no constructor argument is bound to, within its bounds."""
    bound = {dim.name for dim in bound_dims(subject.declared.args).values()}
    sizes = {}
    for name, size in case.sizes.items():
        high = (size_bounds(subject.options, name) or (0, size + 2))[1]
        sizes[name] = size if name in bound else max(min(size + 2, high), size)
    return sizes


def _export_remedy(error: Exception) -> str:
    said = str(error)
    if "data-dependent" in said or "item" in said:
        return "Python branches on a number of a tensor; use torch.where or torch.cond"
    if "fake" in said or "FakeTensor" in said:
        return "a custom operator needs register_fake that gives the shape it returns"
    return ""
