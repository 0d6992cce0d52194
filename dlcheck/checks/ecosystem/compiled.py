"""`torch.compile` keeps what is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.ecosystem.findings import (
    alike,
    buffers_kept,
    plain_answers,
    prepare,
    quiet,
    refusal,
    settle,
)
from dlcheck.checks.ecosystem.fragile_computations import (
    CallsAnOperatorWithoutAFake,
    ForgetsAFactorWhenCompiled,
    HasAWrongFake,
    RemembersEachCall,
)
from dlcheck.checks.ecosystem.fragile_modules import made_by
from dlcheck.checks.every.answers import Question
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_WARM = 2  # calls after which no graph of these shapes should be left to compile
_LATER = 2  # calls that are counted
LINEAR = Subject(
    name="linear_compiled",
    target=nn.Linear,
    kind="layer",
    args={"in_features": {"dim": "d"}, "out_features": 3},
    inputs={"x": "float b d"},
    options={"ecosystem": ["compile", "export"]},
)
SOFTMAX = Subject(
    name="softmax_compiled",
    target=nn.functional.log_softmax,
    kind="op",
    args={"dim": -1},
    inputs={"x": "float b n"},
    options={"ecosystem": ["compile", "export"]},
)
NORM = Subject(
    name="batch_norm_compiled",
    target=nn.BatchNorm1d,
    kind="layer",
    args={"num_features": {"dim": "d"}},
    inputs={"x": "float b d"},
    options={"ecosystem": ["compile", "export"]},
)


@check(
    kind="tensors",
    once=True,
    tags=["opt_in", "slow"],
    options={"ecosystem": ["compile"]},
    forbids={"in_place"},
    rejects=[
        made_by(RemembersEachCall),
        made_by(ForgetsAFactorWhenCompiled),
        made_by(CallsAnOperatorWithoutAFake),
        made_by(HasAWrongFake),
    ],
    accepts=[LINEAR, SOFTMAX, NORM],
)
def survives_compile(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """torch.compile gives the same values and gradients, and compiles no graph anew per call.

    By the backend aot_eager, which traces forward and backward without generating code; by
    inductor in the profile thorough. Equal bit by bit, or within rounding. From the third call of
    equal shapes on, no graph may be compiled. Graph breaks are reported, not failed. A random
    subject is called in eval: a compiler may draw in another order.
    """
    prepare(subject, case)
    settle(subject)
    with buffers_kept(subject):
        question = Question.of(subject, case, dtype=case.dtype)
    backend = "inductor" if case.profile.name == "thorough" else "aot_eager"
    wanted = plain_answers(question, subject)
    with _compiler(backend) as compiler, quiet():
        made = dataclasses.replace(subject, target=compiler.compiled(subject.target))
        try:
            with buffers_kept(subject):
                found = question.put_to(made, parameters=subject.parameters)
            for _ in range(1, _WARM):
                question.put_to(made, parameters=subject.parameters)
            warm = compiler.graphs
            for _ in range(_LATER):
                question.put_to(made, parameters=subject.parameters)
        except Exception as error:
            yield refusal(f"torch.compile by {backend}", error, _compile_remedy(error))
            return
        anew, graphs, breaks = compiler.graphs - warm, compiler.graphs, _breaks()
    for name in wanted:
        yield from _compiled_alike(name, found, wanted, subject, question, backend)
    yield Evidence(
        error=float(anew),
        bound=0.0,
        signal=float(_LATER),
        unit="graphs",
        what=f"graphs compiled anew in {_LATER} calls of the same shapes",
        cause="a Python value that a graph depends on changes with every call" if anew else "",
        values={"graphs": float(graphs), "graph breaks": float(breaks)},
    )


def _compiled_alike(
    name: str,
    found: dict[str, Tensor],
    wanted: dict[str, Tensor],
    subject: Implementation,
    question: Question,
    backend: str,
) -> Iterator[Evidence]:
    if name not in found:
        yield refusal(f"{name} under torch.compile", ValueError("none arrives"))
        return

    def one(*inputs: Tensor) -> Tensor:
        moved = dict(zip(question.case.inputs, inputs, strict=True))
        with torch.enable_grad(), buffers_kept(subject):
            return question.put_to(subject, moved=moved)[name]

    yield from alike(
        f"{name}, compiled by {backend}",
        [found[name]],
        [wanted[name]],
        subject,
        question.case,
        call=one,
    )


@dataclass(slots=True)
class _Compiler:
    """A backend of torch.compile that counts its graphs."""

    backend: Callable[..., Any]
    graphs: int = 0

    def compiled(self, target: Any) -> Any:
        return torch.compile(target, backend=self._compile)

    def _compile(self, graph: Any, inputs: Sequence[Any]) -> Any:
        self.graphs += 1
        return self.backend(graph, inputs)


@contextmanager
def _compiler(backend: str) -> Iterator[_Compiler]:
    """A fresh compiler, whose caches are emptied again."""
    from torch._dynamo import reset
    from torch._dynamo.backends.registry import lookup_backend
    from torch._dynamo.utils import counters

    reset()
    counters.clear()
    try:
        yield _Compiler(lookup_backend(backend))
    finally:
        reset()
        counters.clear()


def _breaks() -> int:
    from torch._dynamo.utils import counters

    return sum(counters["graph_break"].values())


def _compile_remedy(error: Exception) -> str:
    said = str(error)
    if "fake" in said or "FakeTensor" in said:
        return "a custom operator needs register_fake that gives the shape it returns"
    return ""
