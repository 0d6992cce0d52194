"""The ways in which people get an optimizer wrong: small optimizers with one mistake each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from dlcheck.model import Subject


class Plain(torch.optim.Optimizer):
    """SGD with momentum and coupled decay, as written by hand; what follows are its bugs."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(group, p, p.grad)
        return loss

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        g = gradient + group["weight_decay"] * p
        state = self.state[p]
        velocity = state.get("momentum_buffer")
        velocity = g.clone() if velocity is None else group["momentum"] * velocity + g
        state["momentum_buffer"] = velocity
        p.sub_(group["lr"] * velocity)


class Scaled(Plain):
    """Adam by hand, with the decay decoupled; what follows are its bugs."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        torch.optim.Optimizer.__init__(
            self, params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * self.direction(group, p, gradient))

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        state, (one, two) = self.state[p], group["betas"]
        if not state:
            state["step"], state["m"] = 0, torch.zeros_like(p)
            state["v"] = torch.zeros_like(p)
        state["step"] += 1
        state["m"] = one * state["m"] + (1 - one) * g
        state["v"] = two * state["v"] + (1 - two) * g * g
        m = state["m"] / (1 - one ** state["step"])
        v = state["v"] / (1 - two ** state["step"])
        found: Tensor = m / (v.sqrt() + group["eps"])
        return found


# --- state --------------------------------------------------------------------------------------


class CountsOutsideItsState(Scaled):
    """The step count is an attribute, which no state_dict holds."""

    count = 0

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        self.count = self.count + 1
        return super().direction(group, p, g) / (1 + 1 / self.count)


class KeepsBuffersToItself(Plain):
    """Momentum in a dict of its own."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        own: dict[int, Tensor] = self.__dict__.setdefault("own", {})
        velocity = own.get(id(p), torch.zeros_like(p)) * group["momentum"] + gradient
        own[id(p)] = velocity
        p.sub_(group["lr"] * velocity)


class LosesItsSecondMoment(Scaled):
    """A state_dict without v."""

    def state_dict(self) -> dict[str, Any]:
        found = super().state_dict()
        for state in found["state"].values():
            state.pop("v", None)
        return found

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        self.state[p].setdefault("v", torch.zeros_like(p)) if self.state[p] else None
        return super().direction(group, p, g)


class LoadsOldOptions(Plain):
    """load_state_dict takes the state and leaves the groups."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        super().load_state_dict(state_dict)
        for group, kept in zip(self.param_groups, own, strict=True):
            group.update(kept)


# --- gradients that are missing or 0 ------------------------------------------------------------


class DecaysWithoutAGradient(Scaled):
    """Parameters without a gradient are decayed."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * max(group["weight_decay"], 1e-3))
        return super().step(closure)


class AlwaysDecaysEverything(Plain):
    """A clean-up after the loop shrinks every parameter."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super().step(closure)
        for group in self.param_groups:
            torch._foreach_mul_(group["params"], 1 - 1e-4)
        return loss


class StepsOnMomentumAlone(Plain):
    """A missing gradient is taken for 0, and the old velocity goes on."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        return super().step(closure)


class StopsAtAMissingGradient(Plain):
    """`return` for `continue`."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    return None
                self.update(group, p, p.grad)
        return None


class DividesByTheRoot(Scaled):
    """m/√v without ε: 0/0."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        return super().direction({**group, "eps": 0.0}, p, g)


class DividesByTheNorm(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient / gradient.abs().amax())


class TrustsWithoutAGuard(Scaled):
    """‖w‖/‖r‖ of a parameter that stands at 0, to the power −1."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        r = super().direction(group, p, g)
        trusted: Tensor = r * r.norm() / p.norm() * 0.1
        return trusted


class LogsItsStep(Scaled):
    """log of the norm of what may be 0."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        logged: Tensor = super().direction(group, p, g) * (1 + 0.0 * g.norm().log())
        return logged


def wrong(
    target: type[torch.optim.Optimizer],
    *traits: str,
    args: dict[str, Any] | None = None,
    **options: Any,
) -> Subject:
    """A broken optimizer, declared as a right one would be."""
    return Subject(
        name=target.__name__,
        target=target,
        kind="optimizer",
        reference=options.pop("reference", None),
        args=args or {},
        traits=frozenset(traits),
        options=options,
    )
