"""The kill table: every check against the broken subjects that it must reject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dlcheck.cli.listing import entries
from dlcheck.model import Check, Verdict


def kill_table(checks: Sequence[Check], *, prove: bool) -> int:
    """Print check × mutant; with `prove`, run each and print what it came to."""
    if not prove:
        for check in checks:
            print(check.name)
            for line in entries({f"✗ {mutant}": "" for mutant in check.rejects}):
                print(line.rstrip())
        total = sum(len(check.rejects) for check in checks)
        print(f"{len(checks)} checks, {total} mutants. Run them: dlcheck list checks --prove")
        return 0
    killed = survived = 0
    for check in checks:
        print(check.name, flush=True)
        for subject, verdict in _verdicts(check):
            rejected = verdict is Verdict.FAILED
            killed, survived = killed + rejected, survived + (not rejected)
            print(f"  {'✗ rejected' if rejected else '! SURVIVED: ' + verdict.value}  {subject}")
    print(f"{killed} mutants rejected, {survived} survived")
    return 1 if survived else 0


def _verdicts(check: Check) -> Iterator[tuple[str, Verdict]]:
    """Every mutant that the check must reject, with its verdict."""
    from dlcheck.proof import rejected
    from dlcheck.runner import run_trial

    for trial in rejected(check):
        yield trial.subject.name, run_trial(replace(trial, minimal=False)).verdict
