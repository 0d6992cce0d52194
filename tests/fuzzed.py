"""Broken suite files and command lines by the thousand, from a seed, and what must be said of each.

The options of the command line are read from its parsers, so that a new one is covered at once.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import math
import os
import random
import re
import signal
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from dlcheck import cli
from dlcheck.errors import SuiteError
from dlcheck.expansion import expand, expand_benchmarks
from dlcheck.suite import read_suite

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [*sorted((ROOT / "suites").glob("*.toml")), *sorted((ROOT / "examples").glob("*.toml"))]
CODES = {0, 1, 2, 3, 4, 5, 6, 7}
LONGEST = 400  # characters of one line of a message; what is quoted of the input is cut

_ODD_NUMBERS = [0, -1, 1, 2**70, -(10**40), 0.0, -0.0, 1e308, math.inf, -math.inf, math.nan]
_ODD_TEXTS = [
    "",
    " ",
    "*",
    "[",
    "x" * 5000,
    "café",
    "🦉",
    "\u202e",
    "\x00",
    "a\nb",
    "'",
    '"',
    "\\",
    "~",
]
_NEAR_TEXTS = ["float b n", "float b *", "int[5:1] b", "label[] b", "float " + "b " * 200,
               "cuda:99", "float65", "torch:relu", "torch", ":", "a:b:c",
               "os:system", "nopkg.mod:f", "x.py:y", "torch.nn:GELU", "../.."]  # fmt: skip
_ODD_FORMS = [[], [[]], [1, "a"], {}, {"a": {}}, {"dim": "q"}, {"": 1}, [{}], ["cpu", 3]]
_DAY = datetime.datetime(2026, 11, 29, 1)
JUNK: tuple[Any, ...] = (None, True, False, *_ODD_NUMBERS, *_ODD_TEXTS, *_NEAR_TEXTS, *_ODD_FORMS,
                         _DAY, _DAY.date(), _DAY.time())  # fmt: skip


# --- suite files ------------------------------------------------------------------------------


def small_suites() -> list[dict[str, Any]]:
    """Every subject and benchmark of the shipped suites and examples as a suite of its own."""
    found = []
    for path in SOURCES:
        data = tomllib.loads(path.read_text("utf-8"))
        head = {key: value for key, value in data.items() if not isinstance(value, list)}
        for name in ("subject", "benchmark"):
            for table in data.get(name, ()):
                of_one = [s for s in data.get("subject", ()) if s["name"] == table.get("subject")]
                found.append({**head, **({"subject": of_one} if of_one else {}), name: [table]})
    return found


def suite_bytes(rng: random.Random, suites: Sequence[Mapping[str, Any]]) -> bytes:
    """One suite file, damaged in one to four places: in its values, or in its bytes."""
    data = _copied(rng.choice(suites))
    if rng.random() < 0.7:
        for _ in range(rng.randint(1, 4)):
            _damage(data, rng)
    text = "".join(toml_lines(data))
    made = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.45:
        for _ in range(rng.randint(1, 4)):
            made = _damaged_bytes(made, rng)
    return made


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(parts):
        yield value, key
        if isinstance(part, (dict, list)):
            yield from _places(part)


def _damage(data: dict[str, Any], rng: random.Random) -> None:
    places = list(_places(data))
    if not places:
        return
    container, key = rng.choice(places)
    match rng.randrange(7):
        case 0 | 1:
            container[key] = _junk(rng)
        case 2:
            del container[key]
        case 3 if isinstance(container, dict):
            container[_misspelt(str(key), rng)] = container.pop(key)
        case 4:
            container[key] = _other_form(container[key], rng)
        case 5 if isinstance(container, dict):
            other, there = rng.choice(places)
            with contextlib.suppress(LookupError):
                container[rng.choice(["x", str(there), "matrix", "when"])] = _copied(other[there])
        case _:
            container[key] = _deep(container[key], rng.choice([2, 30, 120]))


def _junk(rng: random.Random) -> Any:
    return _copied(rng.choice(JUNK))


def _misspelt(name: str, rng: random.Random) -> str:
    at = rng.randrange(len(name) + 1)
    return name[:at] + rng.choice(["", "x", " ", "é", "-", "."]) + name[at + rng.randint(0, 1) :]


def _other_form(value: Any, rng: random.Random) -> Any:
    forms: list[Callable[[], Any]] = [
        lambda: [value],
        lambda: {"value": value},
        lambda: str(value),
        lambda: [value, value],
        lambda: value[0] if isinstance(value, (list, str)) and value else value,
        lambda: value * 2 if isinstance(value, (list, str, int, float)) else value,
    ]
    return rng.choice(forms)()


def _deep(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _damaged_bytes(made: bytes, rng: random.Random) -> bytes:
    start, end = sorted((rng.randrange(len(made) + 1), rng.randrange(len(made) + 1)))
    end = min(end, start + rng.choice([1, 3, 40]))
    match rng.randrange(8):
        case 0:
            return made[:start] + made[end:]
        case 1:
            return made[:start] + rng.randbytes(rng.randint(1, 6)) + made[end:]
        case 2:
            return made[:start]
        case 3:
            return made[:end] + made[start:]  # a part twice
        case 4:
            return b"\xef\xbb\xbf" + made
        case 5:
            return made.replace(b"\n", b"\r\n")
        case 6:
            return made[:start] + b'"' + made[start:]
        case _:
            return made[:start] + b"\n[[subject]]\n" + made[start:]


def toml_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Any data as TOML: lists of tables as [[tables]], all else inline."""
    tables = [k for k, v in data.items() if isinstance(v, list) and v and isinstance(v[0], dict)]
    for key, value in data.items():
        if key not in tables:
            yield f"{_key(key)} = {_toml(value)}\n"
    for key in tables:
        for table in data[key]:
            yield f"\n[[{_key(key)}]]\n"
            members = table.items() if isinstance(table, dict) else (("x", table),)
            yield from (f"{_key(name)} = {_toml(value)}\n" for name, value in members)


