"""The value of a metric of feature sets, and what should be said beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import UsageError
from dlcheck.scoring.files import LOGITS, Rows
from dlcheck.scoring.request import Request
from dlcheck.scoring.table import Entry
from dlcheck.targets import load_target

_MANY = 5  # rows a feature, below which the bias of a Fréchet distance is worth a note


def valued(
    request: Request, entry: Entry, reference: Any, rows: Sequence[Rows]
) -> tuple[float, dict[str, float]]:
    """The value and what more the metric says."""
    keywords: dict[str, Any] = dict(entry.keywords)
    device = torch.device(request.device)
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


def notes_on(request: Request, rows: Sequence[Rows]) -> list[str]:
    """What a reader of the number should know: bias, precision, splits."""
    notes = []
    counts = [len(each.values) for each in rows if each.values is not None]
    least = min(counts, default=0)
    width = rows[0].width
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
