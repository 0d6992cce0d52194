"""PSNR, SSIM, MS-SSIM, FSIM and LPIPS against their peers: time in one run, and accuracy.

    python benchmarks/image_metrics.py --output reports/metrics_images.md

16 colour photographs of 256² in float32 against noisy copies, one thread. Every round times each
implementation once, in turn; a ratio is the median over rounds of peer / dlcheck. Peers that are
not installed are left out.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from markdown import Table, circumstances, replace_section, section
from torch import Tensor

from dlcheck.checks.metrics.image_formulas import Definition
from dlcheck.datasets import photographs
from dlcheck.references.metrics.fsim import fsim
from dlcheck.references.metrics.lpips import LPIPS, PackageLPIPS
from dlcheck.references.metrics.ms_ssim import ms_ssim
from dlcheck.references.metrics.psnr import psnr
from dlcheck.references.metrics.ssim import ssim

Metric = Callable[[Tensor, Tensor], Tensor]
Peers = Mapping[str, Metric]


def module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def peers() -> dict[str, Peers]:
    """Metric → name → implementation; dlcheck's own comes first."""
    found: dict[str, dict[str, Metric]] = {
        "PSNR": {"dlcheck": functools.partial(psnr, data_range=1.0)},
        "SSIM": {"dlcheck": functools.partial(ssim, data_range=1.0)},
        "MS-SSIM": {"dlcheck": functools.partial(ms_ssim, data_range=1.0)},
        "FSIM": {"dlcheck": functools.partial(fsim, data_range=1.0)},
    }
    for name, metric, peer in (*_of_piq(), *_of_torchmetrics(), *_of_others()):
        found[metric][name] = peer
    for net in ("alex", "squeeze", "vgg"):
        found[f"LPIPS ({net})"] = _lpips(net)
    return found


def _of_piq() -> Iterator[tuple[str, str, Metric]]:
    if piq := module("piq"):
        fixed = {"data_range": 1.0, "reduction": "none"}
        yield "piq", "PSNR", functools.partial(piq.psnr, **fixed)
        yield "piq", "SSIM", functools.partial(piq.ssim, **fixed)
        yield "piq", "MS-SSIM", functools.partial(piq.multi_scale_ssim, **fixed)
        yield "piq", "FSIM", functools.partial(piq.fsim, **fixed)


def _of_torchmetrics() -> Iterator[tuple[str, str, Metric]]:
    if tm := module("torchmetrics.functional.image"):
        fixed = {"data_range": 1.0, "reduction": "none"}
        yield (
            "torchmetrics",
            "PSNR",
            functools.partial(tm.peak_signal_noise_ratio, dim=(1, 2, 3), **fixed),
        )
        single, several = (
            getattr(tm, f"{scales}structural_similarity_index_measure")
            for scales in ("", "multiscale_")
        )
        yield "torchmetrics", "SSIM", functools.partial(single, **fixed)
        yield "torchmetrics", "MS-SSIM", functools.partial(several, **fixed)


def _of_others() -> Iterator[tuple[str, str, Metric]]:
    if pm := module("pytorch_msssim"):
        fixed = {"data_range": 1.0, "size_average": False}
        yield "pytorch-msssim", "SSIM", functools.partial(pm.ssim, **fixed)
        yield "pytorch-msssim", "MS-SSIM", functools.partial(pm.ms_ssim, **fixed)
    if sk := module("skimage.metrics"):
        gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        yield (
            "scikit-image",
            "SSIM",
            _by_image(sk.structural_similarity, channel_axis=2, data_range=1.0, **gaussian),
        )
        yield "scikit-image", "PSNR", _by_image(sk.peak_signal_noise_ratio, data_range=1.0)


def _by_image(function: Callable[..., float], **fixed: Any) -> Metric:
    def call(x: Tensor, y: Tensor) -> Tensor:
        images = (np.ascontiguousarray(z.permute(0, 2, 3, 1).numpy()) for z in (x, y))
        return torch.tensor([function(a, b, **fixed) for a, b in zip(*images, strict=True)])

    return call


def _lpips(net: str) -> dict[str, Metric]:
    """On one backbone with random weights of one seed; images from 0 to 1 for all."""
    own, package = LPIPS(net, interval=(0, 1)), PackageLPIPS(net)
    found: dict[str, Metric] = {
        "dlcheck": own,
        "lpips": lambda x, y: package(2 * x - 1, 2 * y - 1).flatten(),
    }
    return found


def images(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Photographs [count, 3, side, side] in [0, 1] and noisy copies, float64."""
    photos = photographs(side)
    x = photos.repeat(-(-count // len(photos)), 1, 1, 1)[:count]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return x, (x + 0.05 * noise).clamp(0, 1)


def timed(found: Peers, x: Tensor, y: Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of every round, the implementations in turn; one round before, unmeasured."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds + 1):
        for name, metric in found.items():
            started = time.perf_counter()
            metric(x, y)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def speed(options: argparse.Namespace) -> Table:
    x, y = (z.float() for z in images(options.images, options.side))
    rows: list[list[object]] = []
    for metric, found in peers().items():
        seconds = timed(found, x, y, options.rounds)
        own = seconds["dlcheck"]
        for name, taken in seconds.items():
            ratios = [b / a for a, b in zip(own, taken, strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            ratio = f"{statistics.median(ratios):.2f}"
            milliseconds = 1e3 * statistics.median(taken)
            rows.append([metric, name, f"{milliseconds:.1f}", ratio, spread])
    return Table(
        title=f"{options.images} colour images of {options.side}², float32",
        columns=("metric", "implementation", "ms", "× dlcheck's time", "over the rounds"),
        rows=rows,
    )


def accuracy(options: argparse.Namespace) -> Table:
    """Against the definition in float64, computed by plain convolutions in the checks."""
    x, y = images(4, options.side)
    texture = torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    bright = 0.985 + 1e-2 * texture
    flat = torch.full_like(x, 0.6)
    pairs = {
        "photographs": (x, y),
        "flat 0.6 and 0.6001": (flat, flat + 1e-4),
        "bright, texture of 0.01": (bright, (bright + 1e-4 * (y - x) / 0.05).clamp(0, 1)),
    }
    rows: list[list[object]] = []
    for metric, formula in (("PSNR", "psnr"), ("SSIM", "ssim"), ("MS-SSIM", "ms_ssim")):
        definition = Definition(formula=formula, data_range=1.0)
        for name, implementation in peers()[metric].items():
            errors: list[object] = []
            for a, b in pairs.values():
                narrow = (a.float(), b.float())
                wide = (narrow[0].double(), narrow[1].double())
                for given in (wide, narrow):
                    error = min(
                        float((implementation(*given).double() - right).abs().max())
                        for right in definition.values(*wide)
                    )
                    errors.append(f"{error:.0e}")
            rows.append([metric, name, *errors])
    columns = [f"{name}, {dtype}" for name in pairs for dtype in ("float64", "float32")]
    return Table(
        title="Largest difference from the definition in float64",
        columns=("metric", "implementation", *columns),
        rows=rows,
        note="torchmetrics averages SSIM over a reflected border too, which the definition does "
        "not have; pytorch-msssim keeps its window in float32. PSNR in dB.",
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("reports/metrics_images.md"))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    with torch.no_grad():
        tables = [speed(options), accuracy(options)]
    written = section("Time and accuracy", circumstances(torch.device("cpu")), tables)
    replace_section(options.output, "Metrics of image pairs", written)


if __name__ == "__main__":
    main()
