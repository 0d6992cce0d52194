"""A subject computes the same function in every floating type."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.difference import Difference, difference
from dlcheck.checks.every.answers import Answers, Question, terms_of
from dlcheck.checks.every.conditioning import least_slope
from dlcheck.checks.every.twin import in_dtype
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised
from dlcheck.gradients.spread import Narrow, moved
from dlcheck.model import Evidence, Verdict
from dlcheck.mutants import around, on_tensors
from dlcheck.numerics.stochastic_rounding import StochasticRounding
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation, scatter_parameters

_NARROW = (torch.float32, torch.bfloat16, torch.float16)
_DRAWS = 4


@around
def computes_float32_in_bfloat16(original: Any, *inputs: Any, **keywords: Any) -> Any:
    def rounded(y: Tensor) -> Tensor:
        return y.bfloat16().to(y.dtype) if y.dtype == torch.float32 else y

    return on_tensors(original(*inputs, **keywords), rounded)


@around
def divides_by_an_eps_that_float16_cannot_hold(original: Any, *inputs: Any, **keywords: Any) -> Any:
    def divided(y: Tensor) -> Tensor:
        eps = torch.full_like(y, 1e-8)
        return y * (eps / eps)

    return on_tensors(original(*inputs, **keywords), divided)


@around
def has_another_constant_in_half_types(original: Any, *inputs: Any, **keywords: Any) -> Any:
    def scaled(y: Tensor) -> Tensor:
        return 1.5 * y if torch.finfo(y.dtype).bits == 16 else y

    return on_tensors(original(*inputs, **keywords), scaled)


@check(
    kind="tensors",
    forbids={"stochastic", "stochastic_in_eval", "in_place"},
    dtypes=["float64"],
    tags=["dtypes"],
    regimes=[
        "normal", "outliers", "small", "ascending", "zeros", "large", "negative", "ties",
        "duplicated", "tiny", "onehot", "uniform", "extreme", "noise", "constant",
    ],
    rejects=[
        computes_float32_in_bfloat16,
        divides_by_an_eps_that_float16_cannot_hold,
        has_another_constant_in_half_types,
    ],
)  # fmt: skip
def agrees_across_dtypes(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Values and gradients in float32, bfloat16 and float16 are those of float64, but for rounding.

    The types take turns from case to case; one that the subject refuses is left out. The error is
    ‖y − Y‖ / ‖Y‖, Y in float64. A sum of n terms, added one by one, is off by n·u at most; beyond
    that the bound is κ times the spread of the same code in float64 when every operation is
    rounded to the type at random (κ = 32 in float32, 8 in half types), and two draws of the values
    must be off. Inputs of size 1 may not overflow. Means far from 0, where torch's own kernels
    lose all digits, are left out.
    Source: numerics/rounding.py, numerics/stochastic_rounding.py.
    """
    narrow = Narrow(_NARROW[case.recipe.seed % len(_NARROW)])
    found = _compared(subject, case, narrow)
    alarms = [name for name, one in found.items() if not one.error <= one.bound]
    if alarms:
        recipe = replace(case.recipe, seed=case.recipe.seed + len(_NARROW))
        inputs = materialize(recipe, case.specs, case.device, case.dtype)
        again = _compared(subject, replace(case, recipe=recipe, inputs=inputs), narrow)
        for name in alarms:
            if name in again and again[name].error <= again[name].bound:
                found[name] = again[name]
    told = {name: one for name, one in found.items() if one.verdict is not Verdict.INCONCLUSIVE}
    for name, evidence in (told or found).items():  # what the type cannot hold says nothing
        yield replace(evidence, what=f"{name} in {narrow.name}, beside float64")


def _compared(subject: Implementation, case: Case, narrow: Narrow) -> dict[str, Evidence]:
    low = in_dtype(subject, case, narrow.dtype)
    scatter_parameters(low, case.recipe.seed)
    high = in_dtype(subject, case, torch.float64)
    if low.module is not None and high.module is not None:
        high.module.load_state_dict(low.module.state_dict())
    rounded = {
        name: x.to(narrow.dtype) if x.is_floating_point() else x for name, x in case.inputs.items()
    }
    if not all(bool(torch.isfinite(x).all()) for x in rounded.values()):
        raise NotApplicable(f"{narrow.name} does not hold these inputs")
    case = replace(case, inputs=rounded)
    try:
        question = Question.of(low, case, dtype=narrow.dtype)
        claimed = question.put_to(low)
    except SubjectRaised as error:
        raise NotApplicable(f"it does not take {narrow.name}: {error}") from error
    return _Duel(question, high, narrow).compared(claimed)


