"""Time, passes and memory of the gradient engine beside torch.autograd.gradcheck.

Every contender runs once per round, so that what slows the machine slows them alike; a ratio is
the median over rounds. gradcheck's slow mode runs once between two full checks; on large subjects
its time per element is the slope of its time between the two bias vectors of the same loss, each
checked alone with its own code, and times the number of elements.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from markdown import Table, figure
from torch import Tensor

from dlcheck import check_gradient

Subject = tuple[Callable[..., Tensor], list[Tensor]]
ROUNDS, MOST_SECONDS = 9, 6.0  # per subject, of the rounds
SLOW_ELEMENTS = 8_000  # up to which slow mode is run to the end
COMPLETE = "MLP loss, 1e5"  # on which it is run to the end when asked for


class Numbers:
    """Float64 leaves on one device."""

    def __init__(self, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self.device = device

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(*shape, generator=self._generator, dtype=torch.float64)
        return (scale * drawn).to(self.device).requires_grad_()


def perceptron(*sizes: int) -> Callable[[Numbers], Subject]:
    """The cross entropy of a tanh network on 16 rows, as a function of its parameters."""

    def build(numbers: Numbers) -> Subject:
        parameters = []
        for before, after in itertools.pairwise(sizes):
            parameters += [numbers(after, before, scale=before**-0.5), numbers(after, scale=0.1)]
        rows = numbers(16, sizes[0]).detach()
        target = torch.arange(16, device=rows.device) % sizes[-1]

        def loss(*weights: Tensor) -> Tensor:
            hidden = F.linear(rows, weights[0], weights[1])
            for weight, bias in zip(weights[2::2], weights[3::2], strict=True):
                hidden = F.linear(torch.tanh(hidden), weight, bias)
            return F.cross_entropy(hidden, target)

        return loss, parameters

    return build


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.mT / math.sqrt(query.shape[-1]), -1) @ value


def cross_entropy(numbers: Numbers) -> Subject:
    target = torch.arange(32, device=numbers.device) % 10
    return lambda x: F.cross_entropy(x, target), [numbers(32, 10)]


def layer_norm(numbers: Numbers) -> Subject:
    inputs = [numbers(32, 64), numbers(64), numbers(64)]
    return lambda x, weight, bias: F.layer_norm(x, (64,), weight, bias), inputs


def cumulated_product(numbers: Numbers) -> Subject:
    factors = (1 + numbers(400, scale=0.05)).detach().requires_grad_()
    return lambda x: torch.cumprod(x, 0), [factors]


def distance_of_moments(numbers: Numbers) -> Subject:
    """A Fréchet distance to a fixed covariance, by the eigenvalues of a symmetric product."""
    other = numbers(32, 80).detach()
    root = torch.linalg.cholesky(other @ other.mT / 80)

    def distance(x: Tensor) -> Tensor:
        mean = x.mean(0)
        covariance = (x - mean).mT @ (x - mean) / (len(x) - 1)
        values = torch.linalg.eigvalsh(root.mT @ covariance @ root)
        return mean @ mean + covariance.trace() - 2 * values.clamp_min(0).sqrt().sum()

    return distance, [numbers(64, 32)]


SUBJECTS: dict[str, Callable[[Numbers], Subject]] = {
    "linear, 32×64 → 48": lambda n: (F.linear, [n(32, 64), n(48, 64), n(48)]),
    "conv2d, 4×3×12×12, 8 filters": lambda n: (
        lambda x, w, b: F.conv2d(x, w, b, padding=1), [n(4, 3, 12, 12), n(8, 3, 3, 3), n(8)]),
    "cross entropy, 32×10": cross_entropy,
    "layer norm, 32×64": layer_norm,
    "attention, 2×16×16": lambda n: (attention, [n(2, 16, 16), n(2, 16, 16), n(2, 16, 16)]),
    "cumprod, 400": cumulated_product,
    "Fréchet distance, 64×32": distance_of_moments,
    "MLP loss, 1e4": perceptron(64, 100, 32, 10),
    COMPLETE: perceptron(128, 400, 110, 10),
    "MLP loss, 1e6": perceptron(512, 1200, 320, 10),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One subject: seconds per round and contender, and what the checks used."""

    name: str
    elements: int
    outputs: int
    seconds: dict[str, list[float]]
    passes: dict[str, tuple[int, int]]  # forwards, backwards
    certificates: dict[str, float]
    copies: dict[str, float]  # peak memory over the size of the inputs
    slow: float
    slow_unit: float  # of the full checks next to it
    slow_how: str

    def ratio(self, one: str, other: str) -> float:
        pairs = zip(self.seconds[one], self.seconds[other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])


