"""The Fréchet distance beside its peers: time from moments and from rows, accuracy, streaming.

One thread, in processor time. Every peer is timed between two runs of ours, and the
ratio is that of its time to their mean. Peers that are not installed are left out.

    OMP_NUM_THREADS=1 python benchmarks/frechet_distance.py --output reports/metrics_distribution.md
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from markdown import Table, circumstances, replace_section, section
from torch import Tensor

from dlcheck.references.metrics.frechet_distance import (
    StreamingFrechetDistance,
    frechet_distance,
    frechet_distance_from_moments,
)

Statistics = tuple[Tensor, Tensor]
Distance = Callable[[Statistics, Statistics], float]
PACKAGES = {
    "pytorch-fid": "pytorch_fid",
    "torchmetrics": "torchmetrics",
    "torch-fidelity": "torch_fidelity",
    "piq": "piq",
}


def own(a: Statistics, b: Statistics) -> float:
    return float(frechet_distance_from_moments(*a, *b))


def pytorch_fid(a: Statistics, b: Statistics) -> float:
    from pytorch_fid.fid_score import calculate_frechet_distance

    return float(calculate_frechet_distance(*(x.numpy() for x in (*a, *b))))


def torchmetrics(a: Statistics, b: Statistics) -> float:
    from torchmetrics.image.fid import _compute_fid

    return float(_compute_fid(*a, *b))


def torch_fidelity(a: Statistics, b: Statistics) -> float:
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    sides = [{"mu": mean.numpy(), "sigma": covariance.numpy()} for mean, covariance in (a, b)]
    return float(next(iter(fid_statistics_to_metric(*sides, verbose=False).values())))


def piq(a: Statistics, b: Statistics) -> float:
    from piq.fid import _compute_fid

    return float(_compute_fid(*a, *b))


PEERS: Mapping[str, Distance] = {
    "pytorch-fid": pytorch_fid,
    "torchmetrics": torchmetrics,
    "torch-fidelity": torch_fidelity,
    "piq": piq,
}


def installed(wanted: Sequence[str]) -> dict[str, Distance]:
    return {
        name: peer
        for name, peer in PEERS.items()
        if name in wanted and importlib.util.find_spec(PACKAGES[name])
    }


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """Seconds of this process's processor time, and value.

    With one thread that is the time of the work, whatever else the machine does meanwhile.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = time.process_time()
        value = call()
        return time.process_time() - started, value


# --- sets whose distance is known -----------------------------------------------------------------


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def transport(width: int, seed: int) -> Tensor:
    """Symmetric positive definite, eigenvalues from ¾ to 1¼."""
    turn = torch.linalg.qr(normal(width, width, seed=seed)).Q
    values = 0.75 + 0.5 * torch.rand(width, generator=generator(seed), dtype=torch.float64)
    map_ = (turn * values) @ turn.mT
    return (map_ + map_.mT) / 2


def moments_of_condition(width: int, condition: float) -> tuple[Statistics, Statistics, float]:
    """Σ with a geometric spectrum, TΣT, and ‖Δμ‖² + tr((I − T) Σ (I − T))."""
    turn = torch.linalg.qr(normal(width, width, seed=0)).Q
    values = 0.3 * condition ** -torch.linspace(0, 1, width, dtype=torch.float64)
    return transported((turn * values) @ turn.mT)


def moments_of_relu(width: int) -> tuple[Statistics, Statistics, float]:
    """Of max(0, zW), as pooled features have them: positive, correlated, condition about 100."""
    z = normal(4 * width, width, seed=0) @ (
        torch.eye(width, dtype=torch.float64) + 0.2 * normal(width, width, seed=1) / width**0.5
    )
    return transported(torch.cov(z.relu().mT))


def transported(one: Tensor) -> tuple[Statistics, Statistics, float]:
    one, width = (one + one.mT) / 2, len(one)
    map_ = transport(width, 2)
    two = map_ @ one @ map_
    first, second = 0.05 * normal(width, seed=3), 0.05 * normal(width, seed=4)
    stay = torch.eye(width, dtype=torch.float64) - map_
    expected = float((first - second).square().sum() + ((stay @ one) * stay).sum())
    return (first, one), (second, (two + two.mT) / 2), expected


def brenier(rows: Tensor) -> tuple[Tensor, Tensor, float]:
    """X, Y = XT + v and their distance, the exact one summed in extended precision."""
    width = rows.shape[1]
    x, t = (a.numpy().astype(np.longdouble) for a in (rows, transport(width, 5)))
    v = 0.02 * normal(width, seed=6).numpy().astype(np.longdouble)
    y = torch.from_numpy((x @ t + v).astype(np.float64))
    moved = (x - x.mean(0)) - (x - x.mean(0)) @ t
    step = x.mean(0) @ (t - np.eye(width)) + v
    return rows, y, float((step**2).sum() + (moved**2).sum() / (len(x) - 1))


