"""Modules that keep or use their running statistics in a wrong way, made of any right one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from dlcheck.model import Mutant, Subject
from dlcheck.subjects import Remade, default_of


class Keeper(nn.Module):
    """The subject, with its statistics kept by `keep(old, new, momentum)` after each training call.

    `new` is what one batch says, which the subject's own update tells: (updated − (1 − m)·old)/m.
    """

    def __init__(self, original: nn.Module, subject: Subject) -> None:
        super().__init__()
        self.original, self.subject = original, subject
        self.calls = 0

    def names(self) -> Mapping[str, Any]:
        running: Mapping[str, Any] = self.subject.options["running"]
        return running

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("original"), name)

    def share(self) -> float:
        """The weight that the subject gives to this batch."""
        momentum = self.names()["momentum"]
        if isinstance(momentum, str):
            args = self.subject.args
            momentum = args[momentum] if momentum in args else default_of(self.subject, momentum)
        return 1.0 / self.calls if momentum is None else float(momentum)

    def forward(self, x: Tensor, *further: Any) -> Any:
        buffers = [self.buffer_named(str(self.names()[which])) for which in ("mean", "var")]
        if not self.training:
            return self.evaluate(buffers, x, *further)
        self.calls += 1
        old = [b.clone() for b in buffers]
        y = self.original(x, *further)
        m = self.share()
        with torch.no_grad():
            for which, (buffer, before) in enumerate(zip(buffers, old, strict=True)):
                new = (buffer - (1 - m) * before) / m
                buffer.copy_(self.keep(before, new, m, which))
        return y

    def buffer_named(self, path: str) -> Tensor:
        found: Any = functools.reduce(getattr, path.split("."), self.original)
        return cast(Tensor, found)

    def keep(self, old: Tensor, new: Tensor, m: float, which: int) -> Tensor:
        return (1 - m) * old + m * new

    def evaluate(self, buffers: list[Tensor], x: Tensor, *further: Any) -> Any:
        return self.original(x, *further)


def kept(keeper: Callable[[nn.Module, Subject], nn.Module]) -> Mutant:
    """A mutant that keeps its statistics in another way; its name says which."""

    def mutate(subject: Subject) -> Subject:
        def make(original: nn.Module) -> nn.Module:
            return keeper(original, subject)

        return subject.with_target(f"{subject.name}:{keeper.__name__}", Remade(subject, make))

    mutate.__name__ = keeper.__name__
    return mutate


class weighs_the_old_by_the_momentum(Keeper):
    """m·old + (1 − m)·new: TensorFlow's momentum under torch's name."""

    def keep(self, old: Tensor, new: Tensor, m: float, which: int) -> Tensor:
        m = m if m < 1 else 0.9
        return m * old + (1 - m) * new if m != 0.5 else 0.9 * old + 0.1 * new


class never_updates(Keeper):
    def keep(self, old: Tensor, new: Tensor, m: float, which: int) -> Tensor:
        return old


class keeps_the_last_batch(Keeper):
    """No average at all, from the second batch on."""

    def keep(self, old: Tensor, new: Tensor, m: float, which: int) -> Tensor:
        return 0.5 * old + 0.5 * new if m == 1 else new


class keeps_the_deviation_for_the_variance(Keeper):
    def keep(self, old: Tensor, new: Tensor, m: float, which: int) -> Tensor:
        return super().keep(old, new.clamp_min(0).sqrt() if which else new, m, which)


class updates_the_mean_only(Keeper):
    def keep(self, old: Tensor, new: Tensor, m: float, which: int) -> Tensor:
        return old if which else super().keep(old, new, m, which)


class adds_without_decay(Keeper):
    """old + m·new: the (1 − m) is forgotten."""

    def keep(self, old: Tensor, new: Tensor, m: float, which: int) -> Tensor:
        return old + m * new


class keeps_twice_the_variance(Keeper):
    def keep(self, old: Tensor, new: Tensor, m: float, which: int) -> Tensor:
        return super().keep(old, 2 * new if which else new, m, which)


class divides_otherwise_in_train(Keeper):
    """Train and eval follow two laws."""

    def forward(self, x: Tensor, *further: Any) -> Any:
        y = super().forward(x, *further)
        return 0.9 * y if self.training else y


class evaluates_with_the_batch(Keeper):
    """The batch's own statistics in eval too."""

    def evaluate(self, buffers: list[Tensor], x: Tensor, *further: Any) -> Any:
        kept = [b.clone() for b in self.original.buffers()]
        y = self.original.train()(x, *further)
        self.original.eval()
        with torch.no_grad():
            for buffer, value in zip(self.original.buffers(), kept, strict=True):
                buffer.copy_(value)
        return y


class updates_in_eval(Keeper):
    def evaluate(self, buffers: list[Tensor], x: Tensor, *further: Any) -> Any:
        y = self.original(x, *further)
        with torch.no_grad():
            buffers[0].lerp_(x.mean().to(buffers[0]).expand_as(buffers[0]), 0.1)
        return y


class takes_the_running_variance_for_the_deviation(Keeper):
    def evaluate(self, buffers: list[Tensor], x: Tensor, *further: Any) -> Any:
        kept = buffers[1].clone()
        with torch.no_grad():
            buffers[1].square_()
            y = self.original(x, *further)
            buffers[1].copy_(kept)
        return y


class forgets_the_running_mean(Keeper):
    def evaluate(self, buffers: list[Tensor], x: Tensor, *further: Any) -> Any:
        kept = buffers[0].clone()
        with torch.no_grad():
            buffers[0].zero_()
            y = self.original(x, *further)
            buffers[0].copy_(kept)
        return y


class adds_no_eps_in_eval(Keeper):
    def evaluate(self, buffers: list[Tensor], x: Tensor, *further: Any) -> Any:
        kept = buffers[1].clone()
        with torch.no_grad():
            buffers[1].sub_(1e-3)
            y = self.original(x, *further)
            buffers[1].copy_(kept)
        return y
