"""What is declared of single arguments: neutral values, equal paths, no effect."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.every.knobs import alternatives
from dlcheck.checks.still import Still, held, part_of, without_noise
from dlcheck.errors import NotApplicable, SubjectError, SubjectRaised, UsageError
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build, guarded, replace_args
from dlcheck.targets import load_target


class _Gated(nn.Module):
    """y = x + strength·tanh(W x), of which strength = 0 is the identity."""

    def __init__(self, size: int, strength: float = 0.5, leak: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(size, size)
        self.strength, self.leak = strength, leak

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.strength + self.leak) * torch.tanh(self.inner(x))


_GATED: dict[str, Any] = {"kind": "layer", "inputs": {"x": "float b n"}}


@check(
    kind="tensors",
    options={"neutral": True},
    rejects=[
        Subject(
            name="leaks_at_strength_zero",
            target=_Gated,
            args={"size": {"dim": "n"}, "leak": 1e-3},
            options={"neutral": {"strength": 0.0}},
            **_GATED,
        ),
        Subject(
            name="is_neutral_at_one_only",
            target=_Gated,
            args={"size": {"dim": "n"}, "leak": -1.0},
            options={"neutral": {"strength": 0.0}},
            **_GATED,
        ),
    ],
    accepts=[
        Subject(
            name="gated",
            target=_Gated,
            args={"size": {"dim": "n"}},
            options={"neutral": {"strength": 0.0}},
            **_GATED,
        ),
    ],
    dtypes=["float64", "float32"],
)
def is_the_identity_at_neutral_arguments(subject: Implementation, case: Case) -> Evidence:
    """Built with the arguments of `options.neutral` the answer is the first input."""
    made = with_arguments(subject, case, subject.options["neutral"])
    function = Still(made, case)
    x = case.fresh()
    y, room = function(*x)[0], function.room()
    return held("answer at neutral arguments", y, x[0], lambda: room()[0])


def _plain_linear(size: int, bias: bool = True) -> nn.Module:  # noqa: FBT001, FBT002
    return nn.Linear(size, size, bias=bias)


class _Lora(nn.Linear):
    """W x + b + alpha·B A x."""

    def __init__(self, size: int, bias: bool = True, alpha: float = 1.0, slip: float = 0.0) -> None:  # noqa: FBT001, FBT002
        super().__init__(size, size, bias=bias)
        self.down, self.up = nn.Linear(size, 2, bias=False), nn.Linear(2, size, bias=False)
        self.alpha, self.slip = alpha, slip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x) + (self.alpha + self.slip) * self.up(self.down(x))
        return y


_LORA: dict[str, Any] = {"kind": "layer", "inputs": {"x": "float b n"}, "target": _Lora}


@check(
    kind="tensors",
    options={"reduces_to": True},
    rejects=[
        Subject(
            name="adapts_at_alpha_zero",
            args={"size": {"dim": "n"}, "slip": 1e-2},
            options={"reduces_to": {f"{__name__}:_plain_linear": {"alpha": 0.0}}},
            **_LORA,
        ),
        Subject(
            name="adapts_with_the_opposite_sign",
            args={"size": {"dim": "n"}, "slip": -2.0},
            options={"reduces_to": {f"{__name__}:_plain_linear": {"alpha": 0.0}}},
            **_LORA,
        ),
    ],
    accepts=[
        Subject(
            name="adapted_linear",
            args={"size": {"dim": "n"}},
            options={"reduces_to": {f"{__name__}:_plain_linear": {"alpha": 0.0}}},
            **_LORA,
        ),
    ],
    dtypes=["float64", "float32"],
)
def reduces_to_its_components(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """At the arguments that `options.reduces_to` gives, it equals that component.

    `reduces_to = { "torch.nn:Linear" = { alpha = 0.0 } }`: path → arguments. The component is
    built with those arguments of the subject that it takes, and gets its parameters and buffers
    by name and shape.
    """
    for path, changes in subject.options["reduces_to"].items():
        made = with_arguments(subject, case, changes)
        component = _component(made, case, path)
        function, other = Still(made, case), Still(component, case)
        _copy_state(component, made)
        room = function.room()
        pairs = zip(function(*case.fresh()), other(*case.fresh()), strict=True)
        for place, (got, expected) in enumerate(pairs):
            what = f"answer {place} beside {path}"
            yield held(what, got, expected, part_of(room, place))


def _component(made: Implementation, case: Case, path: str) -> Implementation:
    live = load_target(path, near=made.declared.file)
    taken = inspect.signature(live).parameters
    args = {n: v for n, v in made.args.items() if n in taken}
    declared = Subject(
        name=path, target=live, kind=made.kind.name, args=args, inputs=made.declared.inputs
    )
    return build(declared, case.sizes, case.device, case.dtype, case.recipe.seed)


def _copy_state(component: Implementation, made: Implementation) -> None:
    if component.module is None or made.module is None:
        return
    own = made.module.state_dict()
    state = {n: own[n] for n, v in component.module.state_dict().items()
             if n in own and own[n].shape == v.shape}  # fmt: skip
    component.module.load_state_dict(state, strict=False)


class _Chunked(nn.Module):
    """x² in chunks, or at once: the same numbers."""

    def __init__(self, chunked: bool = False, chunk: int = 2, slip: float = 0.0) -> None:  # noqa: FBT001, FBT002
        super().__init__()
        self.chunked, self.chunk, self.slip = chunked, chunk, slip

    def forward(self, x: Tensor) -> Tensor:
        if not self.chunked:
            return x * x + x
        parts = [part * part + part for part in x.split(self.chunk)]
        return torch.cat(parts) * (1 + self.slip * self.chunk)


_CHUNKED: dict[str, Any] = {"kind": "layer", "inputs": {"x": "float b n"}, "target": _Chunked}


@check(
    kind="tensors",
    options={"paths": True},
    rejects=[
        Subject(
            name="is_off_on_its_fast_path",
            args={"slip": 1e-4},
            options={"paths": ["chunked"]},
            **_CHUNKED,
        ),
        Subject(
            name="is_far_off_on_its_fast_path",
            args={"slip": 1.0},
            options={"paths": ["chunked"]},
            **_CHUNKED,
        ),
    ],
    accepts=[Subject(name="in_chunks", options={"paths": ["chunked"]}, **_CHUNKED)],
    dtypes=["float64", "float32"],
)
def paths_give_the_same_answer(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """An argument of `options.paths` changes speed or memory, and no number beyond rounding."""
    yield from _without_effect(subject, case, _named(subject, "paths"))


@check(
    kind="tensors",
    options={"invariant_to": True},
    rejects=[
        Subject(
            name="depends_on_its_chunk",
            args={"chunked": True, "slip": 1e-4},
            options={"invariant_to": ["chunk"]},
            **_CHUNKED,
        ),
    ],
    accepts=[
        Subject(
            name="of_any_chunk",
            args={"chunked": True},
            options={"invariant_to": ["chunk"]},
            **_CHUNKED,
        ),
    ],
    dtypes=["float64", "float32"],
)
def has_no_effect_where_declared(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """An argument of `options.invariant_to` leaves the answer, whatever its value."""
    yield from _without_effect(subject, case, _named(subject, "invariant_to"))


def _named(subject: Implementation, option: str) -> list[str]:
    given = subject.options[option]
    return [given] if isinstance(given, str) else list(given)


def _without_effect(subject: Implementation, case: Case, names: list[str]) -> Iterator[Evidence]:
    function = without_noise(subject, case)
    before, room = function(*case.fresh()), function.room()
    judged = 0
    for name in names:
        values = alternatives(subject, name, subject.value_of(name, f"the argument {name}"))
        taken = 0
        for value in values:
            try:
                other = without_noise(with_arguments(subject, case, {name: value}), case)
                after = other(*case.fresh())
            except (SubjectRaised, UsageError):
                continue  # a value that it does not take
            taken += 1
            for place, (got, expected) in enumerate(zip(after, before, strict=True)):
                what = f"answer {place} with {name} = {value!r}"
                yield held(what, got, expected, part_of(room, place))
            if taken == 2:
                break
        judged += taken
    if not judged:
        raise NotApplicable(f"takes no other value of {', '.join(names)}; give them in matrix")


def with_arguments(
    subject: Implementation, case: Case, changes: Mapping[str, Any]
) -> Implementation:
    """The subject built again from the same seed with some arguments changed."""
    declared = replace_args(subject.declared, {**subject.args, **changes})
    made = build(declared, case.sizes, case.device, case.dtype, case.recipe.seed)
    if made.module is not None and subject.module is not None:
        try:
            guarded(made.module.load_state_dict, subject.module.state_dict())
        except SubjectError:
            return made  # other parameters: both are as the seed made them
    return made
