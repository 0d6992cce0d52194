"""Outcomes to documents. Loads without torch, so a report needs no device to be rebuilt."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dlcheck.results import Run, record_lines

if TYPE_CHECKING:
    from dlcheck.reporting.changes import Changes


def write_reports(run: Run, folder: Path, *, with_record: bool = True) -> list[Path]:
    """Write index.html, summary.md and, unless told not to, run.jsonl; the paths written.

    Each file appears whole or not at all: a reader never sees half a report.
    """
    from dlcheck.reporting.html import render_html
    from dlcheck.reporting.markdown import render_markdown
    from dlcheck.reporting.report import Report

    report = Report.of(run)
    return _write_all(
        {
            "index.html": render_html(report),
            "summary.md": render_markdown(report),
            **({"run.jsonl": "".join(record_lines(run))} if with_record else {}),
        },
        folder,
    )


def write_changes(changes: Changes, folder: Path) -> list[Path]:
    """Write changes.html and changes.md into a folder; the paths written."""
    from dlcheck.reporting.changes_shown import markdown, page

    return _write_all({"changes.html": page(changes), "changes.md": markdown(changes)}, folder)


def _write_all(texts: Mapping[str, str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / name, text) for name, text in texts.items()]


def _write(path: Path, text: str) -> Path:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o644)  # mkstemp lets only its owner read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
