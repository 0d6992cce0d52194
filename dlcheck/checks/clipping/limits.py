"""Clipping keeps its limit, the direction, what is small, and copes with what is missing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.clipping import broken
from dlcheck.checks.clipping.broken import EACH, GLOBAL, UNIT, VALUE, wrong
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised
from dlcheck.model import Evidence, Subject
from dlcheck.numerics.rounding import gamma, unit_roundoff
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, guarded

_FACTORS = (0.5, 0.05, 0.9)  # of what there is, that the limit allows
_SLACK = 2e-6  # torch adds 1e-6 to the norm it divides by
_LEAST = 1e-3  # the norm that AdaptiveGradientClipping takes for that of small parameters

_TORCH: list[Subject] = [
    Subject(name="torch_norm", target="torch.nn.utils:clip_grad_norm_", kind="clipping",
            options=GLOBAL),
    Subject(name="torch_value", target="torch.nn.utils:clip_grad_value_", kind="clipping",
            options=VALUE),
]  # fmt: skip
_ACCEPTED = [*_TORCH, wrong(broken.by_each_norm, EACH), wrong(broken.rows_of_weights, UNIT)]


class Clipped:
    """Parameters with gradients, clipped to a limit, and both as they were."""

    def __init__(self, subject: Implementation, case: Case, missing: int | None = None) -> None:
        self.subject, self.case = subject, case
        values = [x for n, x in zip(case.inputs, case.fresh(), strict=True) if n in case.floating]
        if not values:
            raise NotApplicable("has no parameter; declare inputs, the shapes of parameters")
        self.parameters = [nn.Parameter(x.detach().clone()) for x in values]
        generator = case.generator("gradients")
        for place, parameter in enumerate(self.parameters):
            g = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.grad = None if place == missing else (3 * g).to(parameter)
        self.before = self.tensors()

    @property
    def by(self) -> str:
        return str(self.subject.options["by"])

    @property
    def of_weights(self) -> bool:
        return self.subject.options.get("target") == "weights"

    @property
    def degree(self) -> float:
        """Which norm: the argument norm_type where there is one, else 2."""
        try:
            return float(self.subject.value_of("norm_type"))
        except (SubjectError, TypeError, ValueError):
            return 2.0

    def tensors(self) -> list[Tensor]:
        """Copies of what is clipped: gradients, or weights."""
        held = self.parameters if self.of_weights else [
            p.grad for p in self.parameters if p.grad is not None
        ]  # fmt: skip
        return [x.detach().clone() for x in held]

    def sizes(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """What the limit is held against, in float64: one number in all, per tensor or unit."""
        wide = [x.double() for x in tensors]
        if self.by == "value":
            return [x.abs() for x in wide]
        if self.by == "global_norm":
            everything = torch.cat([x.flatten() for x in wide])
            return [torch.linalg.vector_norm(everything, self.degree)]
        if self.by == "norm":
            return [torch.linalg.vector_norm(x, self.degree) for x in wide]
        return [torch.linalg.vector_norm(x, self.degree, self._axes(x), keepdim=True)
                for x in wide]  # fmt: skip

    def _axes(self, x: Tensor) -> tuple[int, ...]:
        """The axes of a unit: `options.axes`, or all but the first."""
        stated = self.subject.options.get("axes")
        if stated is not None:
            axes = [stated] if isinstance(stated, int) else list(stated)
            return tuple(axis for axis in axes if -x.dim() <= axis < x.dim()) or (0,)
        return tuple(range(1, x.dim())) or (0,)

    def scales(self) -> list[Tensor]:
        """What a limit of 1 stands for: 1, or the size of the parameter that a unit belongs to."""
        sizes = self.sizes(self.before)
        if not self.subject.options.get("relative_to_parameters"):
            return [torch.ones_like(s) for s in sizes]
        held = [p.detach() for p in self.parameters if self.of_weights or p.grad is not None]
        return [s.clamp_min(_LEAST) for s in self.sizes(held)]

    def clip(self, limit: float, parameters: Any = None) -> Any:
        given = self.parameters if parameters is None else parameters
        return guarded(self.subject.target, given, limit)

    def share(self, factor: float) -> float:
        """The limit that is this share of the largest size."""
        pairs = zip(self.sizes(self.before), self.scales(), strict=True)
        return factor * max(float((s / scale).amax()) for s, scale in pairs)

    @property
    def rounding(self) -> float:
        return gamma(64 + sum(x.numel() for x in self.before), self.case.dtype)


@check(
    kind="clipping",
    rejects=[
        wrong(broken.sums_the_norms, GLOBAL),
        wrong(broken.takes_squares, GLOBAL),
        wrong(broken.takes_the_largest, GLOBAL),
        wrong(broken.skips_the_first, GLOBAL),
        wrong(broken.clips_a_copy, VALUE),
        wrong(broken.clips_from_above, VALUE),
        wrong(broken.clips_twice_as_far, VALUE),
        wrong(broken.takes_the_whole_matrix, UNIT),
        wrong(broken.takes_columns, UNIT),
    ],
    accepts=_ACCEPTED,
    dtypes=["float64", "float32"],
    regimes=["normal", "large", "small"],
)
def norms_come_to_the_limit(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What was larger than the limit has the limit after it, and nothing is larger.

    The norm of all gradients together, of each tensor, of each unit, or each element, as `by`
    says; the limit is 0.5, 0.05 and 0.9 of the largest. The bound is the rounding of a norm; it may
    be smaller by 2·10⁻⁶/‖g‖, since torch adds 10⁻⁶ to the norm it divides by.
    Source: Pascanu, Mikolov & Bengio, ICML 2013, algorithm 1.
    """
    for factor in _FACTORS:
        run = Clipped(subject, case)
        limit = run.share(factor)
        run.clip(limit)
        scales = run.scales()
        before, after = run.sizes(run.before), run.sizes(run.tensors())
        for place, (old, new, scale) in enumerate(zip(before, after, scales, strict=True)):
            wanted = torch.minimum(old, limit * scale)
            bound = run.rounding * float(wanted.amax())
            slack = torch.where(old > 0, _SLACK * wanted / old.clamp_min(1e-300), 0.0)
            above = float((new - wanted).amax().clamp_min(0))
            below = float((wanted - new - slack).amax().clamp_min(0))
            yield Evidence(
                error=max(above, below) if bool((new == new).all()) else math.nan,
                bound=bound,
                signal=float(wanted.amax()),
                what=f"{_noun(run)} {place} after clipping to {limit:.4g}",
                expected=f"{float(wanted.amax()):.6g}",
                got=f"{float(new.amax()):.6g}",
                cause="clipped too far" if below > bound else
                "larger than the limit" if above > bound else "",
            )  # fmt: skip


