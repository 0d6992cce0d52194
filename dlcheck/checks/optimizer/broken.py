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


# --- state -------------------------------------------------------------------------------------


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


# --- parts -------------------------------------------------------------------------------------


class TakesTheFirstGroup(Plain):
    """Options of group 0 for every group."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(self.param_groups[0], p, gradient)


class FixesItsRate(Plain):
    """self.lr, set when it was built: schedulers change nothing."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(params, lr=lr, momentum=momentum)
        self.lr = lr

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update({**group, "lr": self.lr}, p, gradient)


class NormalisesWholeTensors(Plain):
    """Divides by the gradient's norm, which is undeclared."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient / (gradient.norm() + 1e-8))


class SharesItsBuffer(Plain):
    """One momentum buffer for all parameters of a shape."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        buffers = self.__dict__.setdefault("buffers", {})
        velocity = group["momentum"] * buffers.get(p.shape, 0.0) + gradient
        buffers[p.shape] = velocity
        p.sub_(group["lr"] * velocity)


class MeasuresTheFirstElement(Plain):
    """`.item()` of the wrong thing: the step is scaled by one element."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient / (1 + p.flatten()[0].abs()))


class CountsStepsOfAll(Scaled):
    """One count that every parameter raises: bias corrections run ahead."""

    count = 0

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        self.count = self.count + 1
        state = self.state[p]
        if state:
            state["step"] = self.count - 1
        return super().direction(group, p, g)


class KeepsItsBufferContiguous(Plain):
    """A buffer filled in the order of memory."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        state = self.state[p]
        flat = torch.as_strided(gradient, (gradient.numel(),), (1,))
        state["flat"] = group["momentum"] * state.get("flat", 0.0) + flat
        p.sub_(group["lr"] * state["flat"].view(p.shape))


class FillsByStorage(Plain):
    """The result is written back in the order of memory."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        new = (p - group["lr"] * gradient).contiguous()
        torch.as_strided(p, (p.numel(),), (1,)).copy_(new.view(-1))


class ReadsTheGradientFlat(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        flat = torch.as_strided(gradient, (gradient.numel(),), (1,))
        super().update(group, p, flat.view(p.shape))


class WithForeach(Plain):
    """A second implementation over lists of tensors; what follows are its bugs."""

    def __init__(
        self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9,
        weight_decay: float = 0.0, *, foreach: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, momentum, weight_decay)
        self.foreach = foreach

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        if not self.foreach:
            return super().step(closure)
        for group in self.param_groups:
            held = [p for p in group["params"] if p.grad is not None]
            self.update_all(group, held, [p.grad for p in held])
        return None

    def update_all(self, group: dict[str, Any], ps: list[Tensor], gs: list[Tensor]) -> None:
        for p, g in zip(ps, gs, strict=True):
            self.update(group, p, g)


class ForeachForgetsTheDecay(WithForeach):
    def update_all(self, group: dict[str, Any], ps: list[Tensor], gs: list[Tensor]) -> None:
        super().update_all({**group, "weight_decay": 0.0}, ps, gs)


class ForeachAddsItsMomentum(WithForeach):
    def update_all(self, group: dict[str, Any], ps: list[Tensor], gs: list[Tensor]) -> None:
        super().update_all(group, ps, gs)
        torch._foreach_add_(ps, gs, alpha=-group["lr"] * group["momentum"])


class ForeachMixesParameters(WithForeach):
    """A scalar of the first tensor for all."""

    def update_all(self, group: dict[str, Any], ps: list[Tensor], gs: list[Tensor]) -> None:
        size = 1 + gs[0].abs().mean()
        super().update_all(group, ps, [g / size for g in gs])


class ForeachSkipsTheLast(WithForeach):
    def update_all(self, group: dict[str, Any], ps: list[Tensor], gs: list[Tensor]) -> None:
        super().update_all(group, ps[:-1], gs[:-1])


class ReadsMemoryInOrder(Plain):
    """`view(-1)` of a buffer that is laid out otherwise."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        flat = torch.as_strided(p, (p.numel(),), (1,)) if p.numel() else p
        flat.sub_(group["lr"] * gradient.reshape(-1))


# --- decay -------------------------------------------------------------------------------------


class DecaysThroughTheGradient(Scaled):
    """L2 in Adam where decoupled decay is declared."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        g = gradient + group["weight_decay"] * p
        p.sub_(group["lr"] * self.direction(group, p, g))


class DecaysByTheRateSquared(Scaled):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 - group["lr"] ** 2 * group["weight_decay"])
        p.sub_(group["lr"] * self.direction(group, p, gradient))


class DecaysWithoutTheRate(Scaled):
    """1 − λ where 1 − ηλ is declared."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 - group["weight_decay"])
        p.sub_(group["lr"] * self.direction(group, p, gradient))


class GrowsWeights(Scaled):
    """The sign of the decay is turned."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 + group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * self.direction(group, p, gradient))


class AlwaysDecays(Scaled):
    """A constant decay, whatever the argument says."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.mul_(1 - group["lr"] * 0.01)
        super().update(group, p, gradient)


class DecaysTheBuffer(Plain):
    """λ goes into the momentum buffer twice."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient + group["weight_decay"] * p)


# --- gradients that are missing or 0 --------------------------------------------------------------


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


# --- directions --------------------------------------------------------------------------------


class Climbs(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, -gradient)


class NeverMoves(Plain):
    """Updates a copy: `p = p - …`."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p.clone(), gradient)


