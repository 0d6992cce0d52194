"""Values and gradients where functions have their edges: zeros, ties, saturation, overflow."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.still import Still
from dlcheck.domains import Input
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

_STEPS = tuple(10.0**-e for e in range(3, 13))
_AGREE = 0.01  # slopes from two steps and from both sides agree to this: the function is smooth
_LEVEL = 1e-6
_DIRECTIONS = 3


@around
def hides_a_root_behind_where(original: Any, *inputs: Any, **keywords: Any) -> Any:
    """`where(x > 0, sqrt(x), 0)`: the branch that is not taken sends NaN back."""
    answer = original(*inputs, **keywords)
    x = inputs[0][0] if isinstance(inputs[0], (list, tuple)) else inputs[0]
    hidden = torch.where(x > 0, torch.sqrt(x), 0.0).sum()
    return on_tensors(answer, lambda y: y + 1e-3 * hidden.to(y))


def _unit_by_a_root(x: Tensor) -> Tensor:
    """√Σx² has no slope at 0, though x/(√Σx² + ε) has."""
    return x / (x.square().sum(-1, keepdim=True).sqrt() + 1e-3)


def _safe_unit(x: Tensor) -> Tensor:
    """x / √(Σx² + ε)."""
    return x / torch.sqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def _unsafe_distance(x: Tensor, y: Tensor) -> Tensor:
    """A squared distance by way of its root."""
    return (x - y).square().sum(-1).sqrt().square()


@check(
    kind=["op", "layer", "activation", "normalization", "attention", "positional", "loss",
          "penalty", "recurrent"],
    forbids={"nondifferentiable", "in_place"},
    rejects=[
        hides_a_root_behind_where,
        Subject(
            name="unit_by_a_root", target=_unit_by_a_root, kind="op", inputs={"x": "float b n"}
        ),
        Subject(
            name="squares_a_root",
            target=_unsafe_distance,
            kind="op",
            inputs={"x": "float b n", "y": "float b n"},
        ),
    ],
    accepts=[
        Subject(name="safe_unit", target=_safe_unit, kind="op", inputs={"x": "float b n"}),
        Subject(
            name="distance",
            target=torch.cdist,
            kind="op",
            inputs={"x1": "float b n d", "x2": "float b m d"},
            traits=frozenset({"nonsmooth"}),
        ),
    ],
    dtypes=["float64"],
    once=True,
)  # fmt: skip
def gradient_is_finite_at_the_edges(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Where the answer is finite and has a slope, the gradient is not NaN.

    At zeros, equal rows and equal inputs, constants, ±50 and ±1000, one-hot and tiny inputs, as
    far as they lie in the domain. Where a gradient is NaN, the slope along random directions of
    its elements is measured from both sides with steps from 10⁻³ to 10⁻¹²: it exists if two
    steps and both sides agree to 1 %, or are 10⁻⁶ at most. Infinite gradients (√ at 0) and kinks
    without a slope are not judged, nor are answers that are not finite.
    """
    function = Still(subject, case, differentiable=True)
    if not case.floating:
        raise NotApplicable("has no floating input")
    judged = 0
    for name, inputs in edge_points(case):
        piece = _at(function, case, name, inputs)
        if piece is not None:
            judged += 1
            yield piece
    if not judged:
        raise NotApplicable("no answer is finite at an edge, or none has a gradient")


def _at(function: Still, case: Case, name: str, inputs: Sequence[Tensor]) -> Evidence | None:
    """How many elements of the gradients are NaN though a slope exists."""
    leaves = [x.detach().clone() for x in inputs]
    for key, x in zip(case.inputs, leaves, strict=True):
        x.requires_grad_(key in case.floating)
    try:
        outputs = [y for y in function(*leaves) if y.requires_grad]
    except SubjectRaised:
        return None
    if not outputs or not all(bool(torch.isfinite(y).all()) for y in outputs):
        return None
    generator = case.generator(f"cotangents {name}")
    cotangents = [
        torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.detach())
        for y in outputs
    ]
    wanted = {f"gradient of {n}": x for n, x in zip(case.inputs, leaves, strict=True)
              if x.requires_grad}  # fmt: skip
    slopes = gradients(outputs, list(wanted.values()), cotangents)
    wrong, total, where = 0, 0, ""
    for place, (key, slope) in enumerate(zip(wanted, slopes, strict=True)):
        if slope is None:
            continue
        total += slope.numel()
        lost = torch.isnan(slope)
        if bool(lost.any()):
            found = _slope_along(function, leaves, list(wanted.values())[place], lost, cotangents,
                                 generator)  # fmt: skip
            if found is not None:
                wrong += int(lost.sum())
                where = f"{key} at {name}; the slope there is {found:.4g}"
    return Evidence(
        error=float(wrong),
        bound=0.0,
        signal=float(max(total, 1)),
        unit="elements",
        what=f"NaN in the gradient at {name}",
        where=where,
        cause="a branch that is not taken, or a root or norm at 0, sends back 0 · ∞"
        if wrong
        else "",
    )


