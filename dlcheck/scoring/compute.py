"""A metric by its name, of folders or files: everything is looked at before work is spent."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import TargetError, UsageError, unknown
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
from dlcheck.scoring.pairs import of_pairs
from dlcheck.scoring.pictures import Decoding, Pictures, batches, found
from dlcheck.scoring.request import Request, Tell
from dlcheck.scoring.score import Score
from dlcheck.scoring.table import TABLE, TAKEN, Entry
from dlcheck.targets import load_target

_MANY = 5  # rows a feature, below which the bias of a Fréchet distance is worth a note


def compute(request: Request, tell: Tell = lambda done, total, what: None) -> Score:
    """The score of a request. Raises UsageError for anything that is wrong with it."""
    started = time.perf_counter()
    if request.metric not in TABLE:
        raise UsageError(unknown("metric", request.metric, TABLE, see="dlcheck metric --list"))
    entry = TABLE[request.metric]
    wanted = 1 if entry.takes == "classes" else 2
    if len(request.inputs) != wanted:
        raise UsageError(
            f"{request.metric} takes {TAKEN[entry.takes]}, and {len(request.inputs)} were given"
        )
    reference = _reference(request.metric, entry)
    if entry.takes == "pairs":
        score = of_pairs(request, entry, reference, tell)
    else:
        score = _of_sets(request, entry, reference, tell)
    return replace(score, seconds=time.perf_counter() - started)


def _reference(name: str, entry: Entry) -> Any:
    try:
        return load_target(entry.target)
    except TargetError:
        raise UsageError(f"{name} is not in this installation of dlcheck") from None


# --- sets of features -----------------------------------------------------------------------------


def _of_sets(request: Request, entry: Entry, reference: Any, tell: Tell) -> Score:
    paths = [Path(given) for given in request.inputs]
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist: give a folder of images or a features file")
    folders = [path for path in paths if not is_features(path)]
    _check_saving(request, folders)
    # Everything is read or decoded once before the first feature is computed.
    read = {path: read_rows(path) for path in paths if is_features(path)}
    device = torch.device(request.device)
    made = None
    if folders:
        made = extractor(request.features, request.weights, request.size, device)
        decoding = replace(request.decoding, size=made.size)
        listed = {path: found(path, decoding, tell) for path in dict.fromkeys(folders)}
        for pictures in listed.values():
            _must_fit(pictures, made)
    else:
        decoding, listed = request.decoding, {}
        _hold_to_files(request)
    _hold_to_one_width(read)
    what = LOGITS if entry.takes == "classes" else FEATURES
    for path, pictures in listed.items():
        assert made is not None
        _hold_to_rows_of(read, made, decoding, pictures, request, what)
        values = _extracted(pictures, made, decoding, request, what, tell)
        read[path] = Rows(values, what)
    for target, path in zip(request.save, folders, strict=bool(request.save)):
        saved = read[path].values
        assert saved is not None
        write_rows(Path(target), saved, what)
    rows = [read[path] for path in paths]
    value, more = _valued(request, entry, reference, rows, device)
    return Score(
        metric=request.metric,
        value=value,
        better=entry.better,
        values=more,
        inputs=request.inputs,
        n=tuple(None if each.values is None else len(each.values) for each in rows),
        features=made.name if made else f"as they are in {_files(paths)}",
        weights=made.weights if made else "",
        resize=decoding.words if made else "",
        dtype="float64",
        device=request.device,
        notes=(*(note for pictures in listed.values() for note in pictures.notes),
               *_notes(request, rows, more)),
    )  # fmt: skip


def _hold_to_files(request: Request) -> None:
    """What is said of images must not pass unnoticed where there are none."""
    given = (request.features != "inception", request.weights, request.size)
    if any(given):
        raise UsageError(
            "--features, --weights and --size are for images, and the files hold features already"
        )


def _hold_to_one_width(read: Mapping[Path, Rows]) -> None:
    widths = {path: _width(rows) for path, rows in read.items()}
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
    for target in request.save:
        check_writable(Path(target))


def _must_fit(pictures: Pictures, made: Extractor) -> None:
    if made.size is None and len(pictures.sizes) > 1:
        common = ", ".join(f"{h} × {w} ({n})" for (h, w), n in pictures.sizes.most_common(3))
        raise UsageError(
            f"the images of {pictures.folder} have {len(pictures.sizes)} sizes, as {common}; say "
            "--size N to resize them"
        )


@torch.no_grad()
def _hold_to_rows_of(
    read: dict[Path, Rows],
    made: Extractor,
    decoding: Decoding,
    pictures: Pictures,
    request: Request,
    what: str,
) -> None:
    """One image first: a network that fails, or features of another width, before all are run."""
    batch = next(batches(pictures.paths[:1], decoding, 1)).to(request.device)
    try:
        rows = (made.logits if what == LOGITS else made.features)(batch)
    except torch.OutOfMemoryError:
        raise _too_small(request.device) from None
    for path, other in read.items():
        width = _width(other)
        if width != rows.shape[1]:
            raise UsageError(
                f"{pictures.folder} has {rows.shape[1]} features by {made.name}, and {path} has "
                f"{width}: both sets need the same network"
            )


def _too_small(device: str) -> UsageError:
    return UsageError(f"one image does not fit into the memory of {device}; try --device cpu")


def _width(rows: Rows) -> int:
    if rows.values is not None:
        return rows.values.shape[1]
    assert rows.moments is not None
    return len(rows.moments[0])


@torch.no_grad()
def _extracted(
    pictures: Pictures,
    made: Extractor,
    decoding: Decoding,
    request: Request,
    what: str,
    tell: Tell,
) -> Tensor:
    """Features or logits [n, d] of every picture, on the CPU; a batch too large is halved."""
    device = torch.device(request.device)
    height, width = made.size or pictures.sizes.most_common(1)[0][0]
    size = request.batch_size or fitting_batch(device, height, width)
    network = made.logits if what == LOGITS else made.features
    done: list[Tensor] = []
    count = 0
    while count < len(pictures.paths):
        try:
            for batch in batches(pictures.paths[count:], decoding, size):
                done.append(network(batch.to(device)).cpu())
                count += len(batch)
                tell(count, len(pictures.paths), f"images of {pictures.folder} by {made.name}")
        except torch.OutOfMemoryError:
            if size == 1:
                raise _too_small(request.device) from None
            size //= 2
    values = torch.cat(done)
    bad = ~values.isfinite().all(1) & (what == FEATURES)
    if bool(bad.any()):
        first = pictures.name(pictures.paths[int(bad.nonzero()[0])])
        raise UsageError(
            f"{made.name} gives NaN or infinity for {int(bad.sum())} of {len(values)} images, the "
            f"first is {first}"
        )
    return values


# --- values ---------------------------------------------------------------------------------------


def _valued(
    request: Request, entry: Entry, reference: Any, rows: Sequence[Rows], device: torch.device
) -> tuple[float, dict[str, float]]:
    """The value and what more the metric says."""
    keywords: dict[str, Any] = dict(entry.keywords)
    if entry.takes == "classes":
        keywords |= _of_classes(request, rows[0])
    elif request.metric == "kid":
        keywords["seed"] = request.seed
    elif any(each.values is None for each in rows):
        if request.metric != "fid":
            raise UsageError(f"{request.metric} needs features, and a file holds moments alone")
        return float(_of_moments(rows)), {}
    try:
        answer = reference(*(_on(each, device) for each in rows), **keywords)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{request.metric}: {_for_the_command(str(error))}") from None
    if not entry.names:
        return float(answer), {}
    named = {name: float(part) for name, part in zip(entry.names, answer, strict=False)}
    return named[entry.names[0]], named


def _of_classes(request: Request, rows: Rows) -> dict[str, Any]:
    count = 0 if rows.values is None else len(rows.values)
    form = request.prediction or ("logits" if rows.named == LOGITS else "probabilities")
    return {"splits": min(request.splits, max(count, 1)), "seed": request.seed, "prediction": form}


def _on(rows: Rows, device: torch.device) -> Tensor:
    if rows.values is None:
        raise UsageError("a file of moments has no rows; give the features themselves")
    values = rows.values
    if values.is_floating_point() and values.dtype.itemsize < 4:
        values = values.float()  # float16 is what a cache was rounded to; it is computed in float64
    # Apple's devices have no float64.
    return values.to("cpu" if device.type == "mps" else device)


def _of_moments(rows: Sequence[Rows]) -> Tensor:
    both = load_target("dlcheck.references.metrics.frechet_distance:frechet_distance_from_moments")
    sides = []
    for each in rows:
        if each.moments is not None:
            sides += [x.double() for x in each.moments]
        elif each.values is not None:
            values = each.values.double().cpu()
            sides += [values.mean(0), torch.cov(values.mT)]
    try:
        return both(*sides)  # type: ignore[no-any-return]
    except (ValueError, TypeError) as error:
        raise UsageError(f"fid: {error}") from None


def _for_the_command(text: str) -> str:
    """An error of a reference, in the words of the command line."""
    for form in ("log_probabilities", "logits"):
        text = text.replace(f"prediction='{form}'", f"--prediction {form}")
    return text


def _notes(request: Request, rows: Sequence[Rows], more: dict[str, float]) -> list[str]:
    notes = []
    counts = [len(each.values) for each in rows if each.values is not None]
    least = min(counts, default=0)
    width = _width(rows[0])
    if request.metric == "fid" and counts and least < _MANY * width:
        notes.append(
            f"{least} rows of {width} features: the Fréchet distance is too high by an amount that "
            "grows with d² / n; compare only sets of equal size, or take kid, which is unbiased"
        )
    for name, each in zip(request.inputs, rows, strict=True):
        if each.values is not None and each.values.dtype in (torch.float16, torch.bfloat16):
            notes.append(f"{name} holds {str(each.values.dtype).removeprefix('torch.')}: 3 digits")
    if request.metric == "is":
        splits = min(request.splits, least)
        notes.append(
            f"mean ± standard deviation of {splits} splits, shuffled with seed {request.seed}; "
            "'whole' is one split of all, which is higher: the score grows with the sample"
            if splits > 1
            else "one split: no deviation"
        )
        if splits < request.splits:
            notes.append(f"{least} samples make at most {splits} splits, not {request.splits}")
    return notes
