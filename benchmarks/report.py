"""How large a report is, how fast it is rendered and painted, and what axe-core finds in it.

    python benchmarks/report.py [RECORD] [--trials 1000] [--axe axe.min.js] [--output report.md]

Without a record it makes one of so many trials, as full as those of real suites. The claims, for
1,000 trials: at most 1 MB of HTML, rendered in at most 2 s without importing torch, painted by
headless Chromium in at most 1 s; no violation found by axe-core (`npm pack axe-core`), in light
and in dark; a record of 100,000 lines is read and rendered, its page bounded.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from markdown import Table, circumstances
from outcomes import rich

from dlcheck.model import Verdict
from dlcheck.results import RunWriter

ROUNDS = 5
_CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1280,2000",
)
_RENDER = """
import json, resource, sys, time
from pathlib import Path
started = time.perf_counter()
from dlcheck.reporting.html import render_html
from dlcheck.results import read_run
run = read_run(Path(sys.argv[1]))
read = time.perf_counter()
page = render_html(run)
done = time.perf_counter()
Path(sys.argv[2]).write_text(page, "utf-8")
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({
    "read": read - started, "render": done - read, "cpu": used.ru_utime + used.ru_stime,
    "memory": int(peak) * 1024, "trials": len(run.outcomes), "bytes": len(page.encode()),
    "script": len(page.partition("<script>")[2].partition("</script>")[0].encode()),
    "heavy": sorted({"torch", "numpy", "scipy", "pytest", "hypothesis"} & set(sys.modules)),
}))
"""
_PAINT = """<script>new PerformanceObserver((seen) => seen.getEntries().forEach((each) =>
  console.log(`measured ${each.name} ${each.startTime} measured`)))
  .observe({ type: "paint", buffered: true });</script>"""
_AXE = """<script>addEventListener("load", async () => {
  document.querySelectorAll("details").forEach((each, k) => { if (k % 7 === 0) each.open = true; });
  const found = await axe.run(document, { resultTypes: ["violations"] });
  const note = document.createElement("pre");
  note.id = "measured";
  note.textContent = JSON.stringify({ rules: found.passes.length + found.violations.length,
    violations: found.violations.map((each) => `${each.id} (${each.nodes.length})`) });
  document.body.append(note);
});</script>"""


def made(trials: int, path: Path) -> Path:
    """A record of trials as full as those of real suites, one in forty failing."""
    path.unlink(missing_ok=True)
    with RunWriter(path, {"command": "pytest suites", "seed": 0}) as writer:
        for k in range(trials):
            writer.append(rich(k, Verdict.FAILED if k % 40 == 0 else Verdict.PASSED))
    return path


def rendered(record: Path, page: Path) -> dict[str, object]:
    """Times and sizes, in a process of its own."""
    command = [sys.executable, "-c", _RENDER, str(record), str(page)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def in_browser(page: Path, script: str, *flags: str) -> tuple[str, str]:
    """The page's markup and its console, after a script ran in a copy; empty without a browser."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return "", ""
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(text.replace("</body>", f"{script}</body>"), "utf-8")
        command = [program, *_CHROMIUM, f"--user-data-dir={folder}/profile", *flags, copy.as_uri()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180,
                              check=False)  # fmt: skip
    return done.stdout, done.stderr


def painted(page: Path) -> list[float]:
    """Milliseconds from navigation to the first contentful paint, in several browsers."""
    consoles = [in_browser(page, _PAINT, "--enable-logging=stderr", "--screenshot")[1]
                for _ in range(ROUNDS)]  # fmt: skip
    told = re.compile(r"measured first-contentful-paint ([\d.]+) measured")
    return [float(seen[1]) for console in consoles if (seen := told.search(console))]


def violations(page: Path, axe: Path) -> str:
    """What axe-core finds, every seventh disclosure being open."""
    script = f"<script>{axe.read_text('utf-8')}</script>{_AXE}"
    text, _ = in_browser(page, script, "--virtual-time-budget=100000", "--dump-dom")
    found = re.findall(r'<pre id="measured">(.*?)</pre>', text, re.DOTALL)
    if not found:
        return "no answer"
    seen = json.loads(html.unescape(found[-1]))
    return f"{len(seen['violations'])} of {seen['rules']} rules {' '.join(seen['violations'])}"


def dark(page: Path) -> Path:
    """A copy in the colours of the dark scheme."""
    copy = page.with_name("dark.html")
    text = page.read_text("utf-8").replace("@media (prefers-color-scheme: dark)", "@media all")
    copy.write_text(text.replace("color-scheme: light dark", "color-scheme: dark"), "utf-8")
    return copy


def measured(record: Path, axe: Path | None, folder: Path) -> Table:
    page = folder / "page.html"
    runs = [rendered(record, page) for _ in range(ROUNDS)]
    last, paints = runs[-1], painted(page)
    short = int(str(last["trials"])) <= 1000
    rows: list[list[object]] = [
        ["trials", last["trials"], ""],
        ["HTML, bytes", last["bytes"], "≤ 1,000,000" if short else ""],
        ["script, bytes", last["script"], "< 5,000"],
        ["reading, s", _median(runs, "read"), ""],
        ["rendering, s", _median(runs, "render"), "≤ 2" if short else ""],
        ["both, processor s", _median(runs, "cpu"), ""],
        ["memory, bytes", last["memory"], ""],
        ["of torch, numpy, scipy, pytest, hypothesis", str(last["heavy"] or "none"), "none"],
        ["first contentful paint, ms", statistics.median(paints) if paints else "no browser",
         "≤ 1,000"],
    ]  # fmt: skip
    schemes = (("light", page), ("dark", dark(page))) if axe else ()
    for name, seen in schemes:
        rows.append([f"violations by axe-core, {name}", violations(seen, axe), "0"])
    return Table(title=record.name, columns=("", "measured", "claim"), rows=rows)


def _median(runs: list[dict[str, object]], name: str) -> float:
    return statistics.median(float(str(each[name])) for each in runs)


def long_run(lines: int, folder: Path) -> Table:
    started = time.perf_counter()
    record = made(lines, folder / "long.jsonl")
    wrote = time.perf_counter() - started
    found = rendered(record, folder / "long.html")
    rows = [
        ["record, bytes", record.stat().st_size],
        ["writing it line by line, s", wrote],
        *([f"{name}, s", found[name]] for name in ("read", "render", "cpu")),
        ["HTML, bytes", found["bytes"]],
        ["memory, bytes", found["memory"]],
    ]
    return Table(title=f"A record of {lines:,} lines", columns=("", "measured"), rows=rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Sizes and times of reports.")
    parser.add_argument("record", nargs="?", type=Path)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=100_000, help="of the long record; 0: none")
    parser.add_argument("--axe", type=Path, help="axe.min.js")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = [made(given.trials, folder / f"{given.trials} made trials")]
        records += [given.record] if given.record else []
        tables = [measured(record, given.axe, folder) for record in records]
        tables += [long_run(given.lines, folder)] if given.lines else []
    said = f"# Reports: size, time, paint, accessibility\n\n{circumstances(torch.device('cpu'))}\n"
    text = "\n".join([said, *map(str, tables)])
    print(text)
    if given.output:
        given.output.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
