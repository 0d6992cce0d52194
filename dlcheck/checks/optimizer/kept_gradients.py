"""The gradient belongs to the caller: it may be read, logged or added to after the step."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dlcheck.checks.optimizer.broken import Plain, Scaled, wrong
from dlcheck.checks.optimizer.state import TORCH
from dlcheck.checks.optimizer.trials import accepts, farthest, gradients_at, started
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

KEEPS = "keeps_gradients"


class AddsItsDecayToTheGradient(Plain):
    """`grad.add_(p, alpha=weight_decay)`."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        gradient.add_(p, alpha=group["weight_decay"])
        super().update({**group, "weight_decay": 0.0}, p, gradient)


class ScalesTheGradient(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.add_(gradient.mul_(-group["lr"]))


class SquaresTheGradient(Scaled):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient.clone())
        gradient.mul_(gradient)


class ClearsTheGradient(Plain):
    """zero_grad() in step()."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient.clone())
        gradient.zero_()


@check(
    kind="optimizer",
    needs={"keeps_gradients"},
    forbids={"needs_closure", "perturbed_gradient"},
    rejects=[
        wrong(AddsItsDecayToTheGradient, KEEPS),
        wrong(ScalesTheGradient, KEEPS),
        wrong(SquaresTheGradient, KEEPS),
        wrong(ClearsTheGradient, KEEPS),
    ],
    accepts=[
        wrong(Plain, KEEPS),
        *(Subject(name=s.name, target=s.target, kind="optimizer", args=s.args,
                  traits=frozenset({KEEPS})) for s in TORCH),
    ],
    dtypes=["float64", "float32"],
    once=True,
)  # fmt: skip
def gradients_are_left_alone(subject: Implementation, case: Case) -> Evidence:
    """After a step the gradients are what they were, with a weight decay and with maximize too.

    Exact. Many optimizers write into the gradient, which does no harm where it is cleared next;
    one that does not promises it by keeps_gradients. Source: torch.optim, whose steps read only.
    """
    given: dict[str, Any] = {"weight_decay": 0.1} if accepts(subject, "weight_decay") else {}
    changed, size = 0.0, 0.0
    ways: list[dict[str, Any]] = [{}]
    if accepts(subject, "maximize"):
        ways = [{"maximize": False}, {"maximize": True}]
    for way in ways:
        run = started(subject, case, **given, **way)
        gradients = gradients_at(case, run.parameters, 0)
        run.step(gradients)
        left = [p.grad.to_dense() if p.grad is not None else 0 * p for p in run.parameters]
        changed = max(changed, farthest(left, gradients))
        size = max(size, *(float(g.abs().amax()) for g in gradients))
    return Evidence(
        error=changed,
        bound=0.0,
        signal=size,
        what="change of the gradients in a step",
        cause="step() works in place of p.grad" if changed else "",
    )
