"""Several records → one: the shards of a run, or runs of different suites. Loads no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dlcheck.arguments import without
from dlcheck.benchmark import Benchmark
from dlcheck.errors import UsageError
from dlcheck.model import Outcome, Verdict
from dlcheck.results import Run
from dlcheck.sameness import differences

_OWN = ("shard", "incomplete", "exit")  # of one record alone
_GRAVEST = (Verdict.FAILED, Verdict.ERRORED, Verdict.INCONCLUSIVE)
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Merged:
    """One run of all, what a person should know of it, and the exit code of the whole."""

    run: Run
    exit: int
    told: tuple[str, ...] = field(default=())


def merge(runs: Sequence[Run], *, force: bool = False) -> Merged:
    """Every outcome once, in the order of the records.

    Raises UsageError, with every reason, for records that are no parts of one run or of which
    some are missing; with `force` the reasons are told and kept in the metadata.
    """
    gaps = list(_gaps(runs))
    reasons = [*_strangers(runs), *gaps]
    if reasons and not force:
        listed = "\n".join(f"  {reason}" for reason in reasons)
        raise UsageError(f"these are not the parts of one run (--force merges them):\n{listed}")
    outcomes, told = _once(runs)
    benchmarks, twice = _benchmarks_once(runs)
    told = [*reasons, *told, *twice, *_losses(runs)]
    meta = _meta(runs)
    if told:
        meta["merged with"] = told
    if lost := [*gaps, *(str(r.meta["incomplete"]) for r in runs if "incomplete" in r.meta)]:
        meta["incomplete"] = "; ".join(lost)
    whole = Run(meta, outcomes, benchmarks)
    return Merged(whole, _exit(runs, whole), tuple(told))


def _name(run: Run) -> str:
    return run.path.name if run.path is not None else str(run.meta.get("time", "a run"))


def _strangers(runs: Sequence[Run]) -> Iterator[str]:
    for other in runs[1:]:
        for difference in differences(runs[0].meta, other.meta):
            yield f"{_name(runs[0])} and {_name(other)}: {difference}"


def _gaps(runs: Sequence[Run]) -> Iterator[str]:
    """Shards that are missing, or that were not cut from the same list."""
    cuts = [cut for run in runs if isinstance(cut := run.meta.get("shard"), Mapping)]
    if not cuts:
        return
    if len(cuts) < len(runs):
        whole = next(run for run in runs if "shard" not in run.meta)
        yield f"{_name(whole)} is no shard, others are"
    for key, words in (("of", "into {} parts"), ("digest", "from another list ({})")):
        found = sorted({str(cut.get(key)) for cut in cuts})
        if len(found) > 1:
            yield f"the shards were cut differently: {', '.join(map(words.format, found))}"
            return
    of = int(cuts[0]["of"])
    there = {int(cut["number"]) for cut in cuts}
    if missing := [f"{number}/{of}" for number in range(1, of + 1) if number not in there]:
        shown = ", ".join(missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else "")
        yield f"{len(missing)} of {of} shards are missing: {shown}"


def _once(runs: Sequence[Run]) -> tuple[list[Outcome], list[str]]:
    """Each outcome once. Of two that differ the graver stays, and that is told."""
    found: dict[str, tuple[Outcome, Run]] = {}
    told: list[str] = []
    for run in runs:
        for outcome in run.outcomes:
            if outcome.id not in found:
                found[outcome.id] = outcome, run
                continue
            before, where = found[outcome.id]
            if _substance(before) == _substance(outcome):
                continue
            words = f"{before.verdict.value} in {_name(where)}, {outcome.verdict.value} in "
            told.append(f"{outcome.id} is there twice and differs: {words}{_name(run)}")
            found[outcome.id] = min((before, where), (outcome, run), key=_gravity)
    return [outcome for outcome, _ in found.values()], told


def _substance(outcome: Outcome) -> Outcome:
    """The outcome but for what differs between two runs that came to the same."""
    return replace(outcome, seconds=0.0, reproduce="", notes=(), failure="", script="")


def _gravity(pair: tuple[Outcome, Run]) -> int:
    verdict = pair[0].verdict
    return _GRAVEST.index(verdict) if verdict in _GRAVEST else len(_GRAVEST)


def _benchmarks_once(runs: Sequence[Run]) -> tuple[list[Benchmark], list[str]]:
    """Of a benchmark all processes of one record; those of a second record are told."""
    found: list[Benchmark] = []
    owners: dict[str, Run] = {}
    told: dict[str, str] = {}
    for run in runs:
        for each in run.benchmarks:
            if owners.setdefault(each.id, run) is run:
                found.append(each)
            elif each not in owners[each.id].benchmarks:
                told[each.id] = f"{each.id} is there twice: {_name(owners[each.id])} counts"
    return found, list(told.values())


def _losses(runs: Sequence[Run]) -> Iterator[str]:
    """Records that are not whole, and shards with fewer outcomes than trials."""
    for run in runs:
        if "incomplete" in run.meta:
            yield str(run.meta["incomplete"])
        cut = run.meta.get("shard")
        recorded = len({*(o.id for o in run.outcomes), *(b.id for b in run.benchmarks)})
        if isinstance(cut, Mapping) and recorded < int(cut.get("trials", 0)):
            shard = f"{cut['number']}/{cut['of']}"
            yield f"shard {shard} recorded {recorded:,} of its {int(cut['trials']):,} trials"


def _meta(runs: Sequence[Run]) -> dict[str, Any]:
    """The first record's, but for what is only its own, and where each part is from."""
    meta = {key: value for key, value in runs[0].meta.items() if key not in _OWN}
    meta["time"] = min((str(run.meta["time"]) for run in runs if "time" in run.meta), default="")
    meta["command"] = _whole_command(str(meta.get("command", "")))
    meta["merged"] = [_part(run) for run in runs]
    return meta


def _whole_command(command: str) -> str:
    return shlex.join(without(shlex.split(command), ("--shard", "--dlcheck-shard")))


def _part(run: Run) -> dict[str, Any]:
    cut, cpu = run.meta.get("shard"), run.meta.get("cpu")
    part = {
        "record": _name(run),
        "shard": f"{cut['number']}/{cut['of']}" if isinstance(cut, Mapping) else "",
        "time": run.meta.get("time", ""),
        "cpu": cpu.get("model", "") if isinstance(cpu, Mapping) else "",
        "outcomes": len(run.outcomes) + len(run.benchmarks),
    }
    return {name: value for name, value in part.items() if value != ""}


def _exit(runs: Sequence[Run], whole: Run) -> int:
    """What one run of everything would have ended with."""
    codes = {int(code) for run in runs if isinstance(code := run.meta.get("exit"), int)}
    for code in (4, 3, 2):  # a wrong call, a mistake of pytest's, an interrupt
        if code in codes:
            return code
    verdicts = {outcome.verdict for outcome in whole.outcomes}
    faults = any(benchmark.fault for benchmark in whole.benchmarks)
    if 1 in codes or faults or verdicts & {Verdict.FAILED, Verdict.ERRORED}:
        return 1
    if "incomplete" in whole.meta:
        return 1
    if 6 in codes:
        return 6
    measured = all(benchmark.is_measured for benchmark in whole.benchmarks)
    return 7 if 7 in codes or Verdict.INCONCLUSIVE in verdicts or not measured else 0
