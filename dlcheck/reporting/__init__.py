"""Outcomes to documents. Loads without torch, so a report needs no device to be rebuilt."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from dlcheck.results import SCHEMA, Run, encode, plain


def write_reports(run: Run, folder: Path) -> list[Path]:
    """Write index.html, summary.md and run.jsonl into a folder; the paths written.

    Each file appears whole or not at all: a reader never sees half a report.
    """
    from dlcheck.reporting.html import render_html
    from dlcheck.reporting.markdown import render_markdown
    from dlcheck.reporting.report import Report

    report = Report(run.outcomes, run.meta)
    texts = {
        "index.html": render_html(report),
        "summary.md": render_markdown(report),
        "run.jsonl": _record(run),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / name, text) for name, text in texts.items()]


def _record(run: Run) -> str:
    lines = [{"schema": SCHEMA, "meta": plain(run.meta)}, *map(encode, run.outcomes)]
    return "".join(
        json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n" for line in lines
    )


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
