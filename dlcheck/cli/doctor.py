"""`dlcheck doctor`: environment, devices, determinism, configuration, and what is not right."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dlcheck.cli import Parser
from dlcheck.cli.listing import entries
from dlcheck.errors import PluginWarning

_OPTIONAL = {"pytest-xdist": "-n 2", "jaxtyping": "inputs read from annotations"}


def main(arguments: Sequence[str]) -> int:
    """Print the diagnosis; returns 1 where something is broken."""
    parser = Parser(
        prog="dlcheck doctor", description="Say what this machine and installation are."
    )
    told = "time an operation against itself: how often is a difference seen? Takes three seconds"
    parser.add_argument("--timing", action="store_true", help=told)
    given = parser.parse_args(arguments)
    import torch  # so that the environment holds the devices

    from dlcheck.results import environment

    _print("Environment", _flat(environment()))
    _print("Devices", dict(_devices(torch)))
    _print("Configuration", dict(_configuration()))
    _print("Optional packages", dict(_optional()))
    _print("Plugins", dict(_plugins()) or {"none": "no installed package extends dlcheck"})
    _print("Kept here", dict(_kept(Path.cwd())))
    problems = list(_problems())
    if given.timing:
        _print("Timing", dict(_timing(torch)))
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


def _plugins() -> Iterator[tuple[str, str]]:
    """Whose code may run beside ours: what extends dlcheck, and what it adds."""
    from dlcheck.errors import UsageError
    from dlcheck.registry import catalogue

    try:
        with warnings.catch_warnings(action="ignore", category=PluginWarning):
            found = catalogue().plugins
    except UsageError:
        return  # told among the problems
    for each in found:
        parts = {"kinds": each.kinds, "checks": each.checks, "references": each.references}
        said = "; ".join(f"{name}: {', '.join(names)}" for name, names in parts.items() if names)
        told = f"left out: {each.problem}" if each.problem else said or "adds nothing"
        yield f"{each.name} {each.version}".strip(), told


def _kept(folder: Path) -> Iterator[tuple[str, str]]:
    """What lies in `.dlcheck` beside the project, and how to use it."""
    home = folder / ".dlcheck"
    for name, pattern, use in (
        ("runs", "*.jsonl", "dlcheck report, dlcheck compare, --resume"),
        ("failures", "*.json", "dlcheck replay"),
        ("baselines", "*", "dlcheck compare, --against"),
    ):
        files = [path for path in (home / name).glob(pattern) if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 2**20
        yield name, f"{len(files):,} ({size:.1f} MiB) for {use}"


def _problems() -> Iterator[str]:
    from dlcheck.errors import UsageError
    from dlcheck.registry import catalogue
    from dlcheck.shipped import suite_paths
    from dlcheck.suite import read_suite

    try:
        with warnings.catch_warnings(action="ignore", category=PluginWarning):
            yield from (
                f"{each.name} {each.version}: {each.problem}"
                for each in catalogue().plugins
                if each.problem
            )
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


def _timing(torch: Any) -> Iterator[tuple[str, str]]:
    """One operation timed against itself: how often would this machine cry wolf?"""
    from dlcheck.measure.self_test import self_test

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = self_test(device)
    said = ", ".join(f"{count} × {speed.value}" for speed, count in found.verdicts.items())
    yield "A against A", f"{said}: a softmax on {device} in {len(found.ratios)} comparisons"
    yield (
        "false alarms",
        (
            f"{found.false_alarms} of {len(found.ratios)}: "
            f"at most {100 * found.most_false_alarms:.0f} % with 95 %"
        ),
    )
    spread = f"{100 * found.spread:.1f} % within a pair (medians)"
    yield "noise", f"± {100 * found.noise:.1f} % of a ratio, {spread}"
    yield "resolution", f"{100 * found.resolution:.1f} % slower is seen in half of the comparisons"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    yield "load", f"{load:.1f} on {os.cpu_count()} cores"
