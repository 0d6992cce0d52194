"""What turns images into features: Inception v3, the digits classifier, or the user's network."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.errors import SubjectRaised, TargetError, UsageError
from dlcheck.features import digits_study
from dlcheck.isolation import guarded
from dlcheck.scoring import inception
from dlcheck.targets import load_target

_SHARE = 0.25  # of free memory, for one batch
_MOST = {"cpu": 32, "cuda": 256}
_BYTES_A_PIXEL = 800  # activations of a convolutional network at its widest, generously


@dataclass(frozen=True, slots=True)
class Extractor:
    """Images [b, 3, h, w] in [0, 1] → features [b, d], or class logits [b, k].

    `size` is (height, width) of what it takes, None for any.
    """

    name: str
    weights: str
    size: tuple[int, int] | None
    features: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]


def extractor(
    features: str, weights: str | None, size: int | None, device: torch.device
) -> Extractor:
    """Of `"inception"`, `"digits"` or an import path. Raises UsageError with what is wrong."""
    if features == "inception":
        if size is not None:
            raise UsageError(f"Inception v3 takes images of {inception.SIDE} pixels; no --size")
        return _inception(weights, device)
    if weights is not None:
        raise UsageError(f"--weights is of --features inception, not of {features!r}")
    if features == "digits":
        if size is not None:
            raise UsageError("digits takes images of 8 pixels; no --size")
        return _digits()
    if ":" not in features:
        raise UsageError(
            f"--features is inception, digits, or a path package.module:network, not {features!r}"
        )
    return _own(features, size, device)


def _inception(weights: str | None, device: torch.device) -> Extractor:
    network, origin = inception.from_file(weights)
    network.to(device)
    return Extractor(
        name=f"Inception v3, {inception.WIDTH} pooled features",
        weights=origin,
        size=(inception.SIDE, inception.SIDE),
        features=lambda images: network(images)[0],
        logits=lambda images: network(images)[1],
    )


def _digits() -> Extractor:
    study = digits_study()

    def grey(images: Tensor) -> Tensor:
        return images.mean(1, keepdim=True).cpu()

    return Extractor(
        name="digits, 64 features of grey pictures of 8 × 8: to try out, comparable with no paper",
        weights="trained here, seed 0",
        size=(8, 8),
        features=lambda images: study.features(grey(images)),
        logits=lambda images: study.probabilities(grey(images)).log(),
    )


def _own(target: str, size: int | None, device: torch.device) -> Extractor:
    """A module, a class of one, or a function; called in evaluation, without gradients."""
    try:
        network: Any = load_target(target)
    except TargetError as error:
        raise UsageError(f"--features: {error}") from None
    if inspect.isclass(network):
        network = guarded(network)
    if isinstance(network, nn.Module):
        network.to(device).eval()

    def called(images: Tensor) -> Tensor:
        try:
            answer = guarded(network, images)
        except SubjectRaised as error:
            if isinstance(error.__cause__, torch.OutOfMemoryError):
                raise error.__cause__ from None  # to be tried again with a smaller batch
            raise
        if not isinstance(answer, Tensor) or len(answer) != len(images):
            shape = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise UsageError(
                f"{target} answers {shape} for {len(images)} images; features are [b, d]"
            )
        return answer.flatten(1)

    return Extractor(target, "its own", None if size is None else (size, size), called, called)


def fitting_batch(device: torch.device, height: int, width: int) -> int:
    """How many images of a size a batch may hold, so that it fills a quarter of free memory."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fitting = int(_SHARE * free / (_BYTES_A_PIXEL * height * width))
    return max(1, min(fitting, _MOST.get(device.type, _MOST["cpu"])))
