"""How far predicted and wanted regions overlap: IoU and Dice of segmentations."""

from __future__ import annotations

from torch import Tensor

from dlcheck.references.metrics.confusion import ClassScore


def intersection_over_union(
    prediction: Tensor,
    target: Tensor,
    classes: int,
    average: str = "macro",
    ignore_index: int | None = None,
) -> Tensor:
    """|P ∩ T| / |P ∪ T| of labels [b, h, w], over all pixels of all images.

    average as `ClassScore` has it: a class that neither names is left out of macro, and is NaN in
    none. Source: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 111, 2015,
    §5.1.2.
    """
    return ClassScore(classes, "iou", average, ignore_index=ignore_index).of(prediction, target)


def dice(
    prediction: Tensor,
    target: Tensor,
    classes: int,
    average: str = "macro",
    ignore_index: int | None = None,
) -> Tensor:
    """2 |P ∩ T| / (|P| + |T|) of labels [b, h, w], over all pixels: the F₁ of each class.

    Source: Dice, Measures of the amount of ecologic association between species, Ecology 26, 1945.
    """
    score = ClassScore(classes, "f_beta", average, ignore_index=ignore_index)
    return score.of(prediction, target)
