"""A loss has no jumps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.loss.broken import (
    EACH,
    YES_NO,
    wrong,
)
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_GRID = 64  # intervals of a line on which jumps are sought
_SUSPECTS = 3  # of them that are looked into
_DEPTH = 40  # halvings of an interval


def _huber_with_half_its_constant(prediction: Tensor, target: Tensor) -> Tensor:
    e = (prediction - target).abs()
    return torch.where(e < 1, 0.5 * e.square(), e).mean()


def _berhu_with_another_branch(prediction: Tensor, target: Tensor) -> Tensor:
    e = (prediction - target).abs()
    return torch.where(e < 0.7, e, (e.square() + 1) / 2).mean()


def _truncated_at_the_wrong_value(prediction: Tensor, target: Tensor) -> Tensor:
    e = (prediction - target).abs()
    return torch.where(e < 2, e.square(), 3.0).mean()


def _hinge_with_a_gap(prediction: Tensor, target: Tensor) -> Tensor:
    margin = (2 * target - 1) * prediction
    return torch.where(margin < 1, 1.2 - margin, 0.0).mean()


@check(
    kind="loss",
    rejects=[
        wrong(_huber_with_half_its_constant, EACH),
        wrong(_berhu_with_another_branch, EACH),
        wrong(_truncated_at_the_wrong_value, EACH, "continuous"),
        wrong(_hinge_with_a_gap, YES_NO, "continuous"),
    ],
    accepts=[
        Subject(
            name="torch_smooth_l1",
            target=F.smooth_l1_loss,
            kind="loss",
            options={"task": "regression"},
        ),
        Subject(
            name="torch_multi_label_margin",
            target="torch.nn:MultiMarginLoss",
            kind="loss",
            traits=frozenset({"convex"}),
            options={"task": "classification", "sizes": {"k": [2, 9]}},
        ),
    ],
    dtypes=["float64"],
    once=True,
)
def is_continuous(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Along a line of predictions the loss has no jump.

    One sample moves through its target and far past it on three lines. Of 64 intervals the three
    whose values bend most are halved forty times: what still differs across 2⁻⁴⁰ of the line as
    much as across 2⁻²⁰ is a jump; across a root's vertical slope it falls to a thousandth. Told by
    the traits continuous, smooth or convex, and of regression unless it declares nonsmooth.
    Source: the definition of continuity; finite convex functions are continuous (Rockafellar,
    Convex Analysis, 1970, theorem 10.1).
    """
    traits, task = subject.traits, subject.options.get("task")
    told = {"continuous", "smooth", "convex"} & traits
    if not told and (task != "regression" or "nonsmooth" in traits):
        raise NotApplicable("may have jumps; declare the trait continuous")
    meaning = Meaning(subject, case)
    start = meaning.inputs[meaning.prediction].double()
    if meaning.spec(meaning.prediction).element not in ("float", "logit"):
        raise NotApplicable("its predictions are bounded: a line would leave them")
    centre = start
    if meaning.form == "values" and meaning.fits_the_prediction:
        centre = meaning.inputs[meaning.target].double()
    generator, judged = case.generator("lines"), False
    for turn in range(3):
        direction = torch.zeros_like(start)
        if not start.numel():
            raise NotApplicable("has no element")
        axis = meaning.batch.get(meaning.prediction, 0) if start.dim() else 0
        row = direction.select(axis, turn % start.shape[axis]) if start.dim() else direction
        row.copy_(torch.randn(row.shape, generator=generator, dtype=torch.float64).to(row))
        found = _without_jump(_along(meaning, centre, direction), turn)
        if found.signal > 0:
            judged = True
            yield found
    if not judged:
        raise NotApplicable("the loss does not change along any of the lines")


def _along(meaning: Meaning, centre: Tensor, direction: Tensor) -> Callable[[float], float]:
    return lambda s: meaning.on(centre + s * direction)


def _without_jump(f: Callable[[float], float], line: int) -> Evidence:
    ends = [-3.93 + 8 * k / _GRID for k in range(_GRID + 1)]
    values = [f(s) for s in ends]
    reach = max(values) - min(values)
    bends = [abs(values[k + 1] - values[k] - _typical(values, k)) for k in range(_GRID)]
    suspects = sorted(range(_GRID), key=lambda k: -bends[k])[:_SUSPECTS]
    found = [_shrunk(f, ends[k], ends[k + 1], values[k], values[k + 1]) for k in suspects]
    fine, coarse, at = max(found, key=lambda jump: jump[0] - jump[1] / 2)
    rounding = 1e-12 * max(map(abs, values))
    bound = max(coarse / 2, rounding)
    return Evidence(
        error=fine,
        bound=bound if fine > rounding else max(min(bound, 0.005 * reach), fine),
        signal=reach,
        what=f"jump of the loss along line {line}",
        where=f"{at:.6g} of the way",
        expected=f"{coarse / 1024:.3g} or less, as it is {coarse:.3g} over 2²⁰ times the distance",
        got=f"{fine:.6g}",
        cause="the branches of the formula do not meet" if fine > bound else "",
    )


def _typical(values: list[float], k: int) -> float:
    """The rise that the neighbours of an interval suggest."""
    around = [values[j + 1] - values[j] for j in (k - 1, k + 1) if 0 <= j < len(values) - 1]
    return sum(around) / len(around)


def _shrunk(
    f: Callable[[float], float], a: float, b: float, at_a: float, at_b: float
) -> tuple[float, float, float]:
    """What is left of a rise after 40 halvings, after 20, and where."""
    coarse = abs(at_b - at_a)
    for depth in range(_DEPTH):
        middle = (a + b) / 2
        at_middle = f(middle)
        if abs(at_middle - at_a) >= abs(at_b - at_middle):
            b, at_b = middle, at_middle
        else:
            a, at_a = middle, at_middle
        if depth == _DEPTH // 2:
            coarse = abs(at_b - at_a)
    return abs(at_b - at_a), coarse, a
