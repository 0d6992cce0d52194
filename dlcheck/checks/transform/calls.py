"""A transform called on train and test rows, and its answer as two arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlcheck.domains import Input, size_bounds
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.isolation import seed_everything
from dlcheck.model import Evidence
from dlcheck.strategies import Case, materialize, stream_seed
from dlcheck.subjects import Implementation

Rows = NDArray[Any]
_SIZES = ((12, 7), (9, 12), (25, 5))  # rows of train and test
_REGIMES = ("normal", "far", "outliers")
CHANGED = 1e3  # test rows that must have no influence are made so many times as large
_ROUNDED = 2.0**-33  # 1e-10: a sum that is grouped otherwise, 10⁵ roundings; a leak is 10³ large


@dataclass(frozen=True, slots=True)
class Pair:
    """Rows to fit on and rows to apply to, [n, …] and [m, …]; `like` draws further test rows."""

    train: Rows
    test: Rows
    others: Rows  # other test rows of the same domain, larger where the domain allows it


def pairs(subject: Implementation, case: Case) -> Iterator[Pair]:
    """Three sizes and regimes of declared rows."""
    (first, spec), second = _specs(case)
    for position, (n, m) in enumerate(_SIZES):
        regime = _REGIMES[position] if spec.element == "float" and spec.low is None else "normal"
        salt = stream_seed(case.recipe.seed, str(position)) % 2**31
        sizes = _bounded(subject, case, spec, second, n, m)
        draw = {first: (spec, regime), "test": (second, regime), "others": (second, "normal")}
        made = {
            name: _values(case, one, how, sizes, salt + place)
            for place, (name, (one, how)) in enumerate(draw.items())
        }
        train, test, others = made.values()
        if not spec.is_floating:  # only what was seen in train can be known
            rng = np.random.default_rng(salt)
            test, others = (train[rng.integers(len(train), size=len(x))] for x in (test, others))
        elif spec.element == "float" and spec.low is None:
            others = CHANGED * others
        yield Pair(train, test, others)


def _specs(case: Case) -> tuple[tuple[str, Input], Input]:
    names = list(case.specs)
    first = case.specs[names[0]]
    second = case.specs[names[1]] if len(names) > 1 else first
    if not all(spec.dims and spec.dims[0].name for spec in (first, second)):
        raise NotApplicable("the number of rows is fixed; name the first dim of the inputs")
    return (names[0], first), second


def _bounded(
    subject: Implementation, case: Case, first: Input, second: Input, n: int, m: int
) -> dict[str, int]:
    sizes = dict(case.sizes)
    for spec, rows in ((first, n), (second, m)):
        name = spec.dims[0].name
        low, high = size_bounds(subject.options, name) or (1, rows)
        sizes[name] = min(max(rows, low), high)
    return sizes


def _values(case: Case, spec: Input, regime: str, sizes: dict[str, int], seed: int) -> Rows:
    recipe = replace(case.recipe, sizes=sizes, regimes={"rows": regime}, layouts={}, seed=seed)
    made = materialize(recipe, {"rows": spec}, case.device, case.dtype)["rows"]
    return np.ascontiguousarray(made.detach().cpu().numpy())


def answer(subject: Implementation, train: Rows, test: Rows) -> tuple[Rows, Rows]:
    """What becomes of both, as arrays; the random streams start alike at every call."""
    return read(given_back(subject, as_given(subject, train), as_given(subject, test)))


def given_back(subject: Implementation, train: Any, test: Any) -> tuple[Any, Any]:
    """The two parts of the answer as they come."""
    seed_everything(0)
    found = subject(train, test)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise SubjectError(
            f"{subject.declared.name} returned {type(found).__name__}; a subject of kind "
            "'transform' is called f(train, test) and returns the pair (train, test)"
        )
    return found[0], found[1]


def as_given(subject: Implementation, rows: Rows) -> Any:
    """A copy of the rows in the declared kind of array."""
    default = "numpy" if subject.follows_its_methods else "torch"
    arrays = subject.options.get("arrays", default)
    rows = np.array(rows, order="C")
    if arrays == "torch":
        return torch.tensor(rows)
    return rows if arrays == "numpy" else rows.tolist()


def read(found: tuple[Any, Any]) -> tuple[Rows, Rows]:
    train, test = (_array(part) for part in found)
    return train, test


def _array(part: Any) -> Rows:
    if isinstance(part, Tensor):
        return part.detach().cpu().numpy()
    dense = getattr(part, "toarray", None)  # a sparse matrix of scipy
    array: Rows = np.asarray(dense() if callable(dense) else part)
    if array.ndim == 0:
        raise SubjectError(f"a transform returned {type(part).__name__}, which has no rows")
    return array


def unequal(got: Rows, expected: Rows) -> float:
    """The largest difference, 0 where all is equal (NaN to NaN too); inf for other shapes."""
    if got.shape != expected.shape:
        return float("inf")
    if got.dtype.kind not in "fiub" or expected.dtype.kind not in "fiub":
        return float((got != expected).sum())
    a, b = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.where((a == b) | ((a != a) & (b != b)), 0.0, np.abs(a - b))
    return float(np.nan_to_num(off, nan=np.inf).max(initial=0.0))


def size_of(rows: Rows) -> float:
    """The largest finite |value|; 1 for what is no number."""
    if rows.dtype.kind not in "fiub" or not rows.size:
        return 1.0
    return float(np.abs(np.nan_to_num(rows.astype(np.float64), posinf=0, neginf=0)).max()) or 1.0


def sameness(what: str, off: float, size: float, *, where: str = "", cause: str = "") -> Evidence:
    """Two answers that are the same numbers, but for how a sum may be grouped."""
    return Evidence(
        error=off,
        bound=_ROUNDED * size,
        signal=size,
        what=what,
        where=where,
        cause=cause if off > _ROUNDED * size else "",
    )
