"""Mistakes that people made in augmentations, each with where it was made."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V


def _chosen(images: Tensor, p: float = 0.5) -> Tensor:
    return torch.rand(len(images)) < p


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, *[1] * (old.dim() - 1)), new, old)


def mirrors_boxes_without_exchange(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Nota-NetsPresso/netspresso-trainer#196: x₁ > x₂."""
    chosen, mirrored = _chosen(images), boxes.clone()
    mirrored[..., 0::2] = images.shape[-1] - boxes[..., 0::2]
    return _where(chosen, images.flip(-1), images), _where(chosen, mirrored, boxes)


def mirrors_boxes_without_the_width(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """kornia/kornia#1165: boxes at negative coordinates."""
    chosen = _chosen(images)
    mirrored = boxes[..., [2, 1, 0, 3]] * boxes.new_tensor([-1, 1, -1, 1])
    return _where(chosen, images.flip(-1), images), _where(chosen, mirrored, boxes)


def mirrors_boxes_off_by_one(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """albumentations-team/albumentations#1720, tongtybj/TrTr#13: w − 1 − x."""
    chosen, x = _chosen(images), images.shape[-1] - 1 - boxes[..., [2, 0]]
    mirrored = torch.stack([x[..., 0], boxes[..., 1], x[..., 1], boxes[..., 3]], -1)
    return _where(chosen, images.flip(-1), images), _where(chosen, mirrored, boxes)


def draws_twice_for_image_and_boxes(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """aleju/imgaug#521: unaligned random samples."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    mirrored = torch.stack([images.shape[-1] - x2, y1, images.shape[-1] - x1, y2], -1)
    return (
        _where(_chosen(images), images.flip(-1), images),
        _where(_chosen(images), mirrored, boxes),
    )


def turns_masks_bilinearly(images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """keras-team/keras#22192, kornia/kornia#1676: classes that are in between."""
    angle = float(60 * torch.rand(()) - 30)
    turn = V.InterpolationMode.BILINEAR
    return (
        V.rotate(images, angle, interpolation=turn),
        V.rotate(mask.double(), angle, interpolation=turn).round().to(mask.dtype),
    )


def turns_masks_the_other_way(images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    angle = float(60 * torch.rand(()) - 30)
    turned = V.rotate(images, angle, interpolation=V.InterpolationMode.BILINEAR)
    return turned, V.rotate(mask, -angle)


def turns_about_another_centre(images: Tensor) -> Tensor:
    """aleju/imgaug#761: half a pixel between the centre of the grid and that of the image."""
    angle = math.radians(float(60 * torch.rand(()) - 30))
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height) - height / 2, torch.arange(width) - width / 2, indexing="ij"
    )
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = cos * x - sin * y + width / 2, sin * x + cos * y + height / 2
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1).to(images.dtype)
    return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=False)


def cuts_without_correcting_the_weight(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """clovaai/CutMix-PyTorch#1: λ as drawn, though the box is clipped at the border."""
    share = float(torch.rand(()))
    height, width = images.shape[-2:]
    tall, wide = int(height * (1 - share) ** 0.5), int(width * (1 - share) ** 0.5)
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    rows = slice(max(row - tall // 2, 0), row + tall // 2)
    columns = slice(max(column - wide // 2, 0), column + wide // 2)
    mixed, partner = images.clone(), torch.randperm(len(images))
    mixed[..., rows, columns] = images[partner][..., rows, columns]
    targets = F.one_hot(labels, 10).to(images.dtype)
    return mixed, share * targets + (1 - share) * targets[partner]


def mixes_labels_by_another_permutation(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    share = float(torch.rand(()))
    targets = F.one_hot(labels, 10).to(images.dtype)
    mixed = share * images + (1 - share) * images[torch.randperm(len(images))]
    return mixed, share * targets + (1 - share) * targets[torch.randperm(len(images))]


def exchanges_the_labels_of_a_pair(
    images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor, float]:
    """(y_b, y_a, λ)."""
    share, partner = float(torch.rand(())), torch.randperm(len(images))
    return share * images + (1 - share) * images[partner], labels[partner], labels, share


def adds_its_own_noise_to_each(images: Tensor) -> Tensor:
    """kornia/kornia#3624: same_on_batch, but for the noise."""
    return (images + 0.05 * torch.randn_like(images)).clamp(0, 1)


class RepeatsItsParameters:
    """kornia/kornia#2410: parameters that are there already are not drawn again."""

    def __init__(self) -> None:
        self.chosen: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        if self.chosen is None or len(self.chosen) != len(images):
            self.chosen = _chosen(images)
        return _where(self.chosen, images.flip(-1), images)


def seeds_numpy_in_every_call(images: Tensor) -> Tensor:
    """Workers that start from one copy of NumPy's generator."""
    chosen = torch.as_tensor(np.random.RandomState(0).rand(len(images)) < 0.5)
    return _where(chosen, images.flip(-1), images)


def flips_all_or_none(images: Tensor) -> Tensor:
    """torchvision's flip of a batch, taken for one of each image."""
    return images.flip(-1) if float(torch.rand(())) < 0.5 else images


def flips_unless(images: Tensor) -> Tensor:
    """`random() > p`, p being 0.3."""
    return _where(torch.rand(len(images)) > 0.3, images.flip(-1), images)


def turns_by_quarters(images: Tensor) -> Tensor:
    """A wide image becomes a tall one."""
    return images.rot90(int(torch.randint(4, ())), (-2, -1))


def overflows_bytes(images: Tensor) -> Tensor:
    """Nota-NetsPresso/netspresso-trainer#411: the sum of a byte and a shift wraps around."""
    shift = float(torch.rand(())) * 0.4
    if images.dtype == torch.uint8:
        return images + torch.tensor(int(255 * shift), dtype=torch.uint8)
    return (images + shift).clamp(max=1)


def erases_its_input(images: Tensor) -> Tensor:
    row, column = int(torch.randint(images.shape[-2] - 4, ())), int(torch.randint(8, ()))
    images[..., row : row + 4, column : column + 4] = 0
    return images


def needs_a_picture(images: Tensor) -> Tensor:
    """Takes PIL images only."""
    raise TypeError(f"img should be PIL Image. Got {type(images)}")


def answers_with_arrays(images: Tensor) -> np.ndarray:
    return images.flip(-1).numpy()
