"""What an augmentation is declared to take and to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from dlcheck.domains import Dim, Input, bound_dims, size_bounds
from dlcheck.errors import NotApplicable
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build, replace_args

_HEIGHT, _WIDTH, _BATCH, _CLASSES, _OBJECTS = 24, 32, 6, 10, 3
_COORDINATES = {"boxes": 4, "keypoints": 2}
_BATCHES = ("b", "batch", "batch_size", "bs")


@dataclass(frozen=True, slots=True)
class Signature:
    """Which input is what: the images first, then labels, then what moves along.

    `rows`, `columns` are axes of the images, counted from the end; `channels` too, or None.
    `batch` is the batch dim, None where the subject takes one image.
    """

    images: str
    labels: str | None
    targets: Mapping[str, str]  # mask, boxes or keypoints → input
    specs: Mapping[str, Input]
    rows: int
    columns: int
    channels: int | None
    batch: Dim | None

    @property
    def is_batched(self) -> bool:
        return self.batch is not None


def signature_of(subject: Implementation, specs: Mapping[str, Input]) -> Signature:
    """The roles of the inputs, by their declared elements and dims, never by their names.

    Raises NotApplicable where the first input is no image.
    """
    first, *others = specs
    image = specs[first]
    if len(image.dims) < 2:
        raise NotApplicable(f"the first input, {first} = '{image}', is no image: it has no h and w")
    rows, columns = _sides(image)
    channels = _channels(subject, image, rows, columns)
    batch = _batch(image, rows, columns, channels)
    wanted = subject.options.get("target", ())
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    targets: dict[str, str] = {}
    for target in wanted:
        fitting = [name for name in others if _fits(target, specs[name], image, rows, columns)]
        left = [name for name in fitting if name not in targets.values()]
        if left:
            targets[target] = left[0]
    labels = [name for name in others if name not in targets.values()]
    return Signature(
        images=first,
        labels=labels[0] if labels else None,
        targets=targets,
        specs=specs,
        rows=rows,
        columns=columns,
        channels=channels,
        batch=batch,
    )


def _sides(image: Input) -> tuple[int, int]:
    """The axes of height and width: those named so, else the last two."""
    names = [dim.name for dim in image.dims]
    for height, width in (("h", "w"), ("height", "width"), ("H", "W")):
        if height in names and width in names:
            return names.index(height) - len(names), names.index(width) - len(names)
    return -2, -1


def _channels(subject: Implementation, image: Input, rows: int, columns: int) -> int | None:
    """The axis before the sides, or after them where images are h w c; None without one."""
    if columns < -1:
        return -1
    before, count = min(rows, columns) - 1, len(image.dims)
    if -before > count:
        return None
    batches = (*_BATCHES, subject.options.get("batch"))
    is_batch = -before == count and image.dims[before].name in batches
    return None if is_batch else before


def _batch(image: Input, rows: int, columns: int, channels: int | None) -> Dim | None:
    """The first dim, if it is neither a side nor the channels."""
    used = {len(image.dims) + axis for axis in (rows, columns, channels) if axis is not None}
    return None if 0 in used else image.dims[0]


def _fits(target: str, spec: Input, image: Input, rows: int, columns: int) -> bool:
    if target == "mask":
        sides = [image.dims[rows], image.dims[columns]]
        return all(side in spec.dims for side in sides)
    if target not in _COORDINATES or not spec.dims:
        return False
    last = spec.dims[-1]
    return not last.name and last.times == _COORDINATES[target]


def sizes_of(
    subject: Implementation, signature: Signature, drawn: Mapping[str, int], **wanted: int
) -> dict[str, int]:
    """Sizes at which pictures say most, within the author's bounds: not square, several rows.

    Dims that an argument of the subject is bound to stay as drawn. wanted: h, w or b.
    """
    image = signature.specs[signature.images]
    fixed = {dim.name for dim in bound_dims(subject.declared.args).values()}
    sizes = dict(drawn)
    preferred: dict[str, int] = {}
    for name, spec in signature.specs.items():
        if spec.count is not None and spec.count.name:
            preferred[spec.count.name] = _CLASSES
        if name in signature.targets.values() and len(spec.dims) >= 2 and spec.dims[-2].name:
            preferred.setdefault(spec.dims[-2].name, _OBJECTS)
    height, width = image.dims[signature.rows], image.dims[signature.columns]
    preferred[width.name] = max(1, wanted.get("w", _WIDTH) // width.times)
    preferred[height.name] = max(1, wanted.get("h", _HEIGHT) // height.times)
    if signature.batch is not None:
        batch = signature.batch
        preferred[batch.name] = max(1, wanted.get("b", _BATCH) // batch.times)
    if signature.channels is not None and image.dims[signature.channels].name:
        preferred[image.dims[signature.channels].name] = 3
    for name, size in preferred.items():
        if name and name in sizes and name not in fixed:
            sizes[name] = _within(subject, name, size)
    return sizes


def _within(subject: Implementation, name: str, size: int) -> int:
    bounds = size_bounds(subject.options, name)
    return size if bounds is None else min(max(size, bounds[0], 1), bounds[1])


def probability_of(subject: Implementation) -> float:
    """The declared probability of applying; NotApplicable without one."""
    for option in ("probability", "p"):
        if option in subject.options:
            return float(subject.argument(option))
    raise NotApplicable("declares no probability")


def argument_of_probability(subject: Implementation) -> str | None:
    """The constructor argument that holds the probability, if one does."""
    for option in ("probability", "p"):
        if isinstance(subject.options.get(option), str):
            return str(subject.options[option])
    return None


def in_mode(subject: Implementation, mode: str) -> Implementation:
    """The subject in train or eval mode, where it has modes."""
    if subject.module is not None:
        subject.module.train(mode == "train")
    return subject


def rebuilt_with(subject: Implementation, case: Case, **changes: Any) -> Implementation:
    """The same subject in train mode, other arguments. NotApplicable where a module was given."""
    if isinstance(subject.declared.target, nn.Module):
        raise NotApplicable("a module that is built already takes no other arguments")
    declared = replace_args(subject.declared, {**subject.declared.args, **changes})
    return in_mode(build(declared, case.sizes, case.device, case.dtype, seed=0), "train")


def interval_of(spec: Input) -> tuple[float, float] | None:
    """The values that images hold, as their element says; None where any real number is one."""
    if spec.element == "uint8":
        return 0.0, 255.0
    if spec.low is not None and spec.high is not None:
        return spec.low, spec.high - (spec.element == "int")
    return {"image": (0.0, 1.0), "unit": (0.0, 1.0), "signed": (-1.0, 1.0)}.get(spec.element)


def with_element(spec: Input, element: str) -> Input:
    """The same dims, other elements."""
    return replace(spec, element=element, low=None, high=None)
