"""Augmentations: real mistakes are found, others' right ones pass, references agree with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import wrong_augmentations as wrong
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from dlcheck.checks.augmentation.enlarging import _errors
from dlcheck.model import Verdict
from dlcheck.references.augmentation import colours, flips, rotations, shifts
from dlcheck.validation import validate

IMAGES = {"images": "image b 3 h w"}
LABELLED = {**IMAGES, "labels": "label[10] b"}
ONE = "image 3 h w"


def found(subject: Any, inputs: dict[str, str], options: dict[str, Any], **more: Any) -> Any:
    more.setdefault("traits", ["stochastic_in_eval"])
    return validate(
        subject,
        kind="augmentation",
        inputs=inputs,
        options=options,
        device="cpu",
        dtype="float32",
        profile="quick",
        **more,
    )


BOXES = {**IMAGES, "boxes": "float b n 4"}
MASK = {**IMAGES, "mask": "label[8] b h w"}
KEPT, EACH = {"labels": "kept"}, {"labels": "kept", "unit": "sample"}
MOVED = {"labels": "moved", "target": "boxes", "coordinates": "edges"}
ONEHOT = {"labels": "mixed", "label_format": "onehot"}


@pytest.mark.parametrize(
    ("subject", "inputs", "options", "check"),
    [
        (wrong.mirrors_boxes_without_exchange, BOXES, MOVED, "boxes_move_with_images"),
        (wrong.mirrors_boxes_without_the_width, BOXES, MOVED, "boxes_move_with_images"),
        (wrong.mirrors_boxes_off_by_one, BOXES, MOVED, "boxes_move_with_images"),
        (wrong.draws_twice_for_image_and_boxes, BOXES, MOVED, "boxes_move_with_images"),
        (
            wrong.turns_masks_bilinearly,
            MASK,
            {"labels": "moved", "target": "mask"},
            "masks_move_with_images",
        ),
        (
            wrong.turns_masks_the_other_way,
            MASK,
            {"labels": "moved", "target": "mask"},
            "masks_move_with_images",
        ),
        (
            wrong.turns_about_another_centre,
            IMAGES,
            {"geometry": "rotation"},
            "pixels_move_as_declared",
        ),
        (
            wrong.cuts_without_correcting_the_weight,
            LABELLED,
            ONEHOT,
            "labels_weigh_what_pixels_cover",
        ),
        (
            wrong.mixes_labels_by_another_permutation,
            LABELLED,
            ONEHOT,
            "labels_weigh_what_pixels_cover",
        ),
        (
            wrong.exchanges_the_labels_of_a_pair,
            LABELLED,
            {"labels": "mixed", "label_format": "pair"},
            "labels_weigh_what_pixels_cover",
        ),
        (
            wrong.adds_its_own_noise_to_each,
            IMAGES,
            {**KEPT, "unit": "batch"},
            "the_batch_shares_one_draw",
        ),
        (wrong.RepeatsItsParameters(), IMAGES, KEPT, "draws_anew_in_each_call"),
        (wrong.seeds_numpy_in_every_call, IMAGES, KEPT, "draws_anew_in_each_call"),
        (wrong.flips_all_or_none, IMAGES, EACH, "rows_have_draws_of_their_own"),
        (
            wrong.flips_unless,
            IMAGES,
            {**EACH, "probability": 0.3},
            "applies_with_the_declared_probability",
        ),
        (wrong.turns_by_quarters, IMAGES, KEPT, "takes_its_declared_images"),
        (wrong.overflows_bytes, IMAGES, {**KEPT, "integers": True}, "treats_bytes_as_images"),
        (wrong.erases_its_input, IMAGES, KEPT, "leaves_the_originals"),
        (wrong.needs_a_picture, IMAGES, KEPT, "takes_its_declared_images"),
        (wrong.answers_with_arrays, IMAGES, KEPT, "takes_its_declared_images"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__) if callable(value) else "",
)
def test_real_mistakes_are_found(
    subject: Any, inputs: dict[str, str], options: dict[str, Any], check: str
) -> None:
    report = found(subject, inputs, options)
    assert check in [one.check for one in report.failures], str(report)
    assert all(one.verdict is not Verdict.ERRORED for one in report.outcomes)


def _with(transform: Any, wrap: Callable[[Tensor, Any], Any]) -> Callable[[Tensor, Tensor], Any]:
    return lambda image, target: transform(tv_tensors.Image(image), wrap(target, image.shape[-2:]))


def _boxes(boxes: Tensor, side: Any) -> Any:
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=side)


def _mask(mask: Tensor, _: Any) -> Any:
    return tv_tensors.Mask(mask)


@pytest.mark.parametrize(
    ("subject", "inputs", "options"),
    [
        (v2.RandomGrayscale(0.3), IMAGES, {**KEPT, "probability": 0.3, "integers": True}),
        (v2.RandomPerspective(0.4), IMAGES, {**KEPT, "unit": "batch", "probability": 0.5}),
        (v2.GaussianNoise(), IMAGES, KEPT),
        (v2.AugMix(), {"images": "uint8 b 3 h w"}, KEPT),
        (
            v2.RandomChoice([v2.MixUp(num_classes=10), v2.CutMix(num_classes=10)]),
            LABELLED,
            {**ONEHOT, "unit": "batch"},
        ),
        (
            _with(v2.RandomRotation(30), _boxes),
            {"image": ONE, "boxes": "float n 4"},
            {"labels": "moved", "target": "boxes", "geometry": "rotation"},
        ),
        (
            _with(v2.RandomResizedCrop(20, scale=(0.3, 1.0)), _mask),
            {"image": ONE, "mask": "label[8] h w"},
            {
                "labels": "moved",
                "target": "mask",
                "geometry": "affine",
                "output": "image 3 20 20",
            },
        ),
        (
            lambda image: torch.from_numpy(np.ascontiguousarray(image.numpy()[:, ::-1])),
            {"image": "image h w 3"},
            {**KEPT, "geometry": "horizontal_flip"},
        ),
    ],
    ids=["grey", "perspective", "noise", "augmix", "mix or cut", "boxes", "resized crop", "h w c"],
)
def test_right_ones_pass(subject: Any, inputs: dict[str, str], options: dict[str, Any]) -> None:
    traits = [] if inputs == {"image": "image h w 3"} else ["stochastic_in_eval"]
    report = found(subject, inputs, options, traits=traits)
    assert report.passed, str(report)


def _images(seed: int = 0) -> Tensor:
    return torch.rand(4, 3, 9, 12, generator=torch.Generator().manual_seed(seed))


def test_flips_are_torchvisions() -> None:
    x, labels = _images(), torch.arange(4)
    assert torch.equal(flips.random_horizontal_flip(x, labels, p=1.0)[0], V.horizontal_flip(x))
    boxes = torch.tensor([[[1.0, 2.0, 5.0, 7.0]]]).expand(4, 1, 4)
    mine = flips.random_flip_with_boxes(x, boxes, p=1.0)[1]
    theirs = V.horizontal_flip(_boxes(boxes[0], (9, 12)))
    assert torch.equal(mine[0], theirs.as_subclass(Tensor))


def test_rotations_are_torchvisions() -> None:
    x, angles = _images(), torch.tensor([10.0, -25.0, 90.0, 0.0])
    mine = rotations._bilinear(x, angles.deg2rad())
    for row, angle in enumerate(angles.tolist()):
        theirs = V.rotate(x[row], angle, interpolation=V.InterpolationMode.BILINEAR)
        assert torch.allclose(mine[row], theirs, atol=1e-5)


def test_shifts_are_rolls_of_what_is_padded() -> None:
    x = _images()
    down, right = torch.tensor([2, -1, 0, 3]), torch.tensor([-3, 0, 1, 2])
    mine = shifts._shifted(x, down, right, 3)
    for row in range(4):
        padded = torch.nn.functional.pad(x[row], [3] * 4)
        rolled = padded.roll((int(down[row]), int(right[row])), (-2, -1))
        assert torch.equal(mine[row], rolled[:, 3:-3, 3:-3])


def test_brightness_and_saturation_are_torchvisions() -> None:
    x, labels = _images(), torch.arange(4)
    torch.manual_seed(3)
    mine, _ = colours.colour_jitter(x, labels, brightness=0.4, contrast=0, saturation=0, hue=0)
    torch.manual_seed(3)
    factors = 1 + 0.4 * (2 * torch.rand(4) - 1)
    for row, factor in enumerate(factors.tolist()):
        assert torch.allclose(mine[row], V.adjust_brightness(x[row], factor), atol=1e-6)


def test_all_networks_at_once_learn_as_each_alone() -> None:
    """The batched networks with a gradient by hand: the first two are those of two seeds."""
    few, many = (_errors(7, seeds, torch.device("cpu"), None) for seeds in (2, 3))
    assert torch.allclose(few, many[:, :2], atol=2e-3)
    assert float(few[0].max()) == 0.0  # learnt by heart
