"""The domain that a subject declares is the one that it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from dlcheck.checks.every.other_targets import inputs_it_takes
from dlcheck.domains import size_bounds
from dlcheck.errors import SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Recipe, Subject
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subject_source import raised_at
from dlcheck.subjects import Implementation, build

_TRIED = range(1, 10)  # sizes that are tried, to say which are taken


def _first(inputs: Sequence[Any]) -> Tensor:
    """The first tensor of a call, of a list of parameters too."""
    first: Tensor = inputs[0][0] if isinstance(inputs[0], (list, tuple)) else inputs[0]
    return first


@around
def needs_contiguous_memory(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """As code does that calls view where it means reshape."""
    if not _first(inputs).is_contiguous():
        raise RuntimeError("view size is not compatible with input tensor's size and stride")
    return original(*inputs, **keywords)


@around
def raises_where_the_first_axis_is_3(original: Any, *inputs: Any, **keywords: Any) -> Any:
    if _first(inputs).shape[:1] == (3,):
        raise ValueError("cannot split 3 rows into pairs")
    return original(*inputs, **keywords)


def _rows_of_pairs(x: Tensor) -> Tensor:
    """Documented to take an even number of rows."""
    if len(x) % 2:
        raise ValueError("rows come in pairs")
    return x * 2


@check(
    kind="tensors",
    tags=["domain"],
    rejects=[
        needs_contiguous_memory,
        Subject(name="odd_rows_refused", target=_rows_of_pairs, kind="op", inputs={"x": "float n"}),
    ],
    accepts=[
        Subject(
            name="odd_rows_documented",
            target=_rows_of_pairs,
            kind="op",
            inputs={"x": "float n m"},
            options={
                "sizes": {"n": [1, 8]},
                "rejects": {"n": [1, 3, 5, 7], "exception": "ValueError"},
            },
        ),
    ],
)
def takes_its_declared_inputs(subject: Implementation, case: Case) -> Evidence:
    """A call with any inputs of the declared domain gives an answer, in any memory layout.

    Sizes are drawn within `options.sizes`, values and layouts as the input language has them.
    What the documentation refuses is declared: `options.rejects = { n = 1 }` (a size, a list of
    sizes, an `exception`). The error is 1 where the call raises otherwise, the bound 0. All other
    checks leave such cases out, so that one refusal is one failure.
    """
    raised = _raised(subject, case.fresh(), case)
    documented = raised is not None and is_documented(subject, case, raised)
    wrong = raised is not None and not documented
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=1.0,
        unit="calls",
        what="calls within the declared domain that raise",
        expected="an answer",
        got=f"{type(raised).__name__}: {raised}" if wrong else "",
        where=_place(case, raised) if wrong else "",
        cause=_cause(subject, case) if wrong else "",
    )


def _raised(subject: Implementation, inputs: Sequence[Tensor], case: Case) -> BaseException | None:
    seed_everything(case.recipe.seed)
    try:
        subject(*inputs)
    except SubjectError as error:  # it raised, or what it returned is no answer of its kind
        return error.__cause__ or error
    return None


def is_documented(subject: Implementation, case: Case, raised: BaseException) -> bool:
    """Is this what `options.rejects` says?"""
    refused: Mapping[str, Any] = subject.options.get("rejects", {})
    wanted = refused.get("exception")
    if not refused:
        return False
    if wanted and wanted not in [made.__name__ for made in type(raised).__mro__]:
        return False
    named = {name: value for name, value in refused.items() if name != "exception"}
    sizes = {name: value for name, value in named.items() if name in case.sizes}
    return not named or any(
        case.sizes.get(name) in (value if isinstance(value, (list, tuple)) else [value])
        for name, value in sizes.items()
    )


def _cause(subject: Implementation, case: Case) -> str:
    """What the exception depends on: memory, values, or which size."""
    plain = replace(case.recipe, layouts=dict.fromkeys(case.specs, "contiguous"))
    if _works(subject, case, plain):
        odd = [name for name, way in case.recipe.layouts.items() if way != "contiguous"]
        return f"it raises only because {', '.join(odd)} is not contiguous in memory"
    tame = replace(plain, regimes=dict.fromkeys(case.specs, "normal"))
    if _works(subject, case, tame):
        return "it raises only for these values: normal ones of the same sizes are taken"
    if subject.declared.kind == "loss" and (other := inputs_it_takes(subject, case, _works)):
        return other
    for name in case.sizes:
        low, high = size_bounds(subject.options, name) or (1, max(_TRIED))
        taken = {
            size: _works(subject, case, replace(tame, sizes={**tame.sizes, name: size}))
            for size in _TRIED
            if low <= size <= high
        }
        if any(taken.values()):
            return _domain(name, [size for size in taken if taken[size]], list(taken))
    return ""


def _domain(name: str, taken: Sequence[int], tried: Sequence[int]) -> str:
    """The declaration that leaves out the sizes at which it raises."""
    refused = [size for size in tried if size not in taken]
    said = f"it raises at {name} = {', '.join(map(str, refused))}"
    step = math.gcd(*taken)
    if step > 1 and all(size in taken for size in tried if size % step == 0):
        remedy = f"write {name}*{step} in its inputs"
    elif refused and max(refused) < min(taken):
        remedy = f"options.sizes = {{ {name} = [{min(taken)}, …] }}"
    else:
        remedy = f"options.rejects = {{ {name} = {refused} }}"
    return f"{said}; if that is documented, declare it: {remedy}"


def _works(subject: Implementation, case: Case, recipe: Recipe) -> bool:
    try:
        made = build(subject.declared, recipe.sizes, case.device, case.dtype, recipe.seed)
    except SubjectError:
        return False
    inputs = materialize(recipe, case.specs, case.device, case.dtype)
    return _raised(made, list(inputs.values()), case) is None


def _place(case: Case, raised: BaseException | None) -> str:
    sizes, line = f"sizes {_said(case.sizes)}", raised_at(raised)
    return f"{sizes}; {line}" if line else sizes


def _said(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in sizes.items())
