"""Two runs side by side for people: a page, a notebook's cell, Markdown, the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dlcheck.model import Outcome
from dlcheck.regression import Trend
from dlcheck.reporting.capped import capped, capped_benchmark, capped_report
from dlcheck.reporting.changes import Change, Changes, Turn, changes
from dlcheck.reporting.document import document, notebook
from dlcheck.reporting.markdown import LIMIT, code, fitting, text
from dlcheck.reporting.markdown import table as markdown_table
from dlcheck.reporting.markup import Child, Markup, clean, clipped, tag
from dlcheck.reporting.numbers import clocked
from dlcheck.reporting.report import Report
from dlcheck.reporting.tables import table
from dlcheck.reporting.terminal import told
from dlcheck.reporting.trials import verdict_mark
from dlcheck.trends import Timed

_SHOWN = 200  # trials of a turn
_LISTED = 20  # of them in a terminal
_HEAD = ("trial", "point", "before", "after", "run again")
_SPEEDS = ("benchmark", "point", "before", "after", "verdict", "after / before")
_TRENDS = {  # gravest first; as a mark: the symbol, and the verdict whose colour it has
    Trend.SLOWER: ("▼", "failed"),
    Trend.UNCLEAR: ("?", "inconclusive"),
    Trend.NO_VERDICT: ("·", "skipped"),
    Trend.FASTER: ("▲", "passed"),
    Trend.SAME: ("=", "passed"),
}


def page(found: Changes) -> str:
    """The comparison as one offline page."""
    found = _capped(found)
    title = f"dlcheck: {found.headline}: {found.verdict_line}"
    sections = [each for each in _sections(found) if each[2] is not None]
    links = [tag("li", tag("a", heading, href=f"#{anchor}")) for anchor, heading, _ in sections]
    body = [tag("section", tag("h2", name), told, id=anchor) for anchor, name, told in sections]
    content = [
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag("header", _header(found)),
        tag("nav", tag("ul", links), aria_label="Sections"),
        tag("main", body, id="content", tabindex=-1),
    ]
    return document(title, content)


def _capped(found: Changes) -> Changes:
    trials = changes(capped_report(found.before), capped_report(found.after))
    return replace(trials, benchmarks=tuple(map(_capped_timed, found.benchmarks)))


def _capped_timed(each: Timed) -> Timed:
    sides = (each.befores, each.afters)
    befores, afters = (tuple(map(capped_benchmark, side)) for side in sides)
    return replace(each, befores=befores, afters=afters, foreign=clipped(each.foreign, 300))


def _header(found: Changes) -> Iterator[Child]:
    yield tag("p", "dlcheck", class_="brand")
    yield tag("h1", found.headline)
    yield tag("p", found.verdict_line, class_="verdict")
    for name, report in (("Before", found.before), ("After", found.after)):
        yield tag("p", f"{name}: {_origin(report)}", class_="quiet")
        if report.incomplete:
            yield tag("p", f"Careful: {report.incomplete}.", class_="note")


def _origin(report: Report) -> str:
    commit = report.meta.get("git")
    parts = [
        str(report.meta.get("time", "")).replace("T", " ").replace("+00:00", " UTC"),
        f"commit {commit['commit']}" if isinstance(commit, dict) and "commit" in commit else "",
        report.verdict_line,
    ]
    return " · ".join(part for part in parts if part)


def _sections(found: Changes) -> Iterator[tuple[str, str, Child]]:
    turned = found.turned
    if not found.common and found.trials:
        yield "common", "Nothing in common", tag("p", _strangers(found))
    for turn, trials in turned.items():
        if turn is not Turn.SAME:
            anchor = turn.name.lower().replace("_", "-")
            yield anchor, f"{_capital(turn.value)} ({len(trials):,})", _trials(trials)
    yield "benchmarks", "Benchmarks", _benchmarks(found.benchmarks)
    yield "environment", "Environment", _settings(found)
    if Turn.SAME in turned:
        yield "same", f"As before ({len(turned[Turn.SAME]):,})", _same(found, turned[Turn.SAME])


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _strangers(found: Changes) -> str:
    one, two = ({each.suite for each in r.outcomes} for r in (found.before, found.after))
    return (
        "No trial is in both runs, so nothing is compared: before there were "
        f"{_named(one)}, after {_named(two)}. Trials are matched by suite, subject, check and "
        "point."
    )


def _named(suites: set[str]) -> str:
    names = sorted(suites)
    more = f" and {len(names) - 3} more suites" if len(names) > 3 else ""
    return (", ".join(names[:3]) + more) or "none"


def _trials(trials: Sequence[Change]) -> list[Child]:
    rows: list[list[Child]] = [
        [
            [tag("code", change.named.check), tag("br"), change.named.subject],
            change.named.point,
            _side(change.before),
            _side(change.after),
            tag("code", clipped(change.named.reproduce, 300)),
        ]
        for change in trials[:_SHOWN]
    ]
    left = len(trials) - len(rows)
    return [
        table(_HEAD, rows, "changes filtered"),
        tag("p", f"{left:,} more are in the records.", class_="quiet") if left else None,
    ]


def _side(outcome: Outcome | None) -> list[Child]:
    if outcome is None:
        return ["–"]
    return [verdict_mark(outcome.verdict), " ", outcome.verdict.value, tag("br"),
            tag("span", clipped(told(outcome), 300), class_="quiet")]  # fmt: skip


def _benchmarks(benchmarks: Sequence[Timed]) -> list[Child] | None:
    if not benchmarks:
        return None
    note = (
        "The replicate is the process: a verdict needs several a side. A regression is at least "
        "10 % slower, and by chance has at most 5 % anywhere among the benchmarks (exact "
        "Mann–Whitney test, Holm). Times of other hardware, threads or torch are not compared."
    )
    rows = [_timed(each) for each in _gravest_first(benchmarks)[:_SHOWN]]
    return [tag("p", note, class_="quiet"), table(_SPEEDS, rows, "benchmarks numeric")]


def _gravest_first(benchmarks: Sequence[Timed]) -> list[Timed]:
    order = list(_TRENDS)
    return sorted(benchmarks, key=lambda each: (not each.newly_wrong, order.index(each.trend)))


def _timed(each: Timed) -> list[Child]:
    symbol, colour = _TRENDS[each.trend]
    word = "regression" if each.is_regression else each.trend.value
    mark: list[Child] = [tag("b", symbol, class_=colour), " ", word]
    return [each.named.name, each.named.point, *_times(each), mark, each.told]


def _times(each: Timed) -> list[str]:
    sides = (each.before, each.after)
    return [clocked(s.subject.median) if s and s.subject.median else "–" for s in sides]


def _settings(found: Changes) -> Markup | None:
    rows = found.settings[:_SHOWN]
    return table(("setting", "before", "after"), rows, "settings") if rows else None


def _same(found: Changes, trials: Sequence[Change]) -> Child:
    verdicts: dict[str, int] = {}
    for change in trials:
        name = change.named.verdict.value
        verdicts[name] = verdicts.get(name, 0) + 1
    said = ", ".join(f"{count:,} {name}" for name, count in sorted(verdicts.items()))
    return tag("p", f"The same verdict in both: {said}.")


def fragment(found: Changes) -> str:
    """The comparison inside a notebook."""
    found = _capped(found)
    head = tag("p", tag("b", found.headline), f": {found.verdict_line}")
    shown: list[Child] = [
        tag("details", tag("summary", f"{turn.value} ({len(trials):,})"), _trials(trials[:20]),
            open=turn.is_bad)
        for turn, trials in found.turned.items()
        if turn is not Turn.SAME
    ]  # fmt: skip
    return notebook([head, *shown])


def markdown(found: Changes, limit: int = LIMIT) -> str:
    """The comparison for a pull request, within a size."""
    found = _capped(found)
    parts = [f"## dlcheck: {found.headline.lower()}", f"{found.verdict_line}."]
    for turn, trials in found.turned.items():
        if turn is Turn.SAME:
            continue
        parts.append(f"### {_capital(turn.value)}")
        rows = [
            [text(c.named.subject), code(c.named.check), text(c.named.point),
             *(f"{s.verdict.symbol} {text(told(s))}" if s else "–" for s in (c.before, c.after)),
             code(c.named.reproduce)]
            for c in trials[:_SHOWN]
        ]  # fmt: skip
        parts.append(
            markdown_table(["subject", "check", "point", "before", "after", "run again"], rows)
        )
    if found.benchmarks:
        rows = [
            [text(each.named.name), text(each.named.point), *_times(each),
             each.trend.value, text(each.told)]
            for each in _gravest_first(found.benchmarks)[:_SHOWN]
        ]  # fmt: skip
        parts += ["### Benchmarks", markdown_table(list(_SPEEDS), rows)]
    return "\n\n".join(fitting(parts, limit)) + "\n"


def terminal(found: Changes) -> str:
    """What changed, a line each, the counts last."""
    lines: list[str] = []
    for turn, trials in found.turned.items() if found.common else ():
        if turn is Turn.SAME:
            continue
        lines.append(f"{turn.value} ({len(trials):,})")
        for change in trials[:_LISTED]:
            lines += _lines(change)
        if len(trials) > _LISTED:
            lines.append(f"  … and {len(trials) - _LISTED:,} more")
    if not found.common and found.trials:
        lines.append(clean(_strangers(_capped(found))))
    for each in _gravest_first(found.benchmarks)[:_LISTED]:
        name = clean(f"{each.named.name} [{each.named.point}]")
        lines += [
            f"{each.trend.value}: {name}: {' → '.join(_times(each))}",
            f"    {clean(clipped(each.told, 400))}",
        ]
    return "\n".join([*lines, f"{found.headline}: {found.verdict_line}"])


def _lines(change: Change) -> Iterator[str]:
    named = capped(change.named)
    sides = [s.verdict.value if s else "–" for s in (change.before, change.after)]
    yield f"  {clean(named.subject)}: {clean(named.check)} [{clean(named.point)}] " + " → ".join(
        sides
    )
    if change.after is not None and change.turn.is_bad:
        yield f"      {told(capped(change.after))[:200]}"