# --- the parts ------------------------------------------------------------------------------------


def from_moments(options: argparse.Namespace) -> Iterator[Table]:
    spectra = {
        "condition 10⁸": moments_of_condition(options.width, 1e8),
        "condition 10²": moments_of_condition(options.width, 1e2),
        "ReLU features": moments_of_relu(options.width),
    }
    rows = []
    for name, (a, b, expected) in spectra.items():
        before, value = timed(lambda a=a, b=b: own(a, b))
        rows.append([name, "dlcheck", before, "", abs(value / expected - 1)])
        for peer, call in installed(options.peers).items():
            seconds, found = timed(lambda a=a, b=b, call=call: call(a, b))
            after, _ = timed(lambda a=a, b=b: own(a, b))
            ratio = seconds / ((before + after) / 2)
            rows.append([name, peer, seconds, f"{ratio:.1f}×", abs(found / expected - 1)])
            before = after
            print(rows[-1], flush=True)
    yield Table(
        title=f"From moments, d = {options.width}",
        columns=["spectrum", "implementation", "seconds", "× ours", "relative error"],
        rows=rows,
        note="Known distance: the second covariance is TΣT with T symmetric positive definite. "
        "Seconds of processor time. Goals: 7× pytorch-fid and 1.8× torchmetrics on any spectrum, "
        "20× and 15× at 10⁸.",
    )


def covariances(a: Tensor, b: Tensor) -> tuple[Statistics, Statistics]:
    return tuple((x.double().mean(0), torch.cov(x.double().mT)) for x in (a, b))