def contenders(f: Callable[..., Tensor], inputs: list[Tensor]) -> dict[str, Callable[[], Any]]:
    def forward() -> Tensor:
        with torch.no_grad():
            return f(*inputs)

    def both() -> object:
        value = f(*inputs)
        return torch.autograd.grad(value, inputs, torch.ones_like(value))

    return {
        "full": lambda: check_gradient(f, inputs),
        "lite": lambda: check_gradient(f, inputs, mode="lite"),
        "fast": lambda: torch.autograd.gradcheck(f, inputs, fast_mode=True, raise_exception=False),
        "forward": forward,
        "forward + backward": both,
    }


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, until the device has finished it."""
    _wait(device)
    started = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(name: str, device: torch.device, *, complete: bool) -> Measured:
    f, inputs = SUBJECTS[name](Numbers(device))
    runs = contenders(f, inputs)
    found = {mode: runs[mode]() for mode in ("full", "lite")}
    seconds: dict[str, list[float]] = {contender: [] for contender in runs}
    started = time.perf_counter()
    for _ in range(ROUNDS):
        for contender, run in runs.items():
            seconds[contender].append(timed(run, device))
        if time.perf_counter() - started > MOST_SECONDS:
            break
    slow, unit, how = _slow(f, inputs, runs["full"], complete=complete and name == COMPLETE)
    size = sum(x.numel() * x.element_size() for x in inputs)
    return Measured(
        name=name,
        elements=sum(x.numel() for x in inputs),
        outputs=f(*inputs).numel(),
        seconds=seconds,
        passes={mode: (e.forwards, e.backwards) for mode, e in found.items()},
        certificates={mode: e.certificate for mode, e in found.items()},
        copies={
            contender: peak_memory(runs[contender], device) / size
            for contender in ("full", "lite", "fast", "forward + backward")
        },
        slow=slow,
        slow_unit=unit,
        slow_how=how,
    )


def _slow(
    f: Callable[..., Tensor], inputs: list[Tensor], full: Callable[[], object], *, complete: bool
) -> tuple[float, float, str]:
    """Seconds of slow mode, of the full checks beside it, and how that was measured."""
    device, count = inputs[0].device, sum(x.numel() for x in inputs)

    def slow(*which: int) -> Callable[[], object]:
        chosen = [x.detach().requires_grad_(k in which) for k, x in enumerate(inputs)]
        return lambda: torch.autograd.gradcheck(f, chosen, raise_exception=False)

    beside = [timed(full, device) for _ in range(3)]
    if complete or count <= SLOW_ELEMENTS:
        seconds, how = timed(slow(*range(len(inputs))), device), "run to the end"
    else:
        per_element = statistics.median(
            (timed(slow(1), device) - timed(slow(3), device))
            / (inputs[1].numel() - inputs[3].numel())
            for _ in range(5)
        )
        seconds, how = per_element * count, "from its time per element"
    beside += [timed(full, device) for _ in range(3)]
    return seconds, statistics.median(beside), how


def peak_memory(run: Callable[[], object], device: torch.device) -> float:
    """Bytes that torch held at most during a call, above what it held before.

    On the CPU from the profiler's record of every allocation and release, temporaries inside of
    operators included: Python's tracemalloc does not see tensors, and the resident set also
    depends on what malloc keeps for later.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        run()
    results = profile.kineto_results
    assert results is not None
    events = [event for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return float(peak)


# --- tables -------------------------------------------------------------------------------------


def speed(device: torch.device, *, complete: bool, only: str = "") -> list[Table]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [measure(name, device, complete=complete) for name in SUBJECTS if only in name]
    return [_times(found), _passes(found), *([] if only else [_targets(found)])]


def _times(found: Sequence[Measured]) -> Table:
    rows = [
        [
            m.name, m.elements, m.outputs, f"{1e3 * m.median('full'):.1f} ms",
            m.slow / m.slow_unit, m.ratio("full", "fast"), m.ratio("lite", "fast"),
            f"{m.slow:.3g} s, {m.slow_how}",
        ]
        for m in found
    ]  # fmt: skip
    columns = ["subject", "elements", "outputs", "full", "slow / full", "full / fast",
               "lite / fast", "slow mode"]  # fmt: skip
    return Table(title="Time beside gradcheck", columns=columns, rows=rows)


def _passes(found: Sequence[Measured]) -> Table:
    rows = []
    for m in found:
        unit = m.median("forward + backward")
        for mode in ("full", "lite"):
            forwards, backwards = m.passes[mode]
            rows.append([
                m.name, mode, forwards, backwards, m.median(mode) / unit,
                (backwards * unit + (forwards - backwards) * m.median("forward")) / unit,
                m.certificates[mode], m.copies[mode], m.copies["fast"],
                m.copies["forward + backward"],
            ])  # fmt: skip
    columns = ["subject", "mode", "forwards", "backwards", "cost", "of it passes", "certificate",
               "memory", "of fast mode", "of one pass"]  # fmt: skip
    note = (
        "Cost in units of one forward and backward, as timed; *of it passes*: the forwards and "
        "backwards alone. Memory: the peak above what was held before, in copies of the inputs."
    )
    return Table(title="Passes and memory", columns=columns, rows=rows, note=note)


def _targets(found: Sequence[Measured]) -> Table:
    large = [m for m in found if m.name.startswith("MLP")]
    middle, last = large[1:]
    lite_ratio = max(m.ratio("lite", "fast") for m in large)
    copies = max(m.copies["full"] for m in large)
    units = {mode: last.ratio(mode, "forward + backward") for mode in ("full", "lite")}
    rows = [
        ["slow mode against full, 1e5 parameters", "≥ 2,000", middle.slow / middle.slow_unit,
         middle.slow / middle.slow_unit >= 2000],
        ["lite against fast mode, from 1e4 on", "≤ 1.5", lite_ratio, lite_ratio <= 1.5],
        ["lite, 1e6 parameters, in forwards + backwards", "≤ 20", units["lite"],
         units["lite"] <= 20],
        ["full, 1e6 parameters, in forwards + backwards", "≤ 50", units["full"],
         units["full"] <= 50],
        ["memory in copies of the parameters, from 1e4 on", "≤ 4", copies, copies <= 4],
    ]  # fmt: skip
    answers = [[*row[:2], figure(float(row[2])), "met" if row[3] else "not met"] for row in rows]
    return Table(title="Targets", columns=["what", "target", "measured", ""], rows=answers)
