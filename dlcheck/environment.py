"""What a result depends on: versions, machine, commit, devices. Standard library only.

Devices and switches are read only where torch is loaded already, so that asking costs nothing.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("dlcheck", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "scikit-image"),
    *("lpips", "hypothesis", "pytest", "pytest-benchmark", "pytest-xdist"),
)
_VARIABLES = (
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "PYTORCH_CUDA_ALLOC_CONF"),
)


def environment(**more: Any) -> dict[str, Any]:
    """What a result depends on, most telling first.

    more: command, seed, profile, seconds: what the caller knows of the run.
    """
    found: dict[str, Any] = {"time": utc_now().isoformat(timespec="seconds"), **more}
    if commit := git("rev-parse", "--short=12", "HEAD"):
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        found["git"] = {"commit": commit, "dirty": dirty}
    found |= {
        "versions": {name: known for name in _PACKAGES if (known := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": cpu_model(), "cores": os.cpu_count() or 0},
    }
    if memory := _memory():
        found["memory GiB"] = memory
    if "torch" in sys.modules:
        found |= _torch(sys.modules["torch"])
    if variables := {name: os.environ[name] for name in _VARIABLES if name in os.environ}:
        found["variables"] = variables
    return found


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def git(*arguments: str, folder: Path | None = None) -> str:
    """What git answers in a folder; empty where it has no answer within five seconds."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _own_version() if package == "dlcheck" else ""


def _own_version() -> str:
    """dlcheck may run from its source folder, uninstalled."""
    import dlcheck

    return dlcheck.__version__


def cpu_model() -> str:
    """The processor as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return 0.0


def _torch(torch: Any) -> dict[str, Any]:
    return {"devices": _devices(torch), "switches": _switches(torch)}


def _devices(torch: Any) -> dict[str, Any]:
    devices: dict[str, Any] = {"cpu": {"threads": torch.get_num_threads()}}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            seen = torch.cuda.get_device_properties(index)
            devices[f"cuda:{index}"] = {
                "name": seen.name,
                "memory GiB": round(seen.total_memory / 2**30, 1),
                "capability": f"{seen.major}.{seen.minor}",
                "CUDA": torch.version.cuda or torch.version.hip,
            }
    if torch.backends.mps.is_available():
        devices["mps"] = {"name": "Metal"}
    return devices


def _switches(torch: Any) -> dict[str, Any]:
    """The global switches that change numbers or their repetition."""
    readers: dict[str, Callable[[], Any]] = {
        "default dtype": lambda: str(torch.get_default_dtype()).removeprefix("torch."),
        "float32 matmul": torch.get_float32_matmul_precision,
        "TF32 in matmul": lambda: torch.backends.cuda.matmul.allow_tf32,
        "TF32 in cuDNN": lambda: torch.backends.cudnn.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled,
        "cuDNN deterministic": lambda: torch.backends.cudnn.deterministic,
        "cuDNN benchmark": lambda: torch.backends.cudnn.benchmark,
    }
    found = {}
    for name, read in readers.items():
        try:
            found[name] = read()
        except (AttributeError, RuntimeError):  # torch refuses where old and new settings mix
            found[name] = "mixed"
    return found
