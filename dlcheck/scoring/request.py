"""What is asked of a metric."""

from __future__ import annotations

from dataclasses import dataclass, field

from dlcheck.scoring.pictures import Decoding
from dlcheck.scoring.pictures import Tell as Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, as the command line says it."""

    metric: str
    inputs: tuple[str, ...]
    features: str | None = None  # inception
    weights: str | None = None
    size: int | None = None
    batch_size: int | None = None
    device: str = "cpu"
    splits: int = 10
    seed: int = 0
    prediction: str | None = None
    net: str = "alex"
    decoding: Decoding = field(default_factory=Decoding)
    save: tuple[str, ...] = ()