class DividesByTheSteps(Plain):
    """A rate that falls like 1/t²: it stops before it arrives."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        count = self.state[p].get("count", 0) + 1
        p.sub_(group["lr"] / count**4 * gradient)
        self.state[p]["count"] = count


class UsesTheSizeAlone(Plain):
    """−|g|: the sign is lost."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient.abs())


class SignDescent(Plain):
    """signSGD, right."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1) -> None:
        super().__init__(params, lr, momentum=0.0)

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        p.sub_(group["lr"] * gradient.sign())


class WithMaximize(Plain):
    """SGD that may climb, right; what follows are its bugs."""

    def __init__(
        self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9,
        weight_decay: float = 0.1, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, momentum, weight_decay)
        self.maximize = maximize

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, -gradient if self.maximize else gradient)


class MaximizesTheDecayToo(WithMaximize):
    """The sign is turned of all: weights grow."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        Plain.update(self, {**group, "lr": -group["lr"] if self.maximize else group["lr"]},
                     p, gradient)  # fmt: skip


class IgnoresMaximize(WithMaximize):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        Plain.update(self, group, p, gradient)


class MaximizesTheMomentumOnly(WithMaximize):
    """The first step, without a buffer yet, goes down."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        first = not self.state[p]
        Plain.update(self, group, p, -gradient if self.maximize and not first else gradient)


class MaximizesTwice(WithMaximize):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, -gradient if self.maximize else gradient)


class ForgetsTheCorrection(Scaled):
    """m is never divided by 1 − β₁ᵗ: the first step is a tenth."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        found = super().direction(group, p, g)
        kept: Tensor = found * (1 - group["betas"][0] ** self.state[p]["step"])
        return kept


class CorrectsOneStepLate(Scaled):
    """1 − β^(t+1)."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        super().direction(group, p, g)
        state, (one, two) = self.state[p], group["betas"]
        t = state["step"] + 1
        m, v = state["m"] / (1 - one**t), state["v"] / (1 - two**t)
        found: Tensor = m / (v.sqrt() + group["eps"])
        return found


class PutsEpsUnderTheRoot(Scaled):
    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        super().direction({**group}, p, g)
        state, (one, two) = self.state[p], group["betas"]
        m, v = state["m"] / (1 - one ** state["step"]), state["v"] / (1 - two ** state["step"])
        found: Tensor = m / (v + group["eps"]).sqrt()
        return found


class SwapsItsBetas(Scaled):
    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        return super().direction({**group, "betas": group["betas"][::-1]}, p, g)


class SumsItsMomentum(Plain):
    """Dampens what torch does not: (1 − μ) g."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, (1 - group["momentum"]) * gradient)


class SquaresTheSize(Scaled):
    """A step that grows with the gradient: v without its root."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        super().direction(group, p, g)
        state = self.state[p]
        found: Tensor = state["m"] / (state["v"].sqrt() + 1.0)
        return found


class ClampsPositive(Scaled):
    """A step that is larger upwards than downwards."""

    def direction(self, group: dict[str, Any], p: Tensor, g: Tensor) -> Tensor:
        r = super().direction(group, p, g)
        return torch.where(r > 0, r, 0.5 * r)


class PositiveMomentum(Plain):
    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, gradient + 1e-3)


class RoundsUp(Plain):
    """ceil to a grid: not a mirror image."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, (64 * gradient).ceil() / 64)


class UsesTheSize(Plain):
    """|g| where g is meant, for the buffer."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(group, p, 0.9 * gradient + 0.1 * gradient.abs())


class CachesTheRate(Plain):
    """The rate at the first step of all is kept."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        kept = self.__dict__.setdefault("kept", group["lr"])
        super().update({**group, "lr": kept}, p, gradient)


class ReadsTheDefaults(Plain):
    """self.defaults, which groups do not change."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(self.defaults, p, gradient)


class FreezesItsRateAtTheFirstStep(Plain):
    """The rate goes into the parameter's state."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        kept = self.state[p].setdefault("lr", group["lr"])
        g = gradient + group["weight_decay"] * p
        velocity = group["momentum"] * self.state[p].get("momentum_buffer", 0.0) + g
        self.state[p]["momentum_buffer"] = velocity
        p.sub_(kept * velocity)


class KeepsItsFirstParameters(Plain):
    """A list made when it was built."""

    def __init__(self, params: Iterable[Any], lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(params, lr, momentum)
        self.held = [(g, p) for g in self.param_groups for p in g["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group, p in self.held:
            if p.grad is not None:
                self.update(group, p, p.grad)
        return None


class TakesTheFirstGroupOnly(Plain):
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        group = self.param_groups[0]
        for p in group["params"]:
            if p.grad is not None:
                self.update(group, p, p.grad)
        return None


class ForgetsAtALaterGroup(Plain):
    """The state starts anew with every group."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self.state.clear()


class GivesLaterGroupsNoRate(Plain):
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        later = {"lr": 0.0} if self.param_groups else {}
        super().add_param_group({**later, **param_group})


# --- contract ----------------------------------------------------------------------------------


class DropsTheLoss(Plain):
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        super().step(closure)


class AsksWithoutGradient(Plain):
    """The closure runs under no_grad: its backward raises, or gives nothing."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = closure() if closure is not None else None
        super().step()
        return loss


class AsksAfterTheStep(Plain):
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        super().step()
        if closure is None:
            return None
        with torch.enable_grad():
            return closure()


class NeverAsks(Plain):
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        super().step()
        return torch.zeros(()) if closure is not None else None


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
