"""Hostile subjects through `dlcheck run -n 2`, in one session, with honest ones in between.

    python benchmarks/hostile.py [--kinds op,layer] [--timeout 20] > reports/hostile.md

The subjects are those of tests/hostile.py. A subject is named rightly where its trial has the
verdict and the words that its table says; the harness survives where every trial has one outcome
and the record its end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from hostile import BEHAVIOURS, CHECK, HANGS, KINDS, MEMORY  # noqa: E402

from dlcheck.model import Outcome, Verdict  # noqa: E402
from dlcheck.results import Run, read_run  # noqa: E402
from dlcheck.toml_text import to_toml_value  # noqa: E402

EVERY = 4  # an honest subject after so many hostile ones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds of a trial")
    parser.add_argument("--only", default="", help="behaviours, with commas in between")
    given = parser.parse_args()
    chosen = subjects(given.kinds.split(","), [name for name in given.only.split(",") if name])
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        place = Path(folder)
        (place / "hostile.toml").write_text(suite(chosen), "utf-8")
        started = time.perf_counter()
        command = ["run", "hostile.toml", "-n", "2", "--profile", "quick", "-q",
                   "--trial-timeout", f"{given.timeout:g}", "--trial-memory", MEMORY]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "dlcheck", *command],
            cwd=place,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        seconds = time.perf_counter() - started
        records = list((place / ".dlcheck" / "runs").glob("*.jsonl"))
        if not records:
            sys.exit(f"there is no record:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        print("\n".join(report(read_run(records[0]), chosen, done, seconds, command)))


def subjects(kinds: Sequence[str], only: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, behaviour); those that end their process or wait for the timeout as one kind."""
    found: list[tuple[str, str]] = []
    for name, behaviour in BEHAVIOURS.items():
        if only and name not in only:
            continue
        once = behaviour.ends or behaviour.words == HANGS
        found += [(kind, name) for kind in (kinds[:1] if once else kinds)]
    # The behaviours mix, so that none profits from the order in which they are written.
    return sorted(found, key=lambda each: (hash_of(each), each))


def hash_of(each: tuple[str, str]) -> int:
    return sum(ord(letter) * 31**k for k, letter in enumerate("__".join(each))) % 100_003


def suite(chosen: Sequence[tuple[str, str]]) -> str:
    lines = ['suite = "Hostile"', '[defaults]\nmatrix = { device = ["cpu"] }']
    for k, (kind, name) in enumerate(chosen):
        lines.append(table(f"{kind}__{name}", kind, name))
        if k % EVERY == 0:
            lines.append(table(f"honest_{k}", kind, "is_honest"))
    return "\n".join(lines)


def table(name: str, kind: str, behaviour: str) -> str:
    rows = {
        "name": name,
        "target": f"hostile:{kind}__{behaviour}",
        "checks": [CHECK],
        **KINDS[kind],
    }
    return "\n".join(["[[subject]]", *(f"{k} = {to_toml_value(v)}" for k, v in rows.items())])


def report(
    run: Run,
    chosen: Sequence[tuple[str, str]],
    done: subprocess.CompletedProcess[str],
    seconds: float,
    command: Sequence[str],
) -> Iterator[str]:
    by_name: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in run.outcomes:
        by_name[outcome.subject].append(outcome)
    wrong = {f"{kind}__{name}": why for kind, name in chosen
             if (why := wrongly(by_name[f"{kind}__{name}"], name))}  # fmt: skip
    honest = [o for name, found in by_name.items() if name.startswith("honest_") for o in found]
    good = [o for o in honest if o.verdict is Verdict.PASSED]
    noted = [o for o in honest if o.notes]
    ended = sum(BEHAVIOURS[name].ends for _, name in chosen)
    yield "# Hostile subjects\n"
    yield (
        f"`python benchmarks/hostile.py`, which runs `dlcheck {' '.join(command)}`; torch "
        f"{version('torch')}, Python {sys.version.split()[0]}, {os.cpu_count()} cores.\n"
    )
    yield "| | |\n|---|---|"
    yield f"| hostile subjects | {len(chosen)}: {len({n for _, n in chosen})} behaviours |"
    yield f"| named rightly | {len(chosen) - len(wrong)} of {len(chosen)} |"
    yield f"| of them ended their process | {ended} (each one failed trial; a new worker went on) |"
    yield f"| honest subjects in between that passed | {len(good)} of {len(honest)} |"
    yield f"| honest subjects that were given a note | {len(noted)} |"
    yield f"| the record | {run.meta.get('incomplete') or 'whole'} |"
    yield f"| exit code | {done.returncode} |"
    yield f"| seconds | {seconds:.0f} |\n"
    if wrong:
        yield "## Named wrongly\n"
        yield from (f"- `{name}`: {why}" for name, why in wrong.items())
        yield ""
    yield "## What each comes to\n"
    yield "| behaviour | verdict | what is said |\n|---|---|---|"
    for name in BEHAVIOURS:
        found = next((o for kind, n in chosen if n == name for o in by_name[f"{kind}__{n}"]), None)
        if found is not None:
            said = told(found, name)
            for folder in (Path(sys.prefix) / "bin", Path(__file__).resolve().parents[1]):
                said = said.replace(f"{folder}/", "")
            yield f"| {name.replace('_', ' ')} | {found.verdict.value} | {said} |"


def wrongly(found: Sequence[Outcome], name: str) -> str:
    """Why a subject is not named rightly; empty where it is."""
    wanted = BEHAVIOURS[name]
    if len(found) != 1:
        return f"{len(found)} outcomes"
    (outcome,) = found
    said = outcome.message if wanted.verdict == "failed" else "\n".join(outcome.notes)
    if outcome.verdict.value != wanted.verdict:
        return f"{outcome.verdict.value}, not {wanted.verdict}: {last_line(outcome)}"
    return "" if wanted.words in said else f"said nothing of {wanted.words!r}: {last_line(outcome)}"


def told(outcome: Outcome, name: str) -> str:
    """The line that has the words, without what differs from run to run."""
    said = outcome.message if outcome.verdict is Verdict.FAILED else "\n".join(outcome.notes)
    lines = [line for line in said.splitlines() if BEHAVIOURS[name].words in line]
    text = " ".join((lines[0] if lines and BEHAVIOURS[name].words else "").split())
    kept = "".join(letter if letter.isprintable() else "�" for letter in text)
    return kept.replace("|", "\\|").replace("<", "&lt;")[:160]


def last_line(outcome: Outcome) -> str:
    lines = (outcome.message or "; ".join(outcome.notes)).strip().splitlines()
    return lines[-1][:200] if lines else "nothing"


if __name__ == "__main__":
    main()
