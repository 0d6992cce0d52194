"""The proximal operators of the squared L2 norm, in both conventions."""

from __future__ import annotations

from torch import Tensor

from dlcheck.registry import reference


@reference(
    kind="proximal",
    formula="x / (1 + 2tλ)",
    source="Parikh & Boyd, Proximal Algorithms, 2014, §6.1.1",
    traits=["smooth", "odd", "elementwise", "linear"],
    options={
        "norm": 2,
        "strength": "strength",
        "convention": "full",
        "penalty": "dlcheck.references.penalties.l2:l2_penalty",
    },
)
def ridge_shrinkage(x: Tensor, step: float | Tensor, strength: float = 0.1) -> Tensor:
    """x / (1 + 2tλ), for λ‖u‖²: x of any shape, step t > 0; u − x + 2tλu = 0."""
    return x / (1 + 2 * step * strength)


@reference(
    kind="proximal",
    formula="x / (1 + tλ)",
    source="Parikh & Boyd, Proximal Algorithms, 2014, §6.1.1",
    traits=["smooth", "odd", "elementwise", "linear"],
    options={
        "norm": 2,
        "strength": "strength",
        "convention": "half",
        "penalty": "dlcheck.references.penalties.l2:half_l2_penalty",
    },
)
def half_ridge_shrinkage(x: Tensor, step: float | Tensor, strength: float = 0.1) -> Tensor:
    """x / (1 + tλ), for (λ/2)‖u‖²: x of any shape, step t > 0; u − x + tλu = 0."""
    return x / (1 + step * strength)
