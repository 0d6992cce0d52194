"""A weight that is used twice: one parameter, whose gradient is the sum over its uses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import guarded, seed_everything
from dlcheck.model import Evidence
from dlcheck.mutants import rebuilt
from dlcheck.numerics.rounding import gamma
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, gradients, tensors_in


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _groups(module: nn.Module) -> list[list[str]]:
    """Names that are one parameter."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _change(name: str, change: Callable[[nn.Module, list[str]], None]) -> Any:
    def apply(module: nn.Module) -> nn.Module:
        for group in _groups(module):
            change(module, group)
        return module

    return rebuilt(name, apply)


def _copies(module: nn.Module, group: list[str]) -> None:
    owner, leaf = _owner(module, group[-1])
    setattr(owner, leaf, nn.Parameter(getattr(owner, leaf).detach().clone()))


def _shares_the_memory(module: nn.Module, group: list[str]) -> None:
    owner, leaf = _owner(module, group[-1])
    setattr(owner, leaf, nn.Parameter(getattr(owner, leaf).detach()))


def _freezes_one_use(module: nn.Module, group: list[str]) -> None:
    owner, leaf = _owner(module, group[-1])
    setattr(owner, leaf, nn.Parameter(getattr(owner, leaf).detach(), requires_grad=False))


def _averages(module: nn.Module, group: list[str]) -> None:
    owner, leaf = _owner(module, group[0])
    getattr(owner, leaf).register_hook(lambda g: g / len(group))


@check(
    kind=["layer", "attention", "recurrent", "normalization", "positional", "activation"],
    options={"tied": True},
    rejects=[
        _change("ties_by_a_copy", _copies),
        _change("ties_by_the_memory_alone", _shares_the_memory),
        _change("freezes_one_use", _freezes_one_use),
        _change("averages_over_its_uses", _averages),
    ],
    once=True,
    textbook={
        "id": "R8",
        "says": "Sharing weights and learning several tasks at once regularize",
        "verdict": "true",
    },
)
def shared_weights_sum_their_gradients(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """The gradient of a tied weight is the sum of the gradients of untied copies.

    The names in `options.tied` must be one parameter, also after a conversion of its type and in a
    copy of the module. Then every use gets a parameter of its own with the same numbers; with the
    same seed and cotangents its gradients are summed. The bound is γ₆₄ of the sum of their sizes:
    the roundings of one backward, in another order.
    Source: the chain rule; LeCun, Generalization and Network Design Strategies, 1989, §3;
    Goodfellow, Bengio & Courville, Deep Learning, 2016, §7.9.
    """
    if subject.module is None:
        raise NotApplicable("is no module: it has no parameters")
    groups = [list(group) for group in _declared(subject)]
    # A declaration may leave out names of the same parameter.
    known = _groups(subject.module)
    groups = [
        [*group, *(n for same in known if group[0] in same for n in same if n not in group)]
        for group in groups
    ]
    for where, module in {
        "as built": subject.module,
        "in a copy": guarded(copy.deepcopy, subject.module),
    }.items():
        yield _tied(module, groups, where)
    tied = _slopes(subject, case, subject.module, groups)
    untied = guarded(copy.deepcopy, subject.module)
    _unshare(untied, set())
    for group in groups:
        for name in group:
            owner, leaf = _owner(untied, name)
            setattr(owner, leaf, nn.Parameter(getattr(owner, leaf).detach().clone()))
    apart = _slopes(subject, case, untied, groups)
    for group in groups:
        total = torch.stack([apart[name] for name in group]).sum(0)
        reach = torch.stack([apart[name].abs() for name in group]).sum(0)
        error = (tied[group[0]] - total).abs()
        yield Evidence(
            error=float(error.max()),
            bound=gamma(64, case.dtype) * float(reach.max()),
            signal=float(reach.max()),
            what=f"gradient of {group[0]} against the sum over {len(group)} untied copies",
            values={name: float(apart[name].norm()) for name in group},
        )


def _unshare(module: nn.Module, seen: set[int]) -> None:
    """A module that stands in two places becomes two, so that each place has its parameters."""
    for name, child in module._modules.items():
        if child is None:
            continue
        own = copy.deepcopy(child) if id(child) in seen else child
        module._modules[name] = own
        seen.add(id(own))
        _unshare(own, seen)


def _declared(subject: Implementation) -> Sequence[Sequence[str]]:
    groups = subject.options["tied"]
    known = {n for n, _ in subject.module.named_parameters(remove_duplicate=False)}  # type: ignore[union-attr]
    flat = [name for group in groups for name in group]
    if unknown := [name for name in flat if name not in known]:
        raise SubjectError(
            f"options.tied names {unknown[0]!r}, and {subject.declared.name} has the parameters "
            f"{', '.join(sorted(known))}"
        )
    return groups  # type: ignore[no-any-return]


def _tied(module: nn.Module, groups: list[list[str]], where: str) -> Evidence:
    named = dict(module.named_parameters(remove_duplicate=False))
    apart = [name for group in groups for name in group if named[name] is not named[group[0]]]
    return Evidence(
        error=float(len(apart)),
        bound=0.0,
        signal=float(sum(map(len, groups))),
        unit="parameters",
        what=f"names that are a parameter of their own, {where}",
        where=", ".join(apart),
        cause="assign the Parameter itself, not its data: a copy is trained apart" if apart else "",
    )


def _slopes(
    subject: Implementation, case: Case, module: nn.Module, groups: list[list[str]]
) -> dict[str, Tensor]:
    """The gradient of each named parameter, zeros where nothing depends on it."""
    seed_everything(case.recipe.seed)
    outputs = [y for y in tensors_in(guarded(module, *case.fresh())) if y.requires_grad]
    generator = case.generator("cotangents")
    cotangents = [
        torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for y in outputs
    ]
    named = dict(module.named_parameters(remove_duplicate=False))
    names = [name for group in groups for name in group]
    taken = [named[name] for name in names if named[name].requires_grad]
    found = iter(gradients(outputs, taken, cotangents))
    slopes = {}
    for name in names:
        slope = next(found) if named[name].requires_grad else None
        slopes[name] = torch.zeros_like(named[name]) if slope is None else slope.detach()
    return slopes
