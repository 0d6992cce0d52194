"""An optimizer that takes the steps of a published recursion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

Recursion = Callable[..., Tensor]


class RecursiveOptimizer(torch.optim.Optimizer):
    """θ ← recursion(θ, g, state, **options of the group), for each parameter with a gradient.

    A subclass names its `recursion`; the options of a group are its keywords. Parameters without
    a gradient are left alone. Raises TypeError for sparse gradients, ValueError for a negative
    step size.
    """

    recursion: ClassVar[Recursion]

    def __init__(self, params: Iterable[Any], **options: Any) -> None:
        if not options["lr"] >= 0:
            raise ValueError(f"the step size is not negative: lr = {options['lr']!r}")
        super().__init__(params, options)
        self.keywords = tuple(options)  # torch adds defaults of its own on loading

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            options = {name: group[name] for name in self.keywords}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, options)
        return loss

    def _update(self, parameter: Tensor, options: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.layout != torch.strided:
            raise TypeError(
                f"{type(self).__name__} takes dense gradients, not {gradient.layout}; "
                "torch.optim.SparseAdam takes sparse ones"
            )
        new = type(self).recursion(parameter.detach(), gradient, self.state[parameter], **options)
        parameter.copy_(new)
