"""PyTorch's op database: the engine beside gradcheck on right gradients and injected bugs.

    python benchmarks/gradients_op_database.py --parts 2 --part 0 &
    python benchmarks/gradients_op_database.py --parts 2 --part 1 &
    python benchmarks/gradients_op_database.py --report [--write reports/gradients_op_database.md]
    python benchmarks/gradients_op_database.py --ops bessel --folder bessel-records

Every op with a gradient in float64, three samples each; then seven bugs in the first sample that
both the engine and gradcheck's slow mode pass, but for those that change nothing. The records go
to a file of JSON lines, one op a line; a run goes on where the last one of the same engine
stopped. Needs `pip install expecttest`, as PyTorch's own tests do.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from markdown import circumstances, replace_section, section
from op_samples import Case, bugs, case, change, spread_samples

import dlcheck
from dlcheck import check_gradient

SAMPLES = 3
SEED = 20  # the prototype used 0
MOST = 300_000  # elements of a Jacobian: larger samples are left out
MOST_SLOW = 20_000  # of a Jacobian that gradcheck's slow mode computes
SECONDS = 30.0  # of a check
EQUIVALENT = 1e-10  # a relative change of the gradient that is none


class OutOfTime(BaseException):
    """No subclass of Exception, which the engine would take for the subject's own."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise OutOfTime

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def ours(f: Callable[..., Any], inputs: list[torch.Tensor]) -> dict[str, Any]:
    """What the engine says, with all that explains it."""
    with limited(SECONDS):
        started = time.perf_counter()
        try:
            found = check_gradient(f, inputs, seed=SEED, raises=False)
        except OutOfTime:
            return {"verdict": "out of time"}
        except Exception as error:
            return {"verdict": "raised", "reason": f"{type(error).__name__}: {error}"[:300]}
    return {
        "verdict": found.verdict.value,
        "reason": found.reason,
        "cause": found.cause,
        "element": "" if found.element is None else str(found.element),
        "expected": found.expected,
        "got": found.got,
        "relative": found.error / found.signal if found.signal > 0 else math.inf,
        "certificate": found.certificate,
        "forwards": found.forwards,
        "backwards": found.backwards,
        "notes": list(found.notes),
        "seconds": time.perf_counter() - started,
    }


def gradcheck(
    f: Callable[..., Any], inputs: list[torch.Tensor], *, fast: bool, nondeterminism: float
) -> dict[str, Any]:
    with limited(SECONDS):
        started = time.perf_counter()
        try:
            good = torch.autograd.gradcheck(
                f, inputs, fast_mode=fast, raise_exception=False, nondet_tol=nondeterminism
            )
        except OutOfTime:
            return {"verdict": "out of time"}
        except Exception as error:
            return {"verdict": "raised", "reason": f"{type(error).__name__}: {error}"[:300]}
    return {
        "verdict": "passed" if good else "failed",
        "seconds": time.perf_counter() - started,
    }


def compared(op: Any, f: Callable[..., Any], subject: Case, *, slow: bool) -> dict[str, Any]:
    """The verdicts of the engine, fast mode and, where it is affordable, slow mode."""
    tolerance = op.gradcheck_nondet_tol
    found = {
        "ours": ours(f, subject.inputs),
        "fast": gradcheck(f, subject.inputs, fast=True, nondeterminism=tolerance),
    }
    if slow:
        found["slow"] = gradcheck(f, subject.inputs, fast=False, nondeterminism=tolerance)
    return found


def examined(op: Any, sample: Any, *, inject: bool) -> dict[str, Any]:
    """The record of one sample; a reason where it is left out."""
    try:
        with limited(SECONDS):
            subject = case(op, sample)
            if not subject.inputs:
                return {"left_out": "no input requires a gradient"}
            outputs = subject.f(*subject.inputs)
    except OutOfTime:
        return {"left_out": "out of time"}
    except Exception as error:
        return {"left_out": f"raises {type(error).__name__}"}
    m = sum(y.numel() for y in outputs if y.requires_grad)
    if not m or not subject.size:
        return {"left_out": "empty, or no output requires a gradient"}
    if m * subject.size > MOST:
        return {"left_out": "large"}
    slow = m * subject.size <= MOST_SLOW
    record = {"n": subject.size, "m": m, **compared(op, subject.f, subject, slow=slow)}
    verdicts = {record[name]["verdict"] for name in ("ours", "slow") if name in record}
    if inject and slow and verdicts == {"passed"}:
        record["bugs"] = injected(op, subject)
    return record


def injected(op: Any, subject: Case) -> list[dict[str, Any]]:
    """Each bug that changes the first gradient, with what is said of it."""
    found = []
    for name, bug in bugs(subject, SEED).items():
        wrong = subject.with_bug(bug)
        try:
            with limited(SECONDS):
                size = change(subject, wrong, (SEED, SEED + 1))
        except (OutOfTime, Exception):
            continue
        if size > EQUIVALENT:
            found.append({"bug": name, "size": size, **compared(op, wrong, subject, slow=True)})
    return found


def named(op: Any) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


def recorded(op: Any) -> dict[str, Any]:
    """The line of one op."""
    record: dict[str, Any] = {"op": named(op), "samples": []}
    if not op.supports_autograd or not op.supports_dtype(torch.float64, "cpu"):
        return {**record, "left_out": "no gradient in float64"}
    try:
        with limited(SECONDS):
            samples = spread_samples(op, SAMPLES, SEED)
    except OutOfTime:
        return {**record, "left_out": "its samples take too long"}
    except Exception as error:
        return {**record, "left_out": f"its samples raise {type(error).__name__}"}
    started, inject = time.perf_counter(), True
    for index, sample in samples:
        found = examined(op, sample, inject=inject)
        inject = inject and "bugs" not in found
        record["samples"].append({"index": index, **found})
    return {**record, "seconds": time.perf_counter() - started}


def engine() -> str:
    """A fingerprint of the sources that decide a verdict."""
    root = Path(dlcheck.__file__).parent
    files = sorted([*root.glob("gradients/*.py"), *root.glob("numerics/*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def known(folder: Path) -> dict[str, dict[str, Any]]:
    """Op → its latest record, of all files of the folder."""
    lines = [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return {record["op"]: record for record in lines}


def go_on(folder: Path, part: int, parts: int, only: str) -> None:
    from torch.testing._internal.common_methods_invocations import op_db

    folder.mkdir(parents=True, exist_ok=True)
    version = engine()
    done = {op for op, record in known(folder).items() if record.get("engine") == version}
    mine = [op for index, op in enumerate(op_db) if index % parts == part and only in named(op)]
    with (folder / f"part-{part}-of-{parts}.jsonl").open("a") as file:
        for op in mine:
            if named(op) not in done:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    file.write(json.dumps({**recorded(op), "engine": version}) + "\n")
                file.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--ops", default="", metavar="SUBSTRING")
    parser.add_argument("--folder", type=Path, default=Path(".dlcheck/op_database"))
    parser.add_argument("--report", action="store_true", help="of what is recorded; runs nothing")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.report:
        go_on(options.folder, options.part, options.parts, options.ops)
        if options.parts > 1:
            return
    from op_database_report import TITLE, tables

    records = [r for r in known(options.folder).values() if options.ops in r["op"]]
    where = circumstances(torch.device("cpu"))
    text = section("Right gradients and injected bugs", where, tables(records))
    sys.stdout.write(text)
    if options.write is not None:
        replace_section(options.write, TITLE, text)


if __name__ == "__main__":
    main()
