"""Judgements of people about image pairs, from a user's own copy: nothing is ever downloaded.

The Berkeley-Adobe Perceptual Patch Similarity set (BAPPS) asks which of two distorted patches is
more like a reference. Its folder `2afc/val` holds a folder for each kind of distortion
(traditional, cnn, superres, deblur, color, frameinterp) with `ref`, `p0`, `p1` (`.png`) and
`judge` (`.npy`: the share of people who chose p1).

Source: Zhang, Isola, Efros, Shechtman & Wang, The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric, CVPR 2018, section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_PARTS = ("ref", "p0", "p1", "judge")


@dataclass(frozen=True, slots=True)
class Triplets:
    """References with two distorted patches each [b, 3, h, w] in [0, 1], float64.

    `judgement` [b]: the share of people, 0 to 1, to whom the second is more like the reference.
    """

    reference: Tensor
    first: Tensor
    second: Tensor
    judgement: Tensor


def triplets(folder: str | Path, batch: int = 50) -> Iterator[Triplets]:
    """The triplets of a folder of BAPPS, of all kinds of distortion below it, in order of name.

    Raises FileNotFoundError where there is none, or one of its four files is missing.
    """
    places = sorted(_triplets_below(Path(folder)))
    if not places:
        raise FileNotFoundError(
            f"no triplets of BAPPS below {folder}: it holds folders with ref, p0, p1 and judge, as "
            "2afc/val of the published set"
        )
    for start in range(0, len(places), batch):
        yield _read(places[start : start + batch])


def _triplets_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """(folder of a kind of distortion, name without its suffix)."""
    for judge in folder.rglob("judge"):
        for file in judge.glob("*.npy"):
            yield judge.parent, file.stem


def _read(places: list[tuple[Path, str]]) -> Triplets:
    images: dict[str, list[Tensor]] = {part: [] for part in _PARTS[:3]}
    judged = []
    for folder, name in places:
        for part, found in images.items():
            found.append(_image(folder / part / f"{name}.png"))
        judged.append(_judgement(folder / "judge" / f"{name}.npy"))
    reference, first, second = (torch.stack(images[part]) for part in _PARTS[:3])
    return Triplets(reference, first, second, torch.tensor(judged, dtype=torch.float64))


def _judgement(path: Path) -> float:
    return float(np.load(path, allow_pickle=False).reshape(-1)[0])


def _image(path: Path) -> Tensor:
    from skimage.io import imread

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a triplet has ref, p0, p1 and judge")
    return torch.tensor(np.asarray(imread(path))[..., :3]).permute(2, 0, 1).double() / 255


def choices(distance: Callable[[Tensor, Tensor], Tensor], of: Triplets) -> Tensor:
    """The share of people who agree with a distance, per triplet [b].

    distance: images [b, 3, h, w] in [0, 1] → [b], lower is more alike. It chooses the nearer
    patch; a tie agrees with half. The mean over a set is its 2AFC score: 0.5 by chance.
    """
    first, second = (distance(of.reference, z).flatten() for z in (of.first, of.second))
    chooses = (second < first).double() + 0.5 * (second == first).double()
    return chooses * of.judgement + (1 - chooses) * (1 - of.judgement)


def two_alternative_score(
    distance: Callable[[Tensor, Tensor], Tensor], folder: str | Path, batch: int = 50
) -> float:
    """The 2AFC score of a distance on a copy of BAPPS: the mean share of people who agree."""
    found = [choices(distance, part) for part in triplets(folder, batch)]
    return float(torch.cat(found).mean())
