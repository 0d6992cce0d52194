"""All that can be seen of a subject: what two instances that behave alike have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dlcheck.isolation import seed_everything
from dlcheck.strategies import Case
from dlcheck.subjects import (
    Implementation,
    build,
    guarded,
    replace_args,
    scatter_parameters,
    tensors_in,
)

Behaviour = list[Any]


def observed(subject: Implementation, case: Case, changes: Mapping[str, Any]) -> Behaviour:
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


def alike(one: Any, two: Any) -> bool:
    """The same bit by bit, through tuples and lists; NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        if one.shape != two.shape or one.dtype != two.dtype or one.layout != two.layout:
            return False
        a, b = (x.to_dense() if x.layout != torch.strided else x for x in (one, two))
        return bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(map(alike, one, two))
    return type(one) is type(two) and bool(one == two)
