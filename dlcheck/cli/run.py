"""`dlcheck run`: pytest on suites, with a report."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dlcheck.errors import UsageError, unknown
from dlcheck.shipped import is_optional, suite_paths

_HELP = """usage: dlcheck run [SUITE | FILE | NODE]… [options of dlcheck] [options of pytest]

Runs suites through pytest: the shipped ones ({names}) where none is named,
but for those that are optional ({optional}).
Prints the equivalent pytest command, and writes a report.

  --profile quick|default|thorough   how much work
  --device cpu|cuda|cuda:1|auto      only this device (repeat for more)
  --dtype float64|float32|…          only this dtype
  --subject NAME=TARGET              run a suite's subject on another implementation
  --require cuda                     fail, rather than skip, where the device is absent
  --seed N|random                    root of all random streams
  --trial-timeout SECONDS            fail a trial that takes longer
  --trial-memory 4GiB|none           fail a trial that allocates more
  --resume [RUN]                     take over what the last run recorded, and do the rest
  --lock                             write suite.lock: what ran now must run from now on
  --plugin MODULE                    read the checks and references of this module too
  --processes N                      measure benchmarks in N fresh processes
  --against RUN                      fail benchmarks that are slower than in a recorded run
  --since COMMIT                     only benchmarks, by turns at a commit too: slower since?
  --shard k/N                        only the k-th of N parts; dlcheck merge puts them together
  --balance RUN                      cut the shards by the seconds of a recorded run
  --ray local|auto|HOST:PORT         run the trials as tasks of Ray, on many machines
  --ray-timeout SECONDS              give up when no node could run a trial for so long
  --report FOLDER                    where the report goes (default: reports)
  -n 2, -k EXPR, -m TAG, -x, --lf, … everything that pytest takes
"""

# Options of pytest, of its usual plugins and of ours whose value is the next word.
_VALUED = frozenset(
    [
        *("-k", "-m", "-p", "-n", "-o", "-c", "-W", "-r", "--durations", "--durations-min"),
        *("--junitxml", "--junit-xml", "--deselect", "--ignore", "--ignore-glob", "--tb"),
        *("--maxfail", "--rootdir", "--basetemp", "--confcutdir", "--color", "--capture"),
        *("--log-level", "--log-cli-level", "--import-mode", "--dist", "--maxprocesses"),
        *("--timeout", "--randomly-seed", "--verbosity", "--override-ini"),
        *("--hypothesis-profile", "--hypothesis-seed", "--hypothesis-verbosity"),
        *("--benchmark-json", "--benchmark-storage", "--benchmark-compare"),
        *(
            f"--{prefix}{name}"
            for name in (
                *("subject", "device", "dtype", "profile", "seed"),
                *("require", "trial-timeout", "trial-memory", "report"),
                *("against", "replicas", "processes", "since", "shard", "balance"),
                *("ray", "ray-timeout", "plugin"),
            )
            for prefix in ("", "dlcheck-")
        ),
    ]
)


# No header; no word about dlcheck being imported before pytest could rewrite its assertions.
_QUIET = ("--no-header", "-rfE", "-W", "ignore:Module already imported:pytest.PytestWarning")


def main(arguments: Sequence[str]) -> int:
    """Build pytest's command line and run it; returns pytest's exit code."""
    if any(word in ("-h", "--help") for word in arguments):
        print(_help())
        return 0
    from dlcheck.arguments import without
    from dlcheck.cli.repeated import (
        OPTIONS,
        PROCESSES,
        number_of_processes,
        replicas,
        run_since,
        value_of,
    )

    if value_of("--ray", arguments) is not None:
        for option in OPTIONS:
            if value_of(option, arguments) is not None:
                raise UsageError(f"--ray does not go with {option}, which needs one machine")
    if (since := value_of("--since", arguments)) is not None:
        return run_since(arguments, number_of_processes(arguments, PROCESSES), since)
    with replicas(arguments, number_of_processes(arguments, 1)) as record:
        words = without(arguments, OPTIONS)
        return _pytest([*words, f"--replicas={record}"] if record else words)


def _pytest(arguments: Sequence[str]) -> int:
    command = pytest_arguments(arguments)
    print(shlex.join(["pytest", *command]), flush=True)
    import pytest

    return int(pytest.main(command))


def _help() -> str:
    names: dict[bool, list[str]] = {False: [], True: []}
    for name, path in suite_paths().items():
        names[is_optional(path)].append(name)
    return _HELP.format(names=", ".join(names[False]), optional=", ".join(names[True]) or "none")


def pytest_arguments(arguments: Sequence[str]) -> list[str]:
    """dlcheck's arguments as pytest's. Raises UsageError for a suite that does not exist."""
    arguments = _with_run_to_resume(arguments)
    shipped = suite_paths()
    words, chosen = [], 0
    for position, word in enumerate(arguments):
        is_value = position > 0 and arguments[position - 1] in _VALUED
        if word.startswith("-") or is_value:
            words.append(word)
            continue
        words.append(_place_of(word, shipped))
        chosen += 1
    if not chosen:
        if not shipped:
            raise UsageError("no suites are installed; name a suite file")
        words += [_shown(path) for path in shipped.values() if not is_optional(path)]
    return [*_insulation(words), *_report(arguments), *_QUIET, *words]


def _with_run_to_resume(arguments: Sequence[str]) -> list[str]:
    """`--resume` goes on with the last run, unless the word after it names another."""
    from dlcheck.history import find_run

    words, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--resume":
            name = "latest"
            with contextlib.suppress(UsageError, IndexError, OSError):
                find_run(rest[0], Path.cwd())
                name = rest.pop(0)
            word = f"--resume={name}"
        words.append(word)
    return words


def _place_of(word: str, shipped: dict[str, Path]) -> str:
    """A suite's name, a file, a folder or a node id as pytest names it."""
    name, colons, inside = word.partition("::")
    if Path(name).exists():
        return word
    if name in shipped:
        return _shown(shipped[name]) + colons + inside
    raise UsageError(
        f"there is no suite or file {name!r}. {unknown('suite', name, shipped)} "
        "See: dlcheck list suites"
    )


