"""Right subjects that these checks need: with a reference, with a kernel of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.model import Subject


def softmax(x: Tensor) -> Tensor:
    """exp(x − max x) / Σ exp(x − max x) over the last axis."""
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def library_softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


SOFTMAX = Subject(
    name="softmax_from_its_formula",
    target=softmax,
    kind="op",
    inputs={"x": "float b n"},
    reference=library_softmax,
    options={"batch": "b"},
)
OWN_SOFTMAX = Subject(
    name="softmax_of_its_own",
    target=softmax,
    kind="op",
    inputs={"x": "float b n"},
    reference=library_softmax,
    options={"own_kernel": True, "sizes": {"n": [2, 33]}},
)
