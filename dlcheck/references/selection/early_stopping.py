"""When to stop, by the loss on a validation set."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.registry import reference


@reference(
    kind="op",
    formula="best_t = the last s ≤ t with v_s < v_(best before s) − δ; stop at the first t with "
    "t − best_t ≥ patience",
    source="Goodfellow, Bengio & Courville, Deep Learning, 2016, algorithm 7.1; Prechelt, Early "
    "Stopping, but When?, 1998",
    args={"patience": 3, "min_delta": 0.1},
    inputs={"losses": "float t"},
    traits=["nondifferentiable"],
)
def early_stopping(losses: Tensor, patience: int = 3, min_delta: float = 0.0) -> Tensor:
    """losses [t], one an epoch → [2] int64: the last epoch that is run, and the best one.

    An epoch is better where its loss is below the best so far by more than min_delta; after
    `patience` epochs that were not, training stops. Without that it runs to the end. NaN is
    never better.
    """
    best, least = 0, float("inf")
    for epoch, loss in enumerate(losses.tolist()):
        if loss < least - min_delta:
            best, least = epoch, loss
        if epoch - best >= patience:
            return torch.tensor([epoch, best], device=losses.device)
    return torch.tensor([len(losses) - 1, best], device=losses.device)
