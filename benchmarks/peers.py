"""What other packages' metrics fail, and why: the suite `peers` as a table.

    PYTHONPATH=SITE python benchmarks/peers.py --output reports/peers.md

SITE holds torchmetrics, piq, pytorch-fid, torch-fidelity, pytorch-msssim. The suite declares each
known failure, strictly: one that is gone fails here too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch

from dlcheck.expansion import Overrides, expand
from dlcheck.model import Outcome, Subject, Verdict
from dlcheck.runner import run_trial
from dlcheck.suite import read_suite

sys.path.insert(0, str(Path(__file__).parent))

from markdown import Table, circumstances, replace_section, section

SUITE = Path(__file__).parents[1] / "suites/peers.toml"


def row(subject: Subject, outcomes: list[Outcome]) -> tuple[object, ...]:
    """Subject, versions, trials that passed, what fails and why, what nobody expected."""
    counted = Counter(one.verdict for one in outcomes)
    known = dict.fromkeys(f"`{e.check}`: {e.reason}" for e in subject.expect_failures)
    bad = (one for one in outcomes if not one.verdict.is_good)
    surprises = sorted({one.check for one in bad if one.verdict is not Verdict.SKIPPED})
    versions = [f"{name} {importlib.metadata.version(name)}" for name in subject.requires]
    return (
        subject.name,
        ", ".join(versions) or "scikit-learn or scikit-image, as installed",
        counted[Verdict.PASSED],
        "; ".join(known) or "nothing",
        ", ".join(surprises) or "nothing",
    )


def table(profile: str, seeds: int) -> Table:
    suite, rows = read_suite(SUITE), []
    found: dict[str, list[Outcome]] = {}
    for seed in range(seeds):
        overrides = Overrides(devices=("cpu",), profile=profile, seed=seed)
        for trial in expand(suite, overrides):
            found.setdefault(trial.subject.name, []).append(run_trial(trial))
    for subject in suite.subjects:
        rows.append(row(subject, found[subject.name]))
        print(*rows[-1], sep=" | ", flush=True)
    return Table(
        title=f"Metrics of other packages, profile {profile}, {seeds} seed(s)",
        columns=("subject", "version", "passed", "fails, as declared", "fails besides"),
        rows=rows,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="default")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a report in Markdown to write the section to")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    written = section(
        "The suite peers",
        circumstances(torch.device("cpu")),
        [table(given.profile, given.seeds)],
    )
    if given.output:
        replace_section(given.output, "Metrics of other packages", written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
