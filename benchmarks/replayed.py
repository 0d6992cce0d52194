"""Every mutant of every check fails, and each form that its failure prints is executed again.

python benchmarks/replayed.py [--minutes 60] [--part 1/2] [--write reports/replayed.md]

Each form runs in a fresh process, forked from one that has torch loaded. It counts where the check,
its verdict and its case are the same. The journal, which is committed, holds what is done: a second
call goes on, and `--minutes 0` only writes the report. Checks come in an order that mixes kinds, so
that what is done is a sample; two calls with `--part 1/2` and `--part 2/2` share them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from markdown import Table, circumstances, replace_section, section  # noqa: E402
from replays import Shown, mutants_of, shown_again  # noqa: E402

from dlcheck.registry import catalogue  # noqa: E402

TITLE = "Failures shown again"
_LARGE = 9  # of a size of a minimal case
FORMS = ("pytest", "replay", "script")


def main() -> None:
    given = asked()
    if given.minutes:
        measure(given.journal, given.minutes, given.part)
    lines = [json.loads(line) for line in given.journal.read_text().splitlines()]
    text = report(lines)
    print(text)
    if given.write:
        replace_section(given.write, TITLE, text)


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--journal", type=Path, default=ROOT / "reports" / "replayed.jsonl")
    parser.add_argument("--part", type=part, default=(1, 1), metavar="K/N")
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def part(text: str) -> tuple[int, int]:
    k, n = map(int, text.split("/"))
    return k, n


def measure(journal: Path, minutes: float, part: tuple[int, int]) -> None:
    journal.parent.mkdir(parents=True, exist_ok=True)
    known = journal.read_text().splitlines() if journal.exists() else []
    done = {json.loads(line)["check"] for line in known}
    end = time.monotonic() + 60 * minutes
    with journal.open("a") as file:
        order = sorted(catalogue().checks, key=lambda name: hashlib.sha1(name.encode()).digest())
        for check in order[part[0] - 1 :: part[1]]:
            if check in done:
                continue
            if time.monotonic() > end:
                return
            line = {"check": check, "mutants": len(mutants_of(check)), "failures": tried(check)}
            file.write(json.dumps(line) + "\n")
            file.flush()


def tried(check: str) -> list[dict[str, Any]]:
    """What came of each mutant of a check that failed; its case where there is more to tell."""
    with tempfile.TemporaryDirectory(prefix="dlcheck-") as folder:
        return [
            {
                "subject": each.outcome.subject,
                "case": each.outcome.case if is_odd(each) else "",
                "sizes": sizes_of(each),
                "forms": each.forms,
            }
            for each in shown_again(Path(folder), {check: range(len(mutants_of(check)))})
        ]


def sizes_of(shown: Shown) -> dict[str, int]:
    return dict(shown.outcome.recipe.sizes) if shown.outcome.recipe else {}


def is_odd(shown: Shown) -> bool:
    """Has it a large case, or a form that shows something else?"""
    return any(shown.forms.values()) or max(sizes_of(shown).values(), default=0) > _LARGE


def report(lines: Sequence[dict[str, Any]]) -> str:
    failures = [(line["check"], each) for line in lines for each in line["failures"]]
    checks = catalogue().checks
    everything = sum(len(mutants_of(check)) for check in checks)
    tables = [_forms(failures), _sizes(failures), _differences(failures)]
    counted = sum(line["mutants"] for line in lines)
    return section(
        TITLE,
        f"{counted:,} of {everything:,} mutants, {len(lines)} of {len(checks)} checks, profile "
        f"default; {len(failures):,} failed (the others do not apply to their subject, or could "
        "not be timed here). Each form is executed in a fresh process; the pytest command without "
        "what is kept in `.dlcheck`. " + circumstances(torch.device("cpu")),
        tables,
    )


def _forms(failures: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    rows = []
    for form in FORMS:
        of_form = [each["forms"][form] for _, each in failures if form in each["forms"]]
        rows.append([form, len(of_form), of_form.count(""), len(of_form) - of_form.count("")])
    return Table(
        title="The printed forms",
        columns=["form", "executed", "the same check, verdict and case again", "other"],
        rows=rows,
    )


def _sizes(failures: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    largest = [max(each["sizes"].values()) for _, each in failures if each["sizes"]]
    counts = Counter("above 9" if size > _LARGE else str(size) for size in largest)
    middle = statistics.median(largest) if largest else "none"
    return Table(
        title="The largest size of the minimal case",
        columns=["size", "failures"],
        rows=sorted(counts.items()),
        note=f"Median {middle}; of {len(largest)} failures that have sizes.",
    )


def _differences(failures: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    rows: list[list[object]] = []
    for check, each in failures:
        if each["sizes"] and max(each["sizes"].values()) > _LARGE:
            rows.append([f"`{check}`", each["subject"], "case", each["case"]])
        rows += [[f"`{check}`", each["subject"], form, told]
                 for form, told in each["forms"].items() if told]  # fmt: skip
    return Table(
        title="Other than the same, and large cases",
        columns=["check", "mutant", "form", "what"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
