"""Losses of overlap between predicted and labelled regions."""

from __future__ import annotations

import torch
from torch import Tensor

from dlcheck.references.activations.softmax import softmax
from dlcheck.references.losses.reduction import reduced
from dlcheck.references.precision import wide
from dlcheck.registry import reference


def _overlap(
    prediction: Tensor, target: Tensor, alpha: float, beta: float, smooth: float
) -> Tensor:
    """Tversky's index (I + s)/(I + α FP + β FN + s) of each image and class, [b, k]."""
    if prediction.ndim != 4 or target.shape != (prediction.shape[0], *prediction.shape[2:]):
        raise ValueError(
            f"logits [b, k, h, w] and labels [b, h, w] are expected, not "
            f"{list(prediction.shape)} and {list(target.shape)}"
        )
    p = softmax(wide(prediction), 1)
    t = torch.zeros_like(p).scatter(1, target.unsqueeze(1), 1.0)
    both = (p * t).sum((2, 3))
    only_predicted, only_labelled = (p * (1 - t)).sum((2, 3)), ((1 - p) * t).sum((2, 3))
    return (both + smooth) / (both + alpha * only_predicted + beta * only_labelled + smooth)


@reference(
    kind="loss",
    formula="1 − 1/k Σ_c (2 Σ p t + s)/(Σ p + Σ t + s);  p = softmax(x)",
    source="Sudre et al., Generalised Dice Overlap as a Deep Learning Loss Function for Highly "
    "Unbalanced Segmentations, DLMIA 2017, §2.1, of k classes",
    traits=["nonnegative", "shift_invariant", "class_balanced", "smooth", "continuous"],
    options={
        "task": "segmentation", "prediction": "logits", "reduction": "reduction",
        "range": [0.0, 1.0], "sizes": {"h": [1, 7], "w": [1, 7], "b": [1, 5]},
    },
)  # fmt: skip
def dice_loss(
    prediction: Tensor, target: Tensor, *, reduction: str = "mean", smooth: float = 1.0
) -> Tensor:
    """1 − the soft Dice coefficient, over the pixels of an image, averaged over the classes.

    Logits [b, k, h, w], labels [b, h, w]; one term per image. A class that is neither labelled nor
    predicted costs 0 thanks to s > 0. Raises ValueError for other shapes.
    """
    # 2I/(P + T) = I/(I + ½ FP + ½ FN), as P = I + FP and T = I + FN
    index = _overlap(prediction, target, 0.5, 0.5, smooth / 2)
    return reduced(1 - index.mean(1), reduction, prediction.dtype)


@reference(
    kind="loss",
    formula="1 − 1/k Σ_c (I + s)/(I + α FP + β FN + s);  I = Σ p t, FP = Σ p (1 − t), "
    "FN = Σ (1 − p) t",
    source="Salehi, Erdogmus & Gholipour, Tversky Loss Function for Image Segmentation, MLMI 2017, "
    "eq. 4",
    traits=["nonnegative", "shift_invariant", "class_balanced", "smooth", "continuous"],
    options={
        "task": "segmentation", "prediction": "logits", "reduction": "reduction",
        "range": [0.0, 1.0], "sizes": {"h": [1, 7], "w": [1, 7], "b": [1, 5]},
    },
)  # fmt: skip
def tversky_loss(
    prediction: Tensor,
    target: Tensor,
    *,
    reduction: str = "mean",
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
) -> Tensor:
    """1 − Tversky's index: α weighs what is wrongly predicted, β what is missed.

    Logits [b, k, h, w], labels [b, h, w]; one term per image. α = β = ½ is Dice with twice the s.
    Raises ValueError for other shapes.
    """
    index = _overlap(prediction, target, alpha, beta, smooth)
    return reduced(1 - index.mean(1), reduction, prediction.dtype)
