"""How many failures of the mutants come with a script, and do the scripts mean what they say?

    python benchmarks/scripts.py                    # all mutants, hours; goes on where it stopped
    python benchmarks/scripts.py --every 7          # every seventh
    python benchmarks/scripts.py --only "loss*"     # of some folders of checks

Each mutant is run as its user would run it; its script is then run in a fork of this process on the
mutant, where it must fail, and on the right subject that the mutant was made from, where it must
end with exit code 0. The journal is `.dlcheck/scripts.jsonl`, the result `reports/scripts.md`.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import test_every_check  # noqa: E402
from scripts_run import shown_apart  # noqa: E402

from dlcheck.model import Trial  # noqa: E402

JOURNAL = ROOT / ".dlcheck" / "scripts.jsonl"
REPORT = ROOT / "reports" / "scripts.md"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--every", type=int, default=1)
    asked.add_argument("--offset", type=int, default=0)
    asked.add_argument("--only", default="*")
    asked.add_argument("--journal", type=Path, default=JOURNAL)
    asked.add_argument("--report", action="store_true", help="write the report, run nothing")
    given = asked.parse_args()
    given.journal.parent.mkdir(exist_ok=True)
    done = {line["id"]: line for line in _lines(given.journal)}
    if not given.report:
        for place, trial in enumerate(_mutants(given.only)):
            name = f"{trial.check.name}-{trial.subject.name}"
            if place % given.every != given.offset or name in done:
                continue
            found = shown_apart(trial, test_every_check.original_of(trial))
            done[name] = {"id": name, "folder": _folder(trial), "kind": trial.subject.kind, **found}
            with given.journal.open("a") as journal:
                journal.write(json.dumps(done[name]) + "\n")
            print(_line(done[name]), flush=True)
    command = f"python benchmarks/scripts.py --every {given.every} --offset {given.offset}"
    command += f" --only {given.only!r}" * (given.only != "*")
    REPORT.write_text(_report(list(done.values()), f"{command}`, commit `{_commit()}"))


def _commit() -> str:
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout.strip()


def _mutants(only: str) -> Iterator[Trial]:
    chosen = [
        check
        for check in test_every_check.CHECKS
        if fnmatchcase(check.function.removeprefix("dlcheck.checks."), only)
    ]
    test_every_check.CHECKS = chosen
    return (parameters.values[0] for parameters in test_every_check.broken())


def _folder(trial: Trial) -> str:
    return trial.check.function.removeprefix("dlcheck.checks.").split(".")[0]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _line(found: dict[str, Any]) -> str:
    ending = f"{found.get('script') or found['verdict']:9}"
    return (
        f"{ending} fails {found.get('fails')!s:6} right {found.get('passes')!s:6} {found['id']} "
        + (found.get("reason") or found.get("told") or "")[:150].replace("\n", " ")
    )


def _report(found: list[dict[str, Any]], command: str) -> str:
    failed = [line for line in found if line["verdict"] == "failed"]
    total = len(failed)
    if not total:
        return "# Scripts\n\nNothing was run.\n"
    rows = collections.defaultdict(list)
    for line in failed:
        rows[line["folder"]].append(line)
    text = [
        "# Scripts of failures",
        "",
        f"`{command}`:",
        f"{len(found)} mutants, of which {total} failed and could have a script. Each script is",
        "run in a fork of the benchmark, on the mutant, where it must fail, and on the right",
        "subject that the mutant was made from, where it must end with exit code 0. *Natural*: its",
        "assertion says what is right. *Fallback*: it fails while the answer is the one that was",
        "judged wrong, and says so.",
        "",
        "| checks of | failures | natural | fallback | none | fails on the mutant | passes what is "
        "right | both |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for folder, lines in [("**all**", failed), *sorted(rows.items())]:
        text.append(_row(folder, lines))
    wrong = [line for line in failed if line.get("fails") is False or line["passes"] is False]
    if wrong:
        text += ["", "## Scripts that do not mean what they say", ""]
        text += ["| check and mutant | kind | how the script ended |", "|---|---|---|"]
        text += [
            f"| {line['id']} | {line['script']} | {' '.join(line['told'].split())[:120]} |"
            for line in wrong
        ]
    reasons = collections.Counter(
        line["reason"].split("; ")[-1][:90] for line in failed if line["script"] == "none"
    )
    text += [
        "",
        "## Why there is none",
        "",
        "| reason, the last one tried | failures |",
        "|---|---|",
    ]
    text += [
        f"| {reason.replace('|', '/')} | {count} |" for reason, count in reasons.most_common(15)
    ]
    return "\n".join(text) + "\n"


def _row(folder: str, lines: list[dict[str, Any]]) -> str:
    count = collections.Counter(line["script"] for line in lines)
    written = [line for line in lines if line["script"] != "none"]
    compared = [line for line in written if line["passes"] is not None]
    fails = sum(line["fails"] is True for line in written)
    passes = sum(line["passes"] is True for line in compared)
    both = sum(line["passes"] is True and line["fails"] is True for line in compared)
    shares = [
        f"{count[kind]} ({count[kind] / len(lines):.0%})"
        for kind in ("natural", "fallback", "none")
    ]
    return (
        f"| {folder} | {len(lines)} | {' | '.join(shares)} | {fails} of {len(written)} | "
        f"{passes} of {len(compared)} | {both} of {len(compared)} |"
    )


if __name__ == "__main__":
    main()
