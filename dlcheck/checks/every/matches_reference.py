"""Values and gradients are as accurate as those of the declared reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from dlcheck.checks.every.duel import judged_answers
from dlcheck.checks.every.judged import Judged
from dlcheck.checks.every.usual import redrawn, usual_sizes
from dlcheck.checks.every.whole_numbers import whole_numbers_agree
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors, scaled_gradient, scaled_value
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, scatter_parameters

_STRIKES = 3  # draws of values that must all miss grade A


@around
def adds_a_small_constant(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y + 1e-3)


@around
def answers_in_bfloat16(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y.bfloat16().to(y.dtype))


@around
def sees_its_first_input_shifted(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """As if an eps had been added to the input."""
    first, *rest = inputs
    return original(on_tensors(first, lambda x: x * (1 - 1e-3)), *rest, **keywords)


def _softmax_by_hand(x: Tensor) -> Tensor:
    powers = (x - x.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


def _cross_entropy_by_hand(prediction: Tensor, target: Tensor) -> Tensor:
    chosen = prediction.gather(-1, target[:, None])[:, 0]
    return (prediction.logsumexp(-1) - chosen).mean()


def _largest(x: Tensor) -> tuple[Tensor, Tensor]:
    values, places = x.max(-1)
    return values, places


def _largest_of_the_last(x: Tensor) -> tuple[Tensor, Tensor]:
    """The right values, and the last of equal places: right as well."""
    values = x.amax(-1)
    return values, x.shape[-1] - 1 - (x == values[..., None]).flip(-1).int().argmax(-1)


def _places_from_one(x: Tensor) -> tuple[Tensor, Tensor]:
    values, places = x.max(-1)
    return values, places + 1


def _is_positive(x: Tensor) -> Tensor:
    return x > 0


def _is_large(x: Tensor) -> Tensor:
    return x > 0.1 * x.abs().amax()


def _row_softmax(x: Tensor) -> Tensor:
    return F.softmax(x, -1)


@check(
    kind="tensors",
    forbids={"stochastic", "stochastic_in_eval", "in_place"},
    options={"reference": True},
    rejects=[
        scaled_value(1.001),
        scaled_gradient(0.5),
        adds_a_small_constant,
        answers_in_bfloat16,
        sees_its_first_input_shifted,
        Subject(
            name="places_from_one",
            target=_places_from_one,
            kind="op",
            inputs={"x": "float b n"},
            reference=_largest,
        ),
        Subject(
            name="another_threshold",
            target=_is_large,
            kind="op",
            inputs={"x": "float b n"},
            reference=_is_positive,
        ),
    ],
    accepts=[
        Subject(
            name="softmax_by_hand",
            target=_softmax_by_hand,
            kind="activation",
            inputs={"x": "float b k"},
            options={"sizes": {"k": [2, 17]}},
            reference=_row_softmax,
        ),
        Subject(
            name="cross_entropy_by_hand",
            target=_cross_entropy_by_hand,
            kind="loss",
            inputs={"prediction": "logit b k", "target": "label[k] b"},
            options={"sizes": {"k": [2, 17]}},
            reference=F.cross_entropy,
        ),
        Subject(
            name="largest_and_last",
            target=_largest_of_the_last,
            kind="op",
            inputs={"x": "float b n"},
            traits=frozenset({"nonsmooth"}),
            reference=_largest,
        ),
        Subject(
            name="linear",
            target=nn.Linear,
            kind="layer",
            args={"in_features": {"dim": "d"}, "out_features": 3},
            inputs={"x": "float b d"},
            reference=nn.Linear,
        ),
    ],
)
def matches_reference(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Values and gradients are the declared reference's, as accurate as its own in that dtype.

    The reference answers in float64 and in the subject's dtype, from the same inputs, parameters
    and incoming gradients. The unit of error of each element is its own rounding plus its
    measured response to relative changes of all inputs; root mean square, largest error and a
    common factor are held against the reference's own (grade A), or, in float64 and where
    `compute_dtype` declares the arithmetic inside to be that of the type, against what a
    norm-wise stable computation keeps (grade B), beside answers to other values too, since a loss
    may happen to be 0. Below grade A fails only if three draws of the values do. Where the
    reference jumps or has a kink, the point is moved by 2⁻¹⁰. Integers and booleans are compared
    one by one, where the reference's do not change with moves of the inputs by 64 roundings.
    Source: numerics/accuracy.py; Higham, Accuracy and Stability of Numerical Algorithms, §1.6.
    """
    scatter_parameters(subject, case.recipe.seed)
    whole = whole_numbers_agree(subject, case)
    yield from whole
    try:
        found = _judged_by_usual_sizes(subject, case)
    except NotApplicable:
        if whole:
            return
        raise
    for strike in range(1, _STRIKES):
        again = [name for name, one in found.items() if one.is_doubtful]
        if not again:
            break
        other = judged_answers(subject, redrawn(case, strike))
        found |= {name: min(found[name], other[name]) for name in again if name in other}
    for one in found.values():
        yield one.evidence()


def _judged_by_usual_sizes(subject: Implementation, case: Case) -> dict[str, Judged]:
    """The answers, judged beside ever more of what others are as large as while some is wrong."""
    found, others = judged_answers(subject, case), usual_sizes(subject, case)
    while wrong := [name for name, one in found.items() if one.is_wrong_by_numbers]:
        sizes = next(others, None)
        if sizes is None:
            break
        if any(sizes.get(name, 0.0) > found[name].magnitude for name in wrong):
            found = judged_answers(subject, case, sizes)
    return found
