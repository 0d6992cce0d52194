"""The ways in which people get clipping wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dlcheck.model import Subject

Parameters = Iterable[Tensor]
GLOBAL = {"by": "global_norm"}
EACH = {"by": "norm"}
VALUE = {"by": "value"}
UNIT = {"by": "unit_norm", "target": "weights"}


def held(parameters: Parameters) -> list[Tensor]:
    """The gradients that there are."""
    return [p.grad for p in parameters if p.grad is not None]


def total(gradients: list[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    return norm


def by_global_norm(parameters: Parameters, limit: float) -> None:
    gradients = held(parameters)
    if gradients:
        factor = (limit / (total(gradients) + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(factor)


def by_each_norm(parameters: Parameters, limit: float) -> None:
    for g in held(parameters):
        g.mul_((limit / (g.norm() + 1e-6)).clamp(max=1.0))


def by_value(parameters: Parameters, limit: float) -> None:
    for g in held(parameters):
        g.clamp_(-limit, limit)


@torch.no_grad()
def rows_of_weights(parameters: Parameters, limit: float) -> None:
    for p in parameters:
        axes = tuple(range(1, p.dim())) or (0,)
        norms = torch.linalg.vector_norm(p, dim=axes, keepdim=True)
        p.mul_((limit / norms.clamp_min(1e-12)).clamp(max=1.0))


# --- bugs --------------------------------------------------------------------------------------


def sums_the_norms(parameters: Parameters, limit: float) -> None:
    """Σ‖g‖ for √Σ‖g‖²: everything is clipped too far."""
    gradients = held(parameters)
    factor = (limit / sum(g.norm() for g in gradients)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor)


def forgets_the_minimum(parameters: Parameters, limit: float) -> None:
    """Small gradients are scaled up to the limit."""
    gradients = held(parameters)
    factor = limit / total(gradients)
    for g in gradients:
        g.mul_(factor)


def takes_squares(parameters: Parameters, limit: float) -> None:
    """‖g‖² against the limit."""
    gradients = held(parameters)
    factor = (limit / total(gradients) ** 2).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor)


def takes_the_largest(parameters: Parameters, limit: float) -> None:
    """The largest of the tensors' norms."""
    gradients = held(parameters)
    factor = (limit / max(g.norm() for g in gradients)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor)


def clips_a_copy(parameters: Parameters, limit: float) -> None:
    for g in held(parameters):
        g = g.clamp(-limit, limit)


def clips_from_above(parameters: Parameters, limit: float) -> None:
    """Negative elements pass."""
    for g in held(parameters):
        g.clamp_(max=limit)


def clips_twice_as_far(parameters: Parameters, limit: float) -> None:
    for g in held(parameters):
        g.clamp_(-2 * limit, 2 * limit)


def squashes(parameters: Parameters, limit: float) -> None:
    """tanh: what is small changes too."""
    for g in held(parameters):
        g.copy_(limit * torch.tanh(g / limit))


def shrinks_always(parameters: Parameters, limit: float) -> None:
    """limit/(norm + limit): below the limit too."""
    for g in held(parameters):
        g.mul_(limit / (g.norm() + limit))


def zeroes_what_is_large(parameters: Parameters, limit: float) -> None:
    for g in held(parameters):
        g.masked_fill_(g.abs() > limit, 0.0)


def clips_elements_to_the_norm(parameters: Parameters, limit: float) -> None:
    """Elements are cut until the norm fits: the direction turns."""
    gradients = held(parameters)
    cut = max(float(g.abs().amax()) for g in gradients)
    while float(total(gradients)) > limit:
        cut *= 0.97
        for g in gradients:
            g.clamp_(-cut, cut)


def skips_the_first(parameters: Parameters, limit: float) -> None:
    """The norm of all, the factor for all but one."""
    gradients = held(parameters)
    factor = (limit / total(gradients)).clamp(max=1.0)
    for g in gradients[1:]:
        g.mul_(factor)


def takes_the_whole_matrix(parameters: Parameters, limit: float) -> None:
    """One norm for all rows."""
    for p in parameters:
        p.data.mul_((limit / p.data.norm()).clamp(max=1.0))


def takes_columns(parameters: Parameters, limit: float) -> None:
    for p in parameters:
        if p.dim() > 1:
            norms = p.data.norm(dim=0, keepdim=True)
            p.data.mul_((limit / norms.clamp_min(1e-12)).clamp(max=1.0))


def normalises_rows(parameters: Parameters, limit: float) -> None:
    """Every row gets the limit's norm."""
    for p in parameters:
        if p.dim() > 1:
            p.data.mul_(limit / p.data.norm(dim=1, keepdim=True).clamp_min(1e-12))


def reads_its_generator_twice(parameters: Parameters, limit: float) -> None:
    """The norm uses a generator up; nothing is left to be scaled."""
    norm = total(held(parameters))
    for g in held(parameters):
        g.mul_((limit / norm).clamp(max=1.0))


def stops_at_a_missing_gradient(parameters: Parameters, limit: float) -> None:
    for p in parameters:
        if p.grad is None:
            return
        p.grad.mul_((limit / (p.grad.norm() + 1e-6)).clamp(max=1.0))


def counts_a_missing_gradient(parameters: Parameters, limit: float) -> None:
    """Makes zeros of what is missing: optimizers then step there."""
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    by_global_norm(list(parameters), limit)


def wrong(target: Any, options: dict[str, Any], **further: Any) -> Subject:
    """A broken clipping, declared as a right one would be."""
    return Subject(name=target.__name__, target=target, kind="clipping", options=options, **further)
