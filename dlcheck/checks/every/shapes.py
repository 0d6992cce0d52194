"""The answer has the declared shape and elements, and grows with the batch, not its square."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.axes import axes_of, batch_dim, rows
from dlcheck.checks.still import Still
from dlcheck.domains import ELEMENTS, Input, parse_input, size_bounds
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def adds_an_axis(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y.unsqueeze(-1))


@around
def sums_to_another_number(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """Normalized along another axis."""
    return on_tensors(
        original(*inputs, **keywords), lambda y: y / y.sum(0, keepdim=True).clamp_min(1e-30)
    )


@around
def lets_an_element_be_negative(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: 2 * y - 1 / max(y.shape[-1], 1))


def _hard_choice(x: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(x.argmax(-1), x.shape[-1]).to(x)


def _tie_of_two(x: Tensor) -> Tensor:
    """Every largest element gets a 1: two at a tie."""
    return (x == x.amax(-1, keepdim=True)).to(x)


@check(
    kind="tensors",
    options={"output": True},
    rejects=[
        adds_an_axis,
        sums_to_another_number,
        lets_an_element_be_negative,
        Subject(
            name="two_ones_at_a_tie",
            target=_tie_of_two,
            kind="op",
            inputs={"x": "logit b k"},
            options={"output": "onehot b k"},
        ),
    ],
    accepts=[
        Subject(
            name="hard_choice",
            target=_hard_choice,
            kind="op",
            inputs={"x": "logit b k"},
            traits=frozenset({"nondifferentiable"}),
            options={"output": "onehot b k"},
        ),
    ],
    dtypes=["float64", "float32"],
)
def keeps_its_postcondition(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The first answer has the shape and the elements that `options.output` declares.

    A probability is not negative and sums to 1 along the last axis, off by γ₄ₙ at most (n
    divisions by a sum of n); a onehot has one 1 and 0s; a direction has norm 1; spd, orthogonal,
    unit, signed, positive and ranges are what their names say; indices lie below their count.
    """
    spec = parse_input(subject.options["output"])
    y = Still(subject, case)(*case.fresh())[0]
    wanted = spec.shape(case.sizes)
    yield Evidence(
        error=0.0 if tuple(y.shape) == wanted else math.inf,
        bound=0.0,
        signal=1.0,
        what="shape of the answer",
        expected=str(wanted),
        got=str(tuple(y.shape)),
    )
    if tuple(y.shape) == wanted and y.numel():
        yield from _elements(spec, y, case)


def _elements(spec: Input, y: Tensor, case: Case) -> Iterator[Evidence]:
    if ELEMENTS[spec.element][1] != y.is_floating_point():
        kinds = ("integers", "numbers")
        yield _broken(f"answers that are {kinds[y.is_floating_point()]}", 1.0, 0.0)
        return
    wide = y.detach().double()
    n = y.shape[-1] if y.dim() else 1
    rounding = gamma(4 * n, case.dtype)
    low, high = _range(spec, case)
    if low > -math.inf or high < math.inf:
        beyond = torch.maximum(low - wide, wide - high).amax().clamp_min(0)
        yield _broken("distance outside of the range", float(beyond), rounding * max(abs(low), 1.0)
                      if math.isfinite(low) else rounding)  # fmt: skip
    match spec.element:
        case "probability":
            sums = wide.sum(spec.axis)
            yield _broken("|Σ − 1| of a row", float((sums - 1).abs().amax()), rounding)
        case "onehot":
            wrong = ((wide != 0) & (wide != 1)).sum() + (wide.sum(-1) != 1).sum()
            yield _broken("elements that are neither 0 nor the only 1", float(wrong), 0.0)
        case "direction":
            norms = torch.linalg.vector_norm(wide, dim=-1)
            yield _broken("|norm − 1| of a row", float((norms - 1).abs().amax()), rounding)
        case "orthogonal":
            eye = torch.eye(n, dtype=torch.float64, device=y.device)
            yield _broken("|QᵀQ − 1|", float((wide.mT @ wide - eye).abs().amax()), n * rounding)
        case "spd":
            slack = rounding * float(wide.abs().amax())
            yield _broken("|A − Aᵀ|", float((wide - wide.mT).abs().amax()), slack)
            least = float(torch.linalg.eigvalsh((wide + wide.mT) / 2).amin())
            yield _broken("how far the least eigenvalue is below 0", max(-least, 0.0), n * slack)


