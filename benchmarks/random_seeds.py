"""The shipped suites again and again, each time with a seed of its own: no verdict may change.

python benchmarks/random_seeds.py --runs 50 [--journal FILE] [--write reports/random_seeds.md]

Each run is `dlcheck run -q --profile quick -n 2 --seed random`, as CI has it but for the seed. The
journal, which is committed, holds a line a run: a second call adds to it, and `--runs 0` only
writes the report.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from markdown import Table, circumstances, replace_section, section  # noqa: E402

from dlcheck.results import read_run  # noqa: E402

TITLE = "Suites with random seeds"
VERDICTS = ("passed", "expected", "failed", "errored", "inconclusive")


def main() -> None:
    given = asked()
    given.journal.parent.mkdir(parents=True, exist_ok=True)
    for number in range(given.runs):
        line = one_run(given.workers)
        with given.journal.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{number + 1} of {given.runs}: {line}", flush=True)
    lines = [json.loads(line) for line in given.journal.read_text().splitlines()]
    text = report(lines)
    print(text)
    if given.write:
        replace_section(given.write, TITLE, text)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--journal", type=Path, default=ROOT / "reports" / "random_seeds.jsonl")
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def one_run(workers: int) -> dict[str, Any]:
    """What became of each trial of one run."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dlcheck-") as folder:
        command = [sys.executable, "-m", "dlcheck", "run", "-q", "--profile", "quick",
                   "-n", str(workers), "--seed", "random", "--report", folder]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    record = next(
        (line.partition(": ")[2] for line in done.stdout.splitlines() if line[:8] == "record: "), ""
    )
    if not record:
        sys.exit(f"the run left no record:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    run = read_run(ROOT / record)
    counted = Counter(outcome.verdict.value for outcome in run.outcomes)
    return {
        "commit": run.meta["git"]["commit"][:8],
        "seed": run.meta.get("seed"),
        "seconds": round(time.perf_counter() - started),
        "code": done.returncode,
        "verdicts": dict(counted),
        "bad": [
            {"id": outcome.id, "verdict": outcome.verdict.value, "case": str(outcome.case)[:200]}
            for outcome in run.outcomes
            if not outcome.verdict.is_good
        ],
    }


def report(lines: Sequence[dict[str, Any]]) -> str:
    totals = Counter[str]()
    for line in lines:
        totals.update(line["verdicts"])
    rows = [
        [k, line["commit"], line["seed"], *(line["verdicts"].get(v, 0) for v in VERDICTS),
         line["seconds"]]
        for k, line in enumerate(lines, 1)
    ]  # fmt: skip
    bad = [
        [k, f"`{each['id']}`", each["verdict"], each["case"]]
        for k, line in enumerate(lines, 1)
        for each in line["bad"]
    ]
    alarms = totals["failed"] + totals["errored"]
    return section(
        TITLE,
        f"{len(lines)} runs of all suites of this repository, each with another seed: "
        f"{totals.total() - totals['skipped']:,} trials, {alarms} failed that were not expected "
        f"to, {totals['inconclusive']} came to no verdict. " + circumstances(torch.device("cpu")),
        [
            Table(title="The runs", columns=["run", "commit", "seed", *VERDICTS, "s"], rows=rows),
            Table(
                title="Trials without a good verdict",
                columns=["run", "trial", "verdict", "case"],
                rows=bad,
            ),
        ],
    )


if __name__ == "__main__":
    main()
