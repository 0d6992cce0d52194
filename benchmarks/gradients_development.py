"""The engine on the two development sets: what is found, missed, explained and named.

The sets are tests/right_gradients.py and tests/wrong_gradients.py. An error that the evidence
itself says may escape is no miss: its size is then below a few times the printed certificate.
"""

from __future__ import annotations

import math
import multiprocessing
import re
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gradient_cases import Right, Wrong
from markdown import Table
from right_gradients import RIGHT
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from wrong_gradients import WRONG

from dlcheck import check_gradient
from dlcheck.gradients.evidence import GradientEvidence
from dlcheck.model import Verdict

VISIBLE = 1e-2  # an error that escapes with a greater probability need not be found
BIG_SEEDS = 3  # of the cases with 10⁵ elements, as they take a second each
MOST_JACOBIAN = 100_000  # elements of the Jacobians that gradcheck's slow mode may hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One check of one case."""

    name: str
    is_wrong: bool
    seed: int
    outcome: str  # a verdict, "escaped" below the certificate, or "raised"
    words: str  # the reason or the cause
    certificate: float = 0.0
    diagnosis: str = ""  # right, spurious or none; empty where none is asked for
    naming: str = ""  # of the wrong elements: all, some or wrong; empty where none are asked for
    localisation: int = 0
    forwards: int = 0
    seconds: float = 0.0


def checked(name: str, is_wrong: bool, seed: int, mode: str) -> Record:  # noqa: FBT001
    """One check, whatever comes of it."""
    torch.set_num_threads(1)
    case = WRONG[name] if is_wrong else RIGHT[name]
    f, inputs = case.build(seed)
    extra: dict[str, Any] = (
        {"regimes": case.regimes} if isinstance(case, Wrong) else {"expect": case.expect}
    )
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = check_gradient(
                f, inputs, order=case.order, mode=mode, seed=seed, raises=False, **extra
            )
        except Exception as error:
            words = f"{type(error).__name__}: {error}"[:200]
            return Record(name=name, is_wrong=is_wrong, seed=seed, outcome="raised", words=words)
    is_failure = found.verdict is Verdict.FAILED
    return Record(
        name=name,
        is_wrong=is_wrong,
        seed=seed,
        outcome=_outcome(found, case),
        words=found.cause or found.reason,
        certificate=found.certificate,
        diagnosis=_diagnosis(found, case) if is_failure else "",
        naming=_naming(found, case) if is_failure else "",
        localisation=found.localisation,
        forwards=found.forwards,
        seconds=time.perf_counter() - started,
    )


def _outcome(found: GradientEvidence, case: Right | Wrong) -> str:
    """The verdict; "escaped" where a pass itself says that such an error may escape."""
    if isinstance(case, Wrong) and found.passed and math.isfinite(case.below):
        seen = found.certificate == 0 or found.miss(case.below / found.certificate) < VISIBLE
        return found.verdict.value if seen else "escaped"
    return found.verdict.value


def _diagnosis(found: GradientEvidence, case: Right | Wrong) -> str:
    if not isinstance(case, Wrong) or not case.cause:
        return ""
    said = f"{found.cause} {found.reason}".strip().lower()
    if not said:
        return "none"
    return "right" if re.search(case.cause, said) else "spurious"


def _naming(found: GradientEvidence, case: Right | Wrong) -> str:
    if not isinstance(case, Wrong) or not case.elements:
        return ""
    named = {element.index for tensor in found.tensors for element in tensor.elements}
    if not named or not named <= set(case.elements):
        return "wrong"
    return "all" if named == set(case.elements) else "some"


def _spread(
    task: Callable[..., Record], arguments: Sequence[tuple[Any, ...]], processes: int
) -> list[Record]:
    if processes == 1:
        return [task(*given) for given in arguments]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return pool.starmap(task, arguments, chunksize=8)


def development(
    seeds: Sequence[int], mode: str, processes: int, *, only: str = "", rivals: bool = False
) -> list[Table]:
    cases: list[tuple[str, bool, Right | Wrong]] = [
        *((name, False, case) for name, case in RIGHT.items()),
        *((name, True, case) for name, case in WRONG.items()),
    ]
    chosen = [(name, wrong, case) for name, wrong, case in cases if re.search(only, name)]
    arguments = [
        (name, wrong, seed, mode)
        for name, wrong, case in chosen
        for seed in (seeds[:BIG_SEEDS] if case.big else seeds)
    ]
    records = _spread(checked, arguments, processes)
    right = [r for r in records if not r.is_wrong]
    wrong = [r for r in records if r.is_wrong]
    tables = [_totals(right, wrong), _explained(wrong), _named(wrong)]
    tables += [
        _listed("Right gradients that did not pass", right, ("failed", "inconclusive", "raised")),
        _listed("Wrong gradients that did not fail", wrong, ("passed", "inconclusive", "raised",
                                                             "escaped")),
        _listed("Wrong gradients with another cause than asked for",
                [r for r in wrong if r.diagnosis in ("spurious", "none")], ("failed",)),
    ]  # fmt: skip
    return [*tables, _rivals(chosen, seeds[0], right, wrong)] if rivals else tables


