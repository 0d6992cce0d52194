"""Every knob does something."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.every.behaviour import Behaviour, alike, observed
from dlcheck.checks.every.knobs import alternatives, optional_arguments
from dlcheck.checks.every.source import is_never_read
from dlcheck.errors import NotApplicable, SubjectError, UsageError
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import (
    Implementation,
)
from dlcheck.targets import load_target

_REGIMES = ("normal", "outliers", "zeros", "tiny", "huge")
_MEMORY_ONLY = ("inplace",)  # torch's word for a switch that may save memory, or not


class _Scaled(nn.Module):
    """tanh(gain · x) + shift, then dropout and clipping."""

    def __init__(
        self, gain: float = 1.0, shift: float = 0.0, limit: float = 1e4, rate: float = 0.0
    ) -> None:
        super().__init__()
        self.gain, self.shift, self.limit = gain, shift, limit
        self.drop = nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(torch.tanh(self.gain * x) + self.shift)
        return y.clamp(-self.limit, self.limit)


class _ForgottenGain(_Scaled):
    """Stored, and not used."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(torch.tanh(x) + self.shift)
        return y.clamp(-self.limit, self.limit)


class _ConstantRate(_Scaled):
    """The argument is shadowed by a constant."""

    def __init__(self, gain: float = 1.0, rate: float = 0.1) -> None:
        super().__init__(gain=gain, rate=0.1)


