"""Real data that installed packages carry, as tensors: nothing is ever downloaded.

scikit-learn's digits, breast_cancer and diabetes; scikit-image's photographs. Loaded once a
process; each call returns its own copies.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with their targets: x [n, d] float64, y [n] int64 (classes) or float64 (values)."""

    x: Tensor
    y: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Table:
        y = self.y.to(device=device, dtype=dtype if self.y.is_floating_point() else self.y.dtype)
        return Table(self.x.to(device=device, dtype=dtype), y)

    def split(self, rows: int, seed: int = 0) -> tuple[Table, Table]:
        """A seeded shuffle cut after `rows` rows: (train, test)."""
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(seed))
        first, rest = order[:rows], order[rows:]
        return Table(self.x[first], self.y[first]), Table(self.x[rest], self.y[rest])


def digits() -> Table:
    """1797 handwritten digits: x [1797, 64] in [0, 1], y [1797] in 0…9.

    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    x, y = _digits()
    return Table(x.clone(), y.clone())


def breast_cancer() -> Table:
    """569 tumours: x [569, 30] standardised (population), y [569] in {0, 1}.

    Source: Wolberg et al., Breast Cancer Wisconsin (Diagnostic), UCI, 1995.
    """
    x, y = _breast_cancer()
    return Table(x.clone(), y.clone())


def diabetes() -> Table:
    """442 patients: x [442, 10] and y [442] standardised (population), so that no intercept is
    needed.

    Source: Efron et al., Least Angle Regression, Annals of Statistics 32(2), 2004.
    """
    x, y = _diabetes()
    return Table(x.clone(), y.clone())


def photographs(side: int = 64) -> Tensor:
    """Colour photographs that scikit-image carries: [n, 3, side, side] float64 in [0, 1].

    The middle square of each, averaged down to `side` pixels.
    """
    return torch.nn.functional.interpolate(
        _photographs(), size=(side, side), mode="bilinear", antialias=True, align_corners=False
    ).clamp(0, 1)


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    """From the file that scikit-learn ships: importing that takes ten times as long as reading."""
    found = importlib.util.find_spec("sklearn")
    folder = Path(found.origin).parent if found and found.origin else Path()
    file = folder / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        rows = np.loadtxt(file, delimiter=",")
        x, y = rows[:, :-1], rows[:, -1].astype(np.int64)
    else:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16.0, dtype=torch.float64), torch.tensor(y)


@functools.cache
def _breast_cancer() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float64), torch.tensor(y)


@functools.cache
def _diabetes() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True, scaled=False)
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    return torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)


@functools.cache
def _photographs() -> Tensor:
    from skimage import data

    images = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        try:
            image = np.asarray(getattr(data, name)())
        except (FileNotFoundError, OSError, ModuleNotFoundError, AttributeError):
            continue  # not shipped with this release of scikit-image, and nothing is downloaded
        images.append(_middle_square(image))
    return torch.stack(images)


def _middle_square(image: np.ndarray) -> Tensor:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = torch.tensor(image[top : top + side, left : left + side, :3]).permute(2, 0, 1)
    return torch.nn.functional.interpolate(
        square[None].double() / 255, size=(256, 256), mode="bilinear", antialias=True
    )[0]
