"""Mistakes of bookkeeping: groups, memory, implementations by the list, the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.optimizer.broken import Plain, Scaled


class TakesTheFirstGroup(Plain):
    """Options of group 0 for every group."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(self.param_groups[0], p, gradient)


class TakesTheLastGroup(Plain):
    """A name that a loop left behind: `group` of the loop before."""

    def update(self, group: dict[str, Any], p: Tensor, gradient: Tensor) -> None:
        super().update(self.param_groups[-1], p, gradient)


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


# --- the contract ----------------------------------------------------------------------


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
