"""Metrics of sets of features: everything is looked at before work is spent on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import UsageError
from dlcheck.scoring.extractors import Extractor, extractor, fitting_batch
from dlcheck.scoring.files import (
    FEATURES,
    LOGITS,
    Rows,
    check_writable,
    is_features,
    read_rows,
    write_rows,
)
from dlcheck.scoring.pictures import Decoding, Pictures, batches, found
from dlcheck.scoring.request import Request, Tell
from dlcheck.scoring.score import Score
from dlcheck.scoring.table import Entry
from dlcheck.scoring.values import notes_on, refuse_beyond, valued


@dataclass(frozen=True, slots=True)
class Extraction:
    """How the images of a request become rows: features, or logits where classes are scored."""

    made: Extractor
    decoding: Decoding
    what: str
    device: torch.device
    batch_size: int | None
    tell: Tell

    def __call__(self, images: Tensor) -> Tensor:
        network = self.made.logits if self.what == LOGITS else self.made.features
        return network(images.to(self.device))


def of_sets(request: Request, entry: Entry, reference: Any, tell: Tell) -> Score:
    """The score of one or two sets. Raises UsageError for what is no set of features."""
    paths = _existing(request)
    folders = list(dict.fromkeys(path for path in paths if not is_features(path)))
    _check_saving(request, folders)
    read = {path: read_rows(path) for path in paths if is_features(path)}
    _hold_to_one_width(read)
    extraction = _prepared(request, entry, tell) if folders else None
    listed: list[Pictures] = []
    if extraction is not None:
        listed = [found(path, extraction.decoding, tell) for path in folders]
        read |= _extracted_all(listed, read, extraction)
        _save(request, folders, read, extraction.what)
    else:
        _hold_to_files(request)
    rows = [read[path] for path in paths]
    value, more = valued(request, entry, reference, rows)
    refuse_beyond(request.metric, value, more)
    return Score(
        metric=request.metric,
        value=value,
        better=entry.better,
        values=more,
        inputs=request.inputs,
        n=tuple(None if each.values is None else len(each.values) for each in rows),
        features=extraction.made.name if extraction else f"as they are in {_files(paths)}",
        weights=extraction.made.weights if extraction else "",
        resize=extraction.decoding.words if extraction else "",
        dtype="float64",
        device=request.device,
        notes=(*(note for each in listed for note in each.notes), *notes_on(request, rows, value)),
    )


def _existing(request: Request) -> list[Path]:
    paths = [Path(given) for given in request.inputs]
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist: give a folder of images or a features file")
    return paths


def _prepared(request: Request, entry: Entry, tell: Tell) -> Extraction:
    device = torch.device(request.device)
    made = extractor(request.features or "inception", request.weights, request.size, device)
    return Extraction(
        made=made,
        decoding=replace(request.decoding, size=made.size),
        what=LOGITS if entry.takes == "classes" else FEATURES,
        device=device,
        batch_size=request.batch_size,
        tell=tell,
    )


def _extracted_all(
    listed: Sequence[Pictures], read: Mapping[Path, Rows], extraction: Extraction
) -> dict[Path, Rows]:
    """The rows of every folder, after one image of each went through without a complaint."""
    for pictures in listed:
        _must_fit(pictures, extraction.made)
        _try_one(pictures, read, extraction)
    return {
        pictures.folder: Rows(_extracted(pictures, extraction), extraction.what)
        for pictures in listed
    }


def _save(request: Request, folders: Sequence[Path], read: Mapping[Path, Rows], what: str) -> None:
    for target, path in zip(request.save, folders, strict=bool(request.save)):
        values = read[path].values
        if values is not None:
            write_rows(Path(target), values, what)


def _hold_to_files(request: Request) -> None:
    """What is said of images must not pass unnoticed where there are none."""
    decoding, usual = request.decoding, Decoding()
    given = {
        "--features": request.features,
        "--weights": request.weights,
        "--size": request.size,
        "--batch-size": request.batch_size,
        "--resize": decoding.filter != usual.filter,
        "--alpha": decoding.alpha != usual.alpha,
        "--skip-unreadable": decoding.skip_unreadable,
    }
    if idle := [option for option, value in given.items() if value]:
        are = "is" if len(idle) == 1 else "are"
        raise UsageError(
            f"{' and '.join(idle)} {are} for images, and the files hold features already"
        )


def _hold_to_one_width(read: Mapping[Path, Rows]) -> None:
    widths = {path: rows.width for path, rows in read.items()}
    if len(set(widths.values())) > 1:
        said = " and ".join(f"{path} has {width}" for path, width in widths.items())
        raise UsageError(f"{said} features a row: both sets need the same network")


def _files(paths: Sequence[Path]) -> str:
    return " and ".join(path.name for path in paths)


def _check_saving(request: Request, folders: Sequence[Path]) -> None:
    if request.save and len(request.save) != len(folders):
        raise UsageError(
            f"--save-features takes one file for each folder of images: {len(folders)} here, and "
            f"{len(request.save)} given"
        )
    inputs = {Path(given).resolve() for given in request.inputs}
    for target in request.save:
        if Path(target).resolve() in inputs:
            raise UsageError(f"--save-features {target} would overwrite an input: name another")
        check_writable(Path(target))


def _must_fit(pictures: Pictures, made: Extractor) -> None:
    if made.size is None and len(pictures.sizes) > 1:
        common = ", ".join(f"{h} × {w} ({n})" for (h, w), n in pictures.sizes.most_common(3))
        raise UsageError(
            f"the images of {pictures.folder} have {len(pictures.sizes)} sizes, as {common}; say "
            "--size N to resize them"
        )


@torch.no_grad()
def _try_one(pictures: Pictures, read: Mapping[Path, Rows], extraction: Extraction) -> None:
    """One image first: a network that fails, or features of another width, before all are run."""
    try:
        rows = extraction(next(batches(pictures.paths[:1], extraction.decoding, 1)))
    except torch.OutOfMemoryError:
        raise _too_small(extraction.device) from None
    for path, other in read.items():
        if other.width != rows.shape[1]:
            raise UsageError(
                f"{pictures.folder} has {rows.shape[1]} features by {extraction.made.name}, and "
                f"{path} has {other.width}: both sets need the same network"
            )


def _too_small(device: torch.device) -> UsageError:
    return UsageError(f"one image does not fit into the memory of {device}; try --device cpu")


@torch.no_grad()
def _extracted(pictures: Pictures, extraction: Extraction) -> Tensor:
    """Features or logits [n, d] of every picture, on the CPU; a batch too large is halved."""
    height, width = extraction.made.size or pictures.sizes.most_common(1)[0][0]
    size = extraction.batch_size or fitting_batch(extraction.device, height, width)
    what = f"images of {pictures.folder} by {extraction.made.name}"
    done: list[Tensor] = []
    count, total = 0, len(pictures.paths)
    while count < total:
        try:
            for batch in batches(pictures.paths[count:], extraction.decoding, size):
                done.append(extraction(batch).cpu())
                count += len(batch)
                extraction.tell(count, total, what)
        except torch.OutOfMemoryError:
            if size == 1:
                raise _too_small(extraction.device) from None
            size //= 2
    values = torch.cat(done)
    bad = ~values.isfinite().all(1)
    if extraction.what == FEATURES and bool(bad.any()):
        first = pictures.name(pictures.paths[int(bad.nonzero()[0])])
        raise UsageError(
            f"{extraction.made.name} gives NaN or infinity for {int(bad.sum())} of {total} images, "
            f"the first is {first}"
        )
    return values
