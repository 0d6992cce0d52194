"""A loss that refuses the inputs of its task: which others it takes, and how to declare them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dlcheck import kinds
from dlcheck.domains import parse_inputs
from dlcheck.model import Recipe
from dlcheck.registry import catalogue
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_SIZES = {"b": 4, "k": 3, "d": 3, "t": 5, "h": 2, "w": 6}
# task → what libraries take instead of the inputs of that task
_OTHERS: Mapping[str, Sequence[Mapping[str, str]]] = {
    "classification": (
        {"target": "probability b k"},
        {"target": "unit b k"},
        {"target": "label[2] b k"},
        {"target": "label[k] b 1"},
    ),
    "segmentation": (
        {"target": "label[k] b 1 h w"},
        {"target": "probability[k] b k h w"},
        {"target": "unit b k h w"},
        {"prediction": "logit b h w k"},
    ),
    "sequence": (
        {"prediction": "logit b k t"},
        {"prediction": "logit t b k", "target": "label[k] t b"},
    ),
    "binary": ({"target": "label[2] b d"}, {"target": "sign b d"}, {"target": "label[d] b"}),
    "regression": ({"prediction": "float b 1", "target": "float b 1"}, {"target": "float b"}),
    "distribution": ({"prediction": "log_probability b k"}, {"target": "logit b k"}),
}  # fmt: skip

Works = Callable[[Implementation, Case, Recipe], bool]


def inputs_it_takes(subject: Implementation, case: Case, works: Works) -> str:
    """The inputs that a loss takes instead of those of its task, as they are declared.

    works: does the subject answer on a recipe? Empty where the inputs are declared, or no loss's.
    """
    declared = subject.declared
    task = str(declared.options.get("task", ""))
    if declared.inputs or task not in _OTHERS:
        return ""
    usual = kinds.inputs_of(catalogue().kind("loss"), {}, declared.options)
    recipe = Recipe(sizes=_SIZES, regimes={}, layouts={}, seed=case.recipe.seed)
    if works(subject, case, recipe):
        return ""
    given = f'task = "{task}" gives it {_said(usual, " and ")}'
    for change in _OTHERS[task]:
        other = {**usual, **change}
        if works(subject, replace(case, specs=parse_inputs(other)), recipe):
            return f"{given}; it takes other inputs: declare {{ {_said(other, ', ')} }} as inputs"
    return f"{given}; if it takes others, declare them as inputs"


def _said(inputs: Mapping[str, str], between: str) -> str:
    return between.join(f'{name} = "{text}"' for name, text in inputs.items())
