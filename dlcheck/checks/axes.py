"""Which axis is the batch, the time, the set: read from the names of the declared dims.

A dim has the same size wherever its name stands, so its name says which inputs share it and at
which axis, `batch_first` or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dlcheck.errors import NotApplicable
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BATCH = ("b", "batch", "batch_size", "bs")
_TIME = ("t", "time", "s", "seq", "sequence", "l", "length", "tokens", "steps")


def batch_dim(subject: Implementation, case: Case) -> str:
    """The name of the batch dim: `options.batch`, or b, batch, batch_size, bs, or n before c.

    Raises NotApplicable where no dim of the first input is known to be the batch, or where it
    stands twice in an input, in a multiple or in a count of labels.
    """
    stated = subject.options.get("batch")
    first = next(iter(case.specs.values()), None)
    names = [dim.name for dim in first.dims] if first is not None else []
    if stated is not None:
        name = str(stated)
    else:
        found = [dim for dim in names if dim.lower() in _BATCH]
        if not found and [dim.lower() for dim in names[:2]] == ["n", "c"]:
            found = names[:1]
        if not found:
            raise NotApplicable("no dim is known to be the batch; declare options.batch")
        name = found[0]
    if name not in names:
        raise NotApplicable(f"the first input has no dim {name!r}")
    axes_of(case, name)
    return name


def axes_of(case: Case, name: str) -> dict[str, int]:
    """Each input that has the dim, with its axis. Raises NotApplicable where it is no plain one."""
    found = {}
    for key, spec in case.specs.items():
        places = [axis for axis, dim in enumerate(spec.dims) if dim.name == name]
        if spec.count is not None and spec.count.name == name:
            raise NotApplicable(f"{key} counts {name}: its values are rows of the batch")
        if len(places) > 1 or any(spec.dims[axis].times != 1 for axis in places):
            raise NotApplicable(f"{name} is no plain axis of {key}")
        if places:
            found[key] = places[0]
    return found


def time_dim(subject: Implementation, case: Case) -> str:
    """The name of the time dim of the first input: by `options.axes`, or t, time, s, seq, …"""
    spec = next(iter(case.specs.values()))
    stated = stated_axes(subject, case)
    names = [spec.dims[axis].name for axis in stated]
    if not stated:
        names = [dim.name for dim in spec.dims if dim.name.lower() in _TIME]
    if not names or not names[0]:
        raise NotApplicable("no dim is known to be the time; declare options.axes")
    return names[0]


def stated_axes(subject: Implementation, case: Case) -> list[int]:
    """`options.axes` of the first input, numbers or names of dims, as axes from 0."""
    stated = subject.options.get("axes", ())
    dims = next(iter(case.specs.values())).dims
    names = [dim.name for dim in dims]
    axes = []
    for axis in [stated] if isinstance(stated, (int, str)) else stated:
        place = names.index(axis) if isinstance(axis, str) and axis in names else axis
        if not isinstance(place, int) or not -len(dims) <= place < len(dims):
            raise NotApplicable(f"options.axes names {axis!r}, which the first input does not have")
        axes.append(place % len(dims))
    return axes


def batch_axis_of(whole: Tensor, fewer: Tensor) -> int | None:
    """The axis that became shorter when rows were left out; None if not exactly one did."""
    if whole.dim() != fewer.dim():
        return None
    shorter = [a for a in range(whole.dim()) if whole.shape[a] != fewer.shape[a]]
    return shorter[0] if len(shorter) == 1 else None


def rows(
    inputs: Mapping[str, Tensor], axes: Mapping[str, int], index: Sequence[int]
) -> list[Tensor]:
    """The inputs with only these rows of the batch, in this order; the others as they are."""
    found = []
    for name, x in inputs.items():
        if name in axes:
            at = torch.tensor(list(index), dtype=torch.int64, device=x.device)
            found.append(x.index_select(axes[name], at))
        else:
            found.append(x.clone())
    return found
