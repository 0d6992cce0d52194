"""A cluster of Ray: connecting to it, and whether its nodes can run this run's trials."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlcheck.errors import UsageError

LOCAL, AUTO = "local", "auto"
_SECONDS = 5.0  # for an address to answer
_ANSWER = 60.0  # for a node to say what it is
_LEFT = (
    *("reports", ".git", ".hypothesis", "__pycache__", ".*_cache", "*.egg-info"),
    *(f"**/.dlcheck/{name}" for name in ("runs", "baselines", "pytest", "running")),
)
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # preface, empty SETTINGS


@contextlib.contextmanager
def cluster(address: str, folder: Path) -> Iterator[Any]:
    """The module `ray`, connected, with a folder shipped to every node. Raises UsageError."""
    ray = _imported()
    if address not in (LOCAL, AUTO):
        refuse_silent(address)
    elif address == AUTO:
        address = os.environ.get("RAY_ADDRESS", AUTO)
    with _quiet():
        _connect(ray, address, folder)
    try:
        yield ray
    finally:
        with _quiet():
            ray.shutdown()


def _imported() -> Any:
    with _quiet():
        try:
            import ray
        except ImportError:
            raise UsageError(
                "--ray needs Ray, which is not installed here: pip install 'dlcheck[ray]'"
            ) from None
    return ray


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray's own deprecations are not what is tested. Its statistics of usage are not sent."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _connect(ray: Any, address: str, folder: Path) -> None:
    from dlcheck.machine import cores

    own = {"num_cpus": cores(), "include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(
            address=address,
            runtime_env={
                "working_dir": str(folder),
                "excludes": list(_excluded(folder)),
                "env_vars": _variables(),
            },
            log_to_driver=False,
            logging_level="ERROR",
            **own,
        )
    except ConnectionError as error:
        raise UsageError(
            f"--ray {address}: no cluster of Ray answers: {_first_line(error)}. Start one with "
            "ray start --head, or give --ray local or --ray HOST:PORT"
        ) from None
    except Exception as error:  # Ray raises bare ones too
        raise UsageError(f"--ray {address}: {_told(error, folder)}") from None


def _told(error: Exception, folder: Path) -> str:
    text = str(error)
    if "exceeds the maximum size" in text or "too large" in text.lower():
        return (
            f"the folder {folder} is too large to be shipped to the nodes: {_first_line(error)}. "
            "Start in a smaller folder, or name what is not needed in .gitignore"
        )
    if "ersion mismatch" in text:
        return " ".join(text.split())
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".")[:400] if text else type(error).__name__


def _excluded(folder: Path) -> Iterator[str]:
    """What no trial reads: records, histories, caches, virtual environments."""
    yield from _LEFT
    for made in (*folder.glob("*/pyvenv.cfg"), *folder.glob("*/*/pyvenv.cfg")):
        yield f"/{made.parent.relative_to(folder)}"


def _variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith("DLCHECK_")}
    kept.pop("DLCHECK_RECORD", None)
    return kept


def refuse_silent(address: str) -> None:
    """Raise UsageError where no server of Ray listens: Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--ray takes local, auto or HOST:PORT, as 10.0.0.1:6379, not {address!r}")
    remedy = f"is it up (ray status --address {address}), and may this machine reach it?"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS) as link:
            link.sendall(_HTTP2)
            answer = link.recv(9)
    except OSError as error:
        raise UsageError(
            f"--ray {address}: nothing answers within {_SECONDS:g} s "
            f"({error.strerror or error}); {remedy}"
        ) from None
    if len(answer) < 9 or answer[3] != 4:  # the first frame of HTTP/2, and so of gRPC: SETTINGS
        raise UsageError(f"--ray {address}: what listens there is no Ray; {remedy}")


class Muffled(io.TextIOBase):
    """Standard output without what Ray's nodes print into the driver; counts what was lost."""

    def __init__(self, out: Any) -> None:
        super().__init__()
        self.out, self.again = out, 0
        self._swallows = False

    def write(self, text: str) -> int:
        if "(raylet)" in text[:40]:
            self.again += text.count("so the task will be retried")
            self._swallows = True
        elif not (self._swallows and text == "\n"):
            self._swallows = False
            self.out.write(text)
        return len(text)

    def flush(self) -> None:
        self.out.flush()


def living(ray: Any) -> list[dict[str, Any]]:
    """The nodes that are up, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def look_at_nodes(ray: Any, modules: Sequence[str]) -> list[str]:
    """What a reader should know of the nodes: GPUs that others use.

    Raises UsageError where a node has other versions, or lacks a module of a subject.
    """
    from _dlcheck_pytest.ray_tasks import about_this_machine

    shipped = by_value(about_this_machine)
    here, asked = about_this_machine(()), {}
    for node in living(ray):
        place = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node["NodeID"], soft=False
        )
        task = ray.remote(shipped).options(num_cpus=0, scheduling_strategy=place, max_retries=1)
        asked[task.remote(list(modules))] = node
    ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER)
    problems: list[str] = []
    notes: list[str] = []
    silent: list[str] = []
    for answer, node in asked.items():
        try:
            there = ray.get(answer, timeout=0)
            problems += unlike(here, there)
            notes += [f"node {there['name']}: {taken}" for taken in there["taken"]]
        except ray.exceptions.RayError as error:  # it may be lost and not yet known to be
            silent.append(f"{node['NodeManagerAddress']}: {_first_line(error)}")
    if len(silent) == len(asked):
        problems += silent
    if problems:
        listed = "\n".join(f"  {problem}" for problem in dict.fromkeys(problems))
        raise UsageError(f"these nodes of Ray cannot run the trials:\n{listed}")
    return list(dict.fromkeys(notes))


def unlike(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[str]:
    """How a node differs from this machine in what decides verdicts, and how to mend it."""
    for name, version in here["versions"].items():
        other = there["versions"][name]
        if "uninstalled" in (version, other) or other == version:
            continue
        mend = f"pip install '{name}=={version}'" if name != "python" else f"Python {version}"
        yield f"node {there['name']}: {name} is {other}, here it is {version}; give it {mend}"
    for module in there["absent"]:
        yield (
            f"node {there['name']}: there is no module {module!r}, which a subject needs; install "
            "its package there, or start in the folder that holds it"
        )


def by_value(function: Any) -> Any:
    """The function as cloudpickle ships it whole: a node may lack the module that it is from."""
    return types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)


def own_path() -> tuple[str, ...]:
    """The folders of modules that are this person's, not the interpreter's or installed."""
    installed = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    found = (os.path.abspath(folder) for folder in sys.path if not folder.endswith(".zip"))
    return tuple(folder for folder in found if not folder.startswith(installed))
