"""What a process may use of this machine: its GPUs, its cores. Standard library only.

CUDA and ROCm read a list of GPUs from the environment; where there is none, the driver is asked,
without loading it. An entry is an index, a UUID or a MIG device, and is passed on as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# In the order in which they decide: each later one counts within what the earlier left visible.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_TAKEN = 1024  # MiB: more than a driver and a display hold
_DRIVER = Path("/proc/driver/nvidia/gpus")
_ROCM = Path("/sys/class/kfd/kfd/topology/nodes")
_SECONDS = 20  # for the driver to answer


@dataclass(frozen=True, slots=True)
class VisibleGpus:
    """The variable that a worker is pinned by, and its entries."""

    variable: str = VARIABLES[0]
    entries: tuple[str, ...] = ()

    def of_worker(self, number: int) -> dict[str, str]:
        """What is set for the `number`-th worker, counted from 0; more workers than GPUs wrap."""
        if not self.entries:
            return {}
        return {self.variable: self.entries[number % len(self.entries)]}


def visible_gpus() -> VisibleGpus:
    """The caller's list, or all that the driver names."""
    for variable in VARIABLES:
        if variable in os.environ:
            return VisibleGpus(variable, _listed(os.environ[variable]))
    if found := _nvidia():
        return VisibleGpus(VARIABLES[0], found)
    return VisibleGpus(VARIABLES[1], _amd())


def cores() -> int:
    """The cores that this process may use: by its affinity, and by the quota of its container."""
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota, period = _quota()
    return max(1, min(free or 1, round(quota / period))) if quota else free or 1


def _quota() -> tuple[int, int]:
    """Microseconds of processor time in so many, by control group 2; zero where it is unlimited."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):
        return 0, 1


def _listed(text: str) -> tuple[str, ...]:
    """The entries as CUDA reads them: what stands behind one that is no device does not count."""
    found: list[str] = []
    for entry in map(str.strip, text.split(",")):
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/:-]+", entry) or entry in found:
            break
        found.append(entry)
    return tuple(found)


def _nvidia() -> tuple[str, ...]:
    """By `nvidia-smi -L`; where a GPU is divided, its parts stand for it."""
    lines = _said("nvidia-smi", "-L")
    found: list[str] = []
    divided: set[int] = set()
    for line in lines:
        if part := re.match(r"\s+MIG .*UUID: (MIG-[^)]+)\)", line):
            divided.add(max(k for k, each in enumerate(found) if not each.startswith("MIG-")))
            found.append(part[1])
        elif whole := re.match(r"GPU \d+: .*UUID: (GPU-[^)]+)\)", line):
            found.append(whole[1])
    if not found and _DRIVER.is_dir():
        return tuple(str(k) for k, _ in enumerate(_DRIVER.iterdir()))
    return tuple(each for k, each in enumerate(found) if k not in divided)


def _amd() -> tuple[str, ...]:
    """By the nodes of the kernel's driver that have compute units."""
    found = 0
    for file in sorted(_ROCM.glob("*/properties")):
        try:
            units = re.search(r"^simd_count (\d+)", file.read_text(), re.MULTILINE)
        except OSError:
            continue  # of a GPU that this container may not use
        found += units is not None and units[1] != "0"
    return tuple(map(str, range(found)))


def taken_gpus(gpus: Sequence[str] = ()) -> Iterator[str]:
    """GPUs whose memory others hold before anything of ours has run, in words.

    gpus: only these entries; none given means all.
    """
    query = "--query-gpu=index,uuid,name,memory.used,memory.total"
    for line in _said("nvidia-smi", query, "--format=csv,noheader,nounits"):
        fields = [part.strip() for part in line.split(",")]
        if len(fields) != 5 or not (fields[3].isdigit() and fields[4].isdigit()):
            continue  # [N/A]: the driver does not tell
        index, uuid, name, used, total = fields
        wanted = not gpus or any(entry == index or uuid.startswith(entry) for entry in gpus)
        if wanted and int(used) > _TAKEN:
            yield (
                f"GPU {index} ({name}) was in use at the start: {int(used) / 1024:.1f} of "
                f"{int(total) / 1024:.1f} GiB taken; its times and its memory are shared"
            )


def _said(*command: str) -> list[str]:
    """The lines of a program's answer; none where it is absent, fails or does not end."""
    if shutil.which(command[0]) is None:
        return []
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()
