"""Which GPUs the workers of a run use, and who uses them already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from _dlcheck_pytest.state import State

if TYPE_CHECKING:
    from dlcheck.machine import VisibleGpus


def gpus_to_share(state: State) -> VisibleGpus:
    """Those that the workers are pinned to, one each.

    None where the command line wants none, or wants more than one in the same process.
    """
    from dlcheck.machine import VisibleGpus, visible_gpus

    devices = state.overrides.devices
    if devices and not all(device in ("cuda", "cuda:0", "auto", "cpu") for device in devices):
        return VisibleGpus()
    return visible_gpus() if not devices or set(devices) != {"cpu"} else VisibleGpus()


def note_taken_gpus(state: State, entries: Sequence[str] = ()) -> None:
    """One note of all GPUs that others use at the start. entries: only these; none means those
    that the environment names."""
    from dlcheck.machine import taken_gpus, visible_gpus

    named = any(name in os.environ for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"))
    wanted = entries or (visible_gpus().entries if named else ())
    if named and not wanted:
        return  # none is visible
    if taken := list(taken_gpus(wanted)):
        state.notes.append("; ".join(taken))


def gpu_of(device: str) -> str:
    """What tells the GPU of a trial from those of other workers, which are pinned elsewhere."""
    from dlcheck.machine import VARIABLES

    kind, _, index = device.partition(":")
    pinned = [os.environ.get(variable, "") for variable in VARIABLES]
    return " ".join([kind, index or "0", *pinned])