class _IdleDropout(_Scaled):
    """A sub-module that is built and never called."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.gain * x).add(self.shift).clamp(-self.limit, self.limit)


class _IdleFlag(nn.Module):
    """A switch that is stored and never read."""

    def __init__(self, residual: bool = False) -> None:  # noqa: FBT001, FBT002
        super().__init__()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


def _idle_keyword(x: Tensor, axis: int = -1, temperature: float = 1.0) -> Tensor:
    return torch.softmax(x, axis)


def _tempered(x: Tensor, axis: int = -1, temperature: float = 1.0) -> Tensor:
    return torch.softmax(x / temperature, axis)


def _idle_fill(x: Tensor, border: str = "wrap", fill: float = 0.0) -> Tensor:
    return nn.functional.pad(x, (1, 1), "circular" if border == "wrap" else "replicate")


def _bordered(x: Tensor, border: str = "wrap", fill: float = 0.0) -> Tensor:
    if border == "fill":
        return nn.functional.pad(x, (1, 1), value=fill)
    return nn.functional.pad(x, (1, 1), "circular")


class _Padded(nn.Module):
    """Modes that only torch knows, and an argument for one of them."""

    def __init__(self, mode: str = "circular", fill: float | None = 0.0) -> None:
        super().__init__()
        self.mode, self.fill = mode, fill

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (1, 1), self.mode, self.fill)


_LAYER: dict[str, Any] = {"kind": "layer", "inputs": {"x": "float b n"}}
_OP: dict[str, Any] = {"kind": "op", "inputs": {"x": "float b n"}}
_ROWS: dict[str, Any] = {"kind": "op", "inputs": {"x": "float b c n"}}


@check(
    kind="tensors",
    rejects=[
        Subject(name="forgotten_gain", target=_ForgottenGain, **_LAYER),
        Subject(
            name="constant_rate", target=_ConstantRate, traits=frozenset({"stochastic"}), **_LAYER
        ),
        Subject(name="idle_dropout", target=_IdleDropout, **_LAYER),
        Subject(name="idle_flag", target=_IdleFlag, **_LAYER),
        Subject(name="idle_keyword", target=_idle_keyword, **_OP),
        Subject(name="idle_beside_a_mode", target=_idle_fill, **_ROWS),
    ],
    accepts=[
        Subject(name="scaled", target=_Scaled, **_LAYER),
        Subject(name="tempered", target=_tempered, **_OP),
        Subject(name="fills_in_one_mode", target=_bordered, **_ROWS),
        Subject(name="fills_in_a_mode_of_torch", target=_Padded, **{**_ROWS, "kind": "layer"}),
        Subject(
            name="embedding_with_dependent_options",
            target="torch.nn:Embedding",
            kind="layer",
            inputs={"index": "index[n] b t"},
            args={"num_embeddings": {"dim": "n"}, "embedding_dim": 3},
            traits=frozenset({"sparse_gradient"}),
        ),
    ],
    dtypes=["float64"],
    once=True,
)
def every_option_matters(subject: Implementation, case: Case) -> Evidence:
    """Every argument with a default, set to clearly other values, changes something.

    Numbers, switches and the names of modes, one at a time, to values of `matrix`, of `knobs`, of
    comparisons in the source, or far from the given one. What may change: answers in train and
    evaluation, gradients, the state before and after, the input, aliasing, types; bit by bit, over
    five regimes of inputs. An argument that changes nothing alone is tried beside every other one
    (a momentum needs running statistics, a norm type a largest norm) and beside two switches
    turned on. `inplace` is left out. Declare `paths` (speed only) and `invariant_to` (no effect).

    A real number that changes nothing at all is idle. A switch or a count may choose between
    paths that give the same bits, and a number may belong to a mode whose name is not to be seen
    in the source: these are idle only if the source shows that they are never read.
    """
    declared = subject.declared
    if isinstance(load_target(declared.target, near=declared.file), nn.Module):
        raise NotApplicable("is an instance: its arguments cannot be varied; pass the class")
    known = {*_MEMORY_ONLY, *_listed(subject, "paths"), *_listed(subject, "invariant_to")}
    knobs = {
        name: value
        for name, value in optional_arguments(subject).items()
        if name not in known and alternatives(subject, name, value)
    }
    if not knobs:
        raise NotApplicable("has no argument with a number or a switch for a default")
    probe = _Probe(subject, case)
    verdicts = {name: _effect(probe, name, value, knobs) for name, value in knobs.items()}
    judged = [name for name, effect in verdicts.items() if effect is not None]
    if not judged:
        raise NotApplicable(f"takes no other value of {', '.join(knobs)}; give them in matrix")
    idle = [name for name in judged if not verdicts[name]]
    return Evidence(
        error=float(len(idle)),
        bound=0.0,
        signal=float(len(judged)),
        unit="arguments",
        what="arguments that change nothing",
        where=", ".join(f"{name} (now {knobs[name]!r})" for name in idle),
        cause="accepted and not used; if that is meant, declare it in options.paths (speed only) "
        "or options.invariant_to"
        if idle
        else "",
    )


def _listed(subject: Implementation, option: str) -> Sequence[str]:
    given = subject.options.get(option, ())
    return [given] if isinstance(given, str) else list(given)


def _effect(probe: _Probe, name: str, value: Any, knobs: Mapping[str, Any]) -> bool | None:
    """Does the argument matter? None where no other value is taken, or it may choose a path."""
    taken = False
    for other in probe.values(name, value):
        differs = probe.differs({}, {name: other})
        if differs:
            return True
        taken |= differs is not None
    if not taken:
        return None
    is_clear = isinstance(value, float) and not probe.has_unknown_modes
    if not is_clear and not probe.is_idle_in_source(name):
        return None
    # A number may need two switches: a clamp of a gate needs the gate, and the clamp.
    switches = [other for other, own in knobs.items() if own is False and other != name]
    for pair in itertools.combinations(switches, 2):
        base = dict.fromkeys(pair, True)
        if any(probe.differs(base, {**base, name: v}) for v in probe.values(name, value)[:2]):
            return True
    for partner, own in knobs.items():
        if partner != name and _matters_beside(probe, name, value, partner, own):
            return True
    for partner, values in probe.unset.items():
        if any(_differs_beside(probe, name, value, {partner: v}) for v in values):
            return True
    return False


def _matters_beside(probe: _Probe, name: str, value: Any, partner: str, own: Any) -> bool:
    return any(
        _differs_beside(probe, name, value, {partner: other})
        for other in probe.values(partner, own)[:3]
    )


def _differs_beside(probe: _Probe, name: str, value: Any, base: Mapping[str, Any]) -> bool:
    return any(probe.differs(base, {**base, name: other}) for other in probe.values(name, value))


class _Probe:
    """The subject built with some arguments changed, and all that can be seen of it."""

    def __init__(self, subject: Implementation, case: Case) -> None:
        self.subject, self.cases = subject, list(_cases(case))
        self.unset = _unset(subject)
        self.has_unknown_modes = any(
            isinstance(value, str) and not alternatives(subject, name, value)
            for name, value in optional_arguments(subject).items()
        )
        self._seen: dict[tuple[str, int], Behaviour | None] = {}

    def values(self, name: str, value: Any) -> list[Any]:
        return alternatives(self.subject, name, value)

    def differs(self, one: Mapping[str, Any], two: Mapping[str, Any]) -> bool | None:
        """Is any behaviour another? None where one of the two is never built or called."""
        compared = False
        for turn in range(len(self.cases)):
            first, second = self.behaviour(one, turn), self.behaviour(two, turn)
            if first is None or second is None:
                continue
            compared = True
            if not alike(first, second):
                return True
        return False if compared else None

    def behaviour(self, changes: Mapping[str, Any], turn: int) -> Behaviour | None:
        key = (repr(sorted(changes.items())), turn)
        if key not in self._seen:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of an argument that is odd on purpose
                    self._seen[key] = observed(self.subject, self.cases[turn], changes)
            except (SubjectError, UsageError, NotApplicable):
                self._seen[key] = None
        return self._seen[key]

    def is_idle_in_source(self, name: str) -> bool:
        return is_never_read(
            load_target(self.subject.declared.target, near=self.subject.declared.file), name
        )


def _cases(case: Case) -> Iterator[Case]:
    """Small and larger inputs of several regimes; labels and indices drawn anew."""
    for turn, regime in enumerate(_REGIMES):
        recipe = replace(
            case.recipe,
            seed=case.recipe.seed + turn,
            regimes={name: regime if case.specs[name].element == "float" else
                     case.recipe.regimes[name] for name in case.specs},
        )  # fmt: skip
        inputs = materialize(recipe, case.specs, case.device, case.dtype)
        yield replace(case, recipe=recipe, inputs=inputs)


def _unset(subject: Implementation) -> dict[str, list[Any]]:
    """Arguments whose default is None, with values of the type that their annotation names."""
    target = load_target(subject.declared.target, near=subject.declared.file)
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}
    found: dict[str, list[Any]] = {}
    for name, parameter in parameters.items():
        if parameter.default is not None or name in subject.args:
            continue
        said = str(parameter.annotation)
        wanted: list[Any] = [0.5] if "float" in said else []
        wanted += [1] if "int" in said else []
        wanted += [True] if "bool" in said else []
        if parameter.annotation is inspect.Parameter.empty:
            wanted = [0.5, 1, True]
        if wanted:
            found[name] = wanted
    return found
