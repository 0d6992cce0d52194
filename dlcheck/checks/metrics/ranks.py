"""Ranks of torch.distributed within one process: what a metric's own collectives come to.

A thread is a rank. PyTorch's threaded process group, with which it tests its own distributed code,
answers `torch.distributed` in each of them; nothing is spawned, and a rank that waits for ever is
seen at once.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from dlcheck.errors import NotApplicable, SubjectError

_GROUP = "torch.testing._internal.distributed.multi_threaded_pg"
_GLANCE = 0.005  # seconds between two looks at who waits
_STUCK = 5  # looks in a row that must find everyone waiting


def together(programs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each program answers, run as a rank of one process group with the others.

    Raises what the first of them raised, and SubjectError where some wait for a collective that
    the others never call: on processes that hangs. NotApplicable where this torch has no threaded
    process group.
    """
    with _threaded() as group:
        ranks = _Ranks(group, programs)
        ranks.run()
    for answer in ranks.answers:
        if isinstance(answer, _Raised):
            raise answer.error
    return ranks.answers


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Ranks:
    def __init__(self, group: Any, programs: Sequence[Callable[[], Any]]) -> None:
        self.group, self.programs = group, programs
        self.answers: list[Any] = [None] * len(programs)
        self.store = dist.HashStore()  # type: ignore[attr-defined]
        self.threads = [
            threading.Thread(target=self._rank, args=(rank,), daemon=True)
            for rank in range(len(programs))
        ]

    def run(self) -> None:
        for thread in self.threads:
            thread.start()
        try:
            self._watch()
        finally:  # also where the trial's time is up
            if any(thread.is_alive() for thread in self.threads):
                self.group.exception_handle(None)
            for thread in self.threads:
                thread.join(timeout=1)

    def _rank(self, rank: int) -> None:
        try:
            dist.init_process_group(
                "threaded", rank=rank, world_size=len(self.programs), store=self.store
            )
            self.answers[rank] = self.programs[rank]()
        except SystemExit:  # how the group ends who waits
            return
        except BaseException as error:
            self.answers[rank] = _Raised(error)
            self.group.exception_handle(error)
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()

    def _watch(self) -> None:
        looks = 0
        while alive := [rank for rank, thread in enumerate(self.threads) if thread.is_alive()]:
            looks = looks + 1 if self._waiting() == len(alive) else 0
            if looks >= _STUCK:
                raise SubjectError(
                    f"of {len(self.threads)} ranks {_listed(alive)} wait in a collective that not "
                    "all of its ranks call, and it would hang on processes: every rank must make "
                    "the same calls in the same order, also one without rows"
                )
            time.sleep(_GLANCE)

    def _waiting(self) -> int:
        """How many ranks are in a collective that others have yet to join."""
        meetings = list(self.group._cur_coll_on_pgs.values())
        return sum(each._count for each in meetings if each._count < each._world_size)


@contextlib.contextmanager
def _threaded() -> Iterator[Any]:
    """The class of threaded groups, in force; what was initialised before is put back."""
    try:
        module: Any = importlib.import_module(_GROUP)
        install, uninstall = module._install_threaded_pg, module._uninstall_threaded_pg
        group: Any = module.ProcessLocalGroup
        bindings: Any = torch._C._distributed_c10d
        isolate = bindings._set_thread_isolation_mode
    except (ImportError, AttributeError) as error:
        raise NotApplicable(
            f"needs PyTorch's threaded process group, which torch {torch.__version__} does not "
            f"have ({error})"
        ) from error
    hook = sys.excepthook  # which a process group wraps, once for each rank
    group.reset()
    group.reduce = _reduce
    install()
    isolate(True)  # noqa: FBT003
    try:
        yield group
    finally:
        isolate(False)  # noqa: FBT003
        uninstall()
        group.reset()
        sys.excepthook = hook


def _reduce(group: Any, tensors: list[torch.Tensor], options: Any) -> Any:
    """The collective that the threaded group lacks: an all-reduce that only the root keeps."""
    copies = [tensor.clone() for tensor in tensors]
    whole = dist.AllreduceOptions()
    whole.reduceOp = options.reduceOp
    work = group.allreduce(copies, whole)
    if group.rank() == options.rootRank:
        for tensor, copy in zip(tensors, copies, strict=True):
            tensor.copy_(copy)
    return work


def _listed(ranks: Sequence[int]) -> str:
    return " and ".join(", ".join(map(str, ranks)).rsplit(", ", 1))
