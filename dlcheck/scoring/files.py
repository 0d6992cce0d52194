"""Features in files: `.npy`, `.npz` and `.pt`, read with one clear error, and written."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlcheck.errors import UsageError

_TORCH = "torch.save of a tensor, or of a dict of tensors,"
_WRITTEN = {
    ".npy": "numpy.save of an array of numbers",
    ".npz": "numpy.savez of arrays of numbers",
    ".pt": _TORCH,
    ".pth": _TORCH,
}
SUFFIXES = tuple(_WRITTEN)
LOGITS, FEATURES = "logits", "features"  # the names under which rows are written


@dataclass(frozen=True, slots=True)
class Rows:
    """Features [n, d] of a file, under which name they stood; or only their moments.

    `moments` is (mean [d], covariance [d, d]), as pytorch-fid writes its statistics.
    """

    values: Tensor | None
    named: str = ""
    moments: tuple[Tensor, Tensor] | None = None

    @property
    def width(self) -> int:
        """Numbers of a row."""
        if self.values is not None:
            return self.values.shape[1]
        return len(self.moments[0]) if self.moments is not None else 0


def is_features(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read_rows(path: Path) -> Rows:
    """The features of a file. Raises UsageError for what is no matrix of finite numbers."""
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    arrays = _arrays(path)
    if {"mu", "sigma"} <= set(arrays):
        mean, covariance = (_numbers(path, name, arrays[name]) for name in ("mu", "sigma"))
        return Rows(None, moments=(mean, covariance))
    name = _chosen(path, arrays)
    values = _numbers(path, name, arrays[name])
    if values.dim() != 2 or not values.numel():
        raise UsageError(
            f"{path} holds {list(values.shape)} numbers; features are rows [n, d], as "
            "features.flatten(1)"
        )
    bad = ~values.isfinite().all(1)
    if bool(bad.any()):
        raise UsageError(
            f"{path}: {int(bad.sum())} of {len(values)} rows hold NaN or infinity, the first is "
            f"row {int(bad.nonzero()[0])}; leave them out, or find what made them"
        )
    return Rows(values, name)


def _arrays(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix.lower() in (".pt", ".pth"):
            with warnings.catch_warnings(action="ignore"):  # as of layouts that are refused later
                loaded = torch.load(path, map_location="cpu", weights_only=True)
        else:
            loaded = np.load(path, allow_pickle=False)
            loaded = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except Exception as error:  # torch and NumPy raise what their formats' readers do
        reason = error.strerror if isinstance(error, OSError) else None
        raise UsageError(
            f"{path} cannot be read as features: "
            + (reason or f"a {path.suffix} file holds what {_WRITTEN[path.suffix.lower()]} writes")
        ) from None
    return loaded if isinstance(loaded, Mapping) else {"": loaded}


def _chosen(path: Path, arrays: Mapping[str, Any]) -> str:
    for name in (FEATURES, LOGITS):
        if name in arrays:
            return name
    if len(arrays) == 1:
        return str(next(iter(arrays)))
    shown = ", ".join(map(str, list(arrays)[:6]))
    raise UsageError(
        f"{path} holds {len(arrays)} arrays ({shown}{', …' if len(arrays) > 6 else ''}); name the "
        f"rows {FEATURES!r}, or write them alone"
    )


def _numbers(path: Path, name: str, value: Any) -> Tensor:
    where = f"{path}: {name}" if name else str(path)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiu":
            raise UsageError(f"{where} holds {value.dtype}, and no real numbers")
        with np.errstate(over="ignore"):  # infinity is told of later
            value = torch.from_numpy(np.ascontiguousarray(value, dtype=_native(value)))
    if not isinstance(value, Tensor) or value.is_complex() or value.dtype == torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"{where} holds {kind}, and no real numbers")
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
        raise UsageError(f"{where} is no plain dense tensor with values; save it as x.to_dense()")
    # Of one byte, torch knows not even which are finite.
    small = value.is_floating_point() and value.dtype.itemsize < 2
    return value.detach().float() if small else value.detach()


def _native(array: np.ndarray[Any, np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype in this machine's byte order; one that torch lacks as int64 or float64."""
    dtype = array.dtype
    if dtype.kind == "u" and dtype.itemsize > 1:
        fits = dtype.itemsize < 8 or not array.size or array.max() <= np.iinfo(np.int64).max
        return np.dtype(np.int64 if fits else np.float64)
    return np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")


def check_writable(path: Path) -> None:
    """Raise UsageError for a file that could not be written after the work is done."""
    if not is_features(path):
        raise UsageError(f"features are written as {', '.join(SUFFIXES)}, not {path.name!r}")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist")


def write_rows(path: Path, values: Tensor, name: str) -> None:
    """Write rows [n, d] in the format of the file's ending."""
    if path.suffix.lower() == ".npy":
        np.save(path, values.numpy())
    elif path.suffix.lower() == ".npz":
        arrays: dict[str, Any] = {name: values.numpy()}
        np.savez(path, **arrays)
    else:
        torch.save({name: values}, path)
