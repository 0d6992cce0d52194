"""What a layer computes with is registered, receives a gradient, and moves."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.checks.layer.broken import (
    adds_a_layer_made_in_forward,
    copies_its_parameters_before_use,
    detaches_its_parameters,
    keeps_a_parameter_in_a_list,
    makes_its_parameters_anew_in_forward,
    multiplies_a_parameter_by_zero,
    registers_a_parameter_that_it_never_uses,
    ties_two_parameters_by_memory,
)
from dlcheck.errors import NotApplicable
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case, materialize
from dlcheck.subjects import Implementation, build, gradients, scatter_parameters, tensors_in

_CALLS = 4  # a parameter must be used and get a gradient in one of them


@dataclass(slots=True)
class _Seen:
    """What several calls of fresh instances showed, by the names of parameters."""

    names: dict[str, tuple[int, ...]] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    strangers: dict[str, str] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)


@check(
    kind=["layer", "normalization", "attention", "positional", "recurrent", "activation", "loss"],
    rejects=[
        adds_a_layer_made_in_forward,
        keeps_a_parameter_in_a_list,
        makes_its_parameters_anew_in_forward,
        copies_its_parameters_before_use,
        ties_two_parameters_by_memory,
    ],
    once=True,
)
def what_is_learned_is_registered(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Every tensor that a module learns is one of its parameters, before and after a call.

    The autograd graph of the outputs ends in leaves: the inputs, and what is learned. A leaf that
    is no registered parameter, or that a call puts in the place of one, is missed by every
    optimizer; of two parameters in the same memory one step moves both.
    """
    seen = _looked(subject, case)
    yield _count("tensors that are learned but not registered", seen.strangers, len(seen.names))
    yield _count("parameters that a call replaces", seen.replaced, len(seen.names))
    yield _count("parameters that share their memory", _sharing(subject, case),
                 len(seen.names))  # fmt: skip


@check(
    kind=["layer", "normalization", "attention", "positional", "recurrent", "activation", "loss"],
    forbids={"nondifferentiable", "frozen", "optional_parameters", "sparse_gradient"},
    rejects=[
        registers_a_parameter_that_it_never_uses,
        detaches_its_parameters,
        copies_its_parameters_before_use,
        multiplies_a_parameter_by_zero,
    ],
    once=True,
)
def every_parameter_trains(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Every registered parameter is used, and receives a gradient that is not 0.

    In at least one of four calls, of which two are made as the module is built and two with its
    constant parameters moved (a factor that begins as 0 hides all behind it). A frozen parameter
    (requires_grad = False) is left out. Where the module takes further inputs that are not given
    (a state that is then 0), a gradient may be 0.
    """
    seen = _looked(subject, case)
    unused = set(seen.names) - seen.reached
    still = set() if _takes_more(subject, case) else seen.reached - seen.moved
    yield _count("parameters that no output depends on", unused, len(seen.names))
    yield _count("parameters whose gradient is 0 everywhere", still, len(seen.names))


def _takes_more(subject: Implementation, case: Case) -> bool:
    """Has forward an input, None by default, beyond those that are declared?"""
    assert subject.module is not None
    parameters = list(inspect.signature(subject.module.forward).parameters.values())
    return any(p.default is None for p in parameters[len(case.specs) :])


def _looked(subject: Implementation, case: Case) -> _Seen:
    if subject.module is None:
        raise NotApplicable("is no module: it registers nothing")
    seen = _Seen()
    for turn in range(_CALLS):
        _look(subject, case, turn, seen)
    return seen


def _count(what: str, wrong: Iterable[str] | Mapping[str, str], of: int) -> Evidence:
    names = sorted(wrong)
    said = [f"{n} ({wrong[n]})" for n in names] if isinstance(wrong, Mapping) else names
    return Evidence(
        error=float(len(names)),
        bound=0.0,
        signal=float(max(of, 1)),
        unit="parameters",
        what=what,
        where=", ".join(said[:8]),
    )


def _look(subject: Implementation, case: Case, turn: int, seen: _Seen) -> None:
    """One call and its backward, from fresh inputs; every second time as it is built."""
    recipe = replace(case.recipe, seed=case.recipe.seed + turn)
    made = build(subject.declared, case.sizes, case.device, case.dtype, recipe.seed)
    if turn % 2 == 0:
        scatter_parameters(made, recipe.seed)
    module = made.module
    assert module is not None
    before = dict(module.named_parameters())
    inputs = materialize(recipe, case.specs, case.device, case.dtype)
    leaves = [x.requires_grad_(x.is_floating_point()) for x in inputs.values()]
    seed_everything(recipe.seed)
    outputs = [y for y in tensors_in(made(*leaves)) if y.requires_grad]
    known = {id(p): name for name, p in before.items()}
    after = dict(module.named_parameters())
    seen.names |= {n: tuple(p.shape) for n, p in before.items() if p.requires_grad}
    seen.replaced |= {n for n, p in before.items() if after.get(n) is not p}
    seen.replaced |= {n for n in after if n not in before}
    mine = {id(x) for x in leaves}
    found = [x for x in leaves_of(outputs) if id(x) not in mine]
    for stranger in (x for x in found if id(x) not in known):
        owner = next((n for n, p in after.items() if p is stranger), "")
        if owner not in seen.replaced:
            shape = list(stranger.shape)
            seen.strangers[f"a tensor of shape {shape}"] = _how(stranger, module)
    reached = [x for x in found if id(x) in known]
    seen.reached |= {known[id(x)] for x in reached}
    generator = torch.Generator().manual_seed(recipe.seed)
    cotangents = [
        torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in outputs
    ]
    slopes = gradients(outputs, reached, cotangents) if reached else []
    for x, slope in zip(reached, slopes, strict=True):
        if slope is not None and bool((slope != 0).any() if not slope.is_sparse else True):
            seen.moved.add(known[id(x)])


def leaves_of(outputs: Iterable[Tensor]) -> list[Tensor]:
    """The leaves in which the autograd graph of the outputs ends."""
    todo = [y.grad_fn for y in outputs]
    found = [y for y in outputs if y.grad_fn is None]
    visited: set[Any] = set()
    while todo:
        node = todo.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo += [parent for parent, _ in node.next_functions]
    return found


def _sharing(subject: Implementation, case: Case) -> set[str]:
    """Parameters that lie in each other's memory as they are built, and yet are two tensors.

    Built in torch's default type: a conversion copies, and hides what was shared.
    """
    made = build(
        subject.declared, case.sizes, case.device, torch.get_default_dtype(), case.recipe.seed
    )
    spans = []
    for name, p in made.module.named_parameters() if made.module is not None else ():
        if p.numel() and p.device.type != "meta" and p.layout == torch.strided:
            start = p.data_ptr()
            reach = sum((n - 1) * step for n, step in zip(p.shape, p.stride(), strict=True)) + 1
            spans.append((start, start + reach * p.element_size(), name))
    spans.sort()
    pairs = itertools.pairwise(spans)
    return {f"{one[2]} and {two[2]}" for one, two in pairs if two[0] < one[1]}


def _how(stranger: Tensor, module: nn.Module) -> str:
    """Where an unregistered tensor comes from."""
    for path, owner in module.named_modules():
        for name, value in vars(owner).items():
            inside = value if isinstance(value, (list, tuple)) else [value]
            inside = list(value.values()) if isinstance(value, dict) else inside
            for part in inside:
                held = part.parameters() if isinstance(part, nn.Module) else [part]
                if name != "_parameters" and any(x is stranger for x in held):
                    return f"in the attribute {'.'.join(filter(None, [path, name]))}"
    return "made in the call, or kept outside of the module"
