"""What the engine found, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dlcheck.gradients.looks import miss_probability
from dlcheck.model import Evidence, Verdict

_SHOWN = 8  # tensors that are listed


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongElement:
    """One element of a gradient that is wrong."""

    tensor: str
    index: tuple[int, ...]
    claimed: float
    numeric: float
    bound: float  # of the numeric value

    def __str__(self) -> str:
        place = f"{self.tensor}[{', '.join(map(str, self.index))}]" if self.index else self.tensor
        return f"{place}: {self.claimed:.9g}, should be {self.numeric:.9g} ± {self.bound:.1g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorResult:
    """What is known of the gradient of one tensor."""

    name: str
    shape: tuple[int, ...]
    verdict: Verdict
    certificate: float  # relative to the size of its gradient; infinite for a zero gradient
    cause: str = ""
    elements: tuple[WrongElement, ...] = ()  # the wrong ones that were named
    extent: str = ""  # how far the error reaches: "only these elements", "about half of them"

    @property
    def worst(self) -> WrongElement | None:
        return max(self.elements, key=lambda e: abs(e.claimed - e.numeric), default=None)

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape)) or "scalar"
        if self.verdict is Verdict.FAILED:
            said = [self.cause or "wrong", self.extent]
            return f"✗ {self.name} ({shape}): " + "; ".join(part for part in said if part)
        if self.verdict is Verdict.INCONCLUSIVE:
            return f"? {self.name} ({shape}): not decided"
        known = f"right to {self.certificate:.1g}"
        if math.isinf(self.certificate):
            known = "zero, or too small beside the rest to be seen"
        return f"✓ {self.name} ({shape}): {known}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientEvidence(Evidence):
    """Evidence of one gradient check.

    error: |measured − claimed| slope; bound: of the measurement; signal: the size of the slope.
    certificate: the largest bound of any direction, relative to the gradient of the tensor with
    the least share: an error of any tensor below it cannot be seen.
    """

    certificate: float = math.inf
    looks: int = 0  # directions that agreed with the claim
    outputs: int = 1  # numbers that the function returns
    tensors: tuple[TensorResult, ...] = ()
    element: WrongElement | None = None
    reason: str = ""  # why nothing could be decided, or what else is wrong than a number
    forwards: int = 0
    backwards: int = 0
    localisation: int = 0  # of the forwards, those that searched for the wrong elements
    notes: tuple[str, ...] = ()
    seed: int = 0

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASSED

    def miss(self, r: float) -> float:
        """P(an error of r × certificate in the gradient of any one tensor escaped the rule).

        Sizes are ‖e∘s‖ and ‖g∘s‖, s being the scale on which the elements of x were moved. Of
        several outputs the error is taken to be in one alone, where a small component of v may
        hide it too: one that is spread over all escapes less often.
        """
        if not math.isfinite(self.certificate):
            return 1.0
        return miss_probability(r, self.looks, self.outputs)

    def plain(self) -> Evidence:
        """The same as plain evidence, with what else is known as values."""
        known: dict[str, float | str] = {}
        if self.looks and math.isfinite(self.certificate):
            known["certified relative error"] = self.certificate
            known["missed at 10 times that"] = self.miss(10)
        if self.notes:
            known["notes"] = "; ".join(self.notes)
        return Evidence(
            error=self.error,
            bound=self.bound,
            signal=self.signal,
            unit=self.unit,
            what=self.what or "gradient",
            expected=self.expected,
            got=self.got,
            where=str(self.element or self.where),
            cause=self.cause or self.reason,
            values=known,
        )

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _listed(tensors: Sequence[TensorResult]) -> list[str]:
    """The tensors, wrong and loose ones first where they are many."""
    if len(tensors) <= _SHOWN:
        return [str(tensor) for tensor in tensors]
    gravity = {Verdict.FAILED: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASSED: 2}
    finite = [t for t in tensors if t.verdict is not Verdict.PASSED or t.certificate < math.inf]
    ordered = sorted(finite, key=lambda t: (gravity[t.verdict], -t.certificate))[:_SHOWN]
    others = [tensor for tensor in tensors if tensor not in ordered]
    wrong = sum(tensor.verdict is Verdict.FAILED for tensor in others)
    rest = f"… and {len(others)} more tensors" + (f", {wrong} of them wrong" if wrong else "")
    return [*(str(tensor) for tensor in ordered), rest]


def _lines(found: GradientEvidence) -> list[str]:
    said = {
        Verdict.PASSED: "the gradient is right",
        Verdict.FAILED: "the gradient is wrong",
        Verdict.INCONCLUSIVE: "the gradient could not be checked",
    }
    lines = [said.get(found.verdict, found.verdict.value)]
    if found.reason:
        lines[0] += f": {found.reason}"
    if found.verdict is Verdict.PASSED and math.isfinite(found.certificate):
        lines.append(
            f"  certified  every tensor to {found.certificate:.1g} of its gradient; an error "
            f"10 times that escapes with p = {found.miss(10):.1g}, 100 times with "
            f"{found.miss(100):.1g}"
        )
    if found.verdict is Verdict.FAILED and found.what:
        lines.append(f"  measured   {found.what}")
        lines.append(f"  expected   {found.expected}")
        lines.append(f"  got        {found.got}")
    if found.element is not None:
        lines.append(f"  element    {found.element}")
    if found.cause:
        lines.append(f"  likely     {found.cause}")
    if found.verdict is not Verdict.INCONCLUSIVE:
        lines += [f"  {line}" for line in _listed(found.tensors)]
    lines += [f"  note       {note}" for note in found.notes]
    lines.append(
        f"  cost       {found.forwards} forwards, {found.backwards} backwards; seed {found.seed}"
    )
    return lines
