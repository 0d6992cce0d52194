"""Who shares a draw with whom among the rows of a call."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.augmentation.broken import on_images, row_by_row
from dlcheck.checks.augmentation.signatures import PAIRS, signatures, together
from dlcheck.checks.augmentation.studio import open_studio
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.mutants import around
from dlcheck.registry import check
from dlcheck.stats import Finding, Stream, detectable, three_strikes
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

_BATCH = 8
_CALLS = 24  # of one draw for a whole batch


@around
def draws_once_for_the_batch(original: Any, *inputs: Tensor) -> Any:
    """`random.random() < p` before a batch where one for each image was meant."""
    return row_by_row(original, inputs, lambda row: 0)


@around
def shares_draws_in_pairs(original: Any, *inputs: Tensor) -> Any:
    return row_by_row(original, inputs, lambda row: row // 2)


@around
def repeats_draws_after_half_the_batch(original: Any, *inputs: Tensor) -> Any:
    half = (len(inputs[0]) + 1) // 2
    return row_by_row(original, inputs, lambda row: row % half)


@around
def shares_by_the_detectable_effect(original: Any, *inputs: Tensor) -> Any:
    """A row has the draw of the one before so often that the correlation is the detectable one."""
    share = detectable(1.0, PAIRS - 1, coordinates=4)
    joined = torch.rand(len(inputs[0])) < share
    return row_by_row(
        original, inputs, lambda row: row - 1 if row % 2 and bool(joined[row]) else row
    )


@check(
    kind="augmentation",
    options={"unit": ["sample"], "labels": [None, "kept", "moved"]},
    rejects=[
        draws_once_for_the_batch,
        shares_draws_in_pairs,
        repeats_draws_after_half_the_batch,
        shares_by_the_detectable_effect,
    ],
    tags=["statistical"],
    once=True,
)
def rows_have_draws_of_their_own(subject: Implementation, case: Case) -> Evidence:
    """Where `unit` is sample, what happens to one image says nothing of what happens to another.

    One picture in all eight rows of a call; Fisher's exact test that two rows change, and that a
    projection of them is above its mean, independently: neighbours and rows half the batch
    apart, 200 pairs each, with Bonferroni's correction. By three strikes; needs no probability.
    Source: the declaration.
    """
    studio = open_studio(subject, case, b=_BATCH)
    if studio.rows < 2:
        raise NotApplicable("takes one image at a time")
    half = studio.rows // 2

    def test(stream: Stream, n: int) -> Finding:
        calls = signatures(studio, math.ceil(n / half))
        marks = torch.stack(calls)  # [calls, rows, 2]
        neighbours = marks[:, 0 : 2 * half : 2], marks[:, 1 : 2 * half : 2]
        apart = marks[:, :half], marks[:, half : 2 * half]
        pairs = [neighbours] if half == 1 else [neighbours, apart]
        return together([(a.flatten(0, 1), b.flatten(0, 1)) for a, b in pairs])

    n = PAIRS * case.profile.effort
    return three_strikes(case.root, case.claim, n, test, what="correlation of two rows of a call")


@around
def draws_for_every_row(original: Any, *inputs: Tensor) -> Any:
    return row_by_row(original, inputs, lambda row: row)


@around
def draws_again_for_the_last_row(original: Any, *inputs: Tensor) -> Any:
    last = len(inputs[0]) - 1
    return row_by_row(original, inputs, lambda row: int(row == last))


@around
def draws_for_each_half(original: Any, *inputs: Tensor) -> Any:
    half = (len(inputs[0]) + 1) // 2
    return row_by_row(original, inputs, lambda row: row // half)


@around
def leaves_out_the_first_row(original: Any, images: Tensor, *rest: Tensor) -> Any:
    return on_images(
        original(images, *rest),
        lambda x: torch.cat([images[:1], x[1:]]) if x.shape == images.shape else x.roll(1, -1),
    )


@check(
    kind="augmentation",
    options={"unit": ["batch"], "labels": [None, "kept", "moved"]},
    rejects=[
        draws_for_every_row,
        draws_again_for_the_last_row,
        draws_for_each_half,
        leaves_out_the_first_row,
    ],
    once=True,
)
def the_batch_shares_one_draw(subject: Implementation, case: Case) -> Evidence:
    """Where `unit` is batch, equal pictures in all rows come out equal.

    Twenty-four calls; to 2⁻²⁰ of the interval, as a vectorised loop may round its last rows
    otherwise. Masks, videos and pairs of views need it.
    Source: the declaration.
    """
    studio = open_studio(subject, case)
    if studio.rows < 2:
        raise NotApplicable("takes one image at a time")
    motif = studio.noise(rows=1).expand(studio.rows, -1, -1, -1)
    inputs = studio.loaded(motif)
    worst = 0.0
    studio.seed("shared")
    for _ in range(_CALLS):
        shown = studio.views(studio.again(inputs).images)
        worst = max(worst, float((shown - shown[:1]).abs().max()))
    return Evidence(
        error=worst,
        bound=2.0**-20,
        signal=1.0,
        what="difference of two rows that show one picture",
        cause="draws of their own are declared by unit = sample" if worst > 2.0**-20 else "",
    )
