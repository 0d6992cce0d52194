"""Where a loss is least, and that it grows from there."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.loss.broken import (
    CAPPED,
    LARGE_EPSILON,
    LOG_OF_LOGITS,
    NEXT_CLASS,
    NO_ENTROPY,
    OF_LOGITS,
    OTHER_FOCUS,
    SIGMOID_TWICE,
    SIGNED,
    SOFTMAX_TWICE,
    VANISHING,
    VANISHING_CLASSES,
    turns_its_sign,
)
from dlcheck.checks.loss.meaning import Meaning, Path
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_GUARD = 0.01  # of what half a mistake costs: what an ε in a root or a logarithm may leave
_TRIFLE = 1e-4  # of the largest loss, that guards may take off on the way
_STEPS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 2.0, 4.0, 8.0)
_NEAR = (2.0**-12, 2.0**-6, 0.25, 1.0)  # distances from perfect

_CLASSES: dict[str, Any] = {"task": "classification", "sizes": {"k": [2, 9]}}


def _one_against_all(prediction: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """A sigmoid for each class: the best logits of the target and of the others differ in size."""
    k = prediction.shape[-1]
    soft = (1 - smoothing) * F.one_hot(target, k) + smoothing / k
    return F.binary_cross_entropy_with_logits(prediction, soft.to(prediction))


@check(
    kind="loss",
    rejects=[
        SIGMOID_TWICE,
        LARGE_EPSILON,
        turns_its_sign,
        SOFTMAX_TWICE,
        LOG_OF_LOGITS,
        NEXT_CLASS,
        NO_ENTROPY,
        OF_LOGITS,
        SIGNED,
    ],
    accepts=[
        Subject(
            name="torch_smoothed",
            target="torch.nn:CrossEntropyLoss",
            kind="loss",
            args={"label_smoothing": 0.2},
            traits=frozenset({"smoothed", "convex"}),
            options=_CLASSES,
        ),
        Subject(
            name="one_against_all",
            target=_one_against_all,
            kind="loss",
            traits=frozenset({"smoothed", "convex"}),
            options=_CLASSES,
        ),
        Subject(
            name="torch_l1", target="torch.nn:L1Loss", kind="loss", options={"task": "regression"}
        ),
        Subject(
            name="torch_bce",
            target="torch.nn:BCELoss",
            kind="loss",
            options={"task": "binary", "prediction": "probabilities"},
        ),
        Subject(
            name="torch_kl",
            target="torch.nn:KLDivLoss",
            kind="loss",
            args={"reduction": "batchmean"},
            options={"task": "distribution", "prediction": "log_probabilities",
                     "reduction": "batchmean"},
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "zeros", "constant", "ignored"],
)  # fmt: skip
def is_least_at_a_perfect_prediction(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """No prediction costs less than the perfect one, which costs the declared optimum, 0 if none.

    Perfect is the target itself; of classes, logits that say it (up to 36, e⁻³⁶ = 2·10⁻¹⁶; where
    targets are smoothed, those of the size at which the loss is least). Others are the drawn
    prediction, wrong ones, and some 2⁻¹² to 1 away. The bound of the comparison is rounding; the
    optimum may be missed by 1 % of what a prediction half way to a wrong one costs, as by a guard
    ε in a root or a logarithm. `optimum` declares another least value, `range` an unknown one.
    Source: a scoring rule is proper where its expectation is least at the truth (Gneiting &
    Raftery, JASA 102, 2007, §2.1).
    """
    meaning = Meaning(subject, case)
    path = meaning.path()
    _refuse_what_says_nothing(meaning, path)
    perfect = path.at(0.0)
    least, wrong = meaning.on(perfect, path.target), meaning.on(path.at(1.0), path.target)
    generator = case.generator("others")
    drawn = meaning.inputs[meaning.prediction]
    others = {"the drawn prediction": drawn, "a wrong prediction": path.at(1.0)}
    others |= {f"one {d:g} of the way to a wrong one": path.at(d) for d in _NEAR[:-1]}
    if meaning.form in ("logits", "values", "log_rate") and path.far > 1:
        z = torch.randn(drawn.shape, generator=generator, dtype=torch.float64).to(drawn.device)
        others |= {f"one {d:g} away": perfect + d * z for d in _NEAR}
    for name, other in others.items():
        yield _no_less(meaning, path, name, other, least, wrong)
    if meaning.optimum is not None:
        middling = meaning.on(path.at(0.5), path.target)
        yield _reaches_its_optimum(meaning, least, middling)


def _refuse_what_says_nothing(meaning: Meaning, path: Path) -> None:
    if meaning.says_nothing_here(path):
        raise NotApplicable("of targets that are all the same it says nothing")


def _no_less(
    meaning: Meaning, path: Path, name: str, other: Tensor, least: float, wrong: float
) -> Evidence:
    value = meaning.on(other, path.target)
    excess = least - value
    signal = max(abs(wrong - least), abs(least), abs(value))
    bound = 0.0
    if excess > 0:
        bound = 4 * meaning.room(path)
        bound += 0.0 if path.is_exact else 1e-6 * signal  # logits of finite size
    return Evidence(
        error=max(excess, 0.0) if excess == excess else math.nan,
        bound=bound,
        signal=signal or 1.0,
        what=f"loss of a perfect prediction above that of {name}",
        expected=f"at most {value:.6g}",
        got=f"{least:.6g}",
        cause=_wrong_way(meaning) if excess > bound else "",
    )


def _wrong_way(meaning: Meaning) -> str:
    if meaning.subject.parameters:
        return _of_its_parameters(meaning)
    return (
        f"the prediction is taken for {meaning.form} and {meaning.prediction} for the prediction: "
        "if it is meant otherwise declare prediction or roles; a loss that is to be maximized has "
        "its sign turned"
    )


def _of_its_parameters(meaning: Meaning) -> str:
    return (
        f"it has parameters of its own ({', '.join(meaning.subject.parameters)}), drawn at random: "
        f'if they decide what is best, declare roles = {{ prediction = "{meaning.prediction}", '
        f'data = ["{meaning.target}"] }}, and nothing is claimed of what is perfect'
    )


def _reaches_its_optimum(meaning: Meaning, least: float, middling: float) -> Evidence:
    optimum = meaning.optimum or 0.0
    summed = meaning.answer({}).numel()
    error = abs(least - optimum * summed)
    bound = _GUARD * abs(middling - least)
    cause = (
        f"another least value is declared as optimum = {least:.4g}, an unknown one by "
        f"range; or the prediction is not {meaning.form}, as declared"
    )
    if meaning.subject.parameters:
        cause = _of_its_parameters(meaning)
    return Evidence(
        error=error,
        bound=bound,
        signal=max(abs(middling - least), abs(middling)),
        what="loss of a perfect prediction",
        expected=f"{optimum:g}, where one half way to a wrong one costs {middling:.6g}",
        got=f"{least:.6g}",
        cause=cause if error > bound else "",
    )


@check(
    kind="loss",
    rejects=[
        turns_its_sign,
        VANISHING,
        VANISHING_CLASSES,
        NEXT_CLASS,
        OTHER_FOCUS,
        SIGNED,
        CAPPED,
    ],
    accepts=[
        Subject(
            name="torch_huber",
            target="torch.nn:HuberLoss",
            kind="loss",
            options={"task": "regression"},
        ),
        Subject(
            name="torch_multi_margin",
            target="torch.nn:MultiMarginLoss",
            kind="loss",
            options=_CLASSES,
        ),
    ],
    dtypes=["float64"],
    regimes=["normal", "ties", "constant", "ignored"],
    textbook={
        "id": "L1",
        "says": "A loss is large when the error is large and small when it is small",
        "verdict": "true",
    },
)
def grows_with_the_error(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """From a perfect prediction to a wrong one the loss never falls, and far out it is larger.

    Along the segment from perfect to wrong, and where values are predicted up to eight times as
    far, for all rows at once and for one alone. The bound is rounding. A redescending loss grows
    too: its gradient falls, not its value. Of a loss that is declared nonconvex and predicts
    values only the ends are compared. Source: Goodfellow, Bengio & Courville, Deep Learning,
    2016, §5.1.2 and §6.2.1.
    """
    meaning = Meaning(subject, case)
    path = meaning.path()
    _refuse_what_says_nothing(meaning, path)
    steps = [s for s in _STEPS if s <= path.far]
    if "nonconvex" in subject.traits and "redescending" not in subject.traits and path.is_exact:
        steps = [0.0, 1.0]
    for name, at in {"all rows": path.at, "one row": _one_row(meaning, path)}.items():
        yield from _rises(meaning, path, steps, name, at)


def _one_row(meaning: Meaning, path: Path) -> Callable[[float], Tensor]:
    """The path for one sample alone, the others staying perfect."""
    perfect = path.at(0.0)
    axis = meaning.batch.get(meaning.prediction)
    if axis is None or perfect.shape[axis] < 2:
        return path.at
    row = meaning.case.recipe.seed % perfect.shape[axis]
    if bool(_row(meaning.ignored_of(path.target), meaning.batch.get(meaning.target), row).all()):
        return path.at

    def at(s: float) -> Tensor:
        moved = perfect.clone()
        moved.select(axis, row).copy_(path.at(s).select(axis, row))
        return moved

    return at


def _row(mask: Tensor, axis: int | None, row: int) -> Tensor:
    return mask if axis is None else mask.select(axis, row)


def _rises(
    meaning: Meaning, path: Path, steps: list[float], rows: str, at: Callable[[float], Tensor]
) -> Iterator[Evidence]:
    values = [meaning.on(at(s), path.target) for s in steps]
    # −∞ where nothing is wrong, as of a logarithm of the error, is less than anything.
    reach = max((abs(v) for v in values if math.isfinite(v)), default=0.0) or 1.0
    falls = [
        (before - after, place) for place, (before, after) in enumerate(itertools.pairwise(values))
    ]
    worst, place = max(falls, key=lambda fall: fall[0] if fall[0] == fall[0] else math.inf)
    # Logits of finite size, and a guard ε in a quotient of sums (Dice), move the ends a little.
    slack = 0.0 if path.is_exact else _TRIFLE * reach
    bound = 0.0
    if not worst <= 0:
        bound = 4 * meaning.room(path) + slack
    yield Evidence(
        error=max(worst, 0.0) if worst == worst else math.nan,
        bound=bound,
        signal=reach,
        what=f"fall of the loss from {steps[place]:g} to {steps[place + 1]:g} of the way to a "
        f"wrong prediction, {rows}",
        expected=f"at least {values[place]:.6g}",
        got=f"{values[place + 1]:.6g}",
        values={f"loss at {s:g}": v for s, v in zip(steps, values, strict=True)},
    )
    far = max(values[1:]) - values[0]
    yield Evidence(
        error=0.0 if far > 1e-9 * reach else 1.0,
        bound=0.0,
        signal=1.0,
        what=f"wrong predictions that cost no more than a perfect one, {rows}",
        expected=f"more than {values[0]:.6g}",
        got=f"{max(values[1:]):.6g}",
    )


def _gaussian_with_its_constant(prediction: Tensor, target: Tensor) -> Tensor:
    """−log N: negative by design where the variance is small."""
    return (0.5 * ((prediction - target) / 0.1).square() - 1.38).mean()


def _forgets_its_constant(prediction: Tensor, target: Tensor) -> Tensor:
    """Huber's linear part without −δ/2, and a shift that makes both meet."""
    e = (prediction - target).abs()
    return torch.where(e < 1, 0.5 * e.square() - 0.5, e - 1).mean()