def _range(spec: Input, case: Case) -> tuple[float, float]:
    if spec.low is not None and spec.high is not None:
        return spec.low, spec.high if spec.is_floating else spec.high - 1
    if spec.count is not None:
        return 0.0, float(spec.count.size(case.sizes) - 1)
    known = {
        "positive": (0.0, math.inf),
        "unit": (0.0, 1.0),
        "signed": (-1.0, 1.0),
        "sign": (-1.0, 1.0),
        "probability": (0.0, 1.0),
        "onehot": (0.0, 1.0),
        "image": (0.0, 1.0),
        "uint8": (0.0, 255.0),
    }
    return known.get(spec.element, (-math.inf, math.inf))


def _broken(what: str, error: float, bound: float) -> Evidence:
    return Evidence(error=error, bound=bound, signal=1.0, what=what)


@around
def broadcasts_a_column_against_a_row(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """[b] − [b, 1] is [b, b]: here every answer, against its own batch."""
    return on_tensors(original(*inputs, **keywords), lambda y: y.unsqueeze(1) + y.unsqueeze(0))


@around
def drops_the_last_row(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """An off-by-one of a sliding window over the batch; nothing to drop from one row."""
    return on_tensors(
        original(*inputs, **keywords), lambda y: y[: max(y.shape[0] - y.shape[0] % 3, 1)]
    )


@check(
    kind=["op", "layer", "activation", "normalization", "attention", "positional", "dropout"],
    forbids={"batch_coupled", "batch_coupled_in_eval"},
    rejects=[broadcasts_a_column_against_a_row, drops_the_last_row],
)
def answers_grow_with_the_batch(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The size of an answer is proportional to the batch, or does not depend on it.

    The shapes at b rows, at b − 1 and at the fewest: a change along one axis, by the same number
    for each row. [b] against [b, 1] gives [b, b], whose size grows with the square.
    """
    name = batch_dim(subject, case)
    axes, size = axes_of(case, name), case.sizes[name]
    bounds = size_bounds(subject.options, name)
    fewest = max(bounds[0] if bounds else 1, 1)
    if size - fewest < 1:
        raise NotApplicable("the batch has the fewest rows already")
    function = Still(subject, case)
    whole = function(*case.fresh())
    inputs = dict(zip(case.inputs, case.fresh(), strict=True))
    for few in sorted({fewest, size - 1}):
        try:
            fewer = function(*rows(inputs, axes, range(few)))
        except SubjectRaised as error:
            raise NotApplicable(f"does not take {few} of these rows: {error}") from error
        for place, (y, z) in enumerate(zip(whole, fewer, strict=False)):
            fits = _is_proportional(list(y.shape), list(z.shape), size, few)
            yield Evidence(
                error=0.0 if fits else math.inf,
                bound=0.0,
                signal=1.0,
                what=f"shape of answer {place} at {few} rows beside {size}",
                expected=f"one axis of {tuple(y.shape)} × {few}/{size}, or none",
                got=str(tuple(z.shape)),
                cause="" if fits else "two axes that both hold the batch, or rows that are lost",
            )


def _is_proportional(whole: list[int], fewer: list[int], size: int, few: int) -> bool:
    if whole == fewer:
        return True
    if len(whole) != len(fewer):
        return False
    pairs = [(a, b) for a, b in zip(whole, fewer, strict=True) if a != b]
    return len(pairs) == 1 and pairs[0][0] * few == pairs[0][1] * size
