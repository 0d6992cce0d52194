"""Modules whose state or tensors are not where torch looks for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dlcheck.checks.layer.broken import Plain
from dlcheck.mutants import on_tensors, rebuilt


class _Attribute(Plain):
    """A constant drawn when it is built, no buffer."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__(original)
        self.offset = torch.rand(())

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        answer = super().forward(*inputs, **keywords)
        return on_tensors(answer, lambda y: y + self.offset.to(y))


class _RunningAttribute(Plain):
    """Running statistics in a plain attribute."""

    mean = 0.0

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        answer = super().forward(*inputs, **keywords)
        if self.training:
            self.mean += 0.1
            return answer
        return on_tensors(answer, lambda y: y - self.mean)


class _Passing(Plain):
    """`persistent=False` on what is not made again from the arguments."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__(original)
        self.register_buffer("directions", torch.rand(()), persistent=False)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        answer = super().forward(*inputs, **keywords)
        return on_tensors(answer, lambda y: y + self.directions.to(y))  # type: ignore[operator]


class _Renamed(Plain):
    """Its keys hold a number that differs from instance to instance."""

    count = 0

    def __init__(self, original: nn.Module) -> None:
        super().__init__(original)
        _Renamed.count += 1
        self.register_buffer(f"scale_{_Renamed.count}", torch.ones(()))


keeps_a_random_constant_in_an_attribute = rebuilt(
    "keeps_a_random_constant_in_an_attribute", _Attribute
)
keeps_statistics_in_an_attribute = rebuilt("keeps_statistics_in_an_attribute", _RunningAttribute)
does_not_save_its_directions = rebuilt("does_not_save_its_directions", _Passing)
has_other_keys_each_time = rebuilt("has_other_keys_each_time", _Renamed)


class _Narrow(Plain):
    """A table in float32 that `.to` does not reach."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__(original)
        self.table = torch.ones(1, dtype=torch.float32)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        answer = super().forward(*inputs, **keywords)
        return on_tensors(answer, lambda y: y * self.table)


class _Cast(Plain):
    """`.float()` for stability, without the way back."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        return on_tensors(super().forward(*inputs, **keywords), lambda y: y.float())


class _FreshOnCpu(Plain):
    """A tensor made in forward without `device=x.device`."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        answer = super().forward(*inputs, **keywords)
        return on_tensors(answer, lambda y: y + torch.zeros(1, dtype=y.dtype))


keeps_a_table_that_does_not_move = rebuilt("keeps_a_table_that_does_not_move", _Narrow)
casts_to_float32 = rebuilt("casts_to_float32", _Cast)
makes_tensors_on_the_cpu = rebuilt("makes_tensors_on_the_cpu", _FreshOnCpu)
