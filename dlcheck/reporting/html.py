"""A run as one page: offline, readable without JavaScript, small, safe to show foreign text.

Everything is escaped by construction (`markup.tag`); beyond that a content policy allows no
network at all, and no script but the few lines of `page.js`, named by their hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dlcheck.model import Verdict
from dlcheck.reporting import plots, tables
from dlcheck.reporting.capped import capped_report
from dlcheck.reporting.coverage import GRAVITY, Cell, cells_of
from dlcheck.reporting.detail import Detail, levels_for
from dlcheck.reporting.document import document, notebook
from dlcheck.reporting.grid import coverage, legend
from dlcheck.reporting.markup import Child, Markup, clipped, tag
from dlcheck.reporting.numbers import counted, duration
from dlcheck.reporting.report import Report
from dlcheck.reporting.speeds import speeds
from dlcheck.reporting.statements import statements
from dlcheck.reporting.terminal import describe, told
from dlcheck.reporting.trials import WORDS, Pen, trial, verdict_mark
from dlcheck.results import Run

_BAD = (Verdict.FAILED, Verdict.ERRORED)
_OPEN = 12  # so many failures are open at first
_LIMIT = 950_000  # bytes of a page
Section = tuple[str, str, Child]  # anchor, heading, content


def render_html(run: Run | Report) -> str:
    """The whole page, told as amply as a megabyte allows."""
    report = capped_report(run if isinstance(run, Report) else Report.of(run))
    page, cells = "", cells_of(report.outcomes)
    for detail in levels_for(len(cells)):
        page = _document(report, cells, detail)
        if len(page.encode()) < _LIMIT:
            break
    return page


def _document(report: Report, cells: Sequence[Cell], detail: Detail) -> str:
    title = f"dlcheck: {report.headline}: {report.verdict_line}"
    return document(title, _page(report, _listed(cells, detail.listed), detail))


def _listed(cells: Sequence[Cell], limit: int) -> list[Cell]:
    """Of a very long run only so many cells are told, the gravest; the others have no anchor."""
    if not limit:
        return list(cells)
    told = {cell.anchor for cell in sorted(cells, key=_gravest_first)[:limit]}
    return [cell if cell.anchor in told else replace(cell, anchor="") for cell in cells]


def _gravest_first(cell: Cell) -> int:
    return -GRAVITY.index(cell.verdict)


def _page(report: Report, cells: Sequence[Cell], detail: Detail) -> Iterator[Markup]:
    sections = [section for section in _sections(report, cells, detail) if section[2] is not None]
    yield tag("a", "Skip to the content", href="#content", class_="skip")
    yield tag("header", _header(report))
    links = [tag("li", tag("a", heading, href=f"#{anchor}")) for anchor, heading, _ in sections]
    yield tag("nav", tag("ul", links), aria_label="Sections")
    yield tag(
        "main",
        [
            tag("section", tag("h2", heading), content, id=anchor)
            for anchor, heading, content in sections
        ],
        id="content",
        tabindex=-1,
    )


def _header(report: Report) -> Iterator[Child]:
    state = "passed" if report.passed else "failed" if report.failures else "inconclusive"
    yield tag("p", "dlcheck", class_="brand")
    yield tag("h1", tag("span", _SIGNS[state], class_=f"mark {state}", aria_hidden="true"),
              f" {report.headline}")  # fmt: skip
    yield tag("p", report.verdict_line, class_="verdict")
    yield _proportions(report)
    yield tag("p", _origin(report), class_="quiet")
    if report.incomplete:
        yield tag("p", f"Careful: {report.incomplete}.", class_="note")


_SIGNS = {"passed": "✓", "failed": "✗", "inconclusive": "?"}


def _proportions(report: Report) -> Markup:
    """The counts as one bar; the verdict line above says them in words."""
    parts = [
        tag("span", class_=verdict.value, style=f"flex-grow:{count}")
        for verdict, count in report.counts.items()
    ]
    return tag("div", parts, class_="proportions", aria_hidden="true")


def _origin(report: Report) -> list[Child]:
    """When, from which commit, on what, by which command."""
    meta = report.meta
    commit, versions = (_mapping(meta.get(name)) for name in ("git", "versions"))
    devices = {outcome.device for outcome in report.outcomes
               if outcome.verdict is not Verdict.SKIPPED}  # fmt: skip
    parts = [
        str(meta.get("time", "")).replace("T", " ").replace("+00:00", " UTC"),
        f"commit {commit['commit']}{', changed' if commit.get('dirty') else ''}"
        if "commit" in commit
        else "",
        f"on {', '.join(sorted(devices))}" if devices else "",
        f"torch {versions['torch']}" if "torch" in versions else "",
        f"profile {meta['profile']}" if "profile" in meta else "",
        f"seed {meta['seed']}" if "seed" in meta else "",
        f"{duration(meta['seconds'])} in all" if isinstance(meta.get("seconds"), float) else "",
    ]
    line = " · ".join(part for part in parts if part)
    command = meta.get("command")
    return [line, tag("code", clipped(str(command), 1000), class_="call") if command else None]


def _mapping(value: Any) -> Mapping[str, Any]:
    """Metadata may come from anyone's hands."""
    return value if isinstance(value, Mapping) else {}


