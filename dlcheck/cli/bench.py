"""`dlcheck bench TARGET --against REF`: which is faster, by how much, and can that be said."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcheck.cli import COULD_NOT_MEASURE, Parser, parse_pairs, parse_value
from dlcheck.errors import UsageError

if TYPE_CHECKING:
    from dlcheck.benchmark import Benchmark


def parser() -> Parser:
    made = Parser(
        prog="dlcheck bench",
        description="Time an implementation against another in interleaved pairs on the same "
        "inputs, or alone. A verdict is refused unless the outputs agree.",
        epilog="Example: dlcheck bench mypkg.ops:softmax --against torch:softmax --against-arg "
        "dim=-1 --input 'x=float b n' --size b=64 --sweep n=64,1024,16384. Exit codes: 0 every "
        "point is measured, 7 one could not be (unclear or refused), 1 the subject raises or its "
        "outputs are not the reference's, 4 a mistake in the call.",
    )
    add = made.add_argument
    several: dict[str, Any] = {"action": "append", "default": []}
    add("target", help="package.module:attribute or path/file.py:attribute")
    add("--against", metavar="TARGET", help="what it is timed against, called the same way")
    add("--kind", default="", help="its role; see dlcheck list kinds (default: op, or layer)")
    add("--arg", metavar="NAME=VALUE", help="how to build it", **several)
    add("--against-arg", metavar="NAME=VALUE", help="how to build the other", **several)
    add("--option", metavar="NAME=VALUE", help="fact of the kind", **several)
    add("--input", "--inputs", metavar='NAME="float b n"', help="what it takes", **several)
    add("--size", "--sizes", metavar="DIM=N", help="sizes of dims, as b=64,n=1024", **several)
    add("--sweep", metavar="AXIS=V,V", help="a dim or an argument and its values", **several)
    add(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda, … (default: a GPU if any)",
        **several,
    )
    add("--dtype", metavar="DTYPE", help="float32 unless told; repeat for more", **several)
    add("--backward", action="store_true", help="time the gradients too")
    add("--items", metavar="FORMULA", help="items a call works on, as b*n: gives the throughput")
    add("--item", default="", metavar="NOUN", help="what one is: row, token")
    add(
        "--flops",
        metavar="FORMULA",
        help="operations of a call, as 5*b*n: gives the share of the roofline",
    )
    add("--bytes", metavar="FORMULA", help="bytes that it must move, as 2*b*n*itemsize")
    add("--profile", default="default", choices=["quick", "default", "thorough"],
        help="how long it may measure")  # fmt: skip
    add("--seed", type=int, default=0, help="of all that is drawn")
    add("--processes", type=int, metavar="N", help="measure in N fresh processes, of which a "
        "later run can be told (default: 1; 8 with --since)")  # fmt: skip
    add("--since", metavar="COMMIT", help="by turns at a commit, or in a folder, too: did it get "
        "slower? Exit code 6 where it did")  # fmt: skip
    add("--json", action="store_true", help="print the comparison as JSON, samples included")
    add("--no-record", action="store_true", help="do not write it below .dlcheck/runs")
    return made


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, record it; returns the exit code."""
    given = parser().parse_args(arguments)
    if given.processes is not None or given.since:
        return _repeated(arguments, given)
    found = _measured(given)
    command = shlex.join(["dlcheck", "bench", *arguments])
    found.benchmarks = tuple(
        replace(each, reproduce=_again(arguments, each)) for each in found.benchmarks
    )
    if not given.no_record:
        _record(found, command, given)
    print(found.to_json() if given.json else found)
    if found.failed:
        return 1
    return 0 if found.measured else COULD_NOT_MEASURE


def _again(arguments: Sequence[str], benchmark: Benchmark) -> str:
    """The same call for this point alone, wherever it is typed."""
    from dlcheck.arguments import without
    from dlcheck.toml_text import to_toml_value

    words = without(arguments, ("--sweep", "--device", "--dtype"))
    words = [word for word in words if word not in ("--json", "--no-record")]
    for axis, value in benchmark.params.items():
        words += ["--sweep", f"{axis}={to_toml_value([value])}"]
    words += ["--device", benchmark.device, "--dtype", benchmark.dtype]
    return shlex.join(["dlcheck", "bench", *words])


def _repeated(arguments: Sequence[str], given: Any) -> int:
    from dlcheck.arguments import without
    from dlcheck.cli.repeated import OPTIONS, PROCESSES, repeated

    if given.json or given.no_record:
        option = "--json" if given.json else "--no-record"
        raise UsageError(f"{option} is for one process; the record holds what --processes measures")
    number = PROCESSES if given.processes is None else given.processes
    words, typed = ["bench", *without(arguments, OPTIONS)], ["bench", *arguments]
    return repeated(words, processes=number, since=given.since, command=typed)


def _measured(given: Any) -> Any:
    inputs = parse_pairs("--input", given.input)
    if wrong := [name for name, value in inputs.items() if not isinstance(value, str)]:
        raise UsageError(f"--input {wrong[0]}: an input is a text like 'float b n'")
    sizes = _sizes(given.size)
    sweep = _sweep(given.sweep)
    from dlcheck.timing.compare import compare

    with contextlib.redirect_stdout(sys.stderr):  # what the subject prints is no result
        return compare(
            given.target,
            given.against,
            inputs=inputs or None,  # type: ignore[arg-type]
            sizes=sizes,
            sweep=sweep,
            kind=given.kind,
            args=parse_pairs("--arg", given.arg),
            against_args=parse_pairs("--against-arg", given.against_arg),
            options=parse_pairs("--option", given.option),
            backward=given.backward,
            items=given.items,
            item=given.item,
            flops=given.flops,
            bytes=given.bytes,
            device=[part for each in given.device for part in each.split(",")] or "auto",
            dtype=[part for each in given.dtype for part in each.split(",")] or "float32",
            profile=given.profile,
            seed=given.seed,
            progress=_progress(),
        )


def _sizes(given: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in (part for each in given for part in each.replace(",", " ").split()):
        name, _, value = text.partition("=")
        if not name.isidentifier() or not value.isdigit():
            raise UsageError(f"--size takes DIM=N, as b=64, not {text!r}")
        found[name] = int(value)
    return found


def _sweep(given: Sequence[str]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for text in given:
        axis, equals, values = text.partition("=")
        parsed = parse_value(values) if values.startswith("[") else None
        parts = parsed if isinstance(parsed, list) else [parse_value(v) for v in values.split(",")]
        if not equals or not axis.isidentifier() or not values:
            raise UsageError(f"--sweep takes AXIS=VALUE,VALUE, as n=1,64,4096, not {text!r}")
        found[axis] = parts
    return found


def _progress() -> Callable[[int, int, str], None] | None:
    """A line for each point, on a terminal only."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int, name: str) -> None:
        print(f"[{done + 1}/{total}] {name}", file=sys.stderr, flush=True)

    return show


def _record(found: Any, command: str, given: Any) -> None:
    from dlcheck.results import RunWriter, new_run_path

    meta = {**found.meta, "command": command, "seed": given.seed, "profile": given.profile}
    with RunWriter(new_run_path(Path.cwd()), meta) as writer:
        for benchmark in found.benchmarks:
            writer.append(benchmark)
