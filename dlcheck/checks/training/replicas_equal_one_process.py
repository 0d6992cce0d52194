"""Two processes that train together make the steps of one with their batches joined."""

from __future__ import annotations

import copy
import multiprocessing
import os
import queue
import tempfile
import traceback
import warnings
from collections.abc import Iterator
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
from dlcheck.model import Evidence, Subject
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation

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

    torch.distributed with gloo on this machine, two processes that meet over a file. The model
    comes wrapped in DistributedDataParallel, bare with the trait `synchronizes`. 24 rows, 3 to a
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


def _ranks(subject: Implementation, run: Rehearsal, together: int, epochs: int) -> list[Tensor]:
    """The weights at the end of every rank. Raises SubjectError with what a rank raised."""
    if torch.cuda.is_initialized() or not hasattr(os, "fork"):
        raise NotApplicable("ranks are forked, which a process that uses a GPU cannot be; run "
                            "this check on the CPU")  # fmt: skip
    forks = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        answers: Any = forks.Queue()
        place = f"file://{folder}/meeting"
        given = (subject, run, together, epochs, place, answers)
        ranks = [forks.Process(target=_rank, args=(rank, *given)) for rank in range(_RANKS)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forking a process with threads
            for rank in ranks:
                rank.start()
        try:
            return _gathered(answers)
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
    subject: Implementation,
    run: Rehearsal,
    together: int,
    epochs: int,
    place: str,
    answers: Any,
) -> None:
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=_RANKS)
        model = copy.deepcopy(run.model)
        bare = "synchronizes" in subject.traits
        given: nn.Module = model if bare else DistributedDataParallel(model)
        counts = {"epochs": epochs, "accumulate": together}
        optimizer = run.optimizer(model)
        subject(given, _share(run, rank), optimizer, run.loss, **keywords(subject, **counts))
        answers.put((rank, flat(model).tolist(), ""))
    except BaseException:  # told to the process that waits
        answers.put((rank, [], traceback.format_exc()))
    finally:
        answers.close()
        answers.join_thread()
        os._exit(0)


def _share(run: Rehearsal, rank: int) -> DataLoader[Any]:
    """The rank's half of each joined batch."""
    own = []
    for window in run.windows(_BATCH * _RANKS):
        own += window[0][rank * _BATCH : (rank + 1) * _BATCH]
    return DataLoader(TensorDataset(run.x, run.y), batch_size=_BATCH, sampler=own)
