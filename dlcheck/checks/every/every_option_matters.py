"""Every knob does something."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.every.knobs import alternatives, optional_arguments
from dlcheck.errors import NotApplicable, SubjectError, UsageError
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import (
    Implementation,
    build,
    guarded,
    replace_args,
    scatter_parameters,
    tensors_in,
)
from dlcheck.targets import load_target

_REGIMES = ("normal", "outliers", "zeros", "tiny", "huge")
_MEMORY_ONLY = ("inplace",)  # torch's word for a switch that may save memory, or not
Behaviour = list[Any]


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


_LAYER: dict[str, Any] = {"kind": "layer", "inputs": {"x": "float b n"}}
_OP: dict[str, Any] = {"kind": "op", "inputs": {"x": "float b n"}}


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
    ],
    accepts=[
        Subject(name="scaled", target=_Scaled, **_LAYER),
        Subject(name="tempered", target=_tempered, **_OP),
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

    Numbers and switches, one at a time, to values of `matrix`, of `knobs`, or far from the given
    one. What may change: answers in train and evaluation, gradients, the state before and after,
    the input, aliasing, types; bit by bit, over five regimes of inputs. An argument that changes
    nothing alone is tried beside every other one (a momentum needs running statistics, a norm
    type a largest norm) and beside two switches turned on. `inplace` is left out. Declare `paths`
    (speed only) and `invariant_to` (no effect).

    A real number that changes nothing at all is idle. A switch or a count may choose between
    paths that give the same bits: it is idle only if the source shows that it is never read.
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
    if not isinstance(value, float) and not probe.is_idle_in_source(name):
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
            if not _alike(first, second):
                return True
        return False if compared else None

    def behaviour(self, changes: Mapping[str, Any], turn: int) -> Behaviour | None:
        key = (repr(sorted(changes.items())), turn)
        if key not in self._seen:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of an argument that is odd on purpose
                    self._seen[key] = _observed(self.subject, self.cases[turn], changes)
            except (SubjectError, UsageError, NotApplicable):
                self._seen[key] = None
        return self._seen[key]

    def is_idle_in_source(self, name: str) -> bool:
        return is_never_read(load_target(self.subject.declared.target), name)


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
    target = load_target(subject.declared.target)
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


def _observed(subject: Implementation, case: Case, changes: Mapping[str, Any]) -> Behaviour:
    """State, train, backward, a step, evaluation: everything that can be compared."""
    declared = replace_args(subject.declared, {**subject.args, **changes})
    seed = case.recipe.seed
    seed_everything(seed)
    made = build(declared, case.sizes, case.device, case.dtype, seed)
    seen: Behaviour = [_state(made), _requirements(made)]
    scatter_parameters(made, seed)
    seen.append(_call(made, case, seed))
    seen.append(_state(made))
    if made.module is not None:
        made.module.eval()
        seen.append(_call(made, case, seed + 1))
        seen.append(_state(made))
    return seen


def _requirements(made: Implementation) -> list[Any]:
    if made.module is None:
        return []
    return [(name, p.requires_grad) for name, p in made.module.named_parameters()]


def _state(made: Implementation) -> list[Any]:
    if made.module is None:
        return []
    named = [*made.module.named_parameters(), *made.module.named_buffers()]
    return [(name, x.detach().clone()) for name, x in named]


def _call(made: Implementation, case: Case, seed: int) -> list[Any]:
    """Answers, what became of the inputs, and gradients."""
    leaves = case.fresh(requires_grad=case.floating)
    given = [x.clone() if x.requires_grad else x for x in leaves]  # may be written to
    seed_everything(seed)
    answer = made(*given)
    outputs = list(tensors_in(answer))
    seen: list[Any] = [_skeleton(answer)]
    seen += [(str(y.dtype), y.layout, y.is_contiguous(), y.detach().clone()) for y in outputs]
    seen += [x.detach().clone() for x in given]
    seen.append([y.data_ptr() == x.data_ptr() for y in outputs for x in given if y.layout
                 == torch.strided and y.numel()])  # fmt: skip
    live = [y for y in outputs if y.requires_grad and (y.is_floating_point() or y.is_complex())]
    wanted = [x for x in leaves if x.requires_grad] + list(made.parameters.values())
    if live and wanted:
        generator = torch.Generator().manual_seed(seed)
        weights = [
            torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in live
        ]
        slopes = guarded(torch.autograd.grad, live, wanted, weights, allow_unused=True)
        seen += [None if g is None else (g.layout, g.detach().clone()) for g in slopes]
    return seen


def _skeleton(answer: Any) -> Any:
    if isinstance(answer, Mapping):
        return {key: _skeleton(part) for key, part in answer.items()}
    if isinstance(answer, (tuple, list)):
        return [type(answer).__name__, *map(_skeleton, answer)]
    return type(answer).__name__


def _alike(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        if one.shape != two.shape or one.dtype != two.dtype or one.layout != two.layout:
            return False
        a, b = (x.to_dense() if x.layout != torch.strided else x for x in (one, two))
        return bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(_alike, one, two))
    return type(one) is type(two) and bool(one == two)


# --- what the source shows ----------------------------------------------------------------------

_SHOWN_ONLY = {"extra_repr", "__repr__", "__str__"}


def is_never_read(target: Any, name: str) -> bool:
    """Does the source prove that an argument is idle: never read, or only stored?

    False where there is doubt: no source, `locals()`, `getattr`, a subclass of something unseen.
    """
    if not inspect.isclass(target):
        tree = _source(target)
        return tree is not None and not _loads(tree, name) and not _is_doubtful(tree)
    trees = [_source(owner) for owner in target.__mro__ if owner not in (nn.Module, object)]
    if any(tree is None or _is_doubtful(tree) for tree in trees):
        return False
    maker = _constructor(trees)
    if maker is None:
        return False
    stored = {
        target.attr
        for node in ast.walk(maker)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)
        and node.value.id == name
        for target in node.targets
        if isinstance(target, ast.Attribute)
    }  # fmt: skip
    if _loads(maker, name) > len(stored):
        return False
    return not any(
        _reads_attribute(tree, attribute) for tree in trees if tree for attribute in stored
    )


@functools.cache
def _source(thing: Any) -> ast.Module | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return None


def _constructor(trees: Sequence[ast.Module | None]) -> ast.FunctionDef | None:
    for tree in trees:
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return node
    return None


def _loads(tree: ast.AST, name: str) -> int:
    return sum(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        for node in ast.walk(tree)
    )


def _is_doubtful(tree: ast.AST) -> bool:
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return bool({"locals", "vars", "getattr", "eval", "exec"} & names) or "__dict__" in attributes


def _reads_attribute(tree: ast.AST, attribute: str) -> bool:
    shown = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in _SHOWN_ONLY
    ]  # fmt: skip
    hidden = {id(inner) for node in shown for inner in ast.walk(node)}
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.ctx, ast.Load)
        and id(node) not in hidden
        for node in ast.walk(tree)
    )
