"""What Ray costs beside the same workers of xdist: 1,000 trials that take half a second each.

    python benchmarks/ray_overhead.py [--trials 1000] [--seconds 0.5] [--workers 2] [--output FILE]

The trials sleep, so that both runs go at once, and find the same machine however busy it is. The
ideal is trials × seconds ÷ workers; what is above it is the start (Ray or xdist, torch in each
worker), which the second pair of columns leaves out, and what every trial and task costs on the
way.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

SUITE = """
suite = "Sleepers"
claim = "Trials that cost nothing but time."

[defaults]
matrix = { device = ["cpu"], dtype = ["float64"] }
"""
SUBJECT = """
[[subject]]
name = "sleeper_{k}"
target = "sleepers:sleeper"
kind = "op"
inputs = {{ x = "float n" }}
checks = ["leaves_inputs_unchanged"]
"""
SLEEPERS = """
def sleeper(x):
    return x * 2
"""
# A trial sleeps as a whole, whatever its number of cases.
CONFTEST = """
import os
import time
import pytest

@pytest.fixture(autouse=True)
def half_a_second():
    started = time.perf_counter()
    yield
    time.sleep(max(0.0, {seconds} - (time.perf_counter() - started)))
    with open({log!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{time.time()}}\\n")
"""


def prepare(folder: Path, trials: int, seconds: float) -> None:
    subjects = "".join(SUBJECT.format(k=k) for k in range(trials))
    (folder / "sleepers.toml").write_text(SUITE + subjects)
    (folder / "sleepers.py").write_text(SLEEPERS)
    (folder / "conftest.py").write_text(
        CONFTEST.format(seconds=seconds, log=str(folder / "ends.log"))
    )


def started(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes], float]:
    words = [sys.executable, "-m", "dlcheck", "run", "sleepers.toml", "--profile", "quick", "-q"]
    here = str(Path(__file__).parents[1])
    path = os.pathsep.join([here, str(folder), os.environ.get("PYTHONPATH", "")])
    log = (folder / "log.txt").open("wb")
    running = subprocess.Popen(
        [*words, *options],
        cwd=folder,
        stdout=log,
        stderr=log,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    return running, time.perf_counter()


def measure(trials: int, seconds: float, workers: int) -> dict[str, tuple[float, float, float]]:
    """Seconds of each run from the call to the end of the process, and from the end of a trial to
    the end of the next in the same worker."""
    ways = {"xdist": ["-n", str(workers)], "ray": ["--ray", "local"]}
    took: dict[str, tuple[float, float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="dlcheck-ray-") as scratch:
        running = {}
        for name, options in ways.items():
            folder = Path(scratch) / name
            folder.mkdir()
            prepare(folder, trials, seconds)
            running[name] = started(folder, *options)
        while len(took) < len(ways):
            time.sleep(0.05)
            for name, (process, since) in running.items():
                if name not in took and process.poll() is not None:
                    whole = time.perf_counter() - since
                    said = (Path(scratch) / name / "log.txt").read_text()
                    if process.returncode or f"{trials:,} passed" not in said:
                        for other, _ in running.values():
                            other.kill()
                        raise SystemExit(f"{name} did not pass:\n{said[-2000:]}")
                    took[name] = whole, *gap((Path(scratch) / name / "ends.log").read_text())
    return took


def gap(log: str) -> tuple[float, float]:
    """Mean and longest seconds from one end to the next in a worker, of all workers together."""
    ends: dict[str, list[float]] = {}
    for line in log.splitlines():
        worker, end = line.split()
        ends.setdefault(worker, []).append(float(end))
    gaps = [after - before for each in ends.values() for before, after in pairwise(sorted(each))]
    return sum(gaps) / len(gaps), max(gaps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    took = measure(given.trials, given.seconds, given.workers)
    ideal = given.trials * given.seconds / given.workers
    load = os.getloadavg()[1]
    lines = [
        "| run | seconds in all | above the ideal | a trial in a worker | above | longest |",
        "|---|---|---|---|---|---|",
        f"| ideal | {ideal:.1f} | | {given.seconds:.3f} s | | |",
        *(
            f"| {name} | {whole:.1f} | {100 * (whole / ideal - 1):.1f} % | {each:.3f} s | "
            f"{100 * (each / given.seconds - 1):.1f} % | {longest:.2f} s |"
            for name, (whole, each, longest) in took.items()
        ),
        "",
        f"Ray over xdist: {100 * (took['ray'][0] / took['xdist'][0] - 1):+.1f} % in all, "
        f"{100 * (took['ray'][1] / took['xdist'][1] - 1):+.1f} % a trial. "
        f"{given.trials:,} trials of {given.seconds:g} s on {given.workers} workers, Ray "
        f"{version('ray')}, load {load:.1f} on {os.cpu_count()} cores.",
    ]
    text = "\n".join(lines)
    print(text)
    if given.output:
        given.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
