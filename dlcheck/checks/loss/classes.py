"""Classes and their names: no class is special, and only differences of logits count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.agreement import agreement
from dlcheck.checks.loss.batches import weights_of
from dlcheck.checks.loss.broken import CLASSES, DISTRIBUTIONS, wrong
from dlcheck.checks.loss.meaning import Meaning
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_LABELS: dict[str, Any] = {"kind": "loss", "options": CLASSES}


@around
def normalises_the_logits(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """z/√(1 + z²) on the way: the size of a logit counts, not only their differences."""
    z, *rest = inputs
    return original(z / (1 + z.square()).sqrt(), *rest, **keywords)


@around
def clamps_the_logits(original: Any, *inputs: Any, **keywords: Any) -> Any:
    z, *rest = inputs
    return original(z.clamp(-1, 1), *rest, **keywords)


def _guards_the_exponentials(prediction: Tensor, target: Tensor) -> Tensor:
    """e^z / (Σ e^z + ε): the guard counts where all logits are small."""
    p = prediction.exp() / (prediction.exp().sum(-1, keepdim=True) + 1e-2)
    return F.nll_loss(p.log(), target)


def _one_against_all(prediction: Tensor, target: Tensor) -> Tensor:
    hot = F.one_hot(target, prediction.shape[-1]).to(prediction)
    return F.binary_cross_entropy_with_logits(prediction, hot)


@check(
    kind="loss",
    needs={"shift_invariant"},
    rejects=[
        normalises_the_logits,
        clamps_the_logits,
        wrong(_guards_the_exponentials, CLASSES, "shift_invariant"),
        wrong(_one_against_all, CLASSES, "shift_invariant"),
    ],
    accepts=[
        Subject(
            name="torch_cross_entropy",
            target=F.cross_entropy,
            traits=frozenset({"shift_invariant", "convex"}),
            **_LABELS,
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "offset", "ignored", "constant"],
)
def shifting_logits_changes_nothing(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """A constant added to all logits of a row, another for each row, leaves the loss.

    By up to ±8 along the axis of the classes. The bound is rounding, of the shifted logits too.
    Source: softmax(z + c) = softmax(z).
    """
    meaning = Meaning(subject, case)
    name = meaning.prediction
    z = meaning.inputs[name]
    axis = meaning.class_axis
    shape = [*z.shape]
    shape[axis] = 1
    u = torch.rand(shape, generator=case.generator("shift"), dtype=torch.float64)
    moved = z + (16 * u - 8).to(z)
    room = meaning.call.room()()[0]
    shifted = meaning.call.room([moved if n == name else x for n, x in meaning.inputs.items()])()[0]
    whole = meaning.answer({})
    yield agreement(
        "loss of shifted logits",
        meaning.answer({name: moved}), whole, room + shifted,
        signal=float(whole.abs().amax()) or 1.0,
    )  # fmt: skip


def _first_class_is_background(prediction: Tensor, target: Tensor) -> Tensor:
    rows = F.cross_entropy(prediction, target, reduction="none")
    return (rows * (target != 0)).mean()


def _counts_the_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """(k − y)² in expectation: classes have an order."""
    places = torch.arange(prediction.shape[-1]).to(prediction)
    return (prediction.softmax(-1) * (places - target[:, None]).square()).sum(-1).mean()


def _sees_two_classes(prediction: Tensor, target: Tensor) -> Tensor:
    """The margin to class 0 or 1 alone."""
    z = prediction.gather(1, target[:, None])[:, 0]
    return F.softplus(prediction[:, :2].logsumexp(-1) - z).mean()


def _leaves_the_last_class(prediction: Tensor, target: Tensor) -> Tensor:
    logs = prediction.log_softmax(-1)[:, :-1]
    hot = F.one_hot(target, prediction.shape[-1])[:, :-1].to(prediction)
    return -(hot * logs).sum(-1).mean()


@check(
    kind="loss",
    options={"task": ["classification", "segmentation", "sequence"]},
    forbids={"ordered_classes", "stochastic"},
    rejects=[
        wrong(_first_class_is_background, CLASSES),
        wrong(_counts_the_distance, CLASSES),
        wrong(_sees_two_classes, CLASSES),
        wrong(_leaves_the_last_class, CLASSES),
    ],
    accepts=[
        Subject(name="torch_multi_margin", target=F.multi_margin_loss, **_LABELS),
        Subject(
            name="one_against_all",
            target=_one_against_all,
            **_LABELS,
        ),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "ignored", "constant"],
)
def names_of_classes_do_not_matter(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Classes permuted, in logits and labels together, leave the loss.

    The ignored label stays itself. A loss with an ordinal scale, a background or a blank declares
    ordered_classes. The bound is rounding. Source: labels are names.
    """
    meaning = Meaning(subject, case)
    refuse_weights(meaning)
    if not meaning.has_labels:
        raise NotApplicable("its target is no label")
    target, z = meaning.inputs[meaning.target], meaning.inputs[meaning.prediction]
    axis, ignored = meaning.class_axis, meaning.spec(meaning.target).ignored
    classes = z.shape[axis]
    if ignored is not None and 0 <= ignored < classes:
        raise NotApplicable("the ignored label is one of the classes")
    if classes < 2:
        raise NotApplicable("one class has one name")
    order = torch.randperm(classes, generator=case.generator("names"))
    if bool((order == torch.arange(classes)).all()):
        order = order.roll(1)
    order = order.to(z.device)
    new = torch.argsort(order)  # class c now stands at new[c]
    renamed = torch.where(
        meaning.ignored_of(target), target, new[target.clamp(0, classes - 1)].to(target)
    )
    whole = meaning.answer({})
    yield agreement(
        "loss with permuted classes",
        meaning.answer(
            {meaning.prediction: z.index_select(axis, order), meaning.target: renamed}
        ),
        whole, meaning.call.room()()[0], signal=float(whole.abs().sum()) or 1.0,
        cause="classes are told apart by their number: if they have an order, or one is special, "
        "declare ordered_classes",
    )  # fmt: skip


