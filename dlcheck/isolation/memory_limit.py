"""So many bytes for foreign code, beyond what its process has: what asks for more gets an error.

On the CPU by RLIMIT_DATA, which counts private writable memory, touched or not (Linux); on CUDA by
the fraction of the device that torch's allocator may take. A refused allocation is a MemoryError or
RuntimeError in the subject, and the run goes on; without a limit the system ends the process, or
another one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from dlcheck.isolation.texts import text_of

_RESOURCE: Any = importlib.import_module("resource") if find_spec("resource") else None
_SHARE = 0.9  # of the memory that is available: the rest keeps the machine alive
_FRESH = 1.0  # seconds for which what is available is not read again
_LEAST_FILE = 2**30  # bytes that a file may have wherever there is room
_UNLIMITED = 2**60  # what control groups of the first kind say for no limit is above
_now = time.monotonic


@contextlib.contextmanager
def memory_limit(ceiling: int | None, device: torch.device) -> Iterator[None]:
    """Let the trial allocate so many bytes more. None: most of what is available; 0: no limit.

    What a subject's own exception says of an allocation gets a line that says what was allowed.
    """
    if device.type == "cuda" and ceiling:
        with _on_cuda(ceiling, device):
            yield
        return
    limited = device.type == "cpu" and ceiling != 0 and sys.platform == "linux"
    allowed = _ceiling(ceiling) if limited and _RESOURCE is not None else None
    if allowed is None:
        yield
        return
    kind = _RESOURCE.RLIMIT_DATA
    soft, hard = _RESOURCE.getrlimit(kind)
    wanted = _data_bytes() + allowed
    bounds = [each for each in (soft, hard) if each != _RESOURCE.RLIM_INFINITY]
    _RESOURCE.setrlimit(kind, (min([wanted, *bounds]), hard))
    _ALLOWED.append(allowed)
    try:
        yield
    finally:
        _ALLOWED.pop()
        _lift(kind, soft, hard)


@contextlib.contextmanager
def _on_cuda(ceiling: int, device: torch.device) -> Iterator[None]:
    total = torch.cuda.get_device_properties(device).total_memory
    before = torch.cuda.get_per_process_memory_fraction(device)
    taken = torch.cuda.memory_reserved(device)
    torch.cuda.set_per_process_memory_fraction(min((taken + ceiling) / total, before), device)
    _ALLOWED.append(ceiling)
    try:
        yield
    finally:
        _ALLOWED.pop()
        torch.cuda.set_per_process_memory_fraction(before, device)


def is_refusal(error: BaseException | None) -> bool:
    """Is it what a refused allocation raises?"""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and bool(_REFUSED.search(text_of(error)))


_REFUSED = re.compile(r"can't allocate memory|not enough memory|Cannot allocate memory")
_ASKED = re.compile(r"allocate (\d+) bytes|allocate ([\d.]+ [KMGTPE]iB)")


_ALLOWED: list[int] = []  # bytes, of the limits that hold now


def explain_refusal(error: BaseException) -> None:
    """Note on what a refused allocation raised how much the trial may allocate."""
    if not _ALLOWED or not is_refusal(error):
        return
    found = _ASKED.search(text_of(error))
    asked = "more"
    if found:
        asked = shown_bytes(int(found[1])) if found[1] else found[2]
    with contextlib.suppress(Exception):
        error.add_note(
            f"it asked for {asked}; a trial may allocate {shown_bytes(_ALLOWED[-1])} beyond what "
            "the process has; --trial-memory allows more"
        )


def shown_bytes(count: int) -> str:
    """`4.0 GiB`."""
    size, unit = float(count), "bytes"
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if size < 1024 or unit == "EiB":
            break
        size /= 1024
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def _data_bytes() -> int:
    """What RLIMIT_DATA counts now, and the stack."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[5]) * int(_RESOURCE.getpagesize())


def _ceiling(given: int | None) -> int | None:
    if given is not None:
        return given
    available = available_bytes()
    return int(_SHARE * available) if available is not None else None


_READ: list[tuple[float, int | None]] = [(-1e9, None)]


def available_bytes() -> int | None:
    """Memory that this process may still take: of the machine, and of its control groups."""
    read, found = _READ[0]
    if _now() - read > _FRESH:
        each = [free for free in (_of_machine(), *map(_of_group, _groups())) if free is not None]
        found = min(each) if each else None
        _READ[0] = _now(), found
    return found


def _of_machine() -> int | None:
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _groups() -> list[tuple[Path, str, str]]:
    """The control groups that this process is in: folder, file of the limit, file of the use."""
    if not _GROUPS:
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/cgroup").read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                if not controllers:
                    root, files = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
                elif "memory" in controllers.split(","):
                    root = Path("/sys/fs/cgroup/memory")
                    files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
                else:
                    continue
                own = root / path.lstrip("/")
                for folder in (own, *own.parents):
                    if (folder / files[0]).exists():
                        _GROUPS.append((folder, *files))
                    if folder == root:
                        break
    return _GROUPS


_GROUPS: list[tuple[Path, str, str]] = []


def _of_group(group: tuple[Path, str, str]) -> int | None:
    """What a control group may still take: its limit, its use but for files that may be dropped."""
    folder, limit_file, use_file = group
    try:
        limit = (folder / limit_file).read_text().strip()
        if limit == "max" or int(limit) > _UNLIMITED:
            return None
        use = int((folder / use_file).read_text())
        dropped = re.search(
            r"^(?:total_)?inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE
        )
        return max(int(limit) - use + (int(dropped[1]) if dropped else 0), 0)
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def file_limit() -> Iterator[None]:
    """No file may grow beyond half of what is free, or 1 GiB: endless output ends.

    Free in the temporary or the working folder, wherever there is more.
    """
    if _RESOURCE is None or not hasattr(signal, "SIGXFSZ"):
        yield
        return
    kind = _RESOURCE.RLIMIT_FSIZE
    soft, hard = _RESOURCE.getrlimit(kind)
    free = 0
    for folder in (tempfile.gettempdir(), os.curdir):
        with contextlib.suppress(OSError):
            free = max(free, shutil.disk_usage(folder).free)
    allowed = max(free // 2, _LEAST_FILE) if free else 0
    bounds = [each for each in (soft, hard) if each != _RESOURCE.RLIM_INFINITY]
    if allowed:
        _RESOURCE.setrlimit(kind, (min([allowed, *bounds]), hard))
    try:
        yield
    finally:
        _lift(kind, soft, hard)


def _lift(kind: int, soft: int, hard: int) -> None:
    """Put a limit back, or as near as the system lets, where the subject lowered the hard one."""
    try:
        _RESOURCE.setrlimit(kind, (soft, hard))
    except (OSError, ValueError):
        now = _RESOURCE.getrlimit(kind)[1]
        with contextlib.suppress(OSError, ValueError):
            _RESOURCE.setrlimit(kind, (now, now))
