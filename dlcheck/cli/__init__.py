"""The command line: one file per verb, imported when the verb is used.

`dlcheck --help` loads nothing but this file. Exit codes are pytest's 0 to 5, 6 where nothing failed
but benchmarks got slower, and 7 where nothing failed but something could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

FAILED = 1
USAGE_ERROR = 4
ONLY_REGRESSIONS = 6
COULD_NOT_MEASURE = 7

# verb → (module, what it does)
VERBS = {
    "run": ("run", "run suites (the shipped ones by default) and write a report"),
    "validate": ("validate", "check one implementation: a function, layer, loss, metric, …"),
    "gradient": (
        "gradient",
        "check one gradient against differences; --self-test says what would be found",
    ),
    "bench": ("bench", "time one implementation against another, or alone"),
    "batch-size": ("batch_size", "which batch size to train with, and why, measured"),
    "metric": ("metric", "FID, KID, IS, LPIPS, SSIM, … of folders of images or files of features"),
    "compare": ("compare", "what changed between two recorded runs: verdicts and times"),
    "merge": ("merge", "put the records of shards (dlcheck run --shard k/N) together"),
    "replay": ("replay", "run a failure again, its case alone; list what failed"),
    "baseline": ("baseline", "give a recorded run a name to compare with"),
    "list": ("listing", "list checks, kinds, traits, options, references, suites, elements"),
    "explain": ("explain", "a check, kind, trait or reference in full"),
    "new": ("new", "print a suite to fill in, for a kind"),
    "report": ("report", "render a recorded run, or what changed between two, as pages"),
    "doctor": ("doctor", "what this machine, installation and configuration are"),
}

_HELP = """usage: dlcheck VERB …

Is my deep-learning code right, and is it fast?

{verbs}

dlcheck VERB --help says more. First steps:
  dlcheck run --profile quick                                 the shipped suites
  dlcheck validate torch.nn:GELU --kind activation            one implementation
  dlcheck gradient torch:tanh --inputs 'x=float b n'           one gradient
  dlcheck bench mypkg.ops:gelu --against torch.nn.functional:gelu --input 'x=float n'  a speed
  dlcheck batch-size mypkg.train:setup                        time, memory, steps against the batch
  dlcheck metric fid real/ generated/ --weights FILE          two folders of images
  dlcheck new loss --target mypkg.losses:FocalLoss            a suite of your own
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes end with pytest's code for a usage error."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\nSee: {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        width = max(map(len, VERBS))
        verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
        print(_HELP.format(verbs=verbs))
        return 0 if given else USAGE_ERROR
    if given[0] in ("-V", "--version"):
        from dlcheck import __version__

        print(f"dlcheck {__version__}")
        return 0
    if given[0] not in VERBS:
        from dlcheck.errors import unknown

        print(f"dlcheck: {unknown('verb', given[0], VERBS, see='dlcheck --help')}", file=sys.stderr)
        return USAGE_ERROR
    return _run_verb(given[0], given[1:])


def _run_verb(verb: str, arguments: list[str]) -> int:
    from dlcheck.errors import UsageError

    module = importlib.import_module(f"dlcheck.cli.{VERBS[verb][0]}")
    try:
        return int(module.main(arguments))
    except UsageError as error:
        print(f"dlcheck {verb}: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, as in `dlcheck list checks | head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that is too long, not permitted, on a full disk
        if error.filename is None:
            raise
        name = str(error.filename)
        shown = name if len(name) <= 200 else f"{name[:200]}…"
        print(f"dlcheck {verb}: {shown!r} cannot be used: {error.strerror}", file=sys.stderr)
        return USAGE_ERROR


def parse_value(text: str) -> object:
    """A value as TOML would read it: 0.1, true, [1, 2], { dim = "d" }; else the text itself."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_pairs(option: str, given: Sequence[str]) -> dict[str, object]:
    """`["p=0.1", "bias=false"]` → {"p": 0.1, "bias": False}. Raises UsageError."""
    from dlcheck.errors import UsageError

    found: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{option} takes NAME=VALUE, not {text!r}")
        found[name.strip()] = parse_value(value.strip())
    return found
