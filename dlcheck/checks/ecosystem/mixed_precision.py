"""Autocast to bfloat16 changes the precision, nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dlcheck.checks.ecosystem.findings import (
    buffers_kept,
    excuse_torch,
    plain_answers,
    prepare,
    refusal,
)
from dlcheck.checks.ecosystem.fragile_computations import (
    CastsItsGainWithoutAGraph,
    ForgetsAFactorUnderAutocast,
    MixesTypesInItsBackward,
    WritesIntoAFloat32Table,
)
from dlcheck.checks.ecosystem.fragile_modules import made_by
from dlcheck.checks.every.answers import Answers, Question, inputs_in
from dlcheck.checks.every.twin import in_dtype
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.gradients.spread import Narrow, moved
from dlcheck.model import Evidence
from dlcheck.numerics.stochastic_rounding import StochasticRounding
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize, stream_seed
from dlcheck.subjects import Implementation, guarded

_DRAWS = 4
_TRIES = 3  # inputs on which a difference must show: one may sit at a kink or a jump


@check(
    kind="tensors",
    once=True,
    dtypes=["float32"],
    forbids={"in_place", "stochastic_in_eval"},
    rejects=[
        made_by(WritesIntoAFloat32Table),
        made_by(MixesTypesInItsBackward),
        made_by(CastsItsGainWithoutAGraph),
        made_by(ForgetsAFactorUnderAutocast),
    ],
)
def survives_autocast(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Under bfloat16 autocast the answers are the same within bfloat16, and gradients flow.

    float32 inputs and parameters; the forward within torch.autocast, the backward after it, as
    training does. Every gradient that arrives without autocast arrives with it, finite and in the
    type of its tensor. Of an output the error is ‖y − Y‖/‖Y‖, Y without autocast; the bound is κ
    times the spread of the same code in float64 when every operation is rounded to bfloat16 at
    random (κ = 8), plus 4 roundings; a stochastic module is in eval. A difference must show on
    three draws of the inputs. Where the bound is half of the answer, nothing can be said and it is
    skipped.
    """
    prepare(subject, case)
    if "stochastic" in subject.traits and subject.module is not None:
        guarded(subject.module.eval)  # rounding would move a random number across a threshold
    with buffers_kept(subject):
        question = Question.of(subject, case, dtype=case.dtype)
    plain = plain_answers(question, subject)
    try:
        mixed = _under_autocast(question, subject, case)
    except SubjectError as error:
        excuse_torch(subject, "autocast", error)
        yield refusal("torch.autocast to bfloat16", error, _remedy(error))
        return
    yield from _gradients_flow(plain, mixed)
    yield from _values_agree(subject, case, plain, mixed)


def _under_autocast(question: Question, subject: Implementation, case: Case) -> Answers:
    called = replace(subject, target=_autocast(subject, case))
    with buffers_kept(subject):
        return question.put_to(called, parameters=subject.parameters)


def _autocast(subject: Implementation, case: Case):  # type: ignore[no-untyped-def]
    def call(*inputs: object, **keywords: object) -> object:
        with torch.autocast(case.device.type, dtype=torch.bfloat16):
            return subject.target(*inputs, **keywords)

    return call


def _remedy(error: Exception) -> str:
    said = str(error)
    if "dtype" in said or "same type" in said or "scalar type" in said:
        return (
            "two types meet: allocate by the type of the value that is written, and in an "
            "autograd.Function use torch.amp.custom_fwd and custom_bwd"
        )
    return ""


def _gradients_flow(plain: Answers, mixed: Answers) -> Iterator[Evidence]:
    for name, expected in plain.items():
        if not name.startswith("gradient of "):
            continue
        got = mixed.get(name)
        missing = got is None or bool((torch.isfinite(expected) & ~torch.isfinite(got)).any())
        yield Evidence(
            error=float(missing or (got is not None and got.dtype != expected.dtype)),
            bound=0.0,
            signal=1.0,
            unit="gradients",
            what=f"lost or unusable {name} under autocast",
            expected=f"finite, {str(expected.dtype).removeprefix('torch.')}",
            got="none arrives" if got is None else "not finite" if missing else str(got.dtype),
            cause="a value is cast outside the graph" if got is None else "",
        )


