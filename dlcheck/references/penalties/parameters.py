"""What a penalty is given: parameters, in every form in which a user may pass them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def penalised(
    parameters: Tensor | Iterable[Tensor], strength: float, cost: Callable[[Tensor], Tensor]
) -> Tensor:
    """strength · Σ cost(W) over the tensors: one tensor, or several in any iterable; returns [].

    No tensors cost 0. A sparse tensor costs what its dense twin does. Raises ValueError for a
    strength below 0, which would reward large weights, and TypeError for integers, which have no
    gradient, and for what is no tensor.
    """
    if not strength >= 0:
        raise ValueError(f"the strength is {strength}; a penalty below 0 rewards large weights")
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    costs = [cost(_dense(w)) for w in tensors]
    if not costs:
        return torch.zeros(())
    return strength * sum(costs[1:], costs[0])


def _dense(weights: Tensor) -> Tensor:
    if not isinstance(weights, Tensor):
        raise TypeError(f"a penalty takes tensors, not {type(weights).__name__}")
    if not weights.is_floating_point():
        raise TypeError(f"a penalty takes floating weights, not {weights.dtype}")
    return weights if weights.layout == torch.strided else weights.to_dense()
