"""An optimizer of one's own, and a twin with one mistake: what `adabelief.toml` checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class AdaBelief(torch.optim.Optimizer):
    """Steps by how far a gradient is from what was expected, the decay decoupled.

    m ← β₁m + (1 − β₁)g, s ← β₂s + (1 − β₂)(g − m)² + ε, θ ← (1 − ηλ)θ − η m̂/(√ŝ + ε).
    Zhuang et al., AdaBelief Optimizer, NeurIPS 2020, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, group)
        return loss

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * self.direction(p, g, group))

    def direction(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        state, (one, two), eps = self.state[p], group["betas"], group["eps"]
        if not state:
            state["step"], state["m"], state["s"] = 0, torch.zeros_like(p), torch.zeros_like(p)
        state["step"] += 1
        state["m"].mul_(one).add_(g, alpha=1 - one)
        state["s"].mul_(two).add_((g - state["m"]).square(), alpha=1 - two).add_(eps)
        m, s = state["m"] / (1 - one ** state["step"]), state["s"] / (1 - two ** state["step"])
        return m / (s.sqrt() + eps)


class BrokenAdaBelief(AdaBelief):
    """The decay goes through the moments: L2, where decoupled decay is declared."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        g = g + group["weight_decay"] * p
        p.sub_(group["lr"] * self.direction(p, g, group))


def adabelief(
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-16,
    weight_decay: float = 0.0,
) -> Tensor:
    """The recursion alone, as the paper writes it: what the optimizer is held against."""
    t = state["t"] = state.get("t", 0) + 1
    zeros = torch.zeros_like(gradient)
    m = state["m"] = betas[0] * state.get("m", zeros) + (1 - betas[0]) * gradient
    surprise = (gradient - m) ** 2
    s = state["s"] = betas[1] * state.get("s", zeros) + (1 - betas[1]) * surprise + eps
    step = (m / (1 - betas[0] ** t)) / ((s / (1 - betas[1] ** t)).sqrt() + eps)
    return (1 - lr * weight_decay) * parameter - lr * step
