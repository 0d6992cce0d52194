"""The gradient that a subject claims is the derivative of what it computes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from dlcheck.checks.gradients import wrong_backwards as wrong
from dlcheck.checks.gradients.examiner import Examiner, may_go_without
from dlcheck.checks.gradients.flattening import Flattened
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters

_LAYOUTS = ("transposed", "sliced", "expanded")


@check(
    kind=[
        "op", "layer", "activation", "loss", "penalty", "normalization", "attention", "positional"
    ],
    forbids={"nondifferentiable", "surrogate_gradient"},
    options={"expect": False, "surrogate": False},
    dtypes=["float64"],
    rejects=[
        wrong.sign_flipped,
        wrong.factor_two_too_many,
        wrong.factor_one_half,
        wrong.factor_one_in_ten_thousand_off,
        wrong.one_element_off,
        wrong.float32_inside,
        wrong.bfloat16_inside,
        wrong.clamped,
        wrong.incoming_gradient_ignored,
        wrong.output_detached,
        wrong.factor_detached,
        wrong.reads_the_last_forward,
        wrong.transposed_weight_gradient,
        wrong.bias_averaged_over_the_batch,
        wrong.weight_gradient_forgotten,
        wrong.mean_loss_not_divided,
        wrong.projection_missing,
        wrong.off_diagonal_missing,
        wrong.negative_side_zeroed,
        wrong.off_by_one,
        wrong.strides_ignored,
    ],
)  # fmt: skip
def gradient_matches_difference(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The gradient of every input and parameter is the derivative that differences measure.

    One random direction within each tensor, and one across all of them whose incoming gradient
    is not contiguous and whose backward runs after another forward. The error is
    |⟨g, u⟩ − measured slope|, the bound 8 × the error of the extrapolated differences, the
    signal ‖g∘u‖. It fails only where two independent directions are off; at a kink, and where
    rounding hides the slope, it stays inconclusive.
    Source: the definition of the derivative; numerics/differences.py.
    """
    scatter_parameters(subject, case.recipe.seed)
    function = Flattened.of(subject, case, _wanted(subject, case))
    _refuse_empty(function)
    generator = case.generator("gradient")
    layout = _LAYOUTS[case.recipe.seed % len(_LAYOUTS)]
    parts = [part for part in function.parts if part.value.numel()]
    together = tuple(part for part in parts if not may_go_without(function, part))
    examiners = [Examiner(function, generator, (part,)) for part in parts]
    examiners += [Examiner(function, generator, together, layout)] if together else []
    found = False
    for examiner in examiners:
        for evidence in examiner.examine():
            found = True
            yield evidence
    if not found:
        raise NotApplicable("nothing here can be moved within its domain")


def _wanted(subject: Implementation, case: Case) -> list[str]:
    """The inputs that are to have a gradient."""
    stopped = subject.options.get("stop_gradient", ())
    stopped = [stopped] if isinstance(stopped, str) else stopped
    wanted = subject.options.get("wrt", case.floating)
    wanted = [wanted] if isinstance(wanted, str) else wanted
    return [name for name in case.floating if name in wanted and name not in stopped]


def _refuse_empty(function: Flattened) -> None:
    """Raises NotApplicable where there is nothing to differentiate."""
    if not function.parts or not function.point.numel():
        raise NotApplicable("nothing to differentiate: no floating input and no parameter")
    value = function(function.point)
    if not value.numel():
        raise NotApplicable("nothing to differentiate: the output is empty")
    if not bool(torch.isfinite(value).all()):
        raise NotApplicable("the output is not finite here, and so has no derivative")
