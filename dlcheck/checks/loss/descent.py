"""A loss can be learnt from: its gradient shows down, it has no jumps, and it stays finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.loss.broken import (
    CLASSES,
    EACH,
    YES_NO,
    climbs,
    has_no_gradient,
    wrong,
)
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_HALVINGS = 60
_ARMIJO = 0.25  # of the fall that the gradient predicts
_GRID = 64  # intervals of a line on which jumps are sought
_SUSPECTS = 3  # of them that are looked into
_MODEST = (6.0, 12.0)  # sizes at which e^x and 1 − e^−x still have digits in float32
_DEPTH = 40  # halvings of an interval


def _counts_mistakes(prediction: Tensor, target: Tensor) -> Tensor:
    """The error rate: flat everywhere."""
    wrong_rows = (prediction.argmax(-1) != target).to(prediction)
    return wrong_rows.mean() + 0 * prediction.sum()


@check(
    kind="loss",
    forbids={"nondifferentiable", "surrogate_gradient", "redescending", "stochastic"},
    rejects=[has_no_gradient, climbs, wrong(_counts_mistakes, CLASSES)],
    accepts=[
        Subject(
            name="torch_cross_entropy",
            target=F.cross_entropy,
            kind="loss",
            options={"task": "classification", "sizes": {"k": [2, 9]}},
        ),
        Subject(name="torch_mse", target=F.mse_loss, kind="loss", options={"task": "regression"}),
        Subject(
            name="torch_triplet",
            target="torch.nn:TripletMarginLoss",
            kind="loss",
            traits=frozenset({"margin", "nonsmooth"}),
            options={"task": "triplet", "margin": "margin"},
        ),
    ],
    dtypes=["float64"],
    regimes=["normal", "ignored"],
)
def points_downhill(subject: Implementation, case: Case) -> Evidence:
    """Where something is wrong the gradient is not 0, and a small step against it lowers the loss.

    Of steps h = 2⁰, 2⁻¹, … times L/‖g‖² some one lowers the loss by a quarter of h‖g‖², as the
    gradient predicts to first order. All inputs that may get a gradient move together, those of
    `wrt` where it is declared; at a loss of 0 there is nothing to descend to.
    Source: Armijo, Pacific J. Math. 16(1), 1966.
    """
    names = _learning(subject, case)
    call = Still(subject, case, differentiable=True)
    inputs = dict(zip(case.inputs, case.fresh(names), strict=True))
    answer = call(*inputs.values())[0].sum()
    start = float(answer.detach())
    moving = [inputs[name] for name in names]
    slopes = [g for g in gradients([answer], moving, [torch.ones_like(answer)]) if g is not None]
    steepness = float(sum(g.double().square().sum() for g in slopes))
    stated = [subject.options[n] for n in ("optimum", "perfect") if n in subject.options]
    least = float(stated[0]) if stated else 0.0
    if start == least:
        raise NotApplicable("the loss is least already: nothing to descend to")
    if not steepness > 0:
        return _went(start, start, 0.0, "the gradient is 0 though the loss is not least")
    found = gradients([call(*inputs.values())[0].sum()], moving, [torch.ones_like(answer)])
    step = abs(start) / steepness
    best = start
    for _ in range(_HALVINGS):
        moved = dict(inputs)
        for name, g in zip(names, found, strict=True):
            if g is not None:
                moved[name] = (inputs[name] - step * g).detach()
        value = _value_of(call, moved)
        if start - value >= _ARMIJO * step * steepness:
            return _went(start, value, step, "")
        best = min(best, value) if value == value else best
        step /= 2
    return _went(start, best, step, "against its gradient the loss does not fall as it predicts")


def _value_of(call: Still, inputs: dict[str, Tensor]) -> float:
    """The loss there; NaN where the step left its domain."""
    try:
        return float(call(*inputs.values())[0].detach().sum())
    except SubjectError:
        return math.nan


def _learning(subject: Implementation, case: Case) -> list[str]:
    """The inputs that are to learn: `wrt`, else the prediction, or all of a pair or triplet."""
    stated = subject.options.get("wrt")
    if stated is not None:
        return [stated] if isinstance(stated, str) else list(stated)
    if subject.options.get("task") in ("contrastive", "triplet"):
        stopped = subject.options.get("stop_gradient", ())
        return [name for name in case.floating if name not in stopped]
    name = Meaning(subject, case).prediction
    if name not in case.floating:
        raise NotApplicable("the prediction is no real number")
    return [name]


def _went(start: float, end: float, step: float, cause: str) -> Evidence:
    return Evidence(
        error=1.0 if cause else 0.0,
        bound=0.0,
        signal=1.0,
        unit="gradients",
        what="gradients that do not lead down",
        expected=f"less than {start:.6g}",
        got=f"{end:.6g} after a step of {step:.3g}",
        cause=cause,
    )


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
    generator = case.generator("lines")
    for turn in range(3):
        direction = torch.zeros_like(start)
        if not start.numel():
            raise NotApplicable("has no element")
        axis = meaning.batch.get(meaning.prediction, 0) if start.dim() else 0
        row = direction.select(axis, turn % start.shape[axis]) if start.dim() else direction
        row.copy_(torch.randn(row.shape, generator=generator, dtype=torch.float64).to(row))
        yield _without_jump(_along(meaning, centre, direction), turn)


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


def _log_of_a_sigmoid(prediction: Tensor, target: Tensor) -> Tensor:
    p = torch.sigmoid(prediction)
    return -(target * p.log() + (1 - target) * (1 - p).log()).mean()


def _log_of_a_softmax(prediction: Tensor, target: Tensor) -> Tensor:
    return F.nll_loss(prediction.softmax(-1).log(), target)


def _log_cosh(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).cosh().log().mean()


def _entropy_of_zero(prediction: Tensor, target: Tensor) -> Tensor:
    """t log p + (1 − t) log(1 − p): 0 · log 0 where the prediction is certain."""
    return -(target * prediction.log() + (1 - target) * (1 - prediction).log()).mean()


def _softplus_by_hand(prediction: Tensor, target: Tensor) -> Tensor:
    return torch.log(1 + torch.exp(-(2 * target - 1) * prediction)).mean()


@check(
    kind="loss",
    forbids={"nondifferentiable"},
    rejects=[
        wrong(_log_of_a_sigmoid, YES_NO),
        wrong(_log_of_a_softmax, CLASSES),
        wrong(_log_cosh, EACH),
        wrong(_softplus_by_hand, YES_NO),
        wrong(_entropy_of_zero, {"task": "binary", "prediction": "probabilities"}),
    ],
    accepts=[
        Subject(
            name="torch_soft_margin",
            target="torch.nn:MultiLabelSoftMarginLoss",
            kind="loss",
            options={"task": "binary"},
        ),
        Subject(
            name="torch_bce",
            target=F.binary_cross_entropy,
            kind="loss",
            options={"task": "binary", "prediction": "probabilities"},
        ),
    ],
    dtypes=["float64", "float32"],
    once=True,
)
def is_finite_at_saturation(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Predictions that are certain, right or wrong, have a finite loss and finite gradients.

    Of classes: logits just past where e^x overflows or vanishes (±97 in float32, ±781 in
    float64); exact 0s and 1s of probabilities where they are right; errors of that size where
    values are predicted. A loss that grows like an exponential by itself, more than eightfold
    from 6 to 12, may overflow.
    """
    meaning = Meaning(subject, case)
    path = meaning.path()
    large = 1.1 * math.log(torch.finfo(case.dtype).max)
    judged = False
    for name, at in _certain(meaning, large):
        values = [abs(meaning.on(at(size / large), path.target)) for size in _MODEST]
        if values[1] > 8 * max(values[0], 1.0):
            continue
        judged = True
        yield from _finite(meaning, at(1.0), path.target, name)
    if not judged:
        raise NotApplicable("the loss overflows by itself")


