"""Connectionist temporal classification: the likelihood of a sequence under every alignment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlcheck.references.losses.reduction import reduced
from dlcheck.references.precision import wide
from dlcheck.registry import reference

# log 0 where sums over alignments are taken: a number, so that no ∞ − ∞ arises in a derivative
_IMPOSSIBLE = -1e30


def _extended(targets: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """l′ = blank l₁ blank l₂ … blank, [b, 2s + 1], and where a step may skip a blank.

    It may onto a label that differs from the one before.
    """
    blanks = torch.full_like(targets, blank)
    pairs = torch.stack([blanks, targets], 2).flatten(1)
    path = torch.cat([pairs, blanks.new_full((len(targets), 1), blank)], 1)
    before = path.roll(2, 1)
    skips = (path != blank) & (path != before) & (torch.arange(path.shape[1]).to(path.device) >= 2)
    return path, skips


def _shifted(a: Tensor, by: int) -> Tensor:
    """a [b, s] moved along its last axis, filled with the impossible."""
    kept = a[:, :-by] if by > 0 else a[:, -by:]
    edge = a.new_full((len(a), min(abs(by), a.shape[1])), _IMPOSSIBLE)
    return torch.cat([edge, kept] if by > 0 else [kept, edge], 1)


def _alphas(emitted: Tensor, skips: Tensor) -> list[Tensor]:
    """log αₜ(s) = log p(x₁…xₜ, path at s), Graves' eq. 5–7, emitted [t, b, s]."""
    start = torch.arange(emitted.shape[2], device=emitted.device) < 2
    alphas = [torch.where(start, emitted[0], _IMPOSSIBLE)]
    for e in emitted[1:]:
        a = alphas[-1]
        skipped = torch.where(skips, _shifted(a, 2), _IMPOSSIBLE)
        alphas.append(e + torch.stack([a, _shifted(a, 1), skipped]).logsumexp(0))
    return alphas


def _betas(emitted: Tensor, skips: Tensor, ends: Tensor, last: Tensor) -> list[Tensor]:
    """log βₜ(s) = log p(xₜ₊₁…x_T | path at s), eq. 9–11 without the emission at t itself.

    ends [b, s] is log 1 at the last two states of each row and log 0 elsewhere; last [b] its last
    time step, from which on β stays that.
    """
    skipped_from = _shifted(torch.where(skips, 0.0, _IMPOSSIBLE).to(emitted.dtype), -2)
    betas = [ends]
    for t in range(len(emitted) - 2, -1, -1):
        b = betas[-1] + emitted[t + 1]
        skipping = torch.where(skipped_from == 0, _shifted(b, -2), _IMPOSSIBLE)
        ahead = torch.stack([b, _shifted(b, -1), skipping]).logsumexp(0)
        betas.append(torch.where((t >= last).unsqueeze(1), ends, ahead))
    return betas[::-1]


def _lattice(
    y: Tensor, targets: Tensor, target_lengths: Tensor, blank: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Emissions [t, b, s] along l′, l′ itself, the skips, and log 1 at the ends of each row."""
    path, skips = _extended(targets, blank)
    emitted = y.clamp(min=_IMPOSSIBLE).gather(2, path.expand(len(y), -1, -1))
    s = torch.arange(path.shape[1], device=y.device)
    final = 2 * target_lengths.unsqueeze(1)
    ends = torch.where((s == final) | (s == final - 1), 0.0, _IMPOSSIBLE).to(y.dtype)
    return emitted, path, skips, ends


class _CTC(torch.autograd.Function):
    """ℓ = −log Σ over alignments of Πₜ p(πₜ) = −log Σₛ αₜ(s) βₜ(s), for any t.

    log y_{t,k} enters each alignment that is at a state of label k at time t once, so
    ∂ℓ/∂log y_{t,k} = −Σ_{s: l′ₛ = k} αₜ(s) βₜ(s)/p(l), minus the share of alignments there.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        y: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int
    ) -> Tensor:
        emitted, _, skips, ends = _lattice(y, targets, target_lengths, blank)
        last = _at_the_end(torch.stack(_alphas(emitted, skips)), lengths)
        return -(last + ends).logsumexp(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.blank = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        y, targets, lengths, target_lengths = ctx.saved_tensors
        emitted, path, skips, ends = _lattice(y, targets, target_lengths, ctx.blank)
        alphas = torch.stack(_alphas(emitted, skips))
        betas = torch.stack(_betas(emitted, skips, ends, lengths - 1))
        total = (_at_the_end(alphas, lengths) + ends).logsumexp(1)
        at = torch.arange(len(y), device=y.device).reshape(-1, 1, 1)
        counts = (at < lengths.reshape(1, -1, 1)) & (total > _IMPOSSIBLE / 2).reshape(1, -1, 1)
        shares = torch.where(counts, (alphas + betas - total.reshape(1, -1, 1)).exp(), 0.0)
        index = path.expand(len(y), -1, -1)
        of_labels = torch.zeros_like(y).scatter_add(2, index, shares)
        return -of_labels * gradients[0].reshape(1, -1, 1), None, None, None, None


def _at_the_end(alphas: Tensor, lengths: Tensor) -> Tensor:
    """Of alphas [t, b, s] those of each row's last time step, [b, s]."""
    index = (lengths - 1).reshape(1, -1, 1).expand(1, -1, alphas.shape[2])
    return alphas.gather(0, index).squeeze(0)


@reference(
    kind="loss",
    formula="−log Σ_{π: B(π) = l} Πₜ y_{t,πₜ}",
    source="Graves et al., Connectionist Temporal Classification, ICML 2006, §4.1 and eq. 15",
    inputs={
        "log_probabilities": "log_probability 12 b 6", "targets": "int[1:6] b 4",
        "lengths": "int[9:13] b", "target_lengths": "int[1:5] b",
    },
    traits=["nonnegative", "ordered_classes", "smooth", "twice_differentiable"],
    options={
        "task": "sequence",
        "roles": {
            "prediction": "log_probabilities",
            "data": ["targets", "lengths", "target_lengths"],
        },
    },
)  # fmt: skip
def ctc_loss(
    log_probabilities: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    *,
    reduction: str = "mean",
    blank: int = 0,
) -> Tensor:
    """−log p(l | x): log probabilities [t, b, k], targets [b, s], lengths [b].

    targets are padded with any label. "mean" divides each row by its target length, at least 1,
    before averaging, as torch has it. A target that no alignment gives costs ∞ and sends no
    gradient. The gradient is that by the log probabilities themselves; torch's is that by logits
    before a log_softmax, subtracted already.
    """
    y = wide(log_probabilities)
    terms: Tensor = _CTC.apply(y, targets, lengths, target_lengths, blank)
    terms = torch.where(terms > -_IMPOSSIBLE / 2, torch.inf, terms)
    if reduction == "mean":
        terms = terms / target_lengths.clamp(min=1)
    return reduced(terms, reduction, log_probabilities.dtype)
