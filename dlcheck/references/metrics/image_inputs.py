"""What a metric of image pairs takes, and one clear error for what it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

_BEYOND = 2.0  # × the declared range: images that both span more were scaled otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """What one metric can be given.

    smallest: the shortest side in pixels, and why. colour: only three channels; else any number
    but 2 and 4, which hold an alpha channel.
    """

    metric: str
    smallest: int = 1
    why: str = ""
    colour: bool = False


def checked_pair(
    x: Tensor, y: Tensor, takes: Takes, data_range: float, *, low: float | None = None
) -> tuple[Tensor, Tensor]:
    """The two batches [b, c, h, w], in the wider of their types and at least float32.

    Raises TypeError for what is no floating tensor, ValueError for other shapes, sizes and
    channels, for NaN and infinity, for a range that is no positive number, and where both images
    span more than twice `data_range` (0 to 255 given as 0 to 1).
    """
    _refuse_types(x, y, takes)
    _refuse_shapes(x, y, takes)
    if not _is_range(data_range):
        raise ValueError(
            f"{takes.metric}: data_range is the distance from black to white, a positive number "
            f"as 1.0 or 255.0, not {data_range!r}"
        )
    _refuse_values(x, y, takes, float(data_range), low)
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)


def _is_range(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return 0 < float(value) < math.inf


def _refuse_types(x: object, y: object, takes: Takes) -> None:
    for name, image in (("x", x), ("y", y)):
        if not isinstance(image, Tensor):
            raise TypeError(
                f"{takes.metric}: {name} is {type(image).__name__}; pass tensors [b, c, h, w], as "
                "torch.from_numpy(image).permute(2, 0, 1)[None] of an array [h, w, c]"
            )
        if not image.is_floating_point():
            raise TypeError(
                f"{takes.metric}: {name} is {image.dtype}, where differences overflow or are cut "
                f"off; convert it first, as {name}.float() with data_range=255"
            )
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.device != y.device:
        raise ValueError(f"{takes.metric}: x is on {x.device} and y on {y.device}; move one")


def _refuse_shapes(x: Tensor, y: Tensor, takes: Takes) -> None:
    if x.shape != y.shape:
        raise ValueError(
            f"{takes.metric}: x is {list(x.shape)} and y {list(y.shape)}; both images of a pair "
            "have one size: crop or resize one of them"
        )
    if x.dim() != 4 or not x.numel():
        raise ValueError(
            f"{takes.metric}: images are [b, c, h, w], not {list(x.shape)}; one image is x[None]"
        )
    _refuse_channels(x.shape[1], takes)
    if min(x.shape[2:]) < takes.smallest:
        raise ValueError(
            f"{takes.metric}: the images are {x.shape[2]} × {x.shape[3]} pixels and each side "
            f"must have at least {takes.smallest}{takes.why and f' ({takes.why})'}; use larger ones"
        )


def _refuse_channels(channels: int, takes: Takes) -> None:
    if channels in (2, 4):
        raise ValueError(
            f"{takes.metric}: {channels} channels hold an alpha channel; leave it out, as "
            f"x[:, :{channels - 1}], or blend it in"
        )
    if takes.colour and channels != 3:
        raise ValueError(
            f"{takes.metric}: needs the channels red, green and blue, and got {channels}; repeat "
            "a grey one, as x.expand(-1, 3, -1, -1)"
        )


def _refuse_values(x: Tensor, y: Tensor, takes: Takes, span: float, low: float | None) -> None:
    ends = torch.stack([*x.detach().aminmax(), *y.detach().aminmax()]).tolist()
    for name, least, largest in (("x", *ends[:2]), ("y", *ends[2:])):
        if not math.isfinite(least + largest):
            raise ValueError(
                f"{takes.metric}: {name} holds NaN or infinity; find where it comes from, as "
                f"{name}.isfinite().logical_not().nonzero()"
            )
    narrower = min(ends[1] - ends[0], ends[3] - ends[2])
    if narrower > _BEYOND * span:
        interval = "" if low is None else f" (from {low:g} to {low + span:g})"
        raise ValueError(
            f"{takes.metric}: both images span {narrower:g}, and the range is {span:g}"
            f"{interval}: are they 0 to 255? Divide them by 255, or tell their range"
        )