def _slope_along(
    function: Still,
    leaves: Sequence[Tensor],
    leaf: Tensor,
    lost: Tensor,
    cotangents: Sequence[Tensor],
    generator: torch.Generator,
) -> float | None:
    """The slope along directions within the lost elements, if all of them have one."""
    found = None

    def value(moved: Tensor) -> float:
        given = [(moved if x is leaf else x).detach() for x in leaves]
        outputs = [y for y in function(*given) if y.is_floating_point()]
        pairs = zip(outputs, cotangents, strict=False)
        return float(sum((y.detach().double() * v.double()).sum() for y, v in pairs))

    centre = value(leaf)
    for _ in range(_DIRECTIONS):
        along = torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf)
        along = torch.where(lost, along, 0.0).detach()
        found = _plateau(functools.partial(_step, value, leaf.detach(), along), centre)
        if found is None:
            return None
    return found


def _step(value: Callable[[Tensor], float], start: Tensor, along: Tensor, h: float) -> float:
    return value(start + h * along)


def _plateau(line: Callable[[float], float], centre: float) -> float | None:
    """The slope of a function of one number at 0, if both sides and two steps give the same."""
    before: tuple[float, float] | None = None
    for h in _STEPS:
        right, left = (line(h) - centre) / h, (centre - line(-h)) / h
        if not (math.isfinite(right) and math.isfinite(left)):
            before = None
            continue
        noise = 4e-16 * max(abs(centre), 1e-300) / h
        four = (right, left, *(before or ()))
        spread, size = max(four) - min(four), max(abs(s) for s in four)
        flat = spread <= _AGREE * size + 2 * noise and noise <= _AGREE * max(size, 1e-6)
        level = size <= _LEVEL and noise <= _LEVEL  # as h² at 0: the slope is 0
        if before is not None and (flat or level):
            return right
        before = (right, left)
    return None


def edge_points(case: Case) -> Iterator[tuple[str, list[Tensor]]]:
    """Named inputs at the edges of the domain; those that are no numbers, as drawn and constant."""
    base = dict(zip(case.inputs, case.fresh(), strict=True))
    spots: dict[str, Callable[[Tensor, Input], Tensor | None]] = {
        "the drawn inputs": lambda x, spec: x,
        "zeros": lambda x, spec: if_real(spec, torch.zeros_like(x)),
        "some zeros": lambda x, spec: if_real(spec, torch.where(x > 0.3, 0.0, x)),
        "ones": lambda x, spec: if_real(spec, torch.ones_like(x)),
        "equal rows": lambda x, spec: x[:1].expand_as(x).clone() if x.dim() else None,
        "constant rows": lambda x, spec: (
            if_real(spec, x[..., :1].expand_as(x).clone()) if x.dim() else None
        ),
        "±50": lambda x, spec: if_real(spec, 50 * x.sign()),
        "±1000": lambda x, spec: if_real(spec, 1000 * x.sign()),
        "one-hot rows": lambda x, spec: _onehot(x, spec),
        "tiny inputs": lambda x, spec: if_real(spec, 1e-30 * x),
    }
    for name, change in spots.items():
        moved = dict(base)
        for key in case.floating:
            found = change(base[key], case.specs[key])
            moved[key] = base[key] if found is None else found
        yield name, list(moved.values())
    firsts = [base[key] for key in case.floating[:2]]
    if len(firsts) == 2 and firsts[0].shape == firsts[1].shape:
        second = case.floating[1]
        if case.specs[case.floating[0]].element == case.specs[second].element:
            yield "equal inputs", list({**base, second: firsts[0].clone()}.values())


def if_real(spec: Input, x: Tensor) -> Tensor | None:
    """The values, where any real number is in the domain."""
    return x if spec.element in ("float", "logit") and spec.low is None else None


def _onehot(x: Tensor, spec: Input) -> Tensor | None:
    if not x.dim() or not x.numel() or spec.element not in ("float", "logit", "probability"):
        return None
    return torch.nn.functional.one_hot(x.argmax(-1), x.shape[-1]).to(x)
