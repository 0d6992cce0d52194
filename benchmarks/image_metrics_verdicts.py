"""What dlcheck says of right and of wrong metrics of image pairs: peers, and bugs.

    python benchmarks/image_metrics_verdicts.py --output reports/metrics_images.md

Every implementation is declared as its author or its documentation would. Peers that are not
installed are left out.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from image_metrics import module
from markdown import Table, circumstances, replace_section, section

import dlcheck
from dlcheck.model import Verdict
from dlcheck.references.metrics.lpips import PackageLPIPS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from wrong_image_metrics import (
    DISTANCE,
    FSIM,
    IMAGES,
    MS_SSIM,
    PSNR,
    SSIM,
    WRONG,
    found_by,
)  # fmt: skip

Declared = tuple[str, Any, Mapping[str, Any]]
SIMILARITY: dict[str, Any] = {
    "inputs": IMAGES,
    "traits": ("symmetric",),
    "options": {"better": "higher", "perfect": 1.0},
}
ERROR: dict[str, Any] = {**SIMILARITY, "options": {"better": "lower", "perfect": 0.0}}
REFLECTED = {"size": 11, "deviation": 1.5, "padding": "reflect"}
BY_NAME = {"data_range": "data_range"}
# What the documentation says, or the code shows, where a right-looking peer fails.
REASONS: Mapping[str, str] = {
    "every_pair_sends_a_finite_gradient": "the gradient is NaN where a part of an image is flat "
    "(the root of 0)",
    "a_missing_pixel_gives_no_number": "a NaN is sorted away with the best values",
    "an_image_scores_perfectly_with_itself": "0/0 in flat or black windows: NaN, or 0 instead of 1",
    "value_follows_its_formula": "the last of the scales averages the reflected border in, "
    "the others do not",
}  # fmt: skip

OF_ONE: Mapping[str, str] = {
    "torchmetrics VIF, 0 to 1": "its noise variance of 2 is for 0 to 255, and there is no "
    "data_range: a noisy copy of 0 to 1 scores above 1",
    "torchmetrics SAM": "NaN of black pixels (0/0) and of equal ones (arccos of 1 + ε)",
}


def declared(base: Mapping[str, Any], *without: str, **options: Any) -> dict[str, Any]:
    """A declaration without some traits and with further options; None removes one."""
    kept = {k: v for k, v in {**base["options"], **options}.items() if v is not None}
    traits = tuple(t for t in base["traits"] if t not in without)
    return {**base, "traits": traits, "options": kept}


def peers() -> Iterator[Declared]:
    yield from _of_piq()
    yield from _of_torchmetrics()
    yield from _of_pytorch_msssim()
    yield from _of_scikit_image()
    for net in ("alex", "squeeze"):
        yield f"lpips.LPIPS ({net})", PackageLPIPS(net), DISTANCE


def _of_piq() -> Iterator[Declared]:
    if (piq := module("piq")) is None:
        return
    args = {"args": {"data_range": 1.0, "reduction": "none"}}
    yield "piq.psnr", piq.psnr, {**declared(PSNR, perfect=None, **BY_NAME), **args}
    yield "piq.ssim", piq.ssim, {**declared(SSIM, **BY_NAME), **args}
    loss = piq.SSIMLoss(data_range=1.0, reduction="none")
    as_loss = {"better": "lower", "perfect": 0.0, "range": [0, 2], "formula": None}
    yield "piq.SSIMLoss", loss, declared(SSIM, **as_loss)
    yield "piq.multi_scale_ssim", piq.multi_scale_ssim, {**declared(MS_SSIM, **BY_NAME), **args}
    yield "piq.fsim", piq.fsim, {**declared(FSIM, "grey_is_colour", **BY_NAME), **args}
    others = {
        "gmsd": ERROR,
        "multi_scale_gmsd": ERROR,
        "mdsi": declared(ERROR, "symmetric"),
        "haarpsi": SIMILARITY,
        "vsi": SIMILARITY,
        "srsim": declared(SIMILARITY, sizes={"h": [176, 176], "w": [192, 192]}),
        "dss": SIMILARITY,
        "vif_p": declared(SIMILARITY, "symmetric", distorted="x"),
    }
    for name, said in others.items():
        metric = functools.partial(getattr(piq, name), data_range=1.0, reduction="none")
        yield f"piq.{name}", metric, said


def _of_torchmetrics() -> Iterator[Declared]:
    if (tm := module("torchmetrics.image")) is None:
        return
    plain = module("torchmetrics.functional.image")
    args = {"args": {"data_range": 1.0}}
    mean = {"reduction": "mean", "window": REFLECTED, **BY_NAME}
    yield "torchmetrics PSNR", tm.PeakSignalNoiseRatio, {**declared(PSNR, **BY_NAME), **args}
    similarity = tm.StructuralSimilarityIndexMeasure
    yield "torchmetrics SSIM", similarity, {**declared(SSIM, **mean), **args}
    by_pair = {"args": {"data_range": 1.0, "reduction": "none"}}
    yield (
        "torchmetrics ssim",
        plain.structural_similarity_index_measure,
        {**declared(SSIM, window=REFLECTED, **BY_NAME), **by_pair},
    )
    yield (
        "torchmetrics MS-SSIM",
        tm.MultiScaleStructuralSimilarityIndexMeasure,
        {**declared(MS_SSIM, **{**mean, "window": None}), **args},
    )
    yield "torchmetrics UQI", tm.UniversalImageQualityIndex(), declared(SSIM, formula=None)
    yield "torchmetrics SAM", tm.SpectralAngleMapper(), ERROR
    yield "torchmetrics RMSE-SW", tm.RootMeanSquaredErrorUsingSlidingWindow(), ERROR
    asymmetric = declared(ERROR, "symmetric")
    yield "torchmetrics ERGAS", tm.ErrorRelativeGlobalDimensionlessSynthesis(), asymmetric
    yield "torchmetrics RASE", tm.RelativeAverageSpectralError(), asymmetric
    yield "torchmetrics SCC", tm.SpatialCorrelationCoefficient(), SIMILARITY
    fidelity = declared(SIMILARITY, "symmetric", distorted="x")
    yield "torchmetrics VIF, 0 to 1", tm.VisualInformationFidelity(), fidelity
    bytes_ = {name: "image[0:255] b c h w" for name in IMAGES}
    yield (
        "torchmetrics VIF, 0 to 255",
        tm.VisualInformationFidelity(),
        {**fidelity, "inputs": bytes_},
    )


def _of_pytorch_msssim() -> Iterator[Declared]:
    if (pm := module("pytorch_msssim")) is None:
        return
    args = {"args": {"data_range": 1.0, "size_average": False}}
    yield "pytorch_msssim.ssim", pm.ssim, {**declared(SSIM, **BY_NAME), **args}
    yield "pytorch_msssim.ms_ssim", pm.ms_ssim, {**declared(MS_SSIM, **BY_NAME), **args}
    three_channels = declared(SSIM, "grey_is_colour", **BY_NAME)
    yield "pytorch_msssim.SSIM", pm.SSIM, {**three_channels, **args}


def _of_scikit_image() -> Iterator[Declared]:
    adapter = "dlcheck.adapters.scikit_image:"
    uniform = declared(SSIM, "flat_at_identity", window={"size": 7}, ddof=1, **BY_NAME)
    args = {"data_range": 1.0}
    similarity = adapter + "structural_similarity"
    yield "skimage SSIM, defaults", similarity, {**uniform, "args": args}
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    published = declared(SSIM, "flat_at_identity", **BY_NAME)
    yield "skimage SSIM, Gaussian", similarity, {**published, "args": {**args, **gaussian}}
    ratio = adapter + "peak_signal_noise_ratio"
    yield "skimage PSNR", ratio, {**declared(PSNR, **BY_NAME), "args": args}


def failing(target: Any, said: Mapping[str, Any], profile: str) -> tuple[list[str], int, float]:
    """Checks that fail, how many pass, and the processor's seconds."""
    started = time.process_time()
    report = dlcheck.validate(target, kind="image_metric", device="cpu", profile=profile, **said)
    seconds = time.process_time() - started
    bad = (Verdict.FAILED, Verdict.ERRORED, Verdict.INCONCLUSIVE)
    passed = sum(o.verdict is Verdict.PASSED for o in report.outcomes)
    return [o.check for o in report.outcomes if o.verdict in bad], passed, seconds