def _noun(run: Clipped) -> str:
    return {
        "global_norm": "norm of everything,",
        "norm": "norm of tensor",
        "unit_norm": "norms of the units of tensor",
        "value": "largest element of tensor",
    }.get(run.by, "size of tensor")


@check(
    kind="clipping",
    options={"by": ["global_norm", "norm", "unit_norm"]},
    rejects=[
        wrong(broken.clips_elements_to_the_norm, GLOBAL),
        wrong(broken.by_each_norm, GLOBAL),
        wrong(broken.by_value, GLOBAL),
        wrong(broken.skips_the_first, GLOBAL),
        wrong(broken.squashes, EACH),
        wrong(broken.zeroes_what_is_large, EACH),
    ],
    accepts=[s for s in _ACCEPTED if s.options["by"] != "value"],
    dtypes=["float64", "float32"],
    regimes=["normal", "large", "small"],
)
def direction_is_kept(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Clipping multiplies: by one factor for everything, each tensor, or each unit, as `by` says.

    The factor is the ratio of the norms; each element is held against it, and the bound is the
    rounding of a product. Source: Pascanu, Mikolov & Bengio, ICML 2013, algorithm 1.
    """
    run = Clipped(subject, case)
    run.clip(run.share(0.4))
    after = run.tensors()
    factors = [
        new / old.clamp_min(1e-300)
        for new, old in zip(run.sizes(after), run.sizes(run.before), strict=True)
    ]
    factors = factors * len(after) if run.by == "global_norm" else factors
    for place, (new, old, factor) in enumerate(zip(after, run.before, factors, strict=True)):
        expected = old.double() * factor
        largest = float(expected.abs().amax())
        error = float((new.double() - expected).abs().amax())
        yield Evidence(
            error=error,
            bound=4 * run.rounding * largest,
            signal=largest,
            what=f"elements of tensor {place} against one factor times what they were",
            cause="elements are not scaled alike: the direction turns"
            if error > 4 * run.rounding * largest
            else "",
        )


@check(
    kind="clipping",
    rejects=[
        wrong(broken.forgets_the_minimum, GLOBAL),
        wrong(broken.shrinks_always, EACH),
        wrong(broken.squashes, VALUE),
        wrong(broken.sums_the_norms, GLOBAL),
        wrong(broken.normalises_rows, UNIT),
    ],
    accepts=_ACCEPTED,
    dtypes=["float64", "float32"],
    regimes=["normal", "large", "small", "zeros"],
)
def below_the_limit_nothing_changes(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """What is within the limit stays as it is; and of several, what is not clipped stays.

    Exact, but for a product with a factor that rounds to 1: the bound is two roundings. The limit
    is 1.25 times the largest size. Source: the definition of a projection.
    """
    run = Clipped(subject, case)
    run.clip(run.share(1.25))
    for place, (new, old) in enumerate(zip(run.tensors(), run.before, strict=True)):
        largest = float(old.double().abs().amax())
        yield Evidence(
            error=float((new.double() - old.double()).abs().amax()),
            bound=2 * unit_roundoff(case.dtype) * largest,
            signal=largest or 1.0,
            what=f"change of tensor {place}, which is within the limit",
        )


@check(
    kind="clipping",
    rejects=[
        wrong(broken.reads_its_generator_twice, GLOBAL),
        wrong(broken.stops_at_a_missing_gradient, EACH),
        wrong(broken.counts_a_missing_gradient, GLOBAL),
        wrong(broken.clips_a_copy, VALUE),
    ],
    accepts=_TORCH,
    dtypes=["float64", "float32"],
    once=True,
)
def missing_gradients_and_generators_are_taken(
    subject: Implementation, case: Case
) -> Iterator[Evidence]:
    """Parameters without a gradient are left out, and model.parameters() does as well as a list.

    The first parameter has no gradient, then none has one; the same parameters as a list and as a
    generator end alike. Exact. Source: torch.nn.utils.clip_grad_norm_ takes an iterable.
    """
    listed = Clipped(subject, case, missing=0)
    if listed.of_weights:
        raise NotApplicable("clips weights, which are always there")
    if len(listed.parameters) < 2:
        raise NotApplicable("has one parameter only; declare inputs with two")
    limit = listed.share(0.3)
    ways: dict[str, Callable[[Clipped], Any]] = {
        "a list": lambda run: run.parameters,
        "a generator": lambda run: iter(run.parameters),
    }
    first = listed.parameters[0]
    for name, way in ways.items():
        run = Clipped(subject, case, missing=0)
        run.clip(limit, way(run))
        pairs = zip(run.sizes(run.tensors()), run.scales(), strict=True)
        largest = max(float((s / scale).amax()) for s, scale in pairs)
        yield Evidence(
            error=max(largest - limit * (1 + run.rounding), 0.0),
            bound=0.0,
            signal=limit,
            what=f"size beyond the limit beside a missing gradient, given {name}",
            expected=f"at most {limit:.6g}",
            got=f"{largest:.6g}",
        )
        made = sum(p.grad is not None for p in run.parameters[:1])
        yield _count("gradients that clipping made where there was none", made)
        moved = float((run.parameters[0].detach() - first.detach()).abs().amax())
        yield _count("parameters that clipping gradients changed", float(moved > 0))
    idle = Clipped(subject, case)
    for parameter in idle.parameters:
        parameter.grad = None
    with contextlib.suppress(SubjectRaised):  # a clear refusal will do
        idle.clip(1.0)
    yield _count("gradients made where there was none at all",
                 sum(p.grad is not None for p in idle.parameters))  # fmt: skip


def _count(what: str, number: float) -> Evidence:
    return Evidence(error=float(number), bound=0.0, signal=1.0, unit="tensors", what=what)
