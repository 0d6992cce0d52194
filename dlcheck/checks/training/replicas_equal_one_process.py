"""Two processes that train together make the steps of one with their batches joined."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import queue
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from dlcheck.checks.training import wrong_replicas as wrong
from dlcheck.checks.training.calling import epochs_of, keywords, windows_of
from dlcheck.checks.training.rehearsal import Rehearsal, flat
from dlcheck.errors import NotApplicable, SubjectError
from dlcheck.model import NOTHING, Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation, build

_RANKS, _ROWS, _BATCH = 2, 24, 3
_PATIENCE = 60.0  # seconds for which the ranks may be silent

LOOP = Subject(
    name="minibatch_training",
    target="dlcheck.references.training.minibatch_training:minibatch_training",
    kind="training",
    checks=("replicas_equal_one_process",),
)


@check(
    kind="training",
    forbids={
        "freezes", "replaces_head", "returns_average", "restores_best", "perturbed_gradient",
        "reduced_precision", "plain_sequential"
    },
    dtypes=["float64"],
    tags=["experiment", "slow"],
    once=True,
    rejects=[
        wrong.trains_the_inner_model,
        wrong.never_synchronizes,
        wrong.adds_the_ranks,
        wrong.synchronizes_the_first_batch_only,
    ],
    accepts=[LOOP],
)  # fmt: skip
def replicas_equal_one_process(subject: Implementation, case: Case) -> Iterator[Evidence]:
    """Two ranks with half of each batch end in the same weights, those of one process with all.

    torch.distributed on this machine, two processes that meet over a file: with gloo on the CPU,
    with NCCL on two GPUs, where the subject is rebuilt from its import path. The model comes
    wrapped in DistributedDataParallel, bare with the trait `synchronizes`. 24 rows, 3 to a
    rank and batch, momentum, two epochs; then windows of two batches. The bound is the rounding
    of that many steps.
    Source: Li et al., PyTorch Distributed, VLDB 13(12), 2020, section 3: the average over ranks
    of equal batches is the gradient of the joined batch.
    """
    run = Rehearsal.of(subject, case, rows=_ROWS)
    epochs = epochs_of(subject, 2)
    for together in windows_of(subject, 1, 2):
        ends = _ranks(subject, run, together, epochs)
        window = subject.options.get("window", "rows")
        whole = {"epochs": epochs, "together": together, "window": window}
        right = run.expected(_BATCH * _RANKS, **whole)
        bound = 2 * run.rounding(_BATCH * _RANKS, **whole)
        signal = float((right - run.start).abs().amax())
        of = f"after {epochs} epochs, windows of {together}"
        yield Evidence(
            error=float((ends[0] - ends[1]).abs().amax()),
            bound=bound,
            signal=signal,
            what=f"weights of rank 0 beside those of rank 1 {of}",
            cause="the gradients were not averaged over the ranks",
        )
        yield Evidence(
            error=max(float((end - right).abs().amax()) for end in ends),
            bound=bound,
            signal=signal,
            what=f"weights of the ranks beside those of one process {of}",
            expected=f"weights that moved by {float((right - run.start).norm()):.6g}",
            got=", ".join(f"{float((end - run.start).norm()):.6g}" for end in ends),
        )


@dataclass(frozen=True, slots=True)
class _Meeting:
    """How two ranks come to be, and by what they talk."""

    method: str  # fork keeps any subject; a process that uses a GPU can only spawn
    backend: str

    @classmethod
    def on(cls, device: torch.device) -> _Meeting:
        """Raises NotApplicable where two ranks cannot be had."""
        if device.type == "cuda":
            if torch.cuda.device_count() < _RANKS or not dist.is_nccl_available():
                raise NotApplicable("replicas on CUDA need two GPUs and a torch with NCCL")
            return cls("spawn", "nccl")
        if device.type != "cpu":
            raise NotApplicable(f"replicas need a CPU or CUDA, not {device.type}")
        method = "spawn" if torch.cuda.is_initialized() or not hasattr(os, "fork") else "fork"
        return cls(method, "gloo")

    def device(self, rank: int) -> torch.device:
        return torch.device("cuda", rank) if self.backend == "nccl" else torch.device("cpu")

    def carried(self, subject: Implementation) -> Implementation | Subject:
        """What reaches the other process: all of it, or the declaration to build it from."""
        if self.method == "fork":
            return subject
        try:
            pickle.dumps(declared := _picklable(subject.declared))
        except (pickle.PicklingError, AttributeError, TypeError):
            raise NotApplicable(
                "ranks that are not forked rebuild the subject: give its import path, as "
                "package.module:name"
            ) from None
        return declared


def _picklable(subject: Subject) -> Subject:
    """With plain dicts: a read-only view cannot be pickled."""
    views: dict[str, Any] = {
        field.name: dict(value)
        for field in fields(subject)
        if isinstance(value := getattr(subject, field.name), MappingProxyType)
    }
    return replace(subject, **views)


def _ranks(subject: Implementation, run: Rehearsal, together: int, epochs: int) -> list[Tensor]:
    """The weights at the end of every rank. Raises SubjectError with what a rank raised."""
    meeting = _Meeting.on(run.x.device)
    processes = multiprocessing.get_context(meeting.method)
    with tempfile.TemporaryDirectory() as folder:
        answers: Any = processes.Queue()
        given = (
            meeting,
            meeting.carried(subject),
            run.on(torch.device("cpu")),
            {"epochs": epochs, "accumulate": together},
            f"file://{folder}/meeting",
            answers,
        )
        # A context's Process is an attribute that its type does not have.
        make: Any = processes
        ranks = [make.Process(target=_rank, args=(rank, *given)) for rank in range(_RANKS)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forking a process with threads
            for rank in ranks:
                rank.start()
        try:
            return [end.to(run.x.device) for end in _gathered(answers)]
        finally:
            for rank in ranks:
                rank.terminate()
                rank.join()


def _gathered(answers: Any) -> list[Tensor]:
    ends: dict[int, Tensor] = {}
    for _ in range(_RANKS):
        try:
            rank, weights, problem = answers.get(timeout=_PATIENCE)
        except queue.Empty:
            raise SubjectError(
                f"{_RANKS - len(ends)} of {_RANKS} ranks did not answer within {_PATIENCE:g} s: "
                "they wait for each other, as when one of them takes more steps"
            ) from None
        if problem:
            raise SubjectError(f"rank {rank} raised:\n{problem}")
        ends[rank] = torch.tensor(weights, dtype=torch.float64)
    return [ends[rank] for rank in range(_RANKS)]


def _rank(
    rank: int,
    meeting: _Meeting,
    carried: Implementation | Subject,
    run: Rehearsal,
    counts: dict[str, int],
    place: str,
    answers: Any,
) -> None:
    try:
        torch.set_num_threads(1)
        device = meeting.device(rank)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        subject, run = _here(carried, run.x.dtype, device), run.on(device)
        dist.init_process_group(meeting.backend, init_method=place, rank=rank, world_size=_RANKS)
        model = copy.deepcopy(run.model)
        bare = "synchronizes" in subject.traits
        given: nn.Module = model if bare else DistributedDataParallel(model)
        optimizer = run.optimizer(model)
        subject(given, _share(run, rank), optimizer, run.loss, **keywords(subject, **counts))
        answers.put((rank, flat(model).tolist(), ""))
    except BaseException:  # told to the process that waits
        answers.put((rank, [], traceback.format_exc()))
    finally:
        answers.close()
        answers.join_thread()
        os._exit(0)


def _here(
    carried: Implementation | Subject, dtype: torch.dtype, device: torch.device
) -> Implementation:
    if isinstance(carried, Subject):
        return build(carried, NOTHING, device, dtype, seed=0)
    return carried


def _share(run: Rehearsal, rank: int) -> DataLoader[Any]:
    """The rank's half of each joined batch."""
    own = []
    for window in run.windows(_BATCH * _RANKS):
        own += window[0][rank * _BATCH : (rank + 1) * _BATCH]
    return DataLoader(TensorDataset(run.x, run.y), batch_size=_BATCH, sampler=own)