def of_peers(profile: str) -> Table:
    rows: list[list[object]] = []
    for name, target, said in peers():
        found, passed, seconds = failing(target, said, profile)
        why = "; ".join(dict.fromkeys(REASONS[c] for c in found if c in REASONS))
        why = OF_ONE.get(name, why) if found else ""
        rows.append([name, passed, ", ".join(found) or "none", why, f"{seconds:.1f}"])
    alarmed = sum(row[2] != "none" for row in rows)
    return Table(
        title=f"Peers: {len(rows)}, of which {alarmed} fail a check",
        columns=("peer", "checks passed", "checks failed", "why", "CPU s"),
        rows=rows,
    )


def of_bugs(profile: str) -> Table:
    rows: list[list[object]] = []
    for name, (target, said) in WRONG.items():
        checks = {**said, "checks": [found_by(name)]}
        found, _, seconds = failing(target, checks, profile)
        rows.append([name, ", ".join(found) or "not found", f"{seconds:.1f}"])
    missed = sum(row[1] == "not found" for row in rows)
    return Table(
        title=f"Wrong metrics: {len(rows) - missed} of {len(rows)} found",
        columns=("bug", "found by", "CPU s of that check"),
        rows=rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="default")
    parser.add_argument("--output", type=Path, default=Path("reports/metrics_images.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tables = [of_peers(options.profile), of_bugs(options.profile)]
    where = circumstances(torch.device("cpu"))
    replace_section(
        options.output, "Metrics of image pairs", section("Right and wrong metrics", where, tables)
    )


if __name__ == "__main__":
    main()
