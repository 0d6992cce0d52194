"""Masks as a subject declares them: which keys a query may see, in its own words.

Checks think in `kept`, boolean [b, m, n]: row b, query m, key n. A declaration says under which
keyword the subject takes it, whether true means keep or drop, or the mask is added to the logits,
and whether it is one for every key [b, n] or for every pair [m, n].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dlcheck.domains import Input
from dlcheck.errors import DeclarationError

_MEANINGS = ("keep", "drop", "additive")
_AXES = ("key", "pair")


@dataclass(frozen=True, slots=True)
class Mask:
    """A declared mask. `spec` is its input where it is one of the inputs."""

    name: str
    meaning: str
    axis: str
    spec: Input | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], specs: Mapping[str, Input]) -> Mask | None:
        """The declared mask, or None. Raises DeclarationError where it is declared wrongly."""
        given = options.get("mask")
        if given is None:
            return None
        declared = {"name": given} if isinstance(given, str) else dict(given)
        name = str(declared.get("name", "mask"))
        meaning = str(declared.get("meaning", "keep"))
        spec = specs.get(name)
        axis = str(
            declared.get("axis", "key" if spec is not None and len(spec.dims) < 3 else "pair")
        )
        if meaning not in _MEANINGS or axis not in _AXES:
            raise DeclarationError(
                f"options.mask is {{ name, meaning = keep | drop | additive, axis = key | pair }}, "
                f"not {given!r}"
            )
        return cls(name, meaning, axis, spec)

    def layouts(self, batch: str, axes: int) -> list[tuple[str, ...]]:
        """The axes it may have, as roles: b, m, n, 1, or the name of another dim.

        As its input says; else the usual ones, the first that the subject takes being right.
        batch: the name of the batch dim, "" without one; axes: how many the queries have.
        """
        if self.spec is not None:
            return [self._declared_layout(batch)]
        if not batch:
            return [("n",)] if self.axis == "key" else [("m", "n")]
        full = ("b", *("1" for _ in range(axes - 3)))
        if self.axis == "key":
            return [("b", "n"), (*full, "1", "n")]
        return [("m", "n"), (*full, "m", "n"), ("b", "m", "n")]

    def _declared_layout(self, batch: str) -> tuple[str, ...]:
        assert self.spec is not None
        dims = self.spec.dims
        pair = 1 if self.axis == "pair" else 0
        roles = [
            "b" if dim.name == batch and dim.name else (dim.name or str(dim.times))
            for dim in dims[: len(dims) - 1 - pair]
        ]
        return (*roles, *("m" * pair), "n")

    def tensor(
        self, kept: Tensor, layout: Sequence[str], like: Tensor, sizes: Mapping[str, int]
    ) -> Tensor:
        """The mask for `kept` [b, m, n], in the subject's words and with these axes."""
        value = kept
        if "m" not in layout:
            value = value[:, :1]
        if "b" not in layout:
            value = value[:1]
        shape, whole = [], []
        for role in layout:
            known = {"b": value.shape[0], "m": value.shape[1], "n": value.shape[2]}
            size = known.get(role, 1)
            shape.append(size)
            whole.append(size if role in known else _size(role, sizes))
        value = value.reshape(shape).expand(whole).clone()
        return self._worded(value, like)

    def _worded(self, kept: Tensor, like: Tensor) -> Tensor:
        if self.meaning == "additive":
            zeros = torch.zeros(kept.shape, dtype=like.dtype)
            return zeros.masked_fill(~kept, -torch.inf).to(like.device)
        value = kept if self.meaning == "keep" else ~kept
        if self.spec is None or self.spec.element in ("bool", "mask"):
            return value.to(like.device)
        return value.to(like.device, like.dtype if self.spec.is_floating else torch.int64)


def _size(role: str, sizes: Mapping[str, int]) -> int:
    return int(role) if role.isdigit() else sizes[role]