def _shown(path: Path) -> str:
    """The path as a person would type it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _report(arguments: Sequence[str]) -> list[str]:
    """A report in reports/ unless the person says where, or only collects."""
    from dlcheck.cli.repeated import value_of
    from dlcheck.settings import read_settings

    given = {word.partition("=")[0] for word in arguments}
    if given & {"--collect-only", "--co", "--fixtures", "--markers"}:
        return []
    named = value_of("--report", arguments) or value_of("--dlcheck-report", arguments)
    folder = named or read_settings({}, Path.cwd())["report"].value or "reports"
    added = []
    if not named:
        added += ["--report", folder]
    if not given & {"--junitxml", "--junit-xml"}:
        added += ["--junitxml", f"{folder}/junit.xml", "-o", "junit_family=xunit2"]
    if added and not _writable(Path(folder)):
        print(
            f"dlcheck run: {folder} cannot be written to: nothing will be written there; name "
            "other places with --report FOLDER --junitxml FILE",
            file=sys.stderr,
        )
        return []
    return added


def _writable(folder: Path) -> bool:
    """May files be made in a folder, which may not be there yet?"""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def _insulation(words: Sequence[str]) -> list[str]:
    """Suites installed in site-packages must not pick up the configuration of a project around
    the virtual environment, nor write a cache beside the code."""
    installed = [
        path for word in words if (path := Path(word.partition("::")[0])).parent.name == "_suites"
    ]
    others = [word for word in words if word.partition("::")[0].endswith((".py", ".toml"))]
    if not installed or len(others) != len(installed):
        return []
    folder = installed[0].parent
    return ["-c", str(folder.parent / "shipped.ini"), f"--rootdir={folder}",
            "-o", f"cache_dir={Path.cwd() / '.dlcheck' / 'pytest'}"]  # fmt: skip
