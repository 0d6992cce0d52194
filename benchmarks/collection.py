"""How long collecting 1,000 trials takes beside 1,000 plain tests, and how fast --help answers.

    python benchmarks/collection.py

Ratios are medians over paired runs in one session, since machines are noisy. The claims:
collecting costs at most twice as much as plain tests; `dlcheck --help` takes less than 0.15 s.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 9
SUBJECT = """
[[subject]]
name = "l{i}"
target = "dlcheck.references.penalties.l1:l1_penalty"
matrix = {{ device = ["cpu", "cuda"], strength = [0.1, 0.2, 0.3, 0.4, 0.5] }}
checks = ["leaves_inputs_unchanged"]
"""


def seconds(*command: str, folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def collect(file: str, folder: Path) -> float:
    return seconds(sys.executable, "-m", "pytest", "--collect-only", "-q", file, folder=folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = 'suite = "Thousand"\n' + "".join(SUBJECT.format(i=i) for i in range(100))
        (folder / "thousand.toml").write_text(suite)
        tests = "".join(f"def test_{i}(): pass\n" for i in range(1000))
        (folder / "test_thousand.py").write_text(tests)
        pairs = [
            (collect("thousand.toml", folder), collect("test_thousand.py", folder))
            for _ in range(ROUNDS)
        ]
        program = str(Path(sys.executable).parent / "dlcheck")
        helps = [seconds(program, "--help", folder=folder) for _ in range(ROUNDS)]
    ratios = sorted(suite / plain for suite, plain in pairs)
    print(f"1,000 trials  {statistics.median(a for a, _ in pairs):.2f} s")
    print(f"1,000 tests   {statistics.median(b for _, b in pairs):.2f} s")
    print(f"ratio         {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"--help        {statistics.median(helps):.3f} s")


if __name__ == "__main__":
    main()
