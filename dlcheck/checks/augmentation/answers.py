"""What an augmentation gave back: images, labels, and what moved along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.augmentation.declared import Signature
from dlcheck.errors import NotApplicable, SubjectError


@dataclass(frozen=True, slots=True)
class Answer:
    """One call's answer, as plain tensors. `labels` has one part, or three: y_a, y_b, λ."""

    images: Tensor
    labels: tuple[Tensor, ...]
    targets: Mapping[str, Tensor]

    @property
    def label(self) -> Tensor:
        if not self.labels:
            raise NotApplicable("takes no labels")
        return self.labels[0]


def read(answer: Any, signature: Signature, count: int | None = None) -> Answer:
    """The parts of an answer. Raises SubjectError where they are not those that went in.

    A dict is read by the names of the inputs; a list of as many images as went in is a batch.
    """
    if isinstance(answer, Mapping) and set(signature.specs) <= set(answer):
        parts = {name: list(_leaves(answer[name])) for name in signature.specs}
        labels = parts.get(signature.labels or "", [])
        targets = {what: parts[name][0] for what, name in signature.targets.items()}
        return Answer(parts[signature.images][0], tuple(labels), targets)
    leaves = list(_leaves(answer))
    wanted, given = len(signature.specs), len(leaves)
    dims = len(signature.specs[signature.images].dims)
    if wanted == 1 and given == count and all(leaf.dim() == dims - 1 for leaf in leaves):
        _same_shapes(leaves)
        return Answer(torch.stack(leaves), (), {})
    if given == wanted + 2 and signature.labels is not None:
        place = list(signature.specs).index(signature.labels)
        labels = leaves[place : place + 3]
        leaves[place : place + 3] = [labels[0]]
    elif given != wanted:
        raise SubjectError(_other_parts(answer, wanted, given, signature))
    named = dict(zip(signature.specs, leaves, strict=True))
    if given == wanted:
        labels = [named[signature.labels]] if signature.labels else []
    targets = {what: named[name] for what, name in signature.targets.items()}
    return Answer(named[signature.images], tuple(labels), targets)


def _leaves(value: Any) -> Iterator[Tensor]:
    """Tensors and numbers of nested tuples, lists and dicts, in order; subclasses made plain."""
    if isinstance(value, Tensor):
        yield value.detach().as_subclass(Tensor)
    elif isinstance(value, (bool, int, float, np.number)):
        yield torch.as_tensor(value, dtype=torch.float64)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _leaves(part)
    else:
        raise SubjectError(
            f"returned {type(value).__module__}.{type(value).__qualname__} where a tensor is "
            "expected; declare a function that converts it, and what it takes, to tensors"
        )


def _same_shapes(leaves: list[Tensor]) -> None:
    shapes = {tuple(leaf.shape) for leaf in leaves}
    if len(shapes) > 1:
        raise SubjectError(f"returned a list of images of several shapes: {sorted(shapes)}")


def _other_parts(answer: Any, wanted: int, given: int, signature: Signature) -> str:
    kind = type(answer).__qualname__
    went_in = ", ".join(signature.specs)
    return (
        f"returned {given} tensors (in a {kind}) for {wanted} that went in ({went_in}); an "
        "augmentation returns what it takes, in that order or in a dict of those names, or "
        "(images, y_a, y_b, λ) for pairs of labels. Declare all that it takes as inputs"
    )


def weights_of(labels: tuple[Tensor, ...], classes: int) -> Tensor:
    """Labels of any format as weights of the classes, [b, k] float64.

    Ids are one-hot; (y_a, y_b, λ) is λ y_a + (1 − λ) y_b, with one λ or one for each row.
    """
    if len(labels) == 3:
        first, second = (weights_of((part,), classes) for part in labels[:2])
        share = labels[2].double().reshape(-1, 1).to(first.device)
        return share * first + (1 - share) * second
    (label,) = labels
    if label.is_floating_point() and label.dim() and label.shape[-1] == classes:
        return label.double().reshape(-1, classes)
    flat = label.reshape(-1)
    if label.is_floating_point() and not bool((flat == flat.round()).all()):
        raise SubjectError(
            f"returned labels of shape {tuple(label.shape)} with fractions; weights of {classes} "
            f"classes have shape (b, {classes})"
        )
    ids = flat.long()
    if not bool(((ids >= 0) & (ids < classes)).all()):
        raise SubjectError(f"returned labels outside 0 … {classes - 1}: {ids.unique().tolist()}")
    return F.one_hot(ids, classes).double()
