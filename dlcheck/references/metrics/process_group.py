"""Messages between the ranks of a torch.distributed process group, with a limit on waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Peers:
    """The ranks of a process group, seen from one of them; numbers are those within the group."""

    group: dist.ProcessGroup | None
    rank: int
    size: int
    timeout: timedelta

    @classmethod
    def of(cls, group: dist.ProcessGroup | None, timeout: timedelta) -> Peers:
        """Raises RuntimeError without a process group, ValueError where this rank is not in it."""
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "there is no process group: call torch.distributed.init_process_group() in every "
                "process first (torchrun sets what it needs), or use the metric as it is in one"
            )
        rank = dist.get_rank(group)
        if rank < 0:
            raise ValueError(
                f"rank {dist.get_rank()} is not in this group: only its members call all_reduce"
            )
        return cls(group, rank, dist.get_world_size(group), timeout)

    def send(self, message: Tensor, peer: int) -> None:
        """Send bytes [n] in uint8. Raises as `receive` does."""
        length = torch.tensor([len(message)], device=self._device)
        for part in (length, message.to(self._device)):
            self._wait(peer, "took no message", dist.isend, part)

    def receive(self, peer: int) -> Tensor:
        """The bytes [n] in uint8, on the CPU, that the peer sends.

        Raises TimeoutError where it does not within the limit, ConnectionError where it is gone.
        """
        length = torch.zeros(1, dtype=torch.int64, device=self._device)
        self._wait(peer, "sent nothing", dist.irecv, length)
        message = torch.empty(int(length), dtype=torch.uint8, device=self._device)
        self._wait(peer, "sent half of its state", dist.irecv, message)
        return message.cpu()

    def _wait(self, peer: int, what: str, start: Callable[..., Any], part: Tensor) -> None:
        began, seconds = time.monotonic(), self.timeout.total_seconds()
        try:
            other = {"group_dst": peer} if start is dist.isend else {"group_src": peer}
            start(part, group=self.group, **other).wait(self.timeout)
        except RuntimeError as error:
            late = time.monotonic() - began >= seconds
            kind = TimeoutError if late else ConnectionError
            why = f"within {seconds:g} s" if late else "and its connection is closed"
            raise kind(
                f"rank {self.rank} of {self.size} waited for rank {peer}, which {what} {why}: it "
                "stopped, waits for something else, or never called all_reduce; its own output "
                "says why (a rank that is only late needs a longer timeout)"
            ) from error

    @property
    def _device(self) -> torch.device:
        """Where this group's messages lie: on the CPU if it has a backend for it."""
        if "cpu:" in dist.get_backend_config(self.group):
            return _CPU
        return torch.device(torch.accelerator.current_accelerator() or _CPU)
