"""Which metrics can be computed by name: adding one is adding a row. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dlcheck.model import NOTHING

_REFERENCES = "dlcheck.references.metrics"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One metric: the reference behind it and what that is given.

    `takes` is `"sets"` (features [n, d] of two sets), `"classes"` (class predictions [n, k] of one
    set) or `"pairs"` (images [b, 3, h, w] in [0, 1], matched by name).
    """

    target: str
    takes: str
    summary: str
    keywords: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    names: tuple[str, ...] = ()  # what the first values of a tuple are; a mean is the value
    better: str = "lower"
    is_network: bool = False  # built once, with weights


TABLE: Mapping[str, Entry] = {
    "fid": Entry(
        target=f"{_REFERENCES}.frechet_distance:frechet_distance",
        takes="sets",
        summary="Fréchet distance of two sets of features",
    ),
    "kid": Entry(
        target=f"{_REFERENCES}.kernel_distance:kernel_inception_distance",
        takes="sets",
        summary="kernel distance (unbiased MMD², cubic kernel) of two sets of features",
        names=("mean",),  # of one set of all rows: no deviation
    ),
    "precision-recall": Entry(
        target=f"{_REFERENCES}.manifold:generative_precision_and_recall",
        takes="sets",
        summary="share of B in the manifold of A (precision), of A in that of B (recall)",
        names=("precision", "recall"),
        better="higher",
    ),
    "is": Entry(
        target=f"{_REFERENCES}.inception_score:inception_score",
        takes="classes",
        summary="Inception Score of one set of class predictions",
        names=("mean", "deviation", "whole"),
        better="higher",
    ),
    "psnr": Entry(
        target=f"{_REFERENCES}.psnr:psnr",
        takes="pairs",
        summary="peak signal-to-noise ratio in decibels",
        keywords={"data_range": 1.0},
        better="higher",
    ),
    "ssim": Entry(
        target=f"{_REFERENCES}.ssim:ssim",
        takes="pairs",
        summary="structural similarity",
        keywords={"data_range": 1.0},
        better="higher",
    ),
    "ms-ssim": Entry(
        target=f"{_REFERENCES}.ms_ssim:ms_ssim",
        takes="pairs",
        summary="structural similarity at five scales",
        keywords={"data_range": 1.0},
        better="higher",
    ),
    "fsim": Entry(
        target=f"{_REFERENCES}.fsim:fsim",
        takes="pairs",
        summary="feature similarity: phase congruency and gradients",
        keywords={"data_range": 1.0},
        better="higher",
    ),
    "lpips": Entry(
        target=f"{_REFERENCES}.lpips:LPIPS",
        takes="pairs",
        summary="learned perceptual distance",
        keywords={"interval": (0.0, 1.0)},
        is_network=True,
    ),
}

TAKEN: Mapping[str, str] = {
    "sets": "two folders, or two files of features [n, d]",
    "classes": "one folder, or one file of class predictions [n, k]",
    "pairs": "two folders of images with the same names, or two images",
}
