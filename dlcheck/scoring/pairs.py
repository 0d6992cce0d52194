"""Metrics of image pairs over two folders whose images are matched by their names."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import UsageError
from dlcheck.scoring.extractors import fitting_batch
from dlcheck.scoring.files import is_features
from dlcheck.scoring.pictures import Pictures, batches, found
from dlcheck.scoring.request import Request, Tell
from dlcheck.scoring.score import Score
from dlcheck.scoring.table import Entry

_NAMED = 3
_HEAVY = 4  # × the memory of a network: sixteen complex filters in float64


def of_pairs(request: Request, entry: Entry, reference: Any, tell: Tell) -> Score:
    """The mean over pairs. Raises UsageError for what cannot be paired."""
    first, second = _two_folders(request, tell)
    pairs = _matched(first, second)
    device = torch.device(request.device)
    metric, weights = _built(request, entry, reference, device)
    each: dict[str, float] = {}
    dtype = torch.float32 if entry.is_network else torch.float64
    for names, x, y in _batches(pairs, request, device):
        x, y = x.to(device, dtype), y.to(device, dtype)
        with torch.no_grad():
            values = _called(metric, x, y, names[0])
        each.update(zip(names, values.double().cpu().tolist(), strict=True))
        tell(len(each), len(pairs), f"pairs by {request.metric}")
    mean, more, notes = _summary(each, entry)
    return Score(
        metric=request.metric,
        value=mean,
        better=entry.better,
        values=more,
        inputs=request.inputs,
        n=(len(each),) * 2,
        features="pixels in [0, 1]",
        weights=weights,
        resize="none",
        dtype=str(dtype).removeprefix("torch."),
        device=request.device,
        notes=(*first.notes, *second.notes, *notes, *_of_weights(weights)),
        each=each,
    )


def _two_folders(request: Request, tell: Tell) -> tuple[Pictures, Pictures]:
    paths = [Path(given) for given in request.inputs]
    for path in paths:
        if is_features(path):
            raise UsageError(f"{request.metric} compares images, and {path} is a file of features")
    if paths[0].is_dir() != paths[1].is_dir():
        raise UsageError(f"{paths[0]} and {paths[1]}: two folders or two images, not one of each")
    first, second = (found(path, request.decoding, tell) for path in paths)
    return first, second


def _matched(first: Pictures, second: Pictures) -> list[tuple[str, Path, Path]]:
    """(name, path, path), by the path below the folder without the ending of the file."""
    if not first.folder.is_dir():
        return [(first.paths[0].name, first.paths[0], second.paths[0])]
    one, two = _by_name(first), _by_name(second)
    alone = [*(k for k in one if k not in two), *(k for k in two if k not in one)]
    skipped = any(note.startswith("left out") for note in (*first.notes, *second.notes))
    if alone and not (skipped and set(one) & set(two)):
        named = ", ".join(alone[:_NAMED]) + (", …" if len(alone) > _NAMED else "")
        raise UsageError(
            f"{len(alone)} images have no partner of the same name in the other folder: {named}"
        )
    return [(first.name(one[name]), one[name], two[name]) for name in one if name in two]


def _by_name(pictures: Pictures) -> Mapping[str, Path]:
    named: dict[str, Path] = {}
    for path in pictures.paths:
        name = str(path.relative_to(pictures.folder).with_suffix(""))
        if name in named:
            raise UsageError(
                f"{pictures.folder} holds {named[name].name} and {path.name}: which is meant?"
            )
        named[name] = path
    return named


def _batches(
    pairs: Sequence[tuple[str, Path, Path]], request: Request, device: torch.device
) -> Iterator[tuple[list[str], Tensor, Tensor]]:
    """Names with both images [b, 3, h, w], as many in a row as have one size and fit."""
    sized = ((*_size_of(pair), pair) for pair in pairs)
    for (height, width), group in itertools.groupby(sized, key=lambda each: each[:2]):
        chosen = [each[2] for each in group]
        count = request.batch_size or max(1, fitting_batch(device, height, width) // _HEAVY)
        for start in range(0, len(chosen), count):
            names, one, two = zip(*chosen[start : start + count], strict=True)
            x = next(batches(one, request.decoding, count))
            y = next(batches(two, request.decoding, count))
            yield list(names), x, y


def _size_of(pair: tuple[str, Path, Path]) -> tuple[int, int]:
    from PIL import Image

    name, *paths = pair
    sizes = []
    for path in paths:
        with Image.open(path) as image:
            sizes.append((image.height, image.width))
    if sizes[0] != sizes[1]:
        (h, w), (k, v) = sizes
        raise UsageError(f"{name} is {h} × {w} in one folder and {k} × {v} in the other")
    return sizes[0]


def _built(
    request: Request, entry: Entry, reference: Any, device: torch.device
) -> tuple[Callable[[Tensor, Tensor], Tensor], str]:
    if not entry.is_network:
        if request.weights is not None:
            raise UsageError(f"{request.metric} has no weights")
        return lambda x, y: reference(x, y, **entry.keywords), ""
    try:
        network = reference(
            net=request.net, weights=request.weights, seed=request.seed, **entry.keywords
        )
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        raise UsageError(f"{request.metric}: {error}") from None
    return network.to(device), f"{request.net}, backbone {network.origin}"


def _of_weights(weights: str) -> list[str]:
    if "random" not in weights:
        return []
    return [
        "the backbone is random: it ranks distortions well, and is not the published number; give "
        "--weights FILE with torchvision's ImageNet weights of it"
    ]


def _called(metric: Callable[..., Tensor], x: Tensor, y: Tensor, name: str) -> Tensor:
    try:
        return metric(x, y).flatten()
    except (ValueError, TypeError) as error:
        raise UsageError(f"{name}: {error}") from None


def _summary(
    each: Mapping[str, float], entry: Entry
) -> tuple[float, dict[str, float], tuple[str, ...]]:
    values = list(each.values())
    finite = [value for value in values if math.isfinite(value)]
    notes = []
    if len(finite) < len(values):
        equal = len(values) - len(finite)
        notes.append(f"{equal} pairs are equal and have an infinite value: left out of the mean")
    mean = math.fsum(finite) / len(finite) if finite else values[0]
    if len(values) == 1:
        return mean, {}, tuple(notes)
    spread = math.fsum((value - mean) ** 2 for value in finite) / max(len(finite), 1)
    worst = (min if entry.better == "higher" else max)(each, key=lambda name: each[name])
    notes.append(f"the worst pair is {worst}: {each[worst]:.6g}")
    return mean, {"mean": mean, "deviation": math.sqrt(spread)}, tuple(notes)