class Features(torch.nn.Module):
    """Features in the place of pictures: what torchmetrics then measures is its own arithmetic."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, x: Tensor) -> Tensor:
        return x


def through_torchmetrics(a: Tensor, b: Tensor, batch: int = 500) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=Features(a.shape[1]))
    for rows, real in ((a, True), (b, False)):
        for part in rows.split(batch):
            metric.update(part, real=real)
    return float(metric.compute())


def from_rows(options: argparse.Namespace) -> Iterator[Table]:
    rows = []
    for count in (500, 5000):
        x = normal(count, options.width, seed=0).relu().float()
        y = (normal(count, options.width, seed=1) + 0.1).relu().float()
        calls: dict[str, Callable[[], float]] = {}
        if "torchmetrics" in installed(options.peers):
            calls["torchmetrics"] = lambda x=x, y=y: through_torchmetrics(x, y)
        if count == 500 and "pytorch-fid" in installed(options.peers):
            calls["pytorch-fid"] = lambda x=x, y=y: pytorch_fid(*covariances(x, y))
        before, value = timed(lambda x=x, y=y: float(frechet_distance(x, y)))
        rows.append([count, "dlcheck", before, "", value])
        for peer, call in calls.items():
            seconds, found = timed(call)
            after, _ = timed(lambda x=x, y=y: float(frechet_distance(x, y)))
            rows.append([count, peer, seconds, f"{2 * seconds / (before + after):.1f}×", found])
            before = after
            print(rows[-1], flush=True)
    yield Table(
        title=f"End to end, float32 rows of {options.width} features",
        columns=["rows a side", "implementation", "seconds", "× ours", "distance"],
        rows=rows,
        note="Goals: with 500 rows 150× pytorch-fid and 40× torchmetrics, with 5,000 rows 3× "
        "torchmetrics.",
    )


def accuracy(options: argparse.Namespace) -> Iterator[Table]:
    d = 128
    plain = normal(1000, d, seed=0)
    spectrum = 1e8 ** -(torch.linspace(0, 0.5, d, dtype=torch.float64))
    turn = torch.linalg.qr(normal(d, d, seed=8)).Q
    cases = {
        "1,000 rows, full rank": plain,
        "129 rows, full rank at the edge": plain[:129],
        "50 rows": plain[:50],
        "1,000 rows of rank 20": normal(1000, 20, seed=0) @ normal(20, d, seed=7),
        "condition 10⁸": (plain * spectrum) @ turn.mT,
    }
    rows = []
    for name, sample in cases.items():
        x, y, expected = brenier(sample)
        values = {
            a: float(frechet_distance(x, y, algorithm=a))
            for a in ("auto", "cholesky", "singular_values", "procrustes")
        }
        stream = StreamingFrechetDistance()
        for part in zip(x.split(37), y.split(37), strict=True):
            stream.update(*part)
        values["streaming"] = float(stream.compute())
        for peer, call in installed(options.peers).items():
            values[peer] = timed(lambda x=x, y=y, call=call: call(*covariances(x, y)))[1]
        rows.append([name, *(_relative(value, expected) for value in values.values())])
        names = list(values)
    rows.append(["common offset 10⁶", *offset_errors(plain, options)])
    yield Table(
        title=f"Relative error against the Brenier pair, d = {d}",
        columns=["sets", *names],
        rows=rows,
        note="Y = XT + v with T symmetric positive definite; the known distance is summed in "
        "extended precision. The offset is added to sets on a grid that float64 holds with it, and "
        "the error is the change of the distance. Goal: 10⁻¹² (auto and streaming).",
    )


def offset_errors(plain: Tensor, options: argparse.Namespace) -> list[str]:
    grid = 2.0**-30
    x, y = ((rows / grid).round() * grid for rows in brenier(plain)[:2])

    def change(call: Callable[[Tensor, Tensor], float]) -> str:
        near, far = timed(lambda: call(x, y))[1], timed(lambda: call(x + 1e6, y + 1e6))[1]
        return _relative(far, near)

    def streamed(a: Tensor, b: Tensor) -> float:
        stream = StreamingFrechetDistance()
        for part in zip(a.split(37), b.split(37), strict=True):
            stream.update(*part)
        return float(stream.compute())

    algorithms = ("auto", "cholesky", "singular_values", "procrustes")
    found = [
        change(lambda a, b, name=name: float(frechet_distance(a, b, algorithm=name)))
        for name in algorithms
    ]
    found.append(change(streamed))
    return found + [
        change(lambda a, b, call=call: call(*covariances(a, b)))
        for call in installed(options.peers).values()
    ]


def _relative(value: float, expected: float) -> str:
    return f"{abs(value / expected - 1):.1e}"


def streaming(options: argparse.Namespace) -> Iterator[Table]:
    d, total = options.width, options.rows
    x = torch.rand(total, d, generator=generator(0))
    product = _seconds_of_product(x.double())
    rows = [["one float64 XᵀX", product, "", ""]]
    for batch in (64, 500, total):
        stream = StreamingFrechetDistance()

        def feed(stream: StreamingFrechetDistance = stream, batch: int = batch) -> float:
            for part in x.split(batch):
                stream.update(part, part[:0])
            return 0.0

        seconds, _ = timed(feed)
        rows.append([f"streamed by {batch:,}", seconds, f"{seconds / product:.2f}×", ""])
        print(rows[-1], flush=True)
    peak = _peak_of_stream(d)
    rows.append(["both sides, by 500, peak", "", "", f"{peak / d**2 / 8:.2f} d² doubles"])
    yield Table(
        title=f"Streaming {total:,} × {d} float32 features",
        columns=["", "seconds", "of XᵀX", "memory"],
        rows=rows,
        note="Memory: the growth of a fresh process's peak resident set while two sets stream. "
        "Goals: 1.2× and 3 d² doubles.",
    )


def _seconds_of_product(x: Tensor) -> float:
    return min(timed(lambda: float((x.mT @ x)[0, 0]))[0] for _ in range(2))


def _peak_of_stream(width: int) -> float:
    """Bytes by which the peak resident set of a fresh process grows while both sides stream."""
    done = subprocess.run(
        [sys.executable, __file__, "--stream-only", "--width", str(width)],
        capture_output=True, text=True, check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"},  # what is freed is given back
    )  # fmt: skip
    return float(done.stdout)


def stream_only(width: int) -> None:
    g = generator(0)
    part = torch.rand(500, width, generator=g)
    first = StreamingFrechetDistance()  # what a product's library allocates is not the stream's
    for _ in range(6):
        first.update(part, part)
    del first
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status("VmRSS")
    stream = StreamingFrechetDistance()
    for _ in range(12):
        stream.update(part, part)
    print(_status("VmHWM") - before)


def _status(name: str) -> float:
    """Bytes, as Linux counts them for this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(name))
    return 1024.0 * int(found.split()[1])


PARTS: Mapping[str, Callable[[argparse.Namespace], Iterator[Table]]] = {
    "moments": from_moments,
    "rows": from_rows,
    "accuracy": accuracy,
    "streaming": streaming,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=50_000, help="of the streamed set")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--stream-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.stream_only:
        stream_only(options.width)
        return
    for call in installed(options.peers).values():  # imports are not what is timed
        timed(lambda call=call: call(*moments_of_condition(8, 2.0)[:2]))
    versions = ", ".join(f"{name} {version(name)}" for name in installed(options.peers))
    for part in options.parts:
        tables = list(PARTS[part](options))
        print(*tables, sep="\n", flush=True)
        if options.output:
            text = f"Peers: {versions}." if versions else ""
            where = circumstances(torch.device("cpu"))
            written = section(f"Fréchet distance: {part}", where, tables, text)
            replace_section(options.output, "Distances of feature sets", written)


if __name__ == "__main__":
    main()
