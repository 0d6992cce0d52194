"""A convolution is a bank of filters: each output channel has one, and sees its group."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.still import Still, held
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence, Subject
from dlcheck.mutants import around, on_tensors, rebuilt
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@around
def mixes_its_output_channels(original: Any, *inputs: Any, **keywords: Any) -> Any:
    return on_tensors(original(*inputs, **keywords), lambda y: y + 0.1 * y.mean(1, keepdim=True))


class _Shared(nn.Module):
    """All channels through the mean filter: a broadcast over the wrong axis."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original

    def forward(self, x: Tensor) -> Tensor:
        kept = {n: p.detach().clone() for n, p in self.original.named_parameters()}
        mean = {n: p.mean(0, keepdim=True).expand_as(p) for n, p in kept.items()}
        y: Tensor = torch.func.functional_call(self.original, mean, (x,))
        return y


uses_one_filter_for_all = rebuilt("uses_one_filter_for_all", _Shared)


class _WithoutGroups(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.inner = nn.Conv1d(channels, channels, 3, padding=1)  # groups is forgotten

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y


_FILTERS = {"out": "out_channels", "in": "in_channels", "groups": "groups"}


@check(
    kind="layer",
    options={"filters": True},
    rejects=[
        mixes_its_output_channels,
        uses_one_filter_for_all,
        Subject(
            name="forgets_its_groups",
            target=_WithoutGroups,
            kind="layer",
            inputs={"x": "float b 6 t"},
            args={"channels": 6, "groups": 3},
            options={"filters": {"out": "channels", "in": "channels", "groups": "groups"}},
        ),
    ],
    accepts=[
        Subject(
            name="conv1d_in_groups",
            target="torch.nn:Conv1d",
            kind="layer",
            inputs={"x": "float b 4 t"},
            args={"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2, "padding": 1},
            options={"filters": _FILTERS},
        ),
        Subject(
            name="conv2d",
            target="torch.nn:Conv2d",
            kind="layer",
            inputs={"x": "float b 3 h w"},
            args={"in_channels": 3, "out_channels": 4, "kernel_size": [3, 2], "padding": 1},
            options={"filters": _FILTERS},
        ),
        Subject(
            name="conv_transpose1d",
            target="torch.nn:ConvTranspose1d",
            kind="layer",
            inputs={"x": "float b 4 t"},
            args={"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2},
            options={"filters": {**_FILTERS, "transposed": True}},
        ),
        Subject(
            name="depthwise",
            target="torch.nn:Conv1d",
            kind="layer",
            inputs={"x": "float b 4 t"},
            args={"in_channels": 4, "out_channels": 4, "kernel_size": 3, "groups": 4, "padding": 1},
            options={"filters": _FILTERS},
        ),
    ],
    dtypes=["float64", "float32"],
    textbook={
        "id": "P2",
        "says": "The channels of a layer are its convolution kernels",
        "verdict": "true",
    },
)
def channels_are_filters(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Output channel i depends on filter i alone, and on the input channels of its group.

    `options.filters` names the arguments (or gives the numbers) of the out- and in-channels and
    of the groups. The channels stand at axis 1; a weight has a filter per index of axis 0 (axis 1
    within a group, where `transposed`), of in/groups channels each. A filter and an input channel
    are moved: only the channels that belong to them may change, and those must.
    Source: Goodfellow, Bengio & Courville, Deep Learning, 2016, §9.5.
    """
    module = subject.module
    if module is None:
        raise NotApplicable("is a function: it has no filters")
    out, inside, groups = (int(_number(subject, name)) for name in ("out", "in", "groups"))
    transposed = bool(subject.options["filters"].get("transposed", False))
    weights = [p for p in subject.parameters.values() if p.dim() > 1]
    yield _shapes(weights, out, inside, groups, transposed=transposed)
    function = Still(subject, case, training=False)
    x = case.fresh()[0]
    if x.dim() < 2 or x.shape[1] != inside:
        raise NotApplicable(f"the input has no {inside} channels at axis 1")
    before, room = function(x)[0], function.room([x])
    channel, source = case.recipe.seed % out, case.recipe.seed % inside
    with torch.no_grad():
        for parameter in subject.parameters.values():
            _filter(parameter, channel, out, groups, transposed=transposed).add_(0.5)
    after = function(x)[0]
    others = [i for i in range(before.shape[1]) if i != channel]
    cause = "a filter reaches channels that are not its own"
    yield held(f"channels beside {channel}, whose filter moved", after[:, others],
               before[:, others], lambda: room()[0][:, others], cause)  # fmt: skip
    yield _moves(f"channel {channel} when its filter moves", after[:, channel], before[:, channel])
    moved = x.clone()
    moved[:, source] += 1 + moved[:, source].abs()
    mine = range(source // (inside // groups) * (out // groups),
                 (source // (inside // groups) + 1) * (out // groups))  # fmt: skip
    others = [i for i in range(before.shape[1]) if i not in mine]
    again = function(moved)[0]
    if others:
        yield held(f"channels of other groups than that of input {source}", again[:, others],
                   after[:, others], lambda: room()[0][:, others])  # fmt: skip
    yield _moves(f"its group when input {source} moves", again[:, mine], after[:, mine])


def _number(subject: Implementation, name: str) -> Any:
    given = subject.options["filters"].get(name, 1)
    return subject.value_of(given, f"option filters.{name}") if isinstance(given, str) else given


def _shapes(
    weights: list[nn.Parameter], out: int, inside: int, groups: int, *, transposed: bool
) -> Evidence:
    wanted = (inside, out // groups) if transposed else (out, inside // groups)
    wrong = [tuple(w.shape) for w in weights if tuple(w.shape[:2]) != wanted]
    return Evidence(
        error=float(len(wrong)),
        bound=0.0,
        signal=float(max(len(weights), 1)),
        unit="weights",
        what="weights without a filter of in/groups channels for each output channel",
        expected=f"{wanted} filters and channels",
        got=", ".join(map(str, wrong)),
    )


def _filter(p: nn.Parameter, channel: int, out: int, groups: int, *, transposed: bool) -> Tensor:
    """The part of a parameter that belongs to one output channel."""
    if transposed and p.dim() > 1:
        group, place = divmod(channel, out // groups)
        each = p.shape[0] // groups
        return p[group * each : (group + 1) * each, place]
    return p[channel]


def _moves(what: str, got: Tensor, before: Tensor) -> Evidence:
    still = bool(torch.equal(got, before)) and got.numel() > 0
    return Evidence(
        error=math.inf if still else 0.0, bound=0.0, signal=1.0, what=what,
        expected="another answer", got="the same answer" if still else "",
    )  # fmt: skip
