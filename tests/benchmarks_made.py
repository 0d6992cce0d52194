"""Benchmarks for tests: any that can be recorded, and plain ones."""

from __future__ import annotations

import random

from hypothesis import strategies as st
from outcomes import NUMBERS, TEXT

from dlcheck.benchmark import Benchmark, Ceilings, Side

_MAYBE = st.none() | NUMBERS
_SECONDS = st.lists(st.floats(1e-9, 1e3), max_size=4).map(tuple)
SIDES = st.builds(
    Side,
    target=TEXT,
    seconds=_SECONDS,
    calls=st.integers(1),
    peak_bytes=st.none() | st.integers(0),
    **dict.fromkeys(("cold", "cpu", "wall", "page_faults", "launch", "graph", "uncleared"), _MAYBE),
)
BENCHMARKS = st.builds(
    Benchmark,
    subject=SIDES,
    against=st.none() | SIDES,
    sizes=st.dictionaries(TEXT, st.integers(0), max_size=2),
    params=st.dictionaries(TEXT, st.integers() | TEXT | st.booleans(), max_size=2),
    ceilings=st.none() | st.builds(Ceilings, copy=NUMBERS, matmul=NUMBERS),
    notes=st.lists(TEXT, max_size=2).map(tuple),
    **dict.fromkeys(("name", "suite", "device", "dtype", "point", "hardware", "profile"), TEXT),
    **dict.fromkeys(("refused", "fault", "grade", "agreement", "item", "reproduce", "file"), TEXT),
    **dict.fromkeys(("threads", "seed", "line"), st.integers(0)),
    **dict.fromkeys(("margin", "confidence", "took"), NUMBERS),
    **dict.fromkeys(("items", "flops", "bytes"), _MAYBE),
)


def benchmark(ratio: float = 1.0, spread: float = 0.001, n: int = 50, **more: object) -> Benchmark:
    """Pairs whose log-ratios lie around that of `ratio`, within `spread`."""
    drawn = random.Random(0)
    first = [1e-3 * (1 + 0.1 * drawn.random()) for _ in range(n)]
    second = [t * ratio * (1 + spread * (2 * drawn.random() - 1)) for t in first]
    declared = {
        "name": "softmax",
        "subject": Side(target="mypkg.softmax:fast", seconds=tuple(second)),
        "against": Side(target="torch.nn.functional:softmax", seconds=tuple(first)),
        "sizes": {"n": 64},
        "point": "cpu-float32-64",
        **more,
    }
    return Benchmark(**declared)  # type: ignore[arg-type]
