"""Label smoothing: as another target, and as a penalty beside cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.activations.softmax import log_softmax
from dlcheck.references.losses.cross_entropy import cross_entropy
from dlcheck.references.losses.reduction import reduced
from dlcheck.references.precision import wide
from dlcheck.registry import reference


def checked_share(smoothing: float) -> float:
    """ε itself. Raises ValueError unless it lies between 0 and 1."""
    if not 0 <= smoothing <= 1:
        raise ValueError(f"the smoothing is {smoothing}, but it lies between 0 and 1")
    return smoothing


@reference(
    kind="op",
    formula="q = (1 − ε) 1_y + ε/k",
    source="Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, "
    "§7; Müller, Kornblith & Hinton, When Does Label Smoothing Help?, NeurIPS 2019, §1.1",
    inputs={"target": "onehot b k"},
    args={"smoothing": 0.1},
    traits=["smooth", "twice_differentiable"],
    options={"output": "probability b k"},
)
def smoothed_target(target: Tensor, smoothing: float = 0.1) -> Tensor:
    """(1 − ε)q + ε/k of one-hot or soft targets [b, k]; like target.

    A distribution stays one. Raises ValueError unless 0 ≤ ε ≤ 1.
    """
    checked_share(smoothing)
    return (1 - smoothing) * target + smoothing / target.shape[-1]


@reference(
    kind="loss",
    formula="(1 − ε) (−log p_y) + ε (KL(u‖p) + log k),  u uniform over k classes",
    source="Szegedy et al., CVPR 2016, §7 (H(u, p) = KL(u‖p) + H(u)); Pereyra et al., Regularizing "
    "Neural Networks by Penalizing Confident Output Distributions, ICLR 2017 workshop, §3.2",
    args={"smoothing": 0.1},
    traits=["nonnegative", "convex", "smooth", "twice_differentiable", "shift_invariant",
            "smoothed"],
    options={"task": "classification", "prediction": "logits", "reduction": "reduction"},
)  # fmt: skip
def uniform_divergence_smoothing(
    prediction: Tensor, target: Tensor, *, smoothing: float = 0.1, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy with a penalty on what is far from uniform: logits [b, k], labels [b].

    ε H(u, p) = ε KL(u‖p) + ε log k, so it equals cross-entropy with smoothed targets. Raises
    ValueError unless 0 ≤ ε ≤ 1.
    """
    checked_share(smoothing)
    log_p = log_softmax(wide(prediction), 1)
    classes = prediction.shape[1]
    log_k = torch.log(torch.tensor(float(classes), dtype=log_p.dtype, device=log_p.device))
    divergence = -log_p.mean(1) - log_k
    own = cross_entropy(wide(prediction), target, reduction="none")
    terms = (1 - smoothing) * own + smoothing * (divergence + log_k)
    return reduced(terms, reduction, prediction.dtype)
