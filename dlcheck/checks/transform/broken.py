"""Broken transforms: any transform with its train and test rows mixed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dlcheck.checks.transform.calls import read
from dlcheck.model import Mutant
from dlcheck.mutants import rebuilt

Apply = Callable[[Any, Any], tuple[Any, Any]]


def called(call: Callable[[Apply, Any, Any], tuple[Any, Any]]) -> Mutant:
    """A mutant that answers `call(apply, train, test)`; use as a decorator.

    `apply(train, test)` is the original, which takes and gives numpy arrays here.
    """

    def change(built: Any) -> Any:
        if not callable(built) or hasattr(built, "fit"):
            return _Refitted(built, call)

        def apply(train: Any, test: Any) -> tuple[Any, Any]:
            return read(built(torch.tensor(train), torch.tensor(test)))

        return lambda train, test: call(apply, *read((train, test)))

    return rebuilt(call.__name__, change)


class _Refitted:
    """An object whose rows are transformed by `call` with the original's fit and transform."""

    def __init__(self, built: Any, call: Callable[[Apply, Any, Any], tuple[Any, Any]]) -> None:
        self.built, self.call = built, call

    def apply(self, train: Any, test: Any) -> tuple[Any, Any]:
        self.built.fit(train)
        return read((self.built.transform(train), self.built.transform(test)))

    def __call__(self, train: Any, test: Any) -> tuple[Any, Any]:
        return self.call(self.apply, *read((train, test)))


@called
def fits_on_all_rows(apply: Apply, train: Any, test: Any) -> Any:
    """`scaler.fit(x)` before the split."""
    both = np.concatenate([train, test])
    out = apply(both, both)[0]
    return out[: len(train)], out[len(train) :]


@called
def fits_on_test(apply: Apply, train: Any, test: Any) -> Any:
    """The arguments changed places."""
    return apply(test, train)[1], apply(test, train)[0]


@called
def scales_train_by_the_largest_test_row(apply: Apply, train: Any, test: Any) -> Any:
    """`x / max(train.max(), test.max())`, so that test stays within bounds."""
    out, other = apply(train, test)
    largest = max(np.abs(train).max(), np.abs(test).max(initial=0))
    return out * (1 + 1e-3 * largest), other


@called
def centres_both_on_the_mean_of_both(apply: Apply, train: Any, test: Any) -> Any:
    mean = np.concatenate([train, test]).mean(0).mean()
    out, other = apply(train, test)
    return out - mean, other - mean


@called
def fits_test_by_itself(apply: Apply, train: Any, test: Any) -> Any:
    """`fit_transform` on test too."""
    return apply(train, train)[0], apply(test, test)[0]


@called
def smooths_along_the_rows(apply: Apply, train: Any, test: Any) -> Any:
    """A window over test rows: each sees its neighbour."""
    out, other = apply(train, test)
    return out, other + np.roll(other, 1, 0) / 2


@called
def subtracts_the_mean_of_test(apply: Apply, train: Any, test: Any) -> Any:
    out, other = apply(train, test)
    return out, other - other.mean(0)


@called
def sorts_the_test_rows(apply: Apply, train: Any, test: Any) -> Any:
    out, other = apply(train, test)
    return out, np.sort(other, 0)