def _values_agree(
    subject: Implementation, case: Case, plain: Answers, mixed: Answers
) -> Iterator[Evidence]:
    found = _compared(subject, case, plain, mixed)
    for turn in range(1, _TRIES):
        wrong = [e for e in found if not e.error <= e.bound]
        if not wrong:
            break
        other = _redrawn(case, turn)
        with buffers_kept(subject):
            question = Question.of(subject, other, dtype=case.dtype)
        plain = plain_answers(question, subject)
        again = _compared(subject, other, plain, _under_autocast(question, subject, other))
        found = [min(pair, key=lambda e: e.tightness) for pair in zip(found, again, strict=True)]
    if not found:
        return
    told = [e for e in found if e.bound <= e.resolution * e.signal or not e.error <= e.bound]
    if not told:
        raise NotApplicable("rounding to bfloat16 alone moves these answers by half their size")
    yield from told


def _redrawn(case: Case, turn: int) -> Case:
    seed = stream_seed(case.recipe.seed, f"autocast {turn}") % 2**31
    recipe = replace(case.recipe, seed=seed)
    return replace(
        case, recipe=recipe, inputs=materialize(recipe, case.specs, case.device, case.dtype)
    )


def _compared(
    subject: Implementation, case: Case, plain: Answers, mixed: Answers
) -> list[Evidence]:
    names = [name for name in plain if name.startswith("output ")]
    narrow = Narrow(torch.bfloat16)
    spread = _spread(subject, case, narrow, names)
    found = []
    for name in names:
        exact, got = plain[name].double(), mixed[name].double()
        size = float(torch.linalg.vector_norm(exact))
        off = float(torch.linalg.vector_norm(got - exact))
        lost = bool((torch.isfinite(exact) & ~torch.isfinite(got)).any())
        if not math.isfinite(size) and not lost:
            continue
        bound = narrow.safety * spread[name] + 2 * narrow.ulp * size
        found.append(
            Evidence(
                error=math.inf if lost or off != off else off,
                bound=bound if math.isfinite(bound) else size,
                signal=size,
                what=f"norm of the change of {name} under autocast",
                cause="something is not finite in bfloat16" if lost else "",
                resolution=narrow.resolution,
            )
        )
    return found


def _spread(
    subject: Implementation, case: Case, narrow: Narrow, names: Sequence[str]
) -> dict[str, float]:
    """How far the outputs scatter when inputs, parameters and every operation are rounded."""
    try:
        high = in_dtype(subject, case, torch.float64)
        if high.module is not None and subject.module is not None:
            high.module.train(subject.module.training)
        with buffers_kept(high):
            question = Question.of(high, case, dtype=torch.float64)
        question = replace(question, with_gradients=False)
        right = plain_answers(question, high)
        widest = dict.fromkeys(names, 0.0)
        for drawn in _rounded_otherwise(question, high, case, narrow):
            for name in names:
                change = float(torch.linalg.vector_norm(drawn[name] - right[name]))
                widest[name] = max(widest[name], change if change == change else math.inf)
    except SubjectError as error:
        raise NotApplicable(f"its rounding cannot be measured in float64: {error}") from error
    return widest


def _rounded_otherwise(
    question: Question, high: Implementation, case: Case, narrow: Narrow
) -> Iterator[Answers]:
    for seed in range(1, _DRAWS + 1):
        inputs = {name: x for name, x in inputs_in(case, torch.float64).items()}
        noisy = {name: moved(inputs[name], narrow, seed) for name in case.floating}

        def ask(given: dict[str, Tensor], seed: int = seed) -> Answers:
            with buffers_kept(high), StochasticRounding(narrow.dtype, seed << 20):
                return question.put_to(high, moved=given)

        kept = {name: p.detach().clone() for name, p in high.parameters.items()}
        try:
            with torch.no_grad():
                for name, parameter in high.parameters.items():
                    parameter.copy_(moved(kept[name], narrow, seed))
            yield ask(noisy)
        finally:
            with torch.no_grad():
                for name, parameter in high.parameters.items():
                    parameter.copy_(kept[name])