def _certain(meaning: Meaning, large: float) -> Iterator[tuple[str, Callable[[float], Tensor]]]:
    path = meaning.path()
    start, end = path.at(0.0), path.at(1.0)
    if meaning.form == "probabilities":
        middle = path.at(0.5)
        yield "a certain, right prediction", lambda s: start if s == 1 else middle
        return
    if meaning.form == "log_rate":
        yield "a rate far off", lambda s: start + s * 0.5 * large
        return
    if meaning.form in ("logits", "log_probabilities") and not path.is_exact:
        target = path.target
        other = meaning.other_target(target)
        yield "a certain, right prediction", lambda s: meaning.toward(target, s * large)
        yield "a certain, wrong prediction", lambda s: meaning.toward(other, s * large)
        return
    if path.far > 1:
        step = (end - start) / (end - start).abs().amax().clamp_min(1e-30)
        yield "a prediction far off", lambda s: start + s * large * step


def _finite(meaning: Meaning, prediction: Tensor, target: Tensor, name: str) -> Iterator[Evidence]:
    leaf = prediction.to(meaning.inputs[meaning.prediction]).detach().requires_grad_()
    inputs = {**meaning.inputs, meaning.prediction: leaf}
    inputs[meaning.target] = target.to(meaning.inputs[meaning.target])
    call = Still(meaning.subject, meaning.case, differentiable=True)
    answer = call(*inputs.values())[0]
    lost = int((~torch.isfinite(answer)).sum())
    yield _lost(f"elements of the loss that are not finite at {name}", lost, answer)
    if answer.requires_grad and not lost:
        (slope,) = gradients([answer], [leaf], [torch.ones_like(answer)])
        if slope is not None:
            lost = int((~torch.isfinite(slope)).sum())
            yield _lost(f"elements of the gradient that are not finite at {name}", lost, slope)


def _lost(what: str, count: int, values: Tensor) -> Evidence:
    return Evidence(
        error=float(count),
        bound=0.0,
        signal=float(max(values.numel(), 1)),
        unit="elements",
        what=what,
        cause="a logarithm of 0, or an exponential that overflows: compute with log_softmax, "
        "logsigmoid or softplus, or guard the logarithm"
        if count
        else "",
    )
