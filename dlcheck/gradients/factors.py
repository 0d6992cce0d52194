"""What a factor between the claimed and the true gradient may mean."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dlcheck.gradients.measured import SLACK, Measured


def scale_in_words(a: float, measured: Measured) -> str:
    """true = a × claimed: what the factor may mean, from the sizes that are around."""
    claimed = 1 / a if a else math.inf
    known = max(1e-9, *(SLACK * s.bound / abs(s.measured) for s in measured.slopes if s.measured))
    for sign, said in ((1.0, ""), (-1.0, "the sign is flipped, and it is ")):
        found = [
            meaning
            for factor, meaning in _factors(measured)
            if math.isclose(sign * claimed, factor, rel_tol=min(known, 1e-3))
        ]
        if found:
            return said + " or ".join(found[:2])
    if math.isclose(claimed, -1.0, rel_tol=min(known, 1e-3)):
        return "the sign is flipped"
    if abs(claimed - 1) < 5e-7:
        return f"off by a relative {abs(claimed - 1):.2g}, as a constant kept in float32 makes it"
    return f"the gradient is {claimed:.9g} times the right one"


def _factors(measured: Measured) -> Iterator[tuple[float, str]]:
    """(claimed / true, meaning), the simplest first."""
    yield 2.0, "a factor 2 too many"
    yield 0.5, "a factor 2 is missing"
    for power in range(8, 25):
        yield 2.0**power, f"2^{power} times too large: a loss scale that was not taken out"
        yield 2.0**-power, f"2^{power} times too small: a loss scale that was taken out twice"
    counts, dims = _sizes(measured)
    for size, meaning in counts.items():
        yield float(size), f"{size} times too large: summed over {meaning}, not averaged"
        yield 1 / size, f"{size} times too small: averaged over {meaning}, not summed"
    for size, meaning in dims.items():
        yield math.sqrt(size), f"√{size} times too large: 1/√d missing, d = {meaning}"
        yield 1 / math.sqrt(size), f"√{size} times too small: one 1/√d too many, d = {meaning}"
        if size == 2:
            continue
        yield size / (size - 1), f"divided by {size - 1} instead of {size}: {meaning} less one"
        yield (size - 1) / size, f"divided by {size} instead of {size - 1}, of {meaning}"
        yield size / 2, f"{size}/2 times too large: half of {meaning}"
        yield 2 / size, f"{size}/2 times too small: half of {meaning}"


def _sizes(measured: Measured) -> tuple[dict[int, str], dict[int, str]]:
    """Numbers above 1 that a sum may run over, and sizes of dims, each with what it counts."""
    function, name = measured.part.judge.function, measured.part.name
    shape = measured.gradient.shape
    dims: dict[int, str] = {}
    counts: dict[int, str] = {}

    def count(into: dict[int, str], size: int, meaning: str) -> None:
        if size > 1:
            into.setdefault(size, meaning)

    count(counts, shape.numel(), f"the number of elements of {name}")
    for variable in function.variables:
        if variable.value.dim():
            rows = variable.value.shape[0]
            count(counts, rows, f"the {rows} rows of {variable.name} (the batch)")
    outputs = sum(shape.numel() for shape in function.shapes)
    count(counts, outputs, "the number of elements of the output")
    for variable in function.variables:
        for axis, size in enumerate(variable.value.shape):
            count(dims, size, f"the size {size} of dim {axis} of {variable.name}")
    for size, meaning in dims.items():
        count(counts, size, meaning)
    for shape in [*function.shapes, *(variable.value.shape for variable in function.variables)]:
        if len(shape) > 2:
            places = shape[2:].numel()
            count(counts, places, f"the {places} positions after dim 1")
            count(counts, shape[0] * places, "all dims but dim 1")
        if len(shape) > 1:
            count(counts, shape[1:].numel(), f"the {shape[1:].numel()} elements of a row")
    return counts, dims
