"""The pull on each weight: λ₁ sign w + λ₂ w."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dlcheck.checks.penalty.broken import (
    clips_its_gradient,
    counts_the_first_row_only,
    decays_toward_a_constant,
    forgets_the_absolute_value,
    ignores_negative_weights,
    penalises_a_copy,
    penalises_biases_too,
    takes_the_mean,
    takes_the_root,
)
from dlcheck.checks.penalty.law import Law, as_stored, law_of, pull, rounding, size, weights_of
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import scaled_gradient, scaled_value
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


def _fitted(law: Law, weights: list[Tensor], slopes: list[Tensor]) -> Law:
    """What the declaration leaves open, from the gradient at the largest weight."""
    flat = torch.cat([w.detach().double().flatten() for w in weights])
    slope = torch.cat([g.double().flatten() for g in slopes])
    largest = int(flat.abs().argmax())
    w, g = float(flat[largest]), float(slope[largest])
    if w == 0:
        return Law(law.l1 or 0.0, law.l2 or 0.0)
    if law.l1 is not None and law.l2 is not None:
        expected = law.l1 * math.copysign(1, w) + law.l2 * w
        share = as_stored(expected, g) / expected if expected else 1.0
        return Law(share * law.l1, share * law.l2)
    if law.l1 is None:
        return Law(g * math.copysign(1, w), law.l2)
    return Law(law.l1, (g - law.l1 * math.copysign(1, w)) / w)


def _relative(law: Law, weights: Tensor, slope: Tensor) -> Tensor:
    """|g − law| relative to the law; at w = 0 by how much g leaves the subgradients ±λ₁."""
    expected = law.slope(weights)
    scale = expected.abs()
    excess = (slope.double().abs() - abs(law.l1 or 0.0)).clamp(min=0)
    error = torch.where(scale > 0, (slope.double() - expected).abs(), excess)
    largest = max(float(scale.max()), abs(law.l1 or 0.0)) or 1.0  # all zeros, and nothing to pull
    return error / torch.where(scale > 0, scale, largest)


@check(
    kind="penalty",
    options={"norm": [1, 2, [1, 2], [2, 1]]},
    rejects=[
        scaled_gradient(2.0),
        scaled_gradient(-1.0),
        scaled_value(0.5),
        takes_the_mean,
        takes_the_root,
        forgets_the_absolute_value,
        ignores_negative_weights,
        counts_the_first_row_only,
        decays_toward_a_constant,
        clips_its_gradient,
        penalises_a_copy,
    ],
)
def pulls_each_weight_by_its_law(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The gradient of an L1 penalty is λ sign w; that of an L2 penalty λw or 2λw, as it declares.

    Weights of any shape, each tensor on its own; errors are relative to each element's law. At
    w = 0 an L1 penalty may have any subgradient from −λ to λ. What is not declared (no strength,
    no convention) is taken from the largest weight and must then hold for all. The bound is γ of
    the weights' count + 16: the roundings of a norm that is computed and divided out again.
    Source: Goodfellow, Bengio & Courville, Deep Learning, 2016, eqs. 7.2 and 7.20.
    """
    named = weights_of(subject, case)
    slopes = dict(zip(case.inputs, pull(subject, case.tensors), strict=True))
    if not size([*named.values()]):
        yield Evidence(error=0.0, bound=0.0, signal=0.0, what="no weights to pull")
        return
    law = _fitted(law_of(subject), [*named.values()], [slopes[name] for name in named])
    bound = rounding(size([*named.values()]), case.dtype)
    for name, weights in named.items():
        if not weights.numel():
            continue  # of no weight there is no pull
        error = _relative(law, weights, slopes[name])
        at = int(error.flatten().argmax())
        w, got = float(weights.flatten()[at]), float(slopes[name].flatten()[at])
        yield Evidence(
            error=float(error.max()),
            bound=bound,
            signal=float(bool(weights.any())),
            unit="relative",
            what=f"gradient of {name}",
            expected=f"{float(law.slope(weights).flatten()[at]):.9g} at w = {w:.6g}",
            got=f"{got:.9g}",
            where=f"element {at} of shape {list(weights.shape)}",
        )


@check(kind="penalty", options={"exclude": ["bias"]}, rejects=[penalises_biases_too])
def excluded_weights_cost_nothing(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Weights that the penalty excludes neither change its value nor feel a pull.

    The excluded tensors (biases: those of one axis) are doubled and shifted by 1: the value must
    stay to the last bit, and their gradient must be 0. Only a declared input of one axis shows
    it. Source: Goodfellow, Bengio & Courville, Deep Learning, 2016, §7.1.
    """
    kept = weights_of(subject, case)
    excluded = [name for name in case.floating if name not in kept]
    if not excluded:
        raise NotApplicable('no input has one axis: declare inputs such as bias = "float n"')
    before = subject.number(*case.fresh())
    moved = [
        2 * w + 1 if name in excluded else w
        for name, w in zip(case.inputs, case.fresh(), strict=True)
    ]
    after = subject.number(*moved)
    yield Evidence(
        error=abs(after - before),
        bound=0.0,
        signal=abs(before),
        what=f"change of the penalty when {', '.join(excluded)} moves",
    )
    slopes = dict(zip(case.inputs, pull(subject, case.tensors), strict=True))
    strongest = max(float(slopes[name].abs().max()) for name in kept)
    for name in excluded:
        yield Evidence(
            error=float(slopes[name].abs().max()),
            bound=0.0,
            signal=strongest,
            what=f"gradient of {name}",
        )
