"""Ways in which people break modules, made of any right one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.mutants import Around, around, on_tensors, rebuilt


@around
def adds_a_layer_made_in_forward(original: Any, *inputs: Any, **keywords: Any) -> Any:
    def shifted(y: Tensor) -> Tensor:
        made = nn.Linear(1, 1).to(y)
        learned: Tensor = made(torch.ones_like(y).unsqueeze(-1)).squeeze(-1)
        return y + learned

    return on_tensors(original(*inputs, **keywords), shifted)


class _Kept(Around):
    """A factor that is learned, and kept where no one finds it."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__(original, lambda inner, *inputs, **keywords: inner(*inputs, **keywords))
        self.factors = [torch.full((), 1.5, requires_grad=True)]

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        answer = super().forward(*inputs, **keywords)
        return on_tensors(answer, lambda y: y * self.factors[0].to(y))


keeps_a_parameter_in_a_list = rebuilt("keeps_a_parameter_in_a_list", _Kept)


class _Anew(nn.Module):
    """`self.gain = nn.Parameter(…)` in forward: an optimizer has another."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        self.gain = nn.Parameter(self.gain.detach().clone())
        return on_tensors(self.original(*inputs, **keywords), lambda y: y * self.gain)


makes_its_parameters_anew_in_forward = rebuilt("makes_its_parameters_anew_in_forward", _Anew)


class _Idle(Around):
    def __init__(self, original: nn.Module) -> None:
        super().__init__(original, lambda inner, *inputs, **keywords: inner(*inputs, **keywords))
        self.bias = nn.Parameter(torch.zeros(3))


registers_a_parameter_that_it_never_uses = rebuilt(
    "registers_a_parameter_that_it_never_uses", _Idle
)


class _Gained(nn.Module):
    """One more factor, of which the forward uses what `self.used` makes of it."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return on_tensors(self.original(*inputs, **keywords), lambda y: y * self.used())

    def used(self) -> Tensor:
        return self.gain


class _Detached(_Gained):
    def used(self) -> Tensor:
        return self.gain.detach()


class _Copied(_Gained):
    def used(self) -> Tensor:
        if "_copy" not in self.__dict__:
            self.__dict__["_copy"] = nn.Parameter(self.gain.detach().clone())
        found: Tensor = self.__dict__["_copy"]
        return found


class _Zeroed(_Gained):
    def used(self) -> Tensor:
        return 1 + 0 * self.gain


multiplies_a_parameter_by_zero = rebuilt("multiplies_a_parameter_by_zero", _Zeroed)
detaches_its_parameters = rebuilt("detaches_its_parameters", _Detached)
copies_its_parameters_before_use = rebuilt("copies_its_parameters_before_use", _Copied)


class _Tied(_Gained):
    """`second.data = first.data`, where `second = first` was meant."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__(original)
        self.shared = nn.Parameter(torch.empty(()))
        self.shared.data = self.gain.data

    def used(self) -> Tensor:
        return self.gain * self.shared


ties_two_parameters_by_memory = rebuilt("ties_two_parameters_by_memory", _Tied)


# --- rows ---------------------------------------------------------------------------------------


def mixed(change: Any) -> Any:
    """A mutant that adds `change(first input)`, one number for all rows."""

    def call(original: Any, first: Any, *rest: Any, **keywords: Any) -> Any:
        answer = original(first, *rest, **keywords)
        leak = change(first.double() if not first.is_floating_point() else first)
        return on_tensors(answer, lambda y: y + leak.to(y))

    call.__name__ = change.__name__
    return around(call)


@mixed
def leaks_the_mean_of_the_batch(x: Tensor) -> Tensor:
    return 1e-3 * (1 + x).square().mean()


@mixed
def divides_by_the_size_of_the_batch(x: Tensor) -> Tensor:
    """Something that depends on how many numbers there are in all."""
    return torch.tensor(1.0 / max(x.numel(), 1))


# --- modes and state ----------------------------------------------------------------------------


class Plain(nn.Module):
    """Passes on to the right one."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return self.original(*inputs, **keywords)


class _Noisy(Plain):
    """F.dropout without training=self.training."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        answer = self.original(*inputs, **keywords)
        return on_tensors(answer, lambda y: y + 0.01 * torch.randn_like(y))


class _NoisyInEval(Plain):
    """`if not self.training` where `if self.training` was meant."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        answer = self.original(*inputs, **keywords)
        if self.training:
            return answer
        return on_tensors(answer, lambda y: y * (torch.rand_like(y) + 0.5))


is_random_in_evaluation = rebuilt("is_random_in_evaluation", _Noisy)
draws_only_in_evaluation = rebuilt("draws_only_in_evaluation", _NoisyInEval)


class _Counting(Plain):
    def __init__(self, original: nn.Module) -> None:
        super().__init__(original)
        self.register_buffer("mean", torch.zeros(()))


class _RunningInEval(_Counting):
    """The running mean moves in every call."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        self.mean.add_(0.1)  # type: ignore[operator]
        return super().forward(*inputs, **keywords)


class _TrainsInEval(Plain):
    """A momentum copy that follows in evaluation too."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__(original)
        self.centre = nn.Parameter(torch.zeros(()))

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        if not self.training:
            self.centre.data.mul_(0.9).add_(0.1)
        return on_tensors(super().forward(*inputs, **keywords), lambda y: y + self.centre)


class _StaysInEval(Plain):
    """`eval()` is overridden and `train()` does not undo it."""

    once = False

    def train(self, mode: bool = True) -> Any:  # noqa: FBT001, FBT002
        self.once = self.once or not mode
        return super().train(mode and not self.once)


class _ForgetsAfterEval(Plain):
    """Evaluation fuses a factor into the parameters and training does not take it out."""

    factor = 1.0

    def train(self, mode: bool = True) -> Any:  # noqa: FBT001, FBT002
        self.factor = self.factor if mode else 1.01
        return super().train(mode)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return on_tensors(super().forward(*inputs, **keywords), lambda y: y * self.factor)


moves_its_buffer_in_evaluation = rebuilt("moves_its_buffer_in_evaluation", _RunningInEval)
moves_its_parameters_in_evaluation = rebuilt("moves_its_parameters_in_evaluation", _TrainsInEval)
never_trains_again = rebuilt("never_trains_again", _StaysInEval)
keeps_what_evaluation_fused = rebuilt("keeps_what_evaluation_fused", _ForgetsAfterEval)
