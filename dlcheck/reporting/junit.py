"""What changed between two runs, as JUnit XML: what broke and what got slower are failures.

Follows xunit2, as pytest writes it; pytest itself writes that of a single run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as xml

from dlcheck.reporting.capped import capped
from dlcheck.reporting.changes import Change, Changes, Turn
from dlcheck.reporting.markup import clean
from dlcheck.reporting.terminal import describe, told
from dlcheck.trends import Timed

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(found: Changes, file: Path) -> None:
    """Write one suite with an item for each trial and each benchmark of the later run."""
    items = [*map(_trial, _of_later(found)), *map(_benchmark, _benchmarks(found))]
    counts = {
        "tests": len(items),
        "failures": sum(item.find("failure") is not None for item in items),
        "skipped": sum(item.find("skipped") is not None for item in items),
        "errors": 0,
    }
    suite = xml.Element(
        "testsuite", {"name": "dlcheck compare"} | {k: str(n) for k, n in counts.items()}
    )
    suite.extend(items)
    root = xml.Element("testsuites")
    root.append(suite)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(xml.tostring(root, encoding="utf-8", xml_declaration=True))


def _of_later(found: Changes) -> Iterator[Change]:
    return (each for each in found.trials if each.after is not None)


def _benchmarks(found: Changes) -> Iterator[Timed]:
    return (each for each in found.benchmarks if each.afters)


def _trial(change: Change) -> xml.Element:
    outcome = capped(change.named)
    place = f"{outcome.suite}.{outcome.subject}"
    item = _item(place, f"{outcome.check}[{outcome.point}]", outcome.seconds)
    if change.turn.is_bad:
        before = change.before.verdict.value if change.before else "absent"
        _add(item, "failure", f"{change.turn.value}: was {before}", describe(outcome))
    elif change.turn in (Turn.UNSETTLED, Turn.NOT_RUN):
        _add(item, "skipped", change.turn.value, told(outcome))
    return item


def _benchmark(each: Timed) -> xml.Element:
    named = each.named
    item = _item(f"{named.suite}.benchmarks", f"{named.name}[{named.point}]", named.took)
    if each.newly_wrong:
        _add(item, "failure", "the subject is wrong", each.told)
    elif each.is_regression:
        _add(item, "failure", f"regression: {each.told}", f"again: {named.reproduce}")
    elif each.is_unmeasured:
        _add(item, "skipped", each.trend.value, each.told)
    return item


def _item(place: str, name: str, seconds: float) -> xml.Element:
    told = {"classname": place, "name": name, "time": f"{seconds:.3f}"}
    return xml.Element("testcase", {key: _legal(value) for key, value in told.items()})


def _add(item: xml.Element, kind: str, message: str, text: str) -> None:
    made = xml.SubElement(item, kind, {"message": _legal(message)[:2000]})
    made.text = _legal(text)


def _legal(text: str) -> str:
    """Without what XML cannot hold, even escaped."""
    return _NOT_XML.sub("�", clean(text))