def _sections(report: Report, cells: Sequence[Cell], detail: Detail) -> Iterator[Section]:
    told = [
        each for each in report.outcomes if each.message and each.verdict is not Verdict.SKIPPED
    ]
    share = detail.messages // max(min(len(told), detail.failures), 1)
    pen = Pen(detail.pieces, max(200, min(6000, share)), plots.anchors(cells, detail))
    bad = sorted((cell for cell in cells if cell.verdict in _BAD), key=_failed_first)
    loose = [cell for cell in cells if cell.verdict is Verdict.INCONCLUSIVE]
    yield "failures", f"Failures ({len(bad):,})", _told(bad, pen, detail.failures)
    yield "inconclusive", f"Inconclusive ({len(loose):,})", _told(loose, pen, detail.failures)
    yield "benchmarks", "Benchmarks", speeds(report.benchmarks)
    yield "statements", "The textbook's statements", statements(cells)
    yield "coverage", "Coverage", _coverage(cells, detail)
    yield "statistics", "Statistical claims", tables.statistical(cells, detail.rows)
    yield "figures", "Figures", plots.gallery(cells, detail)
    yield "trials", "Trials", _trials(cells, replace(pen, brief=detail.brief))
    yield "claims", "Claims", tables.claims(cells)
    yield "slowest", "Slowest trials", tables.slowest(cells)
    yield "not-run", "Not run", tables.not_run(report)
    yield "environment", "Environment", tables.environment(report.meta) if report.meta else None


def _failed_first(cell: Cell) -> bool:
    return cell.verdict is not Verdict.FAILED


def _told(cells: Sequence[Cell], pen: Pen, in_full: int) -> Child:
    if not cells:
        return None
    brief, told = replace(pen, brief=True), [cell for cell in cells if cell.anchor]
    left = len(cells) - len(told)
    return [
        [
            trial(cell, pen if k < in_full else brief, opened=k < _OPEN)
            for k, cell in enumerate(told)
        ],
        tag("p", f"{left:,} more are in the record.", class_="quiet") if left else None,
    ]


def _coverage(cells: Sequence[Cell], detail: Detail) -> Child:
    if not cells:
        return None
    outcomes = [each for cell in cells for each in cell.outcomes]
    text = (
        "A cell merges the devices, dtypes and arguments of one check of one subject and shows the "
        "gravest verdict. Its number is the error as a part of the allowed bound (0 is exact, "
        "above 1 fails), or how many trials differ. An empty cell: the check does not apply."
    )
    return [
        tag("p", text, class_="quiet"),
        legend(),
        tag("details", tag("summary", "By device"), tables.devices(outcomes), class_="data"),
        coverage(cells, detail.cells, tables.claimed(cells)),
    ]


def _trials(cells: Sequence[Cell], pen: Pen) -> Child:
    """Every trial that is not told above, by subject."""
    subjects: dict[tuple[str, str], list[Cell]] = {}
    told = [cell for cell in cells if cell.anchor]
    for cell in told:
        subjects.setdefault((cell.suite, cell.subject), []).append(cell)
    if not subjects:
        return None
    note = "Told briefly, since the run is long; its record (run.jsonl) holds the rest."
    left = len(cells) - len(told)
    return [
        tag("p", note, class_="quiet") if pen.brief else None,
        tag("p", f"{left:,} more are in the record alone.", class_="quiet") if left else None,
        [_subject(found, pen) for found in subjects.values()],
    ]


def _subject(cells: Sequence[Cell], pen: Pen) -> Markup:
    first = cells[0].outcomes[0]
    gravest = {verdict: sum(cell.verdict is verdict for cell in cells) for verdict in WORDS}
    counts = [
        tag("span", verdict_mark(verdict), f" {count}", class_="count")
        for verdict, count in gravest.items()
        if count
    ]
    return tag(
        "details",
        tag(
            "summary", tag("span", first.subject, class_="check"), tag("code", first.target), counts
        ),
        _lines(cells, pen),
        class_="subjects",
    )


def _lines(cells: Sequence[Cell], pen: Pen) -> Iterator[Markup]:
    """A disclosure or, where the trial is told above, a link to it."""
    above = [cell for cell in cells if cell.verdict in (*_BAD, Verdict.INCONCLUSIVE)]
    if pen.brief and above:
        yield tag("p", f"{counted(len(above), 'check')} told above", class_="above quiet")
    for cell in cells:
        if cell not in above:
            yield trial(cell, pen, subject=False)
        elif not pen.brief:
            yield tag("p", verdict_mark(cell.verdict), " ", tables.link(cell), class_="above")


def render_fragment(report: Report, limit: int = 200) -> str:
    """The report inside a notebook: what failed in full, the rest in a line each."""
    report = capped_report(report)
    failures = [tag("pre", describe(outcome)) for outcome in report.failures[:20]]
    rows: list[list[Child]] = [
        [[verdict_mark(each.verdict), " ", each.check], each.subject, each.point, told(each)]
        for each in report.outcomes[:limit]
    ]
    left = len(report.outcomes) - len(rows)
    listing = tag(
        "details",
        tag("summary", counted(len(report.outcomes), "trial")),
        tables.table(("check", "subject", "point", "measured"), rows),
        f"and {left:,} more" if left else None,
    )
    head = tag("p", tag("b", report.headline), f": {report.verdict_line}")
    return notebook([head, failures, listing])