def _totals(right: Sequence[Record], wrong: Sequence[Record]) -> Table:
    outcomes = ["passed", "inconclusive", "failed", "escaped", "raised"]
    rows = [
        [title, len({r.name for r in records}), len(records),
         *(sum(r.outcome == outcome for r in records) for outcome in outcomes),
         statistics.median(r.forwards for r in records),
         max(r.forwards for r in records),
         f"{sum(r.seconds for r in records):.0f} s"]
        for title, records in (("right", right), ("wrong", wrong)) if records
    ]  # fmt: skip
    columns = ["gradients", "cases", "runs", *outcomes, "forwards, median", "most", "time"]
    note = "Escaped: wrong by so little that the printed certificate says it may escape."
    return Table(title="Verdicts", columns=columns, rows=rows, note=note)


def _explained(wrong: Sequence[Record]) -> Table:
    counts = Counter(r.diagnosis for r in wrong)
    names = {kind: {r.name for r in wrong if r.diagnosis == kind} for kind in counts}
    asked = sum(counts[kind] for kind in ("right", "none", "spurious"))
    rows = [
        [kind, len(names.get(kind, ())), counts[kind], f"{counts[kind] / max(asked, 1):.1%}"]
        for kind in ("right", "none", "spurious")
    ]
    return Table(title="Causes", columns=["cause", "cases", "runs", "of those asked"], rows=rows)


def _named(wrong: Sequence[Record]) -> Table:
    rows = []
    for name in sorted({r.name for r in wrong if r.naming}):
        own = [r for r in wrong if r.name == name and r.naming]
        used = [r.localisation for r in own]
        kinds = Counter(r.naming for r in own)
        rows.append(
            [name, len(own), kinds["all"], kinds["some"], kinds["wrong"],
             min(used), statistics.median(used), max(used)]
        )  # fmt: skip
    columns = ["case", "found", "all named", "some named", "wrongly named", "forwards, least",
               "median", "most"]  # fmt: skip
    return Table(title="Wrong elements, few of many", columns=columns, rows=rows)


def _listed(title: str, records: Iterable[Record], outcomes: Sequence[str]) -> Table:
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.outcome in outcomes:
            found.setdefault((record.name, record.outcome), []).append(record)
    rows = [
        [name, outcome, len(own), own[0].seed, own[0].certificate, own[0].words]
        for (name, outcome), own in sorted(found.items())
    ]
    columns = ["case", "outcome", "runs", "first seed", "certificate", "words"]
    return Table(title=title, columns=columns, rows=rows)


# --- gradcheck on the same sets -----------------------------------------------------------------


def _rivals(
    chosen: Sequence[tuple[str, bool, Right | Wrong]],
    seed: int,
    right: Sequence[Record],
    wrong: Sequence[Record],
) -> Table:
    """What gradcheck says at one seed, of what it can be asked: the first order at one point."""
    said: dict[tuple[bool, str], list[str]] = {}
    for name, is_wrong, case in chosen:
        if case.order == 1:
            for mode, answer in _gradchecks(case, seed).items():
                said.setdefault((is_wrong, mode), []).append(answer)
                own = next(r for r in (wrong if is_wrong else right) if r.name == name)
                said.setdefault((is_wrong, f"dlcheck beside {mode}"), []).append(
                    {"passed": "passes", "failed": "fails"}.get(own.outcome, own.outcome)
                )
    rows = [
        ["wrong" if is_wrong else "right", mode, len(answers),
         *(answers.count(answer) for answer in ("passes", "fails", "raises"))]
        for (is_wrong, mode), answers in sorted(said.items())
    ]  # fmt: skip
    columns = ["gradients", "checker", "cases", "passes", "fails", "raises"]
    note = (
        f"One seed; slow mode where N·M ≤ {MOST_JACOBIAN:,} and N < 10⁵. gradcheck knows neither "
        "`expect` nor regimes; of modules the parameters are passed as inputs."
    )
    return Table(title="gradcheck on the same cases", columns=columns, rows=rows, note=note)


def _gradchecks(case: Right | Wrong, seed: int) -> dict[str, str]:
    found = {}
    for mode in ("fast mode", "slow mode"):
        f, inputs = case.build(seed)
        moved = [x for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.requires_grad]
        if isinstance(f, nn.Module):
            moved += [p for p in f.parameters() if p.requires_grad]
        if mode == "slow mode" and case.big:
            continue
        called = _of_moved(f, inputs)
        size = sum(x.numel() for x in moved)
        if mode == "slow mode" and size * sum(y.numel() for y in called()) > MOST_JACOBIAN:
            continue
        found[mode] = _gradcheck(called, moved, fast=mode == "fast mode")
    return found


def _of_moved(f: Callable[..., Any], inputs: Any) -> Callable[..., tuple[Tensor, ...]]:
    """f for gradcheck, which moves the tensors in place: f sees them wherever they are."""

    def called(*_: Tensor) -> tuple[Tensor, ...]:
        if isinstance(inputs, dict):
            answer = f(**inputs)
        else:
            answer = f(inputs) if isinstance(inputs, Tensor) else f(*inputs)
        return tuple(y for y in tree_leaves(answer) if isinstance(y, Tensor) and y.requires_grad)

    return called


def _gradcheck(called: Callable[..., Any], moved: list[Tensor], *, fast: bool) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            good = torch.autograd.gradcheck(called, moved, fast_mode=fast, raise_exception=False)
        except Exception:
            return "raises"
    return "passes" if good else "fails"
