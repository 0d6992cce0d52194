"""The value of a metric of feature sets, and what should be said beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dlcheck.errors import UsageError
from dlcheck.scoring.files import LOGITS, Rows
from dlcheck.scoring.request import Request
from dlcheck.scoring.table import Entry
from dlcheck.targets import load_target

_ENOUGH = 2  # rows a feature, from which on the bias of a Fréchet distance follows its law
_WORTH = 0.05  # of the value
_NoSolution = torch.linalg.LinAlgError  # type: ignore[attr-defined]


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
    except _NoSolution:
        raise _beyond(request.metric, "no number") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"{request.metric}: {_for_the_command(str(error))}") from None
    if not entry.names:
        return float(answer), {}
    named = {name: float(part) for name, part in zip(entry.names, answer, strict=False)}
    return named[entry.names[0]], named


def refuse_beyond(metric: str, value: float, more: Mapping[str, float]) -> None:
    """Raise UsageError where the value, or what stands beside it, is no finite number."""
    for each in (value, *more.values()):
        if not math.isfinite(each):
            raise _beyond(metric, f"{each:g}")


def _beyond(metric: str, said: str) -> UsageError:
    return UsageError(
        f"{metric} comes to {said}: the features are too large for its powers to be held in "
        "float64; scale both sets by one factor, or find what made them so large"
    )


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
    except _NoSolution:
        raise _beyond("fid", "no number") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"fid: {error}") from None


def _for_the_command(text: str) -> str:
    """An error of a reference, in the words of the command line."""
    for form in ("log_probabilities", "logits"):
        text = text.replace(f"prediction='{form}'", f"--prediction {form}")
    return text


def notes_on(request: Request, rows: Sequence[Rows], value: float) -> list[str]:
    """What a reader of the number should know: bias, precision, splits."""
    notes = []
    counts = [len(each.values) for each in rows if each.values is not None]
    least = min(counts, default=0)
    if request.metric == "fid" and len(counts) == len(rows) == 2:
        notes += _on_bias(rows, value)
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


def _on_bias(rows: Sequence[Rows], value: float) -> list[str]:
    """What the sizes of the sets alone make of the Fréchet distance, where it is not little."""
    sets = [each.values.double() for each in rows if each.values is not None]
    least, width = min(map(len, sets)), sets[0].shape[1]
    advice = "compare only sets of equal size, or take kid, which is unbiased"
    if least < _ENOUGH * width:
        return [
            f"{least} rows of {width} features: the Fréchet distance is too high by an amount that "
            f"grows with d² / n; {advice}"
        ]
    expected = bias_of_frechet_distance(sets[0], sets[1])
    if expected < _WORTH * value or value < _WORTH * expected:  # little, or sets that share rows
        return []
    return [
        f"two samples of one and the same law, as many and as spread, are about {expected:.3g} "
        f"apart by their size alone; {advice}"
    ]


def bias_of_frechet_distance(a: Tensor, b: Tensor) -> float:
    """What the distance of two normal samples of one law is expected to be, to second order.

    a [n, d], b [m, d], float64; the law is that of both together, with eigenvalues λ. The means
    differ by tr Σ (1/n + 1/m). A change H of Σ costs ½ Σᵢⱼ Hᵢⱼ²/(λᵢ + λⱼ), and sample
    covariances vary by λᵢλⱼ(1 + δᵢⱼ)/n, so that these cost (1/n + 1/m)/2 Σᵢⱼ
    λᵢλⱼ(1 + δᵢⱼ)/(λᵢ + λⱼ): together σ²(2d + d(d + 1)/2)/n for Σ = σ²I and n = m.
    Source: Bhatia, Jain & Lim, On the Bures–Wasserstein distance, Expo. Math. 37(2), 2019, §3.
    """
    pooled = torch.cat([a - a.mean(0), b - b.mean(0)])
    spectrum = torch.linalg.eigvalsh(pooled.mT @ pooled / max(len(pooled) - 2, 1)).clamp_min(0)
    spectrum = spectrum[spectrum > 0]
    pairs = spectrum[:, None] * (spectrum / (spectrum[:, None] + spectrum))
    each = spectrum.sum() + 0.5 * (pairs.sum() + pairs.diagonal().sum())
    return float(each * (1 / len(a) + 1 / len(b)))