def _key(name: object) -> str:
    text = str(name)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _text(text)


def _text(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(
        escapes.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in text
    ) + '"'  # fmt: skip


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _text(value)
        case dict():
            return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case datetime.date() | datetime.time():
            return value.isoformat()
        case None:
            return "null"  # which TOML has not
    return repr(value)


@dataclass(frozen=True)
class Fault:
    """What went wrong with one input, and the input."""

    why: str
    given: str


def fault_of_suite(path: Path) -> Fault | None:
    """None where the file is read and expanded, or refused as it should be."""
    try:
        with _limit(10):
            suite = read_suite(path)
            for _ in zip(expand(suite), range(2000), strict=False):
                pass
            for _ in zip(expand_benchmarks(suite), range(2000), strict=False):
                pass
    except SuiteError as error:
        return _fault_of_message(str(error), path)
    except BaseException:
        return Fault(traceback.format_exc(limit=-4), path.read_bytes().decode("utf-8", "replace"))
    return None


def _fault_of_message(text: str, path: Path) -> Fault | None:
    given = path.read_bytes().decode("utf-8", "replace")
    for line in text.splitlines() or [""]:
        if not re.match(re.escape(str(path)) + r":\d+: \S", line):
            return Fault(f"no file and line before: {line[:200]!r}", given)
        if len(line) > LONGEST + len(str(path)):
            return Fault(f"a line of {len(line)} characters: {line[:200]!r}", given)
        if any(ord(c) < 32 for c in line):
            return Fault(f"control characters in: {line[:200]!r}", given)
    return None


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where something hangs."""

    def ring(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"hangs for {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# --- command lines ----------------------------------------------------------------------------

WORDS = (
    *("", " ", "-", "--", "---", "-x", "--nonsense", "-1", "0", "1", "3/2", "1e400", "nan", "inf"),
    *(
        "x=1",
        "=",
        "x=",
        "x=float b n",
        "x=float",
        "a=[1,",
        'a={ dim = "n" }',
        "*",
        "**/*",
        "?",
        "[",
    ),
    *("loss", "layer", "op", "metric", "fid", "ssim", "checks", "kinds", "latest", "HEAD", "main"),
    *("quick", "ci", "cpu", "cuda", "cuda:7", "float32", "float65", "torch:relu", "torch.nn:GELU"),
    *("mine.py:twice", "mine.py:absent", "mine.py", "absent.py:f", "torch", "nopkg:f", "bad.toml"),
    *("good.toml", "good.toml::g", "folder", "a.npy", "damaged.jsonl", "empty.jsonl", "run.jsonl"),
    *("/proc/self/mem", "/dev/null", "/nonexistent/x", "../x", "~/x", "café", "🦉", "a\nb"),
    *("x" * 3000, "\x1b[31m", "\udcff"),
)
FILES = {
    "mine.py": "import torch\ndef twice(x):\n    return 2 * x\n",
    "good.toml": 'suite = "G"\n[[subject]]\nname = "g"\ntarget = "torch.nn:GELU"\n'
    'kind = "activation"\nchecks = ["monotone*", "agrees*"]\n',
    "bad.toml": 'suite = "B"\n[[subject]]\nname = 3\n',
    "damaged.jsonl": '{"schema": 2, "meta": {}}\n{"verdict": "pass',
    "empty.jsonl": "",
    "run.jsonl": '{"schema": 2, "meta": {}}\n',
    "a.npy": "no array",
}


def options_of(verb: str) -> list[str]:
    """The options of a verb, as its parser or, where it has none, its help says."""
    made: list[Any] = []
    start = cli.Parser.__init__

    def noted(self: Any, *given: Any, **named: Any) -> None:
        start(self, *given, **named)
        made.append(self)

    cli.Parser.__init__ = noted  # type: ignore[method-assign]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
            cli.main([verb, "--help"])
    finally:
        cli.Parser.__init__ = start  # type: ignore[method-assign]
    if made:
        return [name for action in made[0]._actions for name in action.option_strings]
    return sorted(set(re.findall(r"(?<!\S)--[a-z][a-z-]+", said.getvalue())))


def command_line(rng: random.Random, options: Mapping[str, Sequence[str]]) -> list[str]:
    """A verb with options and words, most of which make no sense together."""
    verb = rng.choice([*options, *options, rng.choice(WORDS)])
    words = [verb]
    for _ in range(rng.randint(0, 2)):
        words.append(rng.choice(WORDS))
    for _ in range(rng.randint(0, 4)):
        option = rng.choice(options.get(verb) or ["--help"])
        option = _misspelt(option, rng) if rng.random() < 0.1 else option
        if rng.random() < 0.25:
            words.append(f"{option}={rng.choice(WORDS)}")
        else:
            words += [option, *([rng.choice(WORDS)] if rng.random() < 0.8 else [])]
    if rng.random() < 0.3:
        rng.shuffle(words[1:])
    return words


def all_options() -> dict[str, list[str]]:
    return {verb: options_of(verb) for verb in cli.VERBS}


def fault_of_command(words: Sequence[str], call: Callable[[Sequence[str]], int]) -> Fault | None:
    """None where a command line ends with a documented code and without a traceback."""
    given = " ".join(map(repr, ["dlcheck", *words]))
    out, err = io.StringIO(), io.StringIO()
    try:
        with _limit(60), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: Any = call(list(words))
    except SystemExit as error:
        code = error.code if error.code is not None else 0
    except BaseException:
        return Fault(traceback.format_exc(limit=-5), given)
    said = out.getvalue() + err.getvalue()
    if code not in CODES:
        return Fault(f"ends with {code!r}: {said[-300:]}", given)
    if "Traceback (most" in said or "INTERNALERROR" in said:
        return Fault(said[-1500:], given)
    if code == cli.USAGE_ERROR and not err.getvalue().strip():
        return Fault("a usage error without a word", given)
    return None


def call_without_pytest(words: Sequence[str]) -> int:
    """The command line, but for what takes minutes: `run`'s pytest, the mutants of `--prove`."""
    from dlcheck.cli import mutants, run

    started: list[list[str]] = []

    def started_only(arguments: Sequence[str]) -> int:
        started.append(run.pytest_arguments(arguments))
        return 0

    before, run._pytest = run._pytest, started_only
    proved, mutants._verdicts = mutants._verdicts, lambda _: iter(())
    try:
        return cli.main(words)
    finally:
        run._pytest, mutants._verdicts = before, proved


@contextlib.contextmanager
def in_folder(path: Path) -> Iterator[Path]:
    """A working directory with the files that command lines name."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "folder").mkdir(exist_ok=True)
    for name, text in FILES.items():
        (path / name).write_text(text)
    before, environment = Path.cwd(), dict(os.environ)
    os.chdir(path)
    try:
        yield path
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)
