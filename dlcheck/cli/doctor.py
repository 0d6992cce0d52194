"""`dlcheck doctor`: environment, devices, determinism, configuration, and what is not right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dlcheck.cli import Parser
from dlcheck.cli.listing import entries

_COMPARISONS = 10
_OPTIONAL = {"pytest-xdist": "-n 2", "jaxtyping": "inputs read from annotations"}


def main(arguments: Sequence[str]) -> int:
    """Print the diagnosis; returns 1 where something is broken."""
    parser = Parser(
        prog="dlcheck doctor", description="Say what this machine and installation are."
    )
    parser.add_argument("--no-timing", action="store_true", help="leave out the timing self-test")
    given = parser.parse_args(arguments)
    import torch  # so that the environment holds the devices

    from dlcheck.results import environment

    _print("Environment", _flat(environment()))
    _print("Devices", dict(_devices(torch)))
    _print("Configuration", dict(_configuration()))
    _print("Optional packages", dict(_optional()))
    problems = list(_problems())
    if not given.no_timing:
        print("\nTiming self-test (takes up to half a minute)", flush=True)
        for line in entries(dict(_timing())):
            print(line)
    print("\n".join(["", "Problems", *(f"  ! {text}" for text in problems or [])])
          if problems else "\nNo problems found.")  # fmt: skip
    return 1 if problems else 0


def _print(title: str, named: dict[str, str]) -> None:
    print(f"\n{title}")
    for line in entries(named):
        print(line)


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key} ")
        elif isinstance(value, (list, tuple)):
            flat |= _flat({str(i): part for i, part in enumerate(value)}, f"{prefix}{key} ")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _devices(torch: Any) -> Iterator[tuple[str, str]]:
    yield "cpu", f"{torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            yield f"cuda:{index}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB"
    else:
        yield "cuda", "absent: trials on it are skipped (--require cuda makes that a failure)"
    if torch.backends.mps.is_available():
        yield "mps", "present"


def _configuration() -> Iterator[tuple[str, str]]:
    from dlcheck.settings import read_settings
    from dlcheck.shipped import suite_paths

    for name, setting in read_settings({}, Path.cwd()).items():
        if setting.value in ((), "", None):
            yield name, "not set"
        else:
            yield name, f"{setting.value} (from {setting.source})"
    yield "suites", ", ".join(f"{name} ({path})" for name, path in suite_paths().items()) or "none"


def _optional() -> Iterator[tuple[str, str]]:
    for package, use in _OPTIONAL.items():
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, f"not installed; for {use}: pip install {package}"


def _problems() -> Iterator[str]:
    from dlcheck.errors import UsageError
    from dlcheck.registry import catalogue
    from dlcheck.shipped import suite_paths
    from dlcheck.suite import read_suite

    try:
        catalogue()
        paths = suite_paths()
    except UsageError as error:
        yield str(error)
        return
    if not paths:
        yield "no suites are installed"
    for path in paths.values():
        try:
            read_suite(path)
        except UsageError as error:
            yield str(error)


def _timing() -> Iterator[tuple[str, str]]:
    """One implementation timed against itself: how often would this machine cry wolf?"""
    import torch

    from dlcheck.measure.clocks import Clock
    from dlcheck.measure.pairs import compare_times

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.randn(256, 256, device=device)
    verdicts = [
        compare_times(torch.matmul, torch.matmul, Clock(device), buffers=[(x, x)], seed=seed)
        .verdict.value
        for seed in range(_COMPARISONS)
    ]  # fmt: skip
    counts = {verdict: verdicts.count(verdict) for verdict in dict.fromkeys(verdicts)}
    alarms = sum(counts.get(verdict, 0) for verdict in ("faster", "slower"))
    yield "A against A", ", ".join(f"{count} × {verdict}" for verdict, count in counts.items())
    yield "false alarms", f"{alarms} of {len(verdicts)}"
