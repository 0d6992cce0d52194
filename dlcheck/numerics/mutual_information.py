"""How much samples tell about classes: sums of probabilities that merge, in float64."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 2**16  # numbers, half a megabyte: they stay in cache, and in memory that is used again
_CHUNK_OF_DEVICE = 2**24  # enough to fill a GPU
FORMS = ("probabilities", "log_probabilities", "logits")


@dataclass(frozen=True, slots=True)
class ClassSums:
    """Of n rows p: Σ p log p [] and Σ p [k], which is all that their mean divergence needs.

    E KL(p ‖ m) = Σ p log p / n − Σ m log m with m = Σ p / n, a mutual information: never below 0.
    """

    rows: int
    entropy: Tensor  # negative
    mass: Tensor

    @classmethod
    def of(
        cls, given: Tensor, form: str = "probabilities", order: Tensor | None = None
    ) -> ClassSums:
        """The sums over the rows of given [n, k], or over those that `order` names.

        Log-probabilities and logits may be −∞. In float64, a few rows at a time, so that no copy
        of all of them is made. Raises TypeError and ValueError for what is no set of predictions,
        with what it looks like.
        """
        if form not in FORMS:
            raise ValueError(f"predictions are {', '.join(FORMS)}, not {form!r}")
        _hold_to_rows(given, form)
        numbers = torch.arange(len(given), device=given.device) if order is None else order
        size = _CHUNK if given.device.type == "cpu" else _CHUNK_OF_DEVICE
        parts = numbers.split(max(size // given.shape[1], 1))
        first, *rest = (_of_chunk(given[part], form, part) for part in parts)
        return functools.reduce(ClassSums.merged, rest, first)

    def merged(self, other: ClassSums) -> ClassSums:
        """The sums of both sets together, on the device of the first."""
        if len(self.mass) != len(other.mass):
            raise ValueError(
                f"batches have the same classes: {len(self.mass)} before, {len(other.mass)} now"
            )
        entropy, mass = (x.to(self.mass.device) for x in (other.entropy, other.mass))
        return ClassSums(self.rows + other.rows, self.entropy + entropy, self.mass + mass)

    @property
    def divergence(self) -> Tensor:
        """E KL(p ‖ m) []; what rounding leaves below 0 is 0."""
        marginal = self.mass / self.rows
        return (self.entropy / self.rows - torch.xlogy(marginal, marginal).sum()).clamp_min(0)


def _of_chunk(given: Tensor, form: str, numbers: Tensor) -> ClassSums:
    x = given.double()
    if form == "probabilities":
        _hold_to_distributions(x, x, form, numbers)
        return ClassSums(len(x), torch.xlogy(x, x).sum(), x.sum(0))
    log_p = x.log_softmax(1) if form == "logits" else x
    p = log_p.exp()
    _hold_to_distributions(p, x, form, numbers)
    return ClassSums(len(p), torch.where(p > 0, p * log_p, 0).sum(), p.sum(0))


def _hold_to_rows(given: Tensor, form: str) -> None:
    if not isinstance(given, Tensor):
        raise TypeError(f"{form} are a tensor [n, k], not {type(given).__name__}")
    if given.dim() != 2 or not given.numel():
        raise ValueError(
            f"{form} are a tensor [n, k] with at least one row and one class, not "
            f"{list(given.shape)}"
        )
    if not given.is_floating_point():
        raise TypeError(
            f"{form} are floating-point numbers, not {given.dtype}; of labels make "
            "torch.nn.functional.one_hot(labels, k).double()"
        )
    if given.dtype.itemsize < 4:
        raise TypeError(
            f"{given.dtype} keeps too few digits of small probabilities; take the softmax of "
            "logits.float()"
        )


def _hold_to_distributions(p: Tensor, x: Tensor, form: str, numbers: Tensor) -> None:
    """Every row is finite and sums to 1 to what a softmax in float32 may lose.

    A sum of k exponentials in float32 and one division are off by at most (k + 8) 2⁻²³.
    """
    slack = (p.shape[1] + 8) * 2.0**-23
    sums = p.sum(1)
    # A sum is NaN where a number is; logits of +∞ have no softmax.
    wrong = ~((sums - 1).abs() <= slack) | (p < 0).any(1)
    if not bool(wrong.any()):
        return
    row = int(wrong.nonzero()[0])
    which = f"row {int(numbers[row])}"
    if bool((bad := x[row].isnan() | (x[row] == torch.inf)).any()):
        raise ValueError(f"{form} are finite, and {which} holds {float(x[row][bad][0])}")
    below = bool((p[row] < 0).any())
    found = "has a value below 0" if below else f"sums to {float(sums[row]):.6g}"
    raise ValueError(
        f"each row of {form} is one distribution, and {which} {found}{_looks_like(x, form, slack)}"
    )


def _looks_like(x: Tensor, form: str, slack: float) -> str:
    logarithms = bool((x <= 0).all()) and bool(((x.exp().sum(1) - 1).abs() <= slack).all())
    if form == "probabilities" and logarithms:
        return "; these look like log-probabilities: say prediction='log_probabilities'"
    if bool((x < 0).any()) or bool((x > 1 + slack).any()):
        return "; these look like logits: take their softmax, or say prediction='logits'"
    return "; divide each row by its sum if these are weights"
