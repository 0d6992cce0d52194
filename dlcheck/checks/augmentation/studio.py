"""Pictures taken of an augmentation: the same draw of several motifs, and many draws of one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dlcheck.checks.augmentation.answers import Answer, read
from dlcheck.checks.augmentation.boxes import (
    drawn_boxes,
    drawn_points,
    from_corners,
    in_shares,
)
from dlcheck.checks.augmentation.declared import (
    Signature,
    in_mode,
    interval_of,
    signature_of,
    sizes_of,
)
from dlcheck.errors import NotApplicable, SubjectRaised
from dlcheck.isolation import seed_everything
from dlcheck.regimes import make_values
from dlcheck.strategies import Case, stream_seed
from dlcheck.subjects import Implementation, guarded


@dataclass(slots=True)
class Studio:
    """A subject and the sizes of its pictures.

    A motif is float64 in [0, 1], of shape [b, h, w] (grey) or [b, c, h, w]; it is converted to
    what the subject takes. A shot is an answer.
    """

    subject: Implementation
    case: Case
    signature: Signature
    sizes: dict[str, int]

    @property
    def rows(self) -> int:
        """How many images a call holds."""
        batch = self.signature.batch
        return 1 if batch is None else batch.size(self.sizes)

    @property
    def side(self) -> tuple[int, int]:
        """Height and width."""
        dims = self.signature.specs[self.signature.images].dims
        return (
            dims[self.signature.rows].size(self.sizes),
            dims[self.signature.columns].size(self.sizes),
        )

    @property
    def channels(self) -> int:
        axis = self.signature.channels
        dims = self.signature.specs[self.signature.images].dims
        return 1 if axis is None else dims[axis].size(self.sizes)

    @property
    def classes(self) -> int:
        """How many classes labels have."""
        spec = self.signature.specs[self.signature.labels or ""]
        if spec.count is not None:
            return spec.count.size(self.sizes)
        return spec.dims[-1].size(self.sizes)

    @property
    def range(self) -> tuple[float, float]:
        """What 0 and 1 of a motif are for the subject."""
        return interval_of(self.signature.specs[self.signature.images]) or (0.0, 1.0)

    # --- what goes in ---

    def noise(self, salt: str = "noise", rows: int | None = None) -> Tensor:
        """Colourful noise, [b, c, h, w] in (0.02, 0.98): no two pixels are alike."""
        shape = (rows or self.rows, self.channels, *self.side)
        u = torch.rand(shape, generator=self.case.generator(salt), dtype=torch.float64)
        return 0.02 + 0.96 * u

    def develop(self, motif: Tensor) -> Tensor:
        """A motif as the subject takes images."""
        if motif.dim() == 3:
            motif = motif[:, None].expand(-1, self.channels, -1, -1)
        spec = self.signature.specs[self.signature.images]
        low, high = self.range
        values = low + (high - low) * motif
        return self._arranged(values, integers=not spec.is_floating)

    def _arranged(self, values: Tensor, *, integers: bool) -> Tensor:
        """[b, c, h, w] → the declared order of axes, dtype and device."""
        signature = self.signature
        spec = signature.specs[signature.images]
        places: dict[int, int] = {signature.rows: 2, signature.columns: 3}
        if signature.channels is None:
            values = values.mean(1, keepdim=True)
        else:
            places[signature.channels] = 1
        if signature.batch is not None:
            places[-len(spec.dims)] = 0
        missing = [axis for axis in range(-len(spec.dims), 0) if axis not in places]
        if missing:
            raise NotApplicable(f"images of the form '{spec}' are not understood")
        order = [places[axis] for axis in range(-len(spec.dims), 0)]
        gone = [axis for axis in range(4) if axis not in order]
        if 0 in gone and len(values) != 1:
            raise NotApplicable("takes one image at a time")
        made = values.permute(*order, *gone).reshape([values.shape[axis] for axis in order])
        if integers:
            dtype = torch.uint8 if spec.element == "uint8" else torch.int64
            return made.round().to(device=self.case.device, dtype=dtype).contiguous()
        return made.to(device=self.case.device, dtype=self.case.dtype).contiguous()

    def views(self, images: Tensor) -> Tensor:
        """Images of an answer as [b, c, h, w] float64, 0 and 1 being those of a motif."""
        signature = self.signature
        dims = len(signature.specs[signature.images].dims)
        if images.dim() != dims:
            raise NotApplicable(f"returns images with {images.dim()} axes for {dims}")
        x = images.double().cpu()
        order = [] if signature.batch is None else [0]
        order += [] if signature.channels is None else [dims + signature.channels]
        order += [dims + signature.rows, dims + signature.columns]
        x = x.permute(*order)
        if signature.batch is None:
            x = x[None]
        if signature.channels is None:
            x = x[:, None]
        low, high = self.range
        return (x - low) / (high - low)

    def others(self, salt: str = "") -> dict[str, Tensor]:
        """Labels and targets as their domains say, classes all different where there are enough."""
        made = {}
        for name, spec in self.signature.specs.items():
            if name == self.signature.images:
                continue
            target = self._target_of(name)
            if target in ("boxes", "keypoints"):
                made[name] = self.objects(target)[0]
                continue
            values = make_values(spec, self.sizes, "normal", self.case.generator(name + salt))
            if name == self.signature.labels and self.signature.batch is not None:
                values = _spread(values, spec.count.size(self.sizes) if spec.count else None)
            dtype = self.case.dtype if spec.is_floating else values.dtype
            made[name] = values.to(device=self.case.device, dtype=dtype)
        return made

    def _target_of(self, name: str) -> str:
        return next((what for what, of in self.signature.targets.items() if of == name), "")

    def objects(self, target: str) -> tuple[Tensor, Tensor]:
        """(boxes or keypoints as the subject takes them, the same in pixels), within the image.

        Raises NotApplicable where no input has the form of one.
        """
        name = self.signature.targets.get(target)
        if name is None:
            raise NotApplicable(f"declares target = {target}, but no input has the form of one")
        spec = self.signature.specs[name]
        generator = self.case.generator(target)
        u = torch.rand(spec.shape(self.sizes), generator=generator, dtype=torch.float64)
        if target == "boxes":
            drawn = drawn_boxes(u, self.side)
            given = from_corners(self.subject, drawn, self.side)
        else:
            drawn = drawn_points(u, self.side)
            given = in_shares(self.subject, drawn, self.side)
        dtype = self.case.dtype if spec.is_floating else torch.int64
        return given.to(device=self.case.device, dtype=dtype), drawn

    # --- what comes out ---

    def shoot(
        self,
        motif: Tensor,
        draw: int | str,
        others: Mapping[str, Tensor] | None = None,
        *,
        subject: Implementation | None = None,
    ) -> Answer:
        """The answer to a motif under a numbered draw, the same for the same number.

        The object is copied first, so that one with a generator of its own draws alike too.
        """
        made = subject or self.subject
        before = made.target
        made.target = copied(before)
        try:
            self.seed(draw)
            return self.next(motif, others, subject=made)
        finally:
            made.target = before

    def seed(self, draw: int | str) -> None:
        """Seed the global generators for a numbered draw."""
        seed_everything(stream_seed(self.case.root, self.case.claim, "draw", str(draw)))

    def next(
        self,
        motif: Tensor,
        others: Mapping[str, Tensor] | None = None,
        *,
        subject: Implementation | None = None,
    ) -> Answer:
        """The answer to a motif under whatever is drawn next."""
        return self.call(self.loaded(motif, others), subject)

    def loaded(self, motif: Tensor, others: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """All that a call takes."""
        given = {self.signature.images: self.develop(motif), **(others or self.others())}
        return [given[name] for name in self.signature.specs]

    def again(self, given: list[Tensor], subject: Implementation | None = None) -> Answer:
        """The answer to private copies of all that a call takes, under what is drawn next."""
        return self.call([x.clone() for x in given], subject)

    def call(self, inputs: list[Tensor], subject: Implementation | None = None) -> Answer:
        with torch.no_grad():
            answer = (subject or self.subject)(*inputs)
        return read(answer, self.signature, self.rows if self.signature.is_batched else None)


def _spread(labels: Tensor, classes: int | None) -> Tensor:
    """As many different classes as there are, in turn from a drawn one on."""
    if labels.dim() == 2:  # one-hot rows
        ids = torch.arange(1, len(labels) + 1) % labels.shape[1]
        return F.one_hot(ids, labels.shape[1]).to(labels.dtype)
    if classes is None or labels.dim() != 1:
        return labels
    return (torch.arange(len(labels)) + labels[0]) % classes


def copied(target: Any) -> Any:
    """A copy of an object with its own state; what cannot be copied stays itself."""
    try:
        return guarded(copy.deepcopy, target)
    except Exception:
        return target


def open_studio(
    subject: Implementation, case: Case, *, mode: str = "train", **wanted: int
) -> Studio:
    """A studio for the subject in train mode, whose plain call works.

    wanted: h, w, b. Raises NotApplicable where the plain call raises: the check
    `takes_its_declared_images` says so.
    """
    studio = make_studio(subject, case, mode=mode, **wanted)
    try:
        studio.shoot(studio.noise(), "plain")
    except SubjectRaised as error:
        raise NotApplicable(f"its plain call raises: {error}") from error
    return studio


def make_studio(
    subject: Implementation, case: Case, *, mode: str = "train", **wanted: int
) -> Studio:
    """A studio, without looking whether the plain call works."""
    signature = signature_of(subject, case.specs)
    sizes = sizes_of(subject, signature, case.sizes, **wanted)
    return Studio(in_mode(subject, mode), case, signature, sizes)
