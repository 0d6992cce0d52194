"""What a computed metric comes to: its value with all that is needed to compare it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from dlcheck.model import NOTHING
from dlcheck.results import plain

_SHOWN = 8  # digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The value of a metric. `values` holds further numbers, `each` those of pairs of images."""

    metric: str
    value: float
    better: str
    values: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    inputs: tuple[str, ...]
    n: tuple[int | None, ...]  # None where a file holds moments alone
    features: str
    weights: str
    resize: str
    dtype: str
    device: str
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    each: Mapping[str, float] = field(default_factory=lambda: NOTHING)

    def to_json(self) -> str:
        """As JSON; NaN and infinity are texts."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps(plain(data), indent=2, allow_nan=False)

    def __str__(self) -> str:
        counts = ["moments" if n is None else str(n) for n in self.n]
        sets = [f"{name} ({n})" for name, n in zip(self.inputs, counts, strict=True)]
        rows = {
            "of": " and ".join(sets),
            "features": self.features,
            "weights": self.weights,
            "resize": self.resize,
            "computed in": f"{self.dtype} on {self.device}, {self.seconds:.1f} s",
        }
        lines = [f"{self.metric}  {self._told()}  ({self.better} is better)"]
        lines += [f"  {name:<12} {said}" for name, said in rows.items() if said]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def _told(self) -> str:
        others = [f"{k} {v:.{_SHOWN}g}" for k, v in self.values.items() if k not in _OWN]
        if self.values and "mean" not in self.values:
            return ", ".join(others)
        shown = f"{self.value:.{_SHOWN}g}"
        if "deviation" in self.values:
            shown += f" ± {self.values['deviation']:.3g}"
        return ", ".join([shown, *others])


_OWN = ("mean", "deviation")