@dataclass(slots=True)
class _Duel:
    """The subject in float64, asked what the narrow one was asked, with all rounded at random."""

    question: Question
    high: Implementation
    narrow: Narrow

    def compared(self, claimed: Answers) -> dict[str, Evidence]:
        right = self.question.put_to(self.high)
        names = [name for name in right if name in claimed]
        unit = self.narrow.ulp
        spread = {
            name: 4 * unit * least_slope(name, self.question, self.high, right) for name in names
        }
        found = {
            name: self._evidence(name, claimed[name], right[name], spread[name]) for name in names
        }
        if any(not one.error <= one.bound for one in found.values()):
            for answers in self._rounded_otherwise():
                for name in names:
                    change = self._norm(answers[name] - right[name], right[name])
                    spread[name] = max(spread[name], change if change == change else math.inf)
            found = {
                name: self._evidence(name, claimed[name], right[name], spread[name])
                for name in names
            }
        return found

    def _evidence(self, name: str, claimed: Tensor, right: Tensor, spread: float) -> Evidence:
        y, narrow = claimed.double(), self.narrow
        right = torch.where(self._is_beyond(y), math.nan, right)
        size = self._norm(right, right)
        terms = terms_of(name, self.question.case, self.high.parameters)
        # A loss is a logarithm: log(1 + δ) is 0 where kernels add in float32 and δ < 2⁻²⁴.
        absorbed = 2.0**-24 if self.high.declared.kind == "loss" else 0.0
        least = max(narrow.smallest, absorbed) * math.sqrt(max(y.numel(), 1))
        error = self._norm(y - right, right) / (size or 1.0)
        bound = (4 + terms) * narrow.ulp / 2 + (narrow.safety * spread + least) / (size or 1.0)
        lost = self._lost(y, right)
        if math.isinf(bound) and not bool(lost.any()):
            return Evidence(error=0.0, bound=1.0, signal=0.0)  # the type cannot hold it
        wrong = not error <= bound
        told = self._difference(y, right) if wrong else Difference()
        return Evidence(
            error=error if not lost.any() else math.inf,
            bound=bound if math.isfinite(bound) else 1.0,
            signal=1.0 if size and math.isfinite(size) else 0.0,
            unit="of its norm",
            expected=f"{told.expected} in float64" if told.expected else "",
            got=told.got,
            where=told.where,
            cause=(self._cause(y, right) or told.cause) if wrong else "",
            resolution=narrow.resolution,
        )

    def _is_beyond(self, y: Tensor) -> Tensor:
        """Where unusual inputs overflow the type inside, as squares of outliers do in float16."""
        return ~torch.isfinite(y) & (not self._is_usual)

    @property
    def _is_usual(self) -> bool:
        return all(r == "normal" for r in self.question.case.recipe.regimes.values())

    def _norm(self, values: Tensor, right: Tensor) -> float:
        """The norm of the elements for which float64 has an answer that the type holds."""
        held = right.abs() < torch.finfo(self.narrow.dtype).max / 2  # NaN is none
        return float(torch.linalg.vector_norm(torch.where(held, values, 0.0)))

    def _lost(self, y: Tensor, right: Tensor) -> Tensor:
        """What is not finite though inputs of size 1 give a result that the type holds."""
        fits = right.abs() < torch.finfo(self.narrow.dtype).max / 2  # NaN does not
        return fits & ~torch.isfinite(y) if self._is_usual else torch.zeros_like(fits)

    def _difference(self, y: Tensor, right: Tensor) -> Difference:
        """Where they differ by more than a hundredth of the largest difference."""
        off = torch.where(torch.isfinite(right), y - right, 0.0).abs()
        off = off.nan_to_num(math.inf, math.inf)
        limit = 0.01 * off[torch.isfinite(off)].amax() if torch.isfinite(off).any() else off.amax()
        return difference(y, right, off > limit, limit)

    def _cause(self, y: Tensor, right: Tensor) -> str:
        if bool((torch.isfinite(right) & ~torch.isfinite(y)).any()):
            return (
                f"something overflows {self.narrow.name} inside, or an eps or a mask constant is "
                "lost in it, though the result fits"
            )
        return ""

    def _rounded_otherwise(self) -> Iterator[Answers]:
        """The float64 answers with every operation rounded to the type: at random, and nearest."""
        case, narrow = self.question.case, self.narrow
        for seed in range(1, _DRAWS + 1):
            inputs = {name: case.inputs[name].double() for name in case.floating}
            # Equal numbers alike, as they are rounded, and each for itself, as sums round inside.
            apart = 1 + seed % 2
            noisy = {name: moved(x, narrow, seed, coarser=apart) for name, x in inputs.items()}
            for point in (noisy, inputs):
                rounding = StochasticRounding(narrow.dtype, seed << 20, longest=narrow.longest)
                with contextlib.suppress(SubjectError), rounding:
                    yield self.question.put_to(self.high, moved=point)
                    break
        with contextlib.suppress(SubjectError), StochasticRounding(narrow.dtype, None):
            yield self.question.put_to(self.high)
