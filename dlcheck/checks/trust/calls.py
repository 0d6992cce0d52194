"""What a subject answers, value and gradients, and whether two answers are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dlcheck.checks.agreement import agreement, largest_of, plain_slope, rounding_room
from dlcheck.checks.still import Still
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.model import Evidence, worst
from dlcheck.numerics.rounding import unit_roundoff
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients

Answer = list[Tensor]
_WITHOUT_GRADIENT = frozenset({"in_place", "nondifferentiable"})


class Asked:
    """The subject as a function of its inputs: its outputs, then the gradients that they give.

    Every call starts from the same buffers and seed. The gradients are those of the floating
    inputs and of the parameters, for one random cotangent; a subject that takes no leaf with a
    gradient, or is declared to have none, gives outputs only; so does every one with `values_only`.
    training: the mode, that of the build unless told.
    """

    def __init__(
        self,
        subject: Implementation,
        case: Case,
        *,
        training: bool | None = None,
        values_only: bool = False,
    ) -> None:
        self.subject, self.case = subject, case
        self.has_gradients = not (values_only or subject.traits & _WITHOUT_GRADIENT)
        self.still = Still(subject, case, training=training, differentiable=True)
        self._cotangents: dict[tuple[int, torch.Size], Tensor] = {}

    def __call__(self, *inputs: Tensor) -> Answer:
        if self.has_gradients:
            try:
                return self._with_gradients(inputs)
            except SubjectRaised:
                self.has_gradients = False
        plain = [x.detach() if x.requires_grad else x for x in inputs]
        return [y.detach() for y in self.still(*plain)]

    def _with_gradients(self, inputs: Sequence[Tensor]) -> Answer:
        given, leaves = self.leaves_of(inputs)
        outputs = self.still(*given)
        return [*(y.detach() for y in outputs), *self.gradients(outputs, leaves)]

    def leaves_of(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The inputs where they lie, and what a backward reaches; leaves stay the same objects."""
        floating = set(self.case.floating)
        given = [
            x if x.requires_grad == (name in floating) else x.detach().requires_grad_()
            for name, x in zip(self.case.specs, inputs, strict=True)
        ]
        return given, [x for x in given if x.requires_grad] + [*self.subject.parameters.values()]

    def gradients(self, outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> Answer:
        """Jᵀv for a fixed random v; zeros where nothing arrives."""
        live = [(place, y) for place, y in enumerate(outputs) if y.grad_fn is not None]
        if not live or not leaves:
            return []
        cotangents = [self._cotangent(place, y) for place, y in live]
        found = gradients([y for _, y in live], leaves, cotangents)
        pairs = zip(leaves, found, strict=True)
        return [torch.zeros_like(x) if g is None else g.detach() for x, g in pairs]

    def _cotangent(self, place: int, y: Tensor) -> Tensor:
        key = place, y.shape
        if key not in self._cotangents:
            generator = self.case.generator(f"cotangent {place}")
            values = torch.randn(y.shape, generator=generator, dtype=torch.float64)
            self._cotangents[key] = values.to(y.detach())
        return self._cotangents[key].clone()

    def plain_slopes(self, answer: Answer) -> list[float]:
        """For each tensor of an answer, what the rounding of a gradient is at least relative to."""
        leaves = [self.case.inputs[name] for name in self.case.floating]
        leaves += self.subject.parameters.values()
        count = len(answer) - len(leaves) if len(answer) > len(leaves) else len(answer)
        outputs = answer[:count]
        incoming = [self._cotangent(place, y) for place, y in enumerate(outputs)]
        slopes = (plain_slope(incoming, outputs, x) for x in leaves)
        return [*[0.0] * count, *slopes][: len(answer)]

    def names(self, count: int) -> list[str]:
        """What each tensor of an answer of so many is."""
        floating, parameters = self.case.floating, self.subject.parameters
        of = [f"gradient of {name}" for name in (*floating, *parameters)]
        outputs = count - len(of) if count > len(of) else count
        return [*(f"output {i}" for i in range(outputs)), *of][:count]


def held(
    asked: Asked,
    what: str,
    got: Answer,
    expected: Answer,
    *,
    inputs: Sequence[Tensor],
    times: float = 1.0,
    cause: str = "",
) -> Evidence:
    """The two answers are the same numbers, up to what rounding may do to a call with `inputs`.

    Equal bit by bit, they are counted. Else each is held against λ√16·u × its largest number,
    the least that `rounding_room` gives, and only past that against the room that is measured.
    times: how often the rounding may enter. Raises NotApplicable where nothing can be compared.
    """
    names = asked.names(len(expected))
    total = sum(y.numel() for y in expected)
    if not total:
        raise NotApplicable("the answer has no element")
    pairs = list(zip(got, expected, strict=False))
    differing = [i for i, (one, two) in enumerate(pairs) if not identical(one, two)]
    if not differing:
        return Evidence(error=0.0, bound=0.0, signal=float(total), unit="elements", what=what)

    def judged(room: Callable[[int, Tensor], Tensor | float]) -> list[Evidence]:
        return [
            agreement(f"{names[i]}: {what}", one, two, times * room(i, two), cause=cause)
            for i, (one, two) in enumerate(pairs)
            if i in differing
        ]

    least = 32 * unit_roundoff(asked.case.dtype)
    pieces = judged(lambda _, y: least * largest_of(y))
    if any(not piece.error <= piece.bound for piece in pieces):
        measured = rounding_room(asked.subject, asked.case, inputs, asked)
        slopes = asked.plain_slopes(expected)
        pieces = judged(lambda i, _: measured[i] + least * slopes[i])
    return worst(pieces)


def contiguous(case: Case) -> list[Tensor]:
    """Private copies of the inputs, contiguous: masks may be drawn in the order of memory."""
    return [x.detach().contiguous().clone() for x in case.inputs.values()]


def identical(one: Tensor, two: Tensor) -> bool:
    """Equal in shape and every element; NaN equals NaN."""
    if one.shape != two.shape:
        return False
    if torch.equal(one, two):
        return True
    if not one.is_floating_point():
        return False
    return bool(((one == two) | ((one != one) & (two != two))).all())


def or_refused(call: Callable[[], Answer]) -> Answer | None:
    """The answer of a call that a subject may refuse; None if it does."""
    try:
        return call()
    except SubjectRaised:
        return None