def refuse_weights(meaning: Meaning) -> None:
    """Raise NotApplicable where classes have weights of their own."""
    unknown = "weighted" in meaning.subject.traits and "class_weight" not in meaning.subject.options
    if unknown or weights_of(meaning) is not None:
        raise NotApplicable("its classes are told apart by their weights")


def _relative_to_chance(prediction: Tensor, target: Tensor) -> Tensor:
    """Divided by log k, what chance costs."""
    return F.cross_entropy(prediction, target) / math.log(max(prediction.shape[-1], 2))


def _averages_a_divergence(prediction: Tensor, target: Tensor) -> Tensor:
    """kl_div's reduction "mean": over elements, where batchmean is meant."""
    logs = target.clamp_min(1e-300).log() - prediction.log_softmax(-1)
    return (target * logs).mean()


def _smooths_unasked(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction, target, label_smoothing=0.1)


def _counts_the_uniform(prediction: Tensor, target: Tensor) -> Tensor:
    """+ log k: relative to chance."""
    return F.cross_entropy(prediction, target) / math.sqrt(max(prediction.shape[-1], 2))


def _with_a_mean_over_classes(prediction: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, and of each class how far its mean probability is from its share."""
    hot = F.one_hot(target, prediction.shape[-1]).to(prediction)
    classes = (prediction.softmax(-1) - hot).mean(0).square().mean()
    return F.cross_entropy(prediction, target) + classes


def _with_heavy_tails(prediction: Tensor, target: Tensor) -> Tensor:
    """Of p ∝ 1/(1 + d²), d being how far a logit lies below the largest: no class is impossible."""
    d = prediction.amax(-1, keepdim=True) - prediction
    p = 1 / (1 + d.square())
    return F.nll_loss((p / p.sum(-1, keepdim=True)).log(), target)


def _divergence(prediction: Tensor, target: Tensor) -> Tensor:
    entropy: Tensor = torch.special.xlogy(target, target)
    return (entropy - target * prediction.log_softmax(-1)).sum(-1).mean()


_SUMMED = {**DISTRIBUTIONS, "reduction": "batchmean"}


@check(
    kind="loss",
    options={"task": ["classification", "segmentation", "sequence", "distribution"]},
    forbids={"smoothed", "class_balanced", "stochastic"},
    rejects=[
        wrong(_relative_to_chance, CLASSES, "shift_invariant"),
        wrong(_smooths_unasked, CLASSES, "shift_invariant"),
        wrong(_counts_the_uniform, CLASSES, "shift_invariant"),
        wrong(_averages_a_divergence, _SUMMED),
    ],
    accepts=[
        Subject(
            name="torch_cross_entropy",
            target=F.cross_entropy,
            traits=frozenset({"shift_invariant", "convex"}),
            **_LABELS,
        ),
        wrong(_divergence, _SUMMED, "shift_invariant"),
        wrong(_with_a_mean_over_classes, CLASSES, "shift_invariant", "batch_coupled"),
        wrong(_with_heavy_tails, CLASSES, "shift_invariant"),
    ],
    dtypes=["float64", "float32"],
    regimes=["normal", "ties", "ignored", "constant"],
)
def an_impossible_class_changes_nothing(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Further classes of probability 0, that are never the target, leave the loss.

    Their logits are 80 below the least (e⁻⁸⁰ = 2·10⁻³⁵ beside the others). Of a loss of
    differences of logits (shift_invariant) and of a divergence that is summed over classes
    (reduction sum or batchmean). What a loss averages over its k classes falls to k/(k + m) with m
    further ones: of L = A + B k/(k + m) two more losses tell A and B, neither of which may be
    negative, and a third must agree. A loss that still changes, but less and less the less likely
    the classes are, has heavier tails than a softmax, and is not judged. The bound is rounding.
    Source: 0 log 0 = 0 (Cover & Thomas, Elements of Information Theory, 2006, §2.1).
    """
    meaning = Meaning(subject, case)
    refuse_weights(meaning)
    summed = meaning.task == "distribution" and subject.options.get("reduction") in (
        "sum", "batchmean",
    )  # fmt: skip
    if not summed and "shift_invariant" not in subject.traits:
        raise NotApplicable("is no softmax loss (shift_invariant), nor summed over classes")
    if meaning.task == "distribution" and not summed:
        raise NotApplicable("is averaged over classes")
    if meaning.form not in ("logits", "log_probabilities"):
        raise NotApplicable("takes no logits")
    whole, room = meaning.answer({}), meaning.call.room()()[0]
    one = meaning.answer(_with_impossible(meaning, 1))
    size = float(whole.abs().sum()) or 1.0
    cause = "the number of classes counts"
    found = agreement("loss with one more class", one, whole, room, signal=size, cause=cause)
    if found.error <= found.bound:
        yield found
        return
    further = meaning.answer(_with_impossible(meaning, 1, 80 * 2.0**10))
    if float((further - whole).abs().sum()) < 0.5 * float((one - whole).abs().sum()):
        raise NotApplicable("its tails are heavier than a softmax's: no class is impossible")
    if summed or one.shape != whole.shape:
        yield found
        return
    yield _as_a_mean_of_classes(meaning, found, whole, one, room)


_IMPOSSIBLE = 80.0  # below the least logit


def _with_impossible(meaning: Meaning, count: int, below: float = _IMPOSSIBLE) -> dict[str, Tensor]:
    """The inputs with that many classes more, that cannot be."""
    axis, longer = meaning.class_axis, {}
    for name in [meaning.prediction] + ([] if meaning.has_labels else [meaning.target]):
        x, spec = meaning.inputs[name], meaning.spec(name)
        is_log = name == meaning.prediction or spec.element == "log_probability"
        further = x.amin(axis, keepdim=True) - below if is_log else torch.zeros_like(
            x.narrow(axis, 0, 1))  # fmt: skip
        longer[name] = torch.cat([x, *[further] * count], axis)
    return longer


def _as_a_mean_of_classes(
    meaning: Meaning, found: Evidence, whole: Tensor, one: Tensor, room: Tensor
) -> Evidence:
    """What changes is B k/(k + m), the part of the loss that is a mean over its classes."""
    k = meaning.inputs[meaning.prediction].shape[meaning.class_axis]
    averaged = (k + 1) * (whole - one)  # B, as L₀ − L₁ = B/(k + 1)
    slack = 4 * (k + 1) * room
    if bool(((averaged < -slack) | (averaged > whole + slack)).any()):
        return found
    return agreement(
        "loss with two more classes, by what one more changed",
        meaning.answer(_with_impossible(meaning, 2)), whole - 2 / (k + 2) * averaged,
        room * (1 + 4 * (k + 1) / (k + 2)), signal=float(whole.abs().sum()) or 1.0,
        cause="the number of classes counts",
    )  # fmt: skip