@check(
    kind="loss",
    rejects=[
        turns_its_sign,
        LOG_OF_LOGITS,
        OF_LOGITS,
        SIGNED,
        Subject(
            name="shifted_below_zero",
            target=_forgets_its_constant,
            kind="loss",
            options={"task": "regression"},
        ),
    ],
    accepts=[
        Subject(
            name="likelihood",
            target=_gaussian_with_its_constant,
            kind="loss",
            options={"task": "regression", "range": [-1.38, "inf"]},
        ),
        Subject(
            name="torch_bce_of_logits",
            target=F.binary_cross_entropy_with_logits,
            kind="loss",
            options={"task": "binary"},
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "small", "zeros", "ties", "onehot", "constant", "ignored", "uniform"],
)
def is_nonnegative(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """No loss lies below 0, or below the least value of `optimum` or `range`.

    At the drawn prediction and, where it is known, at a perfect one. The bound is rounding, and a
    millionth of what a wrong prediction costs: what a guard log(p + ε) leaves. A likelihood that
    is negative by design says so: range = ["-inf", "inf"].
    """
    meaning = Meaning(subject, case)
    lowest = meaning.lowest
    if lowest == -math.inf:
        raise NotApplicable("its range is declared to have no least value")
    at: dict[str, tuple[Tensor, Tensor | None]] = {
        "the drawn prediction": (meaning.inputs[meaning.prediction], None)
    }
    scale, path = 0.0, None
    with contextlib.suppress(NotApplicable):
        path = meaning.path()
    if path is not None:
        at["a perfect prediction"] = (path.at(0.0), path.target)
        scale = abs(meaning.on(path.at(1.0), path.target))
    for name, (prediction, target) in at.items():
        value = meaning.on(prediction, target)
        error = max(lowest - value, 0.0) if value == value else math.nan
        bound = 0.0
        if error > 0:
            bound = 1e-6 * scale + (4 * meaning.room(path) if path else 0.0)
        yield Evidence(
            error=error,
            bound=bound,
            signal=max(scale, abs(value)) or 1.0,
            what=f"loss below {lowest:g} at {name}",
            expected=f"at least {lowest:g}",
            got=f"{value:.6g}",
            cause='if it is negative by design, declare range = ["-inf", "inf"]'
            if error > bound
            else "",
        )
