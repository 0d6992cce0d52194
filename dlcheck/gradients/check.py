"""`check_gradient`: the engine on any function, without a suite."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import GradientMismatch, GradientWarning, SubjectRaised, UsageError, unknown
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.gradients.expectations import expectation
from dlcheck.gradients.question import Question
from dlcheck.gradients.regimes import REGIMES
from dlcheck.gradients.trees import with_tensors
from dlcheck.isolation import restored_state
from dlcheck.model import NOTHING, Verdict


def check_gradient(
    f: Callable[..., Any],
    inputs: Any,
    *,
    kwargs: Mapping[str, Any] = NOTHING,
    wrt: Collection[str] | None = None,
    order: int = 1,
    expect: Any = None,
    mode: str = "full",
    regimes: Sequence[str] = (),
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
    raises: bool = True,
) -> GradientEvidence:
    """Is the gradient that backward gives the derivative of what f computes?

    f: a function, nn.Module, autograd.Function, loss or custom operator, called as f(*inputs). Of
    a module every trainable parameter is checked too; it is copied, never changed. inputs: a
    tensor, a sequence of positional arguments, or a mapping of keyword arguments; tensors may be
    nested in tuples, lists and dicts, of any shape; real or complex, dense, COO or CSR. kwargs:
    further keyword arguments. wrt: names of the tensors to differentiate, as `x`, `state[0]` or
    `linear.weight`; every floating tensor that requires a gradient unless told. order: 2 for the
    gradient of the gradient, of (x, v) → Jᵀv. expect: how the gradient is meant to differ from
    the derivative: "zero", "straight_through", "reversed", a factor, the function whose gradient
    it is, {"clip": c} or {"clip_norm": c}. mode: "full", or "lite" at half the cost, without
    other memory layouts. regimes: further points, "large", "tiny", "negative", "zeros", "ties",
    "duplicated", "odd". reference: in float32, bfloat16 or float16 the function or module that is
    certified in float64 and compared with, instead of f itself; its tensors are those of f, in the
    same order. seed: of every random choice.

    Returns evidence with verdict, certificate, miss probability and, for a failure, the wrong
    elements and the likely cause. Raises GradientMismatch with that evidence for a wrong
    gradient, unless raises is False; SubjectRaised where f itself raises; UsageError for wrong
    arguments. Warns with GradientWarning where nothing could be decided.
    Source: numerics/differences.py; gradients/judge.py.
    """
    for regime in regimes:
        if regime not in REGIMES:
            raise UsageError(unknown("regime", regime, REGIMES))
    question = Question(
        f=f,
        inputs=inputs,
        kwargs=kwargs,
        wrt=wrt,
        order=order,
        expected=expectation(expect),
        mode=mode,
        seed=seed,
        reference=reference,
    )
    with restored_state():
        evidence = question.answer()
        for regime in regimes:
            if evidence.verdict is not Verdict.PASSED:
                break
            evidence = _also(question, regime, evidence)
    if evidence.verdict is Verdict.FAILED and raises:
        raise GradientMismatch(str(evidence), evidence)
    if evidence.verdict is Verdict.INCONCLUSIVE:
        warnings.warn(str(evidence), GradientWarning, stacklevel=2)
    return evidence


def _also(question: Question, regime: str, before: GradientEvidence) -> GradientEvidence:
    """The evidence at another point, if it says more than the one before."""

    def moved(tensor: Tensor) -> Tensor:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor
        if tensor.layout != torch.strided:
            return tensor
        return REGIMES[regime](tensor.detach()).requires_grad_(tensor.requires_grad)

    elsewhere = replace(question, inputs=with_tensors(question.inputs, moved), mode="lite")
    try:
        found = elsewhere.answer()
    except SubjectRaised as error:
        note = f"not tried where inputs are {regime}: {error}"[:160]
        return replace(before, notes=(*before.notes, note))
    note = f"also where inputs are {regime}: {found.verdict.value}"
    chosen = found if found.verdict is Verdict.FAILED else before
    return replace(
        chosen,
        forwards=before.forwards + found.forwards,
        backwards=before.backwards + found.backwards,
        notes=(*chosen.notes, note),
    )
