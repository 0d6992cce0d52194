"""`dlcheck batch-size TARGET`: which batch size to train with, and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlcheck.cli import COULD_NOT_MEASURE, Parser
from dlcheck.errors import UsageError

_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}  # fmt: skip


def parser() -> Parser:
    made = Parser(
        prog="dlcheck batch-size",
        description="Measure time, memory, gradient noise and steps to a target against the batch "
        "size; predict the fastest batch and check the prediction.",
        epilog="TARGET names a function without arguments that returns a dictionary: model (what "
        "builds it), loss, data (tensors or a Dataset), and optionally optimizer, lr, target, "
        "objective, collate. Example: dlcheck batch-size mypkg.train:setup --budget 8GB. Exit "
        "codes: 0 a size is recommended, 7 none could be, 1 the code raised, 4 a mistake in the "
        "call.",
    )
    add = made.add_argument
    add("target", help="package.module:setup or path/file.py:setup")
    add("--sizes", help="batch sizes, as 1,8,64 (default: powers of 2 up to half of the rows)")
    add("--loss-target", type=float, metavar="LOSS", help="the loss that counts as trained "
        "(default: nine tenths of the way to the least that a few epochs reach)")  # fmt: skip
    add("--budget", metavar="SIZE", help="memory that a step may take, as 8GB (default: what is "
        "free on a CUDA device)")  # fmt: skip
    add("--seconds", type=float, help="about how long training runs may take together")
    add("--device", default="auto", help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    add("--profile", default="default", help="quick, default or thorough")
    add("--seed", type=int, default=0, help="of all that is drawn")
    add("--resume", metavar="FILE", help="keep what is measured in a file, and go on from there")
    add("--report", metavar="FOLDER", help="write batch_size.html and batch_size.json there")
    add("--json", action="store_true", help="print the study as JSON")
    add("--quiet", "-q", action="store_true", help="no progress on standard error")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run a study and print it; returns the exit code."""
    given = parser().parse_args(arguments)
    sizes, budget = _sizes(given.sizes), _bytes(given.budget)
    from dlcheck.errors import SubjectError
    from dlcheck.raised import told
    from dlcheck.study import batch_size

    try:
        study = batch_size(
            given.target,
            sizes=sizes,
            target=given.loss_target,
            budget=budget,
            seconds=given.seconds,
            device=given.device,
            profile=given.profile,
            seed=given.seed,
            resume=given.resume,
            progress=None if given.quiet else _tell,
        )
    except SubjectError as error:
        print(f"{given.target} could not be studied: {told(error)}")
        return 1
    print(study.to_json() if given.json else study)
    if given.report:
        _write(study, Path(given.report), quiet=given.json)
    return 0 if study.recommended is not None else COULD_NOT_MEASURE


def _tell(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


def _write(study: Any, folder: Path, *, quiet: bool) -> None:
    from dlcheck.reporting.batch_sizes import page

    folder.mkdir(parents=True, exist_ok=True)
    texts = {"batch_size.html": page(study), "batch_size.json": study.to_json() + "\n"}
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    if not quiet:
        print(f"\n{folder / 'batch_size.html'}")


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f"--sizes takes whole numbers, as 1,8,64, not {text!r}") from None


def _bytes(text: str | None) -> float | None:
    if text is None:
        return None
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text[len(number) :].strip().lower()
    try:
        found = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        raise UsageError(f"--budget takes a size, as 8GB or 512MiB, not {text!r}") from None
    if not found > 0:
        raise UsageError(f"--budget is more than nothing, not {text!r}")
    return found
