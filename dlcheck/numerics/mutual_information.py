"""How much samples tell about classes: sums of probabilities that merge, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FORMS = ("probabilities", "log_probabilities", "logits")


@dataclass(frozen=True, slots=True)
class Rows:
    """Probabilities p [n, k] float64 and Σ_k p log p of every row [n]."""

    p: Tensor
    entropies: Tensor  # negative ones


@dataclass(frozen=True, slots=True)
class ClassSums:
    """Of n rows p: Σ p log p [] and Σ p [k], which is all that their mean divergence needs.

    E KL(p ‖ m) = Σ p log p / n − Σ m log m with m = Σ p / n, a mutual information: never below 0.
    """

    rows: int
    entropy: Tensor  # negative
    mass: Tensor

    @classmethod
    def of(cls, p: Tensor, entropies: Tensor) -> ClassSums:
        return cls(len(p), entropies.sum(), p.sum(0))

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


def in_probabilities(given: Tensor, form: str = "probabilities") -> Rows:
    """The rows [n, k] of a form as float64 probabilities with Σ p log p.

    Log-probabilities and logits may be −∞. Raises TypeError and ValueError for what is no set of
    predictions, with what it looks like.
    """
    if form not in FORMS:
        raise ValueError(f"predictions are {', '.join(FORMS)}, not {form!r}")
    _hold_to_rows(given, form)
    x = given.double()
    if form == "probabilities":
        _hold_to_distributions(x, x, given)
        return Rows(x, torch.xlogy(x, x).sum(1))
    log_p = x.log_softmax(1) if form == "logits" else x
    p = log_p.exp()
    _hold_to_distributions(p, x, given, form)
    return Rows(p, torch.where(p > 0, p * log_p, 0).sum(1))


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


def _hold_to_distributions(
    p: Tensor, x: Tensor, given: Tensor, form: str = "probabilities"
) -> None:
    """Every row is finite and sums to 1 to what a softmax in float32 may lose.

    A sum of k exponentials in float32 and one division are off by at most (k + 8) 2⁻²³.
    """
    if bool(x.isnan().any()) or bool((x == torch.inf).any()):
        row = int((x.isnan() | (x == torch.inf)).any(1).nonzero()[0])
        raise ValueError(f"{form} are finite, and row {row} holds {_first_bad(x[row])}")
    slack = (p.shape[1] + 8) * 2.0**-23
    sums = p.sum(1)
    wrong = ~((sums - 1).abs() <= slack) | (p < 0).any(1)
    if not bool(wrong.any()):
        return
    row = int(wrong.nonzero()[0])
    below = bool((p[row] < 0).any())
    found = "has a value below 0" if below else f"sums to {float(sums[row]):.6g}"
    raise ValueError(
        f"each row of {form} is one distribution, and row {row} of {len(given)} {found}"
        f"{_looks_like(x, form, slack)}"
    )


def _first_bad(row: Tensor) -> float:
    return float(row[row.isnan() | (row == torch.inf)][0])


def _looks_like(x: Tensor, form: str, slack: float) -> str:
    logarithms = bool((x <= 0).all()) and bool(((x.exp().sum(1) - 1).abs() <= slack).all())
    if form == "probabilities" and logarithms:
        return "; these look like log-probabilities: say prediction='log_probabilities'"
    if bool((x < 0).any()) or bool((x > 1 + slack).any()):
        return "; these look like logits: take their softmax, or say prediction='logits'"
    return "; divide each row by its sum if these are weights"
