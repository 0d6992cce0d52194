"""Metrics of image pairs: references against definitions and peers, bad input, streams, checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import metrics as skimage_metrics
from skimage.io import imsave
from torch import Tensor
from wrong_image_metrics import (
    LEARNED,
    PSNR,
    SSIM,
    WRONG,
    Spoiled,
    found_by,
    ssim_with,
)

import dlcheck
from dlcheck.checks.metrics.image_distortions import compressed
from dlcheck.checks.metrics.image_formulas import Definition
from dlcheck.checks.metrics.image_gradients import Scale, slope_at_zero
from dlcheck.checks.metrics.image_pairs import Pictures, blur
from dlcheck.datasets import photographs
from dlcheck.human_judgements import triplets, two_alternative_score
from dlcheck.model import Verdict
from dlcheck.references.metrics.fsim import fsim
from dlcheck.references.metrics.image_streams import MeanOverPairs, StreamingPSNR
from dlcheck.references.metrics.lpips import LPIPS
from dlcheck.references.metrics.ms_ssim import halved, ms_ssim
from dlcheck.references.metrics.psnr import psnr
from dlcheck.references.metrics.ssim import averaged, ssim

Metric = Callable[..., Tensor]
METRICS: dict[str, Metric] = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "fsim": fsim}


def pair(
    height: int = 64, width: int = 80, noise: float = 0.1, count: int = 2
) -> tuple[Tensor, Tensor]:
    x = photographs(max(height, width))[:count, :, :height, :width]
    generator = torch.Generator().manual_seed(0)
    distorted = x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x, distorted.clamp(0, 1)


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["psnr", "ssim", "ms_ssim"])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_values_are_those_of_the_definition(formula: str, data_range: float) -> None:
    x, y = (data_range * z for z in pair(176, 192))
    definition = Definition(formula=formula, data_range=data_range)
    right = next(definition.values(x, y))
    got = METRICS[formula](x, y, data_range=data_range)
    torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(11, 11), (12, 75), (75, 12), (64, 139)])
def test_ssim_takes_sides_of_any_length(height: int, width: int) -> None:
    x, y = pair(height, width)
    right = next(Definition(formula="ssim", data_range=1.0).values(x, y))
    torch.testing.assert_close(ssim(x, y, data_range=1.0), right, rtol=1e-12, atol=1e-12)


def test_ssim_is_that_of_scikit_image() -> None:
    x, y = pair()
    kind = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    right = [
        skimage_metrics.structural_similarity(
            a.numpy(), b.numpy(), channel_axis=0, data_range=1.0, **kind
        )
        for a, b in zip(x, y, strict=True)
    ]
    torch.testing.assert_close(ssim(x, y, data_range=1.0), torch.tensor(right))


def test_ssim_of_two_constants() -> None:
    a, b = 0.6, 0.3
    x, y = (torch.full((1, 1, 16, 16), value, dtype=torch.float64) for value in (a, b))
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert float(ssim(x, y, data_range=1.0)) == pytest.approx(expected, rel=1e-12)


def test_ssim_keeps_its_digits_on_flat_images() -> None:
    texture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x = (0.6 + 1e-3 * texture).double().float()
    y = x + 1e-4
    exact = ssim(x.double(), y.double(), data_range=1.0)
    assert float((ssim(x, y, data_range=1.0).double() - exact).abs().max()) < 1e-7


def test_psnr_of_a_known_error() -> None:
    x = torch.full((2, 3, 8, 8), 100.0)
    value = psnr(x, x + torch.tensor([1.0, 10.0]).view(2, 1, 1, 1), data_range=255)
    expected = [20 * math.log10(255), 20 * math.log10(25.5)]
    assert value.tolist() == pytest.approx(expected)
    assert psnr(x, x, data_range=255).tolist() == [math.inf, math.inf]


def test_halving_continues_odd_sides() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert halved(x)[0, 0].tolist() == [[2.0, 3.5], [6.5, 8.0]]


def test_windows_are_those_of_a_convolution() -> None:
    maps = torch.rand(3, 70, 140, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.rand(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kernel = torch.outer(weights, weights)[None, None]
    right = torch.nn.functional.conv2d(maps[:, None], kernel)[:, 0]
    torch.testing.assert_close(averaged(maps, weights), right)


def test_fsim_of_flat_images_is_a_number() -> None:
    x, y = torch.full((1, 3, 32, 32), 0.2), torch.full((1, 3, 32, 32), 0.7)
    x.requires_grad_()
    assert float(fsim(x, x, data_range=1.0).detach()) == 1.0
    value = fsim(x, y, data_range=1.0)
    value.sum().backward()
    assert 0 < float(value.detach()) <= 1
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_fsim_of_large_images_is_that_of_their_averages() -> None:
    x, y = pair(40, 48)
    large = [z.repeat_interleave(16, 2).repeat_interleave(16, 3)[..., :512, :] for z in (x, y)]
    small = [torch.nn.functional.avg_pool2d(z, 2) for z in large]
    torch.testing.assert_close(fsim(*large, data_range=1.0), fsim(*small, data_range=1.0))


# --- bad input --------------------------------------------------------------------------------

GOOD = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BAD = {
    "bytes": (lambda x: ((x * 255).byte(), (x * 255).byte()), TypeError, r"uint8.*float\(\)"),
    "array": (lambda x: (x.numpy(), x.numpy()), TypeError, "ndarray.*tensors"),
    "range": (lambda x: (255 * x, 254 * x), ValueError, "0 to 255"),
    "sizes": (lambda x: (x, x[..., 1:]), ValueError, "crop or resize"),
    "alpha": (lambda x: (x[:, [0, 1, 2, 2]],) * 2, ValueError, r"alpha.*x\[:, :3\]"),
    "one image": (lambda x: (x[0], x[0]), ValueError, r"x\[None\]"),
    "nothing": (lambda x: (x[:0], x[:0]), ValueError, r"\[b, c, h, w\]"),
    "nan": (lambda x: (x, x / 0 * 0), ValueError, "y holds NaN"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("name", ["psnr", "ssim", "fsim"])
def test_bad_images_get_one_clear_error(name: str, what: str) -> None:
    spoil, error, message = BAD[what]
    with pytest.raises(error, match=f"{name}.*{message}"):
        METRICS[name](*spoil(GOOD), data_range=1.0)


@pytest.mark.parametrize("number", [np.float32(1), np.int64(1), np.uint8(1), 1])
@pytest.mark.parametrize("name", ["psnr", "ssim", "fsim"])
def test_a_range_is_any_real_number(name: str, number: float) -> None:
    values = (METRICS[name](GOOD, GOOD / 2, data_range=r) for r in (number, 1.0))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("number", [True, np.True_, 0, math.nan, "1", None])
def test_what_is_no_range_is_refused(number: object) -> None:
    with pytest.raises(ValueError, match="data_range is the distance from black to white"):
        psnr(GOOD, GOOD, data_range=number)


def test_small_and_grey_images_are_refused_where_they_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match=r"at least 11.*window"):
        ssim(GOOD[..., :10], GOOD[..., :10], data_range=1.0)
    with pytest.raises(ValueError, match=r"at least 161.*5 scales"):
        ms_ssim(GOOD, GOOD, data_range=1.0)
    with pytest.raises(TypeError, match="data_range"):
        ssim(GOOD, GOOD)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="positive number"):
        psnr(GOOD, GOOD, data_range=0)
    lpips = LPIPS("alex")
    with pytest.raises(ValueError, match="expand"):
        lpips(GOOD[:, :1], GOOD[:, :1])
    with pytest.raises(ValueError, match="from -1 to 1"):
        lpips(255 * GOOD, 255 * GOOD)


@pytest.mark.parametrize(("net", "side"), [("alex", 31), ("vgg", 16), ("squeeze", 24)])
def test_lpips_knows_its_smallest_side(net: str, side: int) -> None:
    lpips = LPIPS(net)
    x = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    assert float(lpips(x, 1 - x)) > 0
    with pytest.raises(ValueError, match=f"at least {side}"):
        lpips(x[..., 1:], x[..., 1:])


def test_lpips_takes_the_declared_interval() -> None:
    x, y = (z.float() for z in pair())
    near = LPIPS("squeeze", interval=(0, 1))(x, y)
    torch.testing.assert_close(near, LPIPS("squeeze")(2 * x - 1, 2 * y - 1), rtol=1e-4, atol=1e-6)


def test_weights_that_are_no_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        LPIPS("squeeze", weights=str(tmp_path / "none.pth"))
    other = tmp_path / "other.pth"
    torch.save(LPIPS("squeeze").features.state_dict(), other)
    with pytest.raises(ValueError, match="no weights of alexnet"):
        LPIPS("alex", weights=str(other))
    cut = tmp_path / "cut.pth"
    cut.write_bytes(other.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut off"):
        LPIPS("squeeze", weights=str(cut))
    listed = tmp_path / "list.pth"
    torch.save([1.0], listed)
    with pytest.raises(ValueError, match="holds list"):
        LPIPS("squeeze", weights=str(listed))


# --- streams ----------------------------------------------------------------------------------


def test_streams_in_any_split_are_the_mean_over_pairs() -> None:
    x, y = pair(32, 40, count=4)
    metric = MeanOverPairs("ssim", data_range=1.0)
    for a, b in zip(x.split([1, 3]), y.split([1, 3]), strict=True):
        metric.update(a, b)
    expected = float(ssim(x, y, data_range=1.0).mean())
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-14)
    halves = [MeanOverPairs(ssim_of) for ssim_of in (metric.metric, metric.metric)]
    for half, rows in zip(halves, (slice(0, 3), slice(3, 4)), strict=True):
        half.update(x[rows], y[rows])
    halves[0].merge(halves[1])
    assert float(halves[0].compute()) == pytest.approx(expected, rel=1e-14)
    metric.reset()
    with pytest.raises(ValueError, match="call update"):
        metric.compute()


def test_psnr_of_a_data_set_has_two_conventions() -> None:
    x, y = pair(32, 40, count=4)
    y[0] = x[0] + 0.01
    pairs, pixels = StreamingPSNR(1.0), StreamingPSNR(1.0, over="pixels")
    for metric in (pairs, pixels):
        metric.update(x[:1], y[:1])
        metric.update(x[1:], y[1:])
    assert float(pairs.compute()) == pytest.approx(float(psnr(x, y, data_range=1.0).mean()))
    pooled = -10 * math.log10(float((x - y).square().mean()))
    assert float(pixels.compute()) == pytest.approx(pooled)
    assert float(pixels.compute()) < float(pairs.compute())
    with pytest.raises(ValueError, match="cannot take in"):
        pairs.merge(pixels)
    with pytest.raises(ValueError, match="pairs"):
        StreamingPSNR(1.0, over="images")


# --- people -----------------------------------------------------------------------------------


def bapps(folder: Path, *, people: Callable[[Tensor, Tensor, Tensor], float], count: int) -> Path:
    """A tiny set of the published layout: photographs against a slight blur and a shift."""
    photos = photographs(64)
    kind = folder / "val" / "traditional"
    for part in ("ref", "p0", "p1", "judge"):
        (kind / part).mkdir(parents=True)
    for index in range(count):
        ref = photos[index % len(photos)]
        p0, p1 = blur(ref[None], 0.5)[0], ref.roll(1 + index % 2, -1)
        for part, image in (("ref", ref), ("p0", p0), ("p1", p1)):
            pixels = (255 * image).round().byte().permute(1, 2, 0).numpy()
            imsave(kind / part / f"{index:06d}.png", pixels, check_contrast=False)
        judged = np.array([people(ref, p0, p1)], dtype=np.float32)
        np.save(kind / "judge" / f"{index:06d}.npy", judged)
    return folder


def to_the_pixels(ref: Tensor, p0: Tensor, p1: Tensor) -> float:
    return float((p1 - ref).square().mean() < (p0 - ref).square().mean())


def sharpness(x: Tensor, y: Tensor) -> Tensor:
    """How unlike the differences of neighbours are in size: a shift has the same."""
    first, second = (z.diff(dim=-1).square().mean((1, 2, 3)) for z in (x, y))
    return (first - second).abs()


def test_people_are_read_and_scored(tmp_path: Path) -> None:
    folder = bapps(tmp_path, people=to_the_pixels, count=6)
    (part,) = triplets(folder)
    assert part.reference.shape == (6, 3, 64, 64)

    def squares(x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean((1, 2, 3))

    assert two_alternative_score(squares, folder, batch=4) == 1.0
    assert two_alternative_score(lambda x, y: -squares(x, y), folder) == 0.0
    assert two_alternative_score(lambda x, y: torch.zeros(len(x)), folder) == 0.5
    with pytest.raises(FileNotFoundError, match="2afc/val"):
        list(triplets(tmp_path / "nowhere"))
    next(folder.rglob("p0/000002.png")).unlink()
    with pytest.raises(FileNotFoundError, match=r"000002\.png is missing"):
        list(triplets(folder))


@pytest.mark.parametrize(("prefer", "verdict"), [(1.0, "passed"), (0.0, "failed"), (0.5, "failed")])
def test_a_metric_is_held_against_people(tmp_path: Path, prefer: float, verdict: str) -> None:
    """People who prefer the shift agree with a metric that does, and others do not."""
    folder = bapps(tmp_path, people=lambda *_: prefer, count=8)
    report = dlcheck.validate(
        sharpness,
        kind="image_metric",
        checks=["agrees_with_people"],
        options={"better": "lower", "bapps": str(folder)},
        device="cpu",
    )
    (outcome,) = report.outcomes
    assert outcome.verdict.value == verdict


def test_without_people_nothing_is_said_of_their_judgement(tmp_path: Path) -> None:
    report = dlcheck.validate(
        sharpness,
        kind="image_metric",
        checks=["agrees_with_people"],
        options={"better": "lower", "bapps": str(tmp_path)},
        device="cpu",
    )
    (outcome,) = report.outcomes
    assert outcome.verdict is Verdict.SKIPPED
    assert "not checked" in outcome.message


# --- checks -----------------------------------------------------------------------------------


def test_jpeg_keeps_a_flat_image_and_loses_detail_with_quality() -> None:
    x = photographs(61)[:1, :, :, :53]
    flat = Pictures(torch.full_like(x, 128 / 255), 0.0, 1.0)
    torch.testing.assert_close(compressed(flat, 50), flat.values, atol=1e-12, rtol=0)
    errors = [
        float((compressed(Pictures(x, 0.0, 1.0), q) - x).square().mean()) for q in (95, 50, 5)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


def failing(target: object, declared: dict[str, object]) -> list[str]:
    report = dlcheck.validate(
        target, kind="image_metric", device="cpu", profile="quick", **declared
    )
    bad = (Verdict.FAILED, Verdict.ERRORED, Verdict.INCONCLUSIVE)
    assert Verdict.ERRORED not in [o.verdict for o in report.outcomes]
    return [o.check for o in report.outcomes if o.verdict in bad]


RIGHT = {
    "psnr": (lambda x, y: psnr(x, y, data_range=1.0), PSNR),
    "ssim": (ssim_with(), SSIM),
    "lpips": (Spoiled, LEARNED),
    "float32 inside": (lambda x, y: ssim_with()(x.float(), y.float()), SSIM),
    "one number": (lambda x, y: float(psnr(x, y, data_range=1.0).mean().detach()), PSNR),
    "array": (lambda x, y: ssim_with()(x, y).detach().numpy(), SSIM),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_metrics_are_not_alarmed(name: str) -> None:
    assert failing(*RIGHT[name]) == []


SLOW = {"weighted_sum", "weights_reversed", "luminance_at_each_scale", "strided_without_average"}


@pytest.mark.parametrize("name", sorted(set(WRONG) - SLOW))
def test_wrong_metrics_are_found(name: str) -> None:
    target, declared = WRONG[name]
    assert failing(target, {**declared, "checks": [found_by(name)]}) == [found_by(name)]


class Frozen(torch.nn.Module):
    """A metric whose network is in evaluation inside a wrapper that is in train, as users write."""

    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Dropout(0.5)).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.network(x) - self.network(y)).square().mean((1, 2, 3))


def test_parts_keep_the_mode_that_they_are_in() -> None:
    report = dlcheck.validate(
        Frozen, kind="image_metric", device="cpu", profile="quick",
        checks=["single_precision_has_the_same_value", "an_image_scores_perfectly_with_itself"],
        options={"better": "lower", "perfect": 0.0},
    )  # fmt: skip
    report.raise_for_failures()
    assert len(report.outcomes) == 2


@pytest.mark.parametrize("metric", [ssim, fsim])
def test_a_call_in_inference_mode_leaves_gradients_to_later_ones(metric: Any) -> None:
    x = torch.rand(1, 1, 37, 41, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        metric(x, x.flip(-1), data_range=1.0)
    leaf = x.clone().requires_grad_()
    metric(leaf, x.flip(-1), data_range=1.0).sum().backward()
    assert leaf.grad is not None
    assert bool(leaf.grad.isfinite().all())


def test_flat_images_of_other_brightness_keep_their_digits() -> None:
    x, y = torch.full((1, 1, 64, 64), 0.2), torch.full((1, 1, 64, 64), 0.6)
    exact = ssim(x.double(), y.double(), data_range=1.0)
    assert float((ssim(x, y, data_range=1.0) - exact).abs()) < 2e-7


def as_a_list(x: Tensor, y: Tensor) -> list[float]:
    pairs = zip(x.detach(), y.detach(), strict=True)
    return [float(10 * torch.log10(1 / (a - b).square().mean())) for a, b in pairs]


def as_a_list_of_tensors(x: Tensor, y: Tensor) -> list[Tensor]:
    return [10 * torch.log10(1 / (a - b).square().mean()) for a, b in zip(x, y, strict=True)]


def with_numpy(x: Tensor, y: Tensor) -> float:
    return float(skimage_metrics.mean_squared_error(x.numpy(), y.numpy()))


@pytest.mark.parametrize("metric", [as_a_list, as_a_list_of_tensors])
def test_lists_of_values_are_values_of_pairs(metric: Any) -> None:
    report = dlcheck.validate(
        metric, kind="image_metric", device="cpu", profile="quick",
        options={"better": "higher", "data_range": 1.0}, traits=["symmetric"],
    )  # fmt: skip
    report.raise_for_failures()


def test_arrays_carry_no_gradient_and_are_not_blamed() -> None:
    report = dlcheck.validate(
        with_numpy, kind="image_metric", device="cpu", profile="quick", checks=["*gradient*"],
        options={"better": "lower", "perfect": 0.0},
    )  # fmt: skip
    assert not report.failures


@pytest.mark.parametrize("kink", [0.0, 1e-12, -1e-12])
def test_a_kink_nearer_than_any_step_is_in_the_bound(kink: float) -> None:
    """Both one-sided slopes are right: that of the value may be either."""
    scale = Scale(rounding=1e-15, slope=0.02, largest_step=0.1)

    def value(t: float) -> float:
        return 0.02 * t + 0.3 * t * t + 0.00032 * max(t - kink, 0.0)

    measured, bound = slope_at_zero(value, scale)
    assert abs(measured - 0.02) <= bound
    assert abs(measured - 0.02032) <= bound


def test_a_smooth_slope_is_resolved_by_the_smallest_steps() -> None:
    scale = Scale(rounding=1e-15, slope=0.02, largest_step=0.1)
    measured, bound = slope_at_zero(lambda t: 0.02 * t + 0.3 * t * t, scale)
    assert abs(measured - 0.02) <= bound <= 1e-6
