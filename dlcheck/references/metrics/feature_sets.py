"""What a distance of two feature sets asks of them, said before any work is done."""

from __future__ import annotations

import torch
from torch import Tensor


def compared_sets(first: Tensor, second: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Two sets of rows [n, d] and [m, d] that can be compared, n, m ≥ least, as they are.

    Integers and half types are taken, and computed with in float64. Raises TypeError for what is
    no real tensor; ValueError for another number of axes, other widths or devices, too few rows.
    NaN and infinity show in a mean: `must_be_finite` tells of them then.
    """
    for name, rows in (("first", first), ("second", second)):
        _must_be_rows(name, rows, least)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"the first set has {first.shape[1]} features and the second {second.shape[1]}; "
            "both must come from the same layer of the same network"
        )
    if first.device != second.device:
        raise ValueError(
            f"the first set is on {first.device} and the second on {second.device}; move one of "
            "them with .to()"
        )
    return first, second


def _must_be_rows(name: str, rows: Tensor, least: int) -> None:
    if not isinstance(rows, Tensor):
        raise TypeError(
            f"the {name} set is a {type(rows).__name__}, not a tensor; torch.as_tensor makes one "
            "of an array"
        )
    if rows.dtype.is_complex or rows.dtype == torch.bool:
        raise TypeError(f"the {name} set holds {rows.dtype}, and features are real numbers")
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(
            f"the {name} set has the shape {tuple(rows.shape)}; it must be [rows, features] with "
            "at least one feature: pool or flatten each picture's features to one row"
        )
    if len(rows) < least:
        raise ValueError(
            f"the {name} set has {len(rows)} row{'' if len(rows) == 1 else 's'}, and this needs "
            f"at least {least}: give more pictures"
        )


def must_be_finite(name: str, rows: Tensor) -> None:
    """Raises ValueError with the first row that holds NaN or infinity, if the sum does.

    A sum is one read of the rows; only where it is not finite are the rows looked through.
    """
    if bool(torch.isfinite(rows.sum(dtype=torch.float64))):
        return
    bad = (~torch.isfinite(rows)).any(1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"the {name} set holds NaN or infinity in {int(bad.sum())} of {len(rows)} rows, the "
            f"first of them row {first}: look at the picture and the network that made it"
        )


def copied(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets in float64, less the first row of the first: a common offset is gone exactly."""
    origin = first[0].double()
    return first.double() - origin, second.double() - origin
