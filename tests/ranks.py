"""The ranks of a gloo process group, each a process forked where torch is loaded already."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sessions import SERVER

_LIMIT = 100  # seconds that all ranks may take

Finding = tuple[str, Any]


def on_ranks(
    folder: Path, size: int, program: Callable[[int], Iterator[Finding]]
) -> list[dict[str, Any]]:
    """What each rank found: the names and values that `program(rank)` yields, in the group.

    A rank may end its process in the middle; what it yielded before is kept.
    """
    store = str(folder / "store")
    found = [folder / f"rank{rank}" for rank in range(size)]
    ranks = [
        SERVER.Process(target=_rank, args=(program, rank, size, store, str(path)))
        for rank, path in enumerate(found)
    ]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(timeout=_LIMIT)
        if each.is_alive():
            each.kill()
    return [dict(_read(path)) for path in found]


def _read(path: Path) -> Iterator[Finding]:
    with path.open("rb") as file:
        while file.peek(1):
            yield pickle.load(file)


def _rank(
    program: Callable[[int], Iterator[Finding]], rank: int, size: int, store: str, path: str
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=size,
        timeout=timedelta(seconds=_LIMIT),
    )  # fmt: skip
    with Path(path).open("wb", buffering=0) as file:
        try:
            for finding in program(rank):
                pickle.dump(finding, file)
        except BaseException:
            pickle.dump(("failed", traceback.format_exc()), file)
    os._exit(0)  # also where a peer is gone, for which a group that is closed would wait
