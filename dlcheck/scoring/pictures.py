"""Images of a folder: found, refused for one clear reason, decoded and resized.

Decoded with Pillow to RGB in [0, 1]. Resized channel by channel in float32 with an antialiasing
filter whose width grows with the factor, as Pillow does and `clean-fid` asks for; so images of any
sizes may be mixed.
Source: Parmar, Zhang & Zhu, On Aliased Resizing and Surprising Subtleties in GAN Evaluation,
CVPR 2022, §3.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dlcheck.errors import UsageError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_READERS = min(4, os.cpu_count() or 1)
_EIGHT_BITS = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "LAB")
_NAMED = 3

Tell = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How images become tensors. `size` is [height, width], or None to leave them."""

    alpha: str = "refuse"  # or "drop"
    size: tuple[int, int] | None = None
    filter: str = "bicubic"
    skip_unreadable: bool = False

    @property
    def words(self) -> str:
        if self.size is None:
            return "none"
        height, width = self.size
        return f"{self.filter}, antialiased (Pillow, as clean-fid), to {height} × {width}"


@dataclass(frozen=True, slots=True)
class Pictures:
    """The readable images of a folder, in the order of their names, and what was met."""

    folder: Path
    paths: tuple[Path, ...]
    sizes: Counter[tuple[int, int]]  # (height, width) → how many
    notes: tuple[str, ...]

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.folder)) if self.folder.is_dir() else path.name


def found(where: Path, decoding: Decoding, tell: Tell) -> Pictures:
    """Every image below a folder, each decoded once before any work is spent on them.

    Raises UsageError where there is none, where one cannot be read (unless it is to be skipped)
    and where one has an alpha channel that is not to be dropped.
    """
    paths = _listed(where)
    broken: list[tuple[Path, str]] = []
    transparent, grey, kept = [], [], []
    sizes: Counter[tuple[int, int]] = Counter()
    with ThreadPoolExecutor(_READERS) as pool:
        for number, (path, looked) in enumerate(zip(paths, pool.map(_look, paths), strict=True)):
            tell(number + 1, len(paths), f"images of {where} read")
            if isinstance(looked, str):
                broken.append((path, looked))
                continue
            mode, height, width = looked
            kept.append(path)
            sizes[height, width] += 1
            if mode.endswith("A"):
                transparent.append(path)
            if mode in ("1", "L", "LA"):
                grey.append(path)
    notes = _noted(where, broken, transparent, grey, decoding)
    if not kept:
        raise UsageError(f"none of the {len(paths)} images of {where} can be read")
    return Pictures(where, tuple(kept), sizes, notes)


def _listed(where: Path) -> list[Path]:
    if where.is_file():
        return [where]
    if not where.is_dir():
        raise UsageError(f"{where} does not exist: give a folder of images or a file of features")
    paths = [
        path
        for path in sorted(where.rglob("*"))
        if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith(".")
    ]
    if not paths:
        raise UsageError(f"{where} holds no images ({', '.join(EXTENSIONS)}), in no subfolder")
    return paths


def _look(path: Path) -> tuple[str, int, int] | str:
    """(mode, height, width) of an image that decodes to its end, or why it does not."""
    try:
        with Image.open(path) as image:
            image.load()
            mode = "RGBA" if image.has_transparency_data else image.mode
            if image.mode not in _EIGHT_BITS:
                return f"its mode {image.mode} has more than 8 bits a channel"
            return mode, image.height, image.width
    except UnidentifiedImageError:
        return "no image that Pillow knows"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)


def _noted(
    where: Path,
    broken: Sequence[tuple[Path, str]],
    transparent: Sequence[Path],
    grey: Sequence[Path],
    decoding: Decoding,
) -> tuple[str, ...]:
    notes = []
    if broken:
        named = "; ".join(f"{path.name}: {why}" for path, why in broken[:_NAMED])
        text = f"{_count(broken, 'image')} of {where} cannot be read: {named}{_more(broken)}"
        if not decoding.skip_unreadable:
            raise UsageError(f"{text}. Mend or remove, or leave them out with --skip-unreadable")
        notes.append(f"left out: {text}")
    if transparent:
        text = f"{_count(transparent, 'image')} of {where} with an alpha channel"
        if decoding.alpha != "drop":
            raise UsageError(
                f"{text}, as {transparent[0].name}: what lies behind it is not said. Paste them on "
                "a background, or ignore it with --alpha drop"
            )
        notes.append(f"{text}, which is ignored")
    if grey:
        notes.append(f"{_count(grey, 'grey image')} of {where} repeated over three channels")
    return tuple(notes)


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'s' if len(items) != 1 else ''}"


def _more(items: Sequence[object]) -> str:
    return f"; and {len(items) - _NAMED} more" if len(items) > _NAMED else ""


def batches(paths: Sequence[Path], decoding: Decoding, size: int) -> Iterator[Tensor]:
    """Images [b, 3, h, w] float32 in [0, 1], `size` at a time. All of one size, or resized."""
    with ThreadPoolExecutor(_READERS) as pool:
        starts = range(0, len(paths), size)
        coming: list[Future[Tensor]] = []
        for start in (*starts, len(paths)):
            # The next batch is decoded while this one is used.
            batch, chosen = coming, paths[start : start + size]
            coming = [pool.submit(decoded, path, decoding) for path in chosen]
            if batch:
                yield torch.stack([each.result() for each in batch])


def decoded(path: Path, decoding: Decoding) -> Tensor:
    """One image [3, h, w] float32 in [0, 1]."""
    with Image.open(path) as image:
        has_alpha = image.has_transparency_data
        rgb = (image.convert("RGBA") if has_alpha else image).convert("RGB")
    if decoding.size is None or decoding.size == (rgb.height, rgb.width):
        pixels = np.array(rgb, dtype=np.float32)
    else:
        pixels = _resized(rgb, decoding)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


def _resized(image: Image.Image, decoding: Decoding) -> np.ndarray:
    """In float32 and cut off at 0 and 255: rounding to bytes in between would add noise."""
    assert decoding.size is not None
    height, width = decoding.size
    channels = [
        np.asarray(
            Image.fromarray(np.asarray(channel, dtype=np.float32)).resize(
                (width, height), FILTERS[decoding.filter]
            )
        )
        for channel in image.split()
    ]
    return np.stack(channels, axis=-1).clip(0, 255)
