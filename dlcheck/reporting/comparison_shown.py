"""Benchmarks for people: the terminal's table with a sentence for each, a notebook's cell."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from dlcheck.benchmark import Benchmark, Side
from dlcheck.ratio import Speed
from dlcheck.reporting.document import notebook
from dlcheck.reporting.markup import Markup, clean, tag
from dlcheck.reporting.numbers import clocked, counted, size_of
from dlcheck.reporting.tables import table

_WIDTH = 96
_NONE = "—"


def summary(benchmarks: Sequence[Benchmark]) -> str:
    """Every point in a line, then a sentence for each, then what speaks against it."""
    if not benchmarks:
        return "nothing was measured"
    parts = [heading(benchmarks[0]), "\n".join(_aligned(benchmarks))]
    parts.append("\n".join(_wrapped([sentence(each) for each in benchmarks], "• ")))
    notes = list(dict.fromkeys(note for each in benchmarks for note in each.notes))
    if notes:
        parts.append("\n".join(_wrapped(notes, "! ")))
    return "\n\n".join(parts)


def _aligned(benchmarks: Sequence[Benchmark], *, named: bool = False) -> Iterator[str]:
    rows = list(cells(benchmarks, named=named))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells_ = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells_]).rstrip()


def lines_of(benchmarks: Sequence[Benchmark]) -> Iterator[str]:
    """The table of the benchmarks of a run, what came to no verdict, and how many came to which."""
    if not benchmarks:
        return
    yield from _aligned(benchmarks, named=True)
    for each in benchmarks:
        if not each.is_measured and not each.fault:  # a failure is told where it failed
            yield f"not measured {clean(each.id)}: {sentence(each)}"
    found = Counter(verdict_cell(each) if each.verdict else "timed" for each in benchmarks)
    told = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
    yield f"{counted(len(benchmarks), 'benchmark')}: {told}"


def heading(benchmark: Benchmark) -> str:
    """What is timed against what, and on what."""
    against = f" against {benchmark.against.target}" if benchmark.against else ""
    threads = f"{benchmark.threads} thread{'s' * (benchmark.threads != 1)}"
    place = f"{benchmark.hardware or benchmark.device}, {threads}"
    return clean(f"{benchmark.subject.target}{against} on {place}")


def cells(benchmarks: Sequence[Benchmark], *, named: bool = False) -> Iterator[list[str]]:
    """The head and a row for each; columns of which no benchmark has anything are left out."""
    points: Callable[[Benchmark], str] = _named_point if named else _point
    columns = [
        (head, [cell(each) for each in benchmarks])
        for head, cell in (("point", points), *_COLUMNS)
        if head in ("point", "time") or any(cell(each) != _NONE for each in benchmarks)
    ]
    yield [head for head, _ in columns]
    yield from (list(row) for row in zip(*(found for _, found in columns), strict=True))


def sentence(benchmark: Benchmark) -> str:
    """The verdict, what it says and why it may be believed."""
    place = clean(benchmark.point)
    if benchmark.refused:
        word = "the subject is wrong" if benchmark.fault else "no verdict"
        return clean(f"{place}: {word}: {benchmark.refused}")
    ratio = benchmark.ratio
    if ratio is None:
        return f"{place}: {_times(benchmark.subject)}"
    pairs = f"{len(ratio.logs)} pairs"
    low, high = ratio.interval
    within = f"[{low:.3f}, {high:.3f}] with {100 * ratio.confidence:.0f} % by {pairs}"
    said = {
        Speed.FASTER: f"{1 / ratio.median:.2f} times faster",
        Speed.SLOWER: f"{ratio.median:.2f} times slower",
        Speed.SAME: f"the same within {100 * ratio.margin:.0f} %",
        Speed.UNCLEAR: f"unclear: more than {100 * ratio.margin:.0f} % apart in the interval",
    }[ratio.verdict]
    grade = f"; outputs {benchmark.agreement} (grade {benchmark.grade})" if benchmark.grade else ""
    return f"{place}: {said}; the ratio of times is {ratio.median:.3f} {within}{grade}"


def _times(side: Side) -> str:
    if not side.seconds or side.interval is None or side.median is None:
        return "not timed"
    low, high = side.interval
    return (
        f"{clocked(side.median)} a call, [{clocked(low)}, {clocked(high)}] with 95 % by "
        f"{len(side.seconds)} samples of this process"
    )


def _wrapped(lines: Sequence[str], bullet: str) -> Iterator[str]:
    for line in lines:
        yield textwrap.fill(line, _WIDTH, initial_indent=bullet, subsequent_indent="  ")


# --- cells --------------------------------------------------------------------------------------


def _point(benchmark: Benchmark) -> str:
    return clean(benchmark.point)


def _named_point(benchmark: Benchmark) -> str:
    return clean(f"{benchmark.name}[{benchmark.point}]")


def ratio_cell(benchmark: Benchmark) -> str:
    """`0.91 [0.90, 0.92]`: the subject's time over the reference's."""
    ratio = benchmark.ratio
    if ratio is None or benchmark.refused:
        return _NONE
    low, high = ratio.interval
    return f"{ratio.median:.3f} [{low:.3f}, {high:.3f}]"


def verdict_cell(benchmark: Benchmark) -> str:
    if benchmark.verdict is None:
        return _NONE
    return {"disagrees": "disagrees", "raised": "raised"}.get(
        benchmark.fault, benchmark.verdict.value
    )


def _seconds(side: Side | None) -> str:
    return clocked(side.median) if side is not None and side.median is not None else _NONE


def _memory(side: Side | None) -> str:
    return size_of(side.peak_bytes) if side is not None and side.peak_bytes is not None else _NONE


def _throughput(benchmark: Benchmark) -> str:
    if benchmark.throughput is None:
        return _NONE
    return f"{benchmark.throughput:,.0f} {clean(benchmark.item or 'item')}s/s"


def _roofline(benchmark: Benchmark) -> str:
    return _NONE if benchmark.roofline is None else f"{benchmark.roofline:.0f} %"


def _percentile(percent: float) -> Callable[[Benchmark], str]:
    def cell(benchmark: Benchmark) -> str:
        seconds = benchmark.subject.percentile(percent)
        return _NONE if seconds is None else clocked(seconds)

    return cell


_COLUMNS: tuple[tuple[str, Callable[[Benchmark], str]], ...] = (
    ("time", lambda b: _seconds(b.subject)),
    ("against", lambda b: _seconds(b.against)),
    ("ratio", ratio_cell),
    ("verdict", verdict_cell),
    ("p95", _percentile(95)),
    ("p99", _percentile(99)),
    ("cold", lambda b: _NONE if b.subject.cold is None else clocked(b.subject.cold)),
    ("throughput", _throughput),
    ("memory", lambda b: _memory(b.subject)),
    ("ref. memory", lambda b: _memory(b.against)),
    ("of roofline", _roofline),
)


# --- HTML ---------------------------------------------------------------------------------------


def fragment(benchmarks: Sequence[Benchmark]) -> str:
    """The comparison inside a notebook."""
    if not benchmarks:
        return notebook(tag("p", "nothing was measured"))
    told = tag("ul", [tag("li", sentence(each)) for each in benchmarks])
    head = tag("p", tag("b", heading(benchmarks[0])))
    return notebook([head, speed_table(benchmarks), told])


def speed_table(benchmarks: Sequence[Benchmark]) -> Markup:
    """The table of `summary`, as HTML."""
    head, *rows = cells(benchmarks)
    return table(head, rows, "numeric")
