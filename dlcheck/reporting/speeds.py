"""Benchmarks of a run: times, ratios with their intervals, what was refused, and sweeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from dlcheck.benchmark import Benchmark
from dlcheck.model import Figure
from dlcheck.ratio import Speed
from dlcheck.reporting.comparison_shown import sentence
from dlcheck.reporting.markup import Child, Markup, clipped, join, tag
from dlcheck.reporting.numbers import clocked, counted, size_of, typeset
from dlcheck.reporting.plots import numbers
from dlcheck.reporting.report import speed_word, told_speeds
from dlcheck.reporting.svg import draw
from dlcheck.reporting.tables import table
from dlcheck.reporting.trials import fact

HEAD = ("benchmark", "point", "verdict", "ratio", "95 % interval", "a call takes", "against",
        "throughput", "peak memory", "of roofline")  # fmt: skip
SPEEDS = {  # the symbol of a verdict
    Speed.FASTER: "▲",
    Speed.SAME: "=",
    Speed.SLOWER: "▼",
    Speed.UNCLEAR: "?",
    Speed.REFUSED: "!",
    None: "·",
}
_SHOWN = 300
_PLOTS = 20


def speeds(benchmarks: Sequence[Benchmark]) -> Markup | None:
    """The section of the page: a row a benchmark, a disclosure each, a plot a sweep."""
    if not benchmarks:
        return None
    ordered = sorted(benchmarks, key=gravest_first)
    text = (
        "The ratio is the subject's time over that of what it is held against, below 1 is faster; "
        "its interval is exact, by the sign test on pairs. A verdict needs the whole interval on "
        "one side of the margin. No speed is told where the outputs disagree."
    )
    left = len(ordered) - _SHOWN
    return join(
        tag("p", f"{told_speeds(benchmarks)}. {text}", class_="quiet"),
        table(HEAD, [_row(each) for each in ordered[:_SHOWN]], "benchmarks numeric filtered"),
        tag("p", f"{left:,} more are in the record.", class_="quiet") if left > 0 else None,
        [_disclosed(each) for each in ordered[:_SHOWN]],
        _gallery(benchmarks),
    )


def gravest_first(benchmark: Benchmark) -> tuple[int, str]:
    """Orders benchmarks: what was refused, what is slower, and so on."""
    order = (Speed.REFUSED, Speed.SLOWER, Speed.UNCLEAR, Speed.FASTER, Speed.SAME, None)
    return order.index(benchmark.verdict), benchmark.id


def speed_mark(speed: Speed | None) -> Markup:
    """The symbol of a verdict, and its word for those who ask."""
    word = speed_word(speed)
    return tag("b", SPEEDS[speed], class_=word.split()[0], title=word)


def _row(benchmark: Benchmark) -> list[Child]:
    against = benchmark.against
    name, point, verdict, *rest = cells(benchmark)
    return [
        [speed_mark(benchmark.verdict), " ", name],
        [point, tag("br"), tag("span", against.target, class_="subject") if against else None],
        [verdict, tag("br") if benchmark.refused else None, clipped(benchmark.refused, 300)],
        *rest,
    ]


def cells(benchmark: Benchmark) -> list[str]:
    """One row in words, for HTML and Markdown alike."""
    ratio = benchmark.ratio if benchmark.verdict is not Speed.REFUSED else None
    subject, against = benchmark.subject, benchmark.against
    peak = subject.peak_bytes
    return [
        benchmark.name,
        benchmark.point,
        speed_word(benchmark.verdict),
        f"{ratio.median:.4g}" if ratio else "",
        _span(ratio.interval) if ratio else "",
        clocked(subject.median) if subject.median else "",
        clocked(against.median) if against and against.median else "",
        f"{typeset(benchmark.throughput)} {benchmark.item}s/s" if benchmark.throughput else "",
        size_of(peak) if peak is not None else "",
        f"{benchmark.roofline:.0f} %" if benchmark.roofline else "",
    ]


def _span(interval: tuple[float, float]) -> str:
    return " to ".join(typeset(edge, 4) for edge in interval)


def _disclosed(benchmark: Benchmark) -> Markup:
    """All that was measured of one, and how to measure it again."""
    summary = [
        speed_mark(benchmark.verdict),
        tag("span", benchmark.name, class_="check"),
        tag("span", benchmark.point, class_="point"),
    ]
    return tag(
        "details",
        tag("summary", summary),
        tag("div", tag("dl", _facts(benchmark), class_="facts"), class_="body"),
        class_="trial",
    )


def _facts(benchmark: Benchmark) -> Iterator[Markup]:
    yield from fact("in words", sentence(benchmark))
    yield from fact("outputs", benchmark.agreement)
    for role, side in (("subject", benchmark.subject), ("against", benchmark.against)):
        if side is None:
            continue
        yield from fact(role, tag("code", clipped(side.target, 300)))
        latency = [f"{name} {clocked(seconds)}" for name, seconds in side.percentiles.items()]
        yield from fact("latency", ", ".join(latency))
        yield from fact("samples", f"{len(side.seconds):,} of {counted(side.calls, 'call')}")
        yield from fact("first call", clocked(side.cold) if side.cold else "")
        yield from fact("processor", clocked(side.cpu) if side.cpu else "")
        faults = side.page_faults
        yield from fact("page faults", f"{typeset(faults)} a call" if faults is not None else "")
    sizes = {**benchmark.sizes, **benchmark.params}
    yield from fact("sizes", ", ".join(f"{name} = {size}" for name, size in sizes.items()))
    yield from fact("on", f"{benchmark.device} {benchmark.hardware}, {benchmark.dtype}")
    yield from fact("notes", "\n".join(benchmark.notes))
    again = benchmark.reproduce
    yield from fact("run again", tag("code", clipped(again, 1000)) if again else None)


# --- sweeps -------------------------------------------------------------------------------------


def sweeps(benchmarks: Sequence[Benchmark]) -> Iterator[Figure]:
    """Time against the size that varies, for each name with three sizes or more."""
    groups: dict[tuple[str, ...], list[Benchmark]] = defaultdict(list)
    for each in benchmarks:
        groups[each.suite, each.name, each.device, each.dtype].append(each)
    for (_, name, device, dtype), found in groups.items():
        axis = _axis(found)
        if axis is None:
            continue
        found.sort(key=lambda each: each.sizes[axis])
        sides = {"subject": [each.subject for each in found]}
        if all(each.against is not None for each in found):
            sides["against"] = [each.against for each in found if each.against is not None]
        yield Figure(
            title=f"{name} on {device}, {dtype}",
            x=axis,
            y="seconds a call",
            log_x=True,
            log_y=True,
            series={
                role: [
                    (float(each.sizes[axis]), side.median)
                    for each, side in zip(found, timed, strict=True)
                    if side.median
                ]
                for role, timed in sides.items()
            },
        )


def _axis(benchmarks: Sequence[Benchmark]) -> str | None:
    """The one size that varies, where it takes a different value in each of three or more."""
    names = set.intersection(*(set(each.sizes) for each in benchmarks))
    varying = [name for name in names if len({each.sizes[name] for each in benchmarks}) > 1]
    if len(varying) != 1 or len(benchmarks) < 3:
        return None
    values = {each.sizes[varying[0]] for each in benchmarks}
    return varying[0] if len(values) == len(benchmarks) else None


def _gallery(benchmarks: Sequence[Benchmark]) -> Markup | None:
    drawn = [
        tag(
            "figure",
            tag("figcaption", tag("b", figure.title)),
            tag("div", draw(figure, f"speed{k}"), class_="scroll"),
            tag("details", tag("summary", "Numbers"), numbers(figure, 60), class_="data"),
        )
        for k, figure in enumerate(list(sweeps(benchmarks))[:_PLOTS])
    ]
    return tag("div", drawn, class_="gallery") if drawn else None
