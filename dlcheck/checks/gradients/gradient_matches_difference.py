"""The gradient that a subject claims is the derivative of what it computes."""

from __future__ import annotations

from dataclasses import replace

from dlcheck.checks.gradients import wrong_backwards as wrong
from dlcheck.checks.gradients.subject_function import examination
from dlcheck.gradients.second_order import gradient_of
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters


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
def gradient_matches_difference(subject: Implementation, case: Case) -> Evidence:
    """The gradient of every input and parameter is the derivative that differences measure.

    Two random directions, at the point and at a second one nearby, move every tensor so that each
    has an equal share of the slope; between the second's forward and backward runs another
    forward. The error is |⟨g, u⟩ − measured slope|, the bound 8 × the error of the extrapolated
    differences, the signal ‖g∘u‖. It fails only where two independent directions are off; where
    the gradient depends on how inputs or incoming gradients lie in memory, or on an earlier
    backward; and where it is NaN though a slope exists. A kink is decided at a point nearby.
    Source: the definition of the derivative; numerics/differences.py, gradients/judge.py.
    """
    scatter_parameters(subject, case.recipe.seed)
    return _told(examination(subject, case).examine())


@check(
    kind=[
        "op", "layer", "activation", "loss", "penalty", "normalization", "attention", "positional"
    ],
    needs={"surrogate_gradient"},
    forbids={"nondifferentiable"},
    dtypes=["float64"],
    rejects=[
        wrong.surrogate_twice_too_steep,
        wrong.not_passed_through,
        wrong.not_reversed,
        wrong.not_stopped,
        wrong.clipped_too_early,
        wrong.clipped_too_late,
        wrong.clipped_late_at_a_tiny_limit,
        wrong.clipped_to_a_larger_norm,
    ],
    accepts=[
        wrong.straight_through,
        wrong.smooth_surrogate,
        wrong.reversal,
        wrong.stopped,
        wrong.clipped,
        wrong.clipped_at_a_tiny_limit,
        wrong.clipped_by_norm,
    ],
)  # fmt: skip
def surrogate_gradient_is_as_declared(subject: Implementation, case: Case) -> Evidence:
    """A gradient that is meant to differ from the derivative is the one that is declared.

    `expect` says zero, straight_through (the gradient of the identity), reversed, a factor, or
    { clip = c } and { clip_norm = c }; `surrogate` names the function whose gradient it is. Held
    against differences of that function as sharply as gradient_matches_difference holds a
    gradient; a clipped one below its limit, and beyond it against the clipped derivative.
    Source: Bengio, Léonard & Courville, Estimating or propagating gradients through stochastic
    neurons, 2013; Ganin & Lempitsky, Unsupervised domain adaptation by backpropagation, 2015.
    """
    scatter_parameters(subject, case.recipe.seed)
    return _told(examination(subject, case).examine())


@check(
    kind=[
        "op", "layer", "activation", "loss", "penalty", "normalization", "attention", "positional"
    ],
    needs={"twice_differentiable"},
    regimes=[
        "normal", "outliers", "small", "ascending", "zeros", "large", "negative", "ties", "tiny",
        "duplicated", "onehot", "uniform", "extreme", "noise", "constant",
    ],
    forbids={"nondifferentiable", "surrogate_gradient"},
    dtypes=["float64"],
    rejects=[
        wrong.saved_input_detached,
        wrong.incoming_gradient_detached,
        wrong.second_gradient_doubled,
    ],
    accepts=[wrong.cube],
)  # fmt: skip
def second_gradient_matches_difference(subject: Implementation, case: Case) -> Evidence:
    """The gradient can be differentiated again, and its gradient is the derivative of it.

    The map (x, v) → Jᵀv, v being what comes in, is judged like any function: with respect to x
    this is the Hessian's product with a vector, with respect to v the Jacobian's. Error, bound
    and signal as in gradient_matches_difference.
    Source: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6(1), 1994.
    """
    scatter_parameters(subject, case.recipe.seed)
    exam = examination(subject, case)
    exam.judge.function = gradient_of(exam.function, exam.judge.generator)
    return _told(replace(exam, mode=replace(exam.mode, conditions=False)).examine())


def _told(found: Evidence) -> Evidence:
    from dlcheck.gradients.evidence import GradientEvidence

    assert isinstance(found, GradientEvidence)
    return found.plain()
