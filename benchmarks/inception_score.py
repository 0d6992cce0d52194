"""The Inception Score beside its peers: processor time and error, from float32 logits.

One thread, one split of all samples, so that every implementation computes the same number. Peers
and ours take turns; a ratio is the median over rounds. Peers that are not installed are left out.

    OMP_NUM_THREADS=1 python benchmarks/inception_score.py --output reports/metrics_score.md
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from markdown import Table, circumstances, replace_section, section
from torch import Tensor

from dlcheck.references.metrics.inception_score import (
    StreamingInceptionScore,
    inception_score_from_logits,
)

Score = Callable[[Tensor], float]


def own(logits: Tensor) -> float:
    return float(inception_score_from_logits(logits).mean)


def own_stream(logits: Tensor) -> float:
    stream = StreamingInceptionScore(prediction="logits")
    for batch in logits.split(100):
        stream.update(batch)
    return float(stream.compute().mean)


def torchmetrics(logits: Tensor) -> float:
    from torchmetrics.image.inception import InceptionScore

    metric = InceptionScore(feature=torch.nn.Identity(), splits=1)
    metric.update(logits)
    return float(metric.compute()[0])


def torch_fidelity(logits: Tensor) -> float:
    from torch_fidelity.metric_isc import isc_features_to_metric

    return float(next(iter(isc_features_to_metric(logits, splits=1).values())))


def piq(logits: Tensor) -> float:
    from piq.isc import inception_score

    return float(inception_score(logits, num_splits=1)[0])


PEERS: Mapping[str, tuple[str, Score]] = {
    "torchmetrics": ("torchmetrics", torchmetrics),
    "torch-fidelity": ("torch_fidelity", torch_fidelity),
    "piq": ("piq", piq),
}


def exact(logits: Tensor) -> float:
    """By the definition, in extended precision."""
    z = logits.numpy().astype(np.longdouble)
    z = z - z.max(1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    marginal = np.exp(log_p).mean(0)
    return float(np.exp((np.exp(log_p) * (log_p - np.log(marginal))).sum(1).mean()))


def timed(score: Score, logits: Tensor) -> tuple[float, float]:
    """Seconds of processor time, and value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = time.process_time()
        value = score(logits)
        return time.process_time() - started, value


def table(logits: Tensor, peers: Mapping[str, Score], rounds: int) -> Table:
    expected = exact(logits)
    scores = {"dlcheck": own, "dlcheck, streaming": own_stream, **peers}
    seconds: dict[str, list[float]] = {name: [] for name in scores}
    errors: dict[str, float] = {}
    for _ in range(rounds):
        for name, score in scores.items():
            spent, value = timed(score, logits)
            seconds[name].append(spent)
            errors[name] = abs(value / expected - 1)
    ours = statistics.median(seconds["dlcheck"])
    rows = [
        [name, statistics.median(spent), f"{statistics.median(spent) / ours:.2f}×", errors[name]]
        for name, spent in seconds.items()
    ]
    return Table(
        title=f"{len(logits):,} samples of {logits.shape[1]:,} classes",
        columns=["implementation", "seconds", "× ours", "relative error"],
        rows=rows,
        note=f"Median of {rounds} rounds. The error is that to the definition in extended "
        "precision.",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(options.samples, options.classes, generator=generator)
    found = {
        name: score for name, (package, score) in PEERS.items() if importlib.util.find_spec(package)
    }
    for score in (own, own_stream, *found.values()):  # imports are not what is timed
        timed(score, logits[:100])
    made = table(logits, found, options.rounds)
    print(made)
    if options.output:
        where = circumstances(torch.device("cpu"))
        written = section("Inception Score: time and error", where, [made])
        replace_section(options.output, "Scores of class predictions", written)


if __name__ == "__main__":
    main()
