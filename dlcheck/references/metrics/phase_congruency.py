"""Phase congruency: where the Fourier components of an image are in step, whatever their size."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

_SCALES, _ORIENTATIONS = 4, 4
_WAVELENGTH, _RATIO = 6.0, 2.0  # pixels of the finest filter; from one scale to the next
_BANDWIDTH, _SPREAD = 0.55, 1.2  # σ over the centre of a log-Gabor; angle between filters over σ
_CUTOFF, _ORDER = 0.45, 15  # of the Butterworth filter that keeps the corners out
_NOISE, _OVERESTIMATED = 2.0, 1.7  # standard deviations of noise below which nothing counts
_EPSILON = 1e-4
_CACHED = 2**18  # complex numbers that a processor's cache holds


def phase_congruency(grey: Tensor) -> Tensor:
    """PC₂ of images [b, h, w] with values from 0 to 255, in [0, 1].

    Σ_o max(E_o − T_o, 0) / Σ_o Σ_s |R_so| with the responses R of log-Gabor filters at four
    scales s and orientations o; E = |ΣR|²/(|ΣR| + ε) − Σ_s |sine of the phase from the mean|·|R|;
    T is noise estimated from the median of |R|² at the finest scale.
    Source: Kovesi, Image Features from Phase Congruency, Videre 1(3), 1999, eqs. 10–12, with the
    constants of FSIM.
    """
    filters, noise = _filters(grey.shape[1], grey.shape[2], grey.dtype, grey.device)
    images = max(1, _CACHED // filters[0].numel()) if grey.device.type == "cpu" else len(grey)
    found = [_congruency(part, filters, noise) for part in grey.split(images)]
    return torch.cat(found)


def _congruency(grey: Tensor, filters: Tensor, noise: Tensor) -> Tensor:
    spectrum = torch.fft.fft2(grey)[:, None]
    energy = amplitude = torch.zeros_like(grey)
    for along, per_median in zip(filters, noise, strict=True):
        response = torch.fft.ifft2(spectrum * along)  # even part + i · odd part, [b, s, h, w]
        size = response.abs()
        total = response.sum(1)
        length = total.abs()
        mean = total / (length + _EPSILON)
        # Im(conj(mean) R) = |R| sin(the phase from the mean)
        sine = mean.real[:, None] * response.imag - mean.imag[:, None] * response.real
        found = length.square() / (length + _EPSILON) - sine.abs().sum(1)
        threshold = per_median * _median(size[:, 0].flatten(1)).clamp_min(0)
        energy = energy + (found - threshold[:, None, None]).clamp_min(0)
        amplitude = amplitude + size.sum(1)
    return energy / amplitude.clamp_min(torch.finfo(grey.dtype).tiny)


def _median(values: Tensor) -> Tensor:
    """√ of the median of the squares of non-negative values [b, n]: of two in the middle, both."""
    lower, _ = values.median(1)
    if values.shape[1] % 2:
        return lower
    several = (values <= lower[:, None]).sum(1) > values.shape[1] // 2
    above = values.masked_fill(values <= lower[:, None], math.inf).amin(1)
    upper = torch.where(several, lower, above)
    return torch.complex(lower, upper).abs() / math.sqrt(2)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # noqa: FBT003  # what is kept must serve a gradient later
def _filters(
    height: int, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Filters [o, s, h, w] with frequency 0 first, and [o]: T over the root of the median of |R|².

    Gaussian noise of power σ² gives the finest response |R|² the mean m = σ² Σ F₀², and the
    median m log 2; a sum of responses then has a Rayleigh distribution with
    τ² = σ² (Σ_s Σ aₛ² + 2 Σ_{s<r} Σ aₛ aᵣ), aₛ = √(hw) Re F⁻¹(Fₛ).
    """
    down, across = _frequencies(height)[:, None], _frequencies(width)[None]
    radius = (down.square() + across.square()).sqrt()
    radius[0, 0] = 1.0
    angle = torch.atan2(-down, across)
    lowpass = 1 / (1 + (radius / _CUTOFF) ** (2 * _ORDER))
    centres = [1 / (_WAVELENGTH * _RATIO**s) for s in range(_SCALES)]
    width_of = 2 * math.log(_BANDWIDTH) ** 2
    radial = torch.stack([(-((radius / f).log() ** 2) / width_of).exp() for f in centres]) * lowpass
    radial[:, 0, 0] = 0.0
    filters = torch.stack([_spread(angle, o)[None] * radial for o in range(_ORIENTATIONS)])
    waves = torch.fft.ifft2(filters).real * math.sqrt(height * width)
    # Σ aₛ² + 2 Σ aₛaᵣ over s < r is the square of Σ aₛ.
    tau = (waves.sum(1).square().sum((1, 2)) / _power_of_finest(filters) / math.log(2)).sqrt()
    threshold = tau * (math.sqrt(math.pi / 2) + _NOISE * math.sqrt(2 - math.pi / 2))
    return (
        filters.to(device=device, dtype=dtype),
        (threshold / _OVERESTIMATED).to(device=device, dtype=dtype),
    )


def _power_of_finest(filters: Tensor) -> Tensor:
    return filters[:, 0].square().sum((1, 2))


def _frequencies(size: int) -> Tensor:
    """Cycles per pixel in the order of a Fourier transform; of an odd side over size − 1."""
    half = size // 2
    whole = torch.arange(size, dtype=torch.float64) - half
    return torch.roll(whole / (size - size % 2 or 1), -half)


def _spread(angle: Tensor, orientation: int) -> Tensor:
    """A Gaussian of the angular distance from the orientation's direction."""
    towards = orientation * math.pi / _ORIENTATIONS
    sine = angle.sin() * math.cos(towards) - angle.cos() * math.sin(towards)
    cosine = angle.cos() * math.cos(towards) + angle.sin() * math.sin(towards)
    deviation = math.pi / _ORIENTATIONS / _SPREAD
    return (-torch.atan2(sine, cosine).abs().square() / (2 * deviation**2)).exp()
