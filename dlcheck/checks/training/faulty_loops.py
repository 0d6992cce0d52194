"""A whole training loop with one fault at a time: mutants of what a bare loop does not have."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dlcheck.model import Mutant, Subject
from dlcheck.mutants import instead


@dataclass(slots=True)
class _Loop:
    """The loop: right in everything but its fault."""

    fault: str
    model: nn.Module
    loader: Any
    optimizer: torch.optim.Optimizer
    loss: Any
    accumulate: int = 1
    epochs: int = 1
    clip: float | None = None
    scheduler: Any = None
    validation: Any = None
    checkpoint: str | None = None
    decay: float | None = None
    unit: str = "step"
    ignored: int = -100
    best: Any = None
    history: list[float] = field(default_factory=list)
    average: Any = None
    batches_seen: Any = None

    def run(self) -> Any:
        if self.decay is not None:
            self.average = copy.deepcopy(self.model)
        for epoch in range(self._load(), self.epochs):
            self._epoch(epoch)
            if self.validation is not None:
                self._validate()
            self._save(epoch + 1)
        if self.fault == "restores_the_first_tensor_only" and self.best:
            self.best = dict(itertools.islice(self.best.items(), 1))
        if self.best is not None and self.fault != "keeps_the_last_weights":
            self.model.load_state_dict(self.best, strict=False)
        return self.average

    def _epoch(self, epoch: int) -> None:
        stays = self.fault == "stays_in_evaluation_mode" and epoch
        if not stays:
            self.model.train(self.fault != "trains_in_evaluation_mode")
        if self.fault != "tells_the_epoch_too_late":
            self._tell(epoch)
        for window in self._windows(epoch):
            self._step(window)
        if self.fault == "tells_the_epoch_too_late":
            self._tell(epoch)
        if self.scheduler is not None and self._unit == "epoch":
            self.scheduler.step()
        if self.fault == "looks_at_the_training_rows_in_train_mode":
            with torch.no_grad():
                for x, _ in self.loader:
                    self.model(x)

    def _tell(self, epoch: int) -> None:
        number = {"tells_every_epoch_the_same": 0, "tells_half_of_the_epochs": epoch // 2}
        set_epoch = getattr(getattr(self.loader, "sampler", None), "set_epoch", None)
        if set_epoch is not None and self.fault != "never_tells_the_epoch":
            set_epoch(number.get(self.fault, epoch))

    @property
    def _unit(self) -> str:
        if self.fault == "steps_the_schedule_in_the_other_unit":
            return "epoch" if self.unit == "step" else "step"
        return "never" if self.fault == "never_steps_the_schedule" else self.unit

    def _windows(self, epoch: int) -> Iterator[list[Any]]:
        batches = list(self.loader)
        if self.fault == "skips_the_first_batch_of_later_epochs" and epoch:
            batches = batches[1:]
        if self.fault == "repeats_a_batch":
            batches = [*batches, batches[0]]
        if self.fault == "loses_the_tail":
            batches = [b for b in batches if len(b[0]) == len(batches[0][0])]
        if self.fault == "replays_the_first_epoch":
            self.batches_seen = self.batches_seen or batches
            batches = self.batches_seen
        rest = iter(batches)
        while window := list(itertools.islice(rest, self.accumulate)):
            yield window

    def _step(self, window: list[Any]) -> None:
        counts = [self._count(y) for _, y in window]
        late = self.fault == "adds_validation_gradients"
        if not late:
            self.optimizer.zero_grad()
        scale = 1024.0 if self.fault == "limits_before_unscaling" else 1.0
        for (x, y), count in zip(window, counts, strict=True):
            value = self.loss(self.model(x), y) * (scale * count / sum(counts))
            if self.fault in ("stops_at_a_bad_batch", "forgets_the_rest") and not value.isfinite():
                self.batches_seen = ()
            value.backward()
            if self.fault == "limits_each_batch":
                self._limit()
            if self.fault == "steps_the_schedule_every_batch" and self.scheduler is not None:
                self.scheduler.step()
        self._limit_and_step(scale)
        if late:
            self.optimizer.zero_grad()

    def _count(self, y: Tensor) -> int:
        if self.fault == "counts_ignored_labels":
            return len(y)
        if self.fault == "counts_batches_alike":
            return 1
        return len(y) if y.is_floating_point() else int((y != self.ignored).sum())

    def _limit_and_step(self, scale: float) -> None:
        schedule = self.scheduler if self._unit == "step" else None
        if schedule is not None and self.fault == "steps_the_schedule_first":
            schedule.step()
        if self.fault not in ("limits_each_batch", "limits_after_the_step"):
            self._limit()
        if scale != 1.0:
            for p in self.model.parameters():
                if p.grad is not None:
                    p.grad.div_(scale)
        if not self._leaves_out():
            self.optimizer.step()
        if self.fault == "limits_after_the_step":
            self._limit()
        every = self.fault in ("steps_the_schedule_every_batch", "steps_the_schedule_first")
        if schedule is not None and not every:
            schedule.step()
        self._average()

    def _leaves_out(self) -> bool:
        """Whether the step is left out, and what the fault does to its gradients."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        bad = not all(bool(g.isfinite().all()) for g in gradients)
        if not bad or self.fault == "steps_on_nan":
            return self.fault == "forgets_the_rest" and self.batches_seen == ()
        if self.fault == "replaces_nan_by_zero":
            for gradient in gradients:
                gradient.nan_to_num_(0.0, 0.0, 0.0)
            return False
        if self.fault == "clears_the_momentum":
            self.optimizer.state.clear()
        return True

    def _limit(self) -> None:
        if self.clip is None or self.fault == "limits_nothing":
            return
        parameters = list(self.model.parameters())
        if self.fault == "limits_each_value":
            nn.utils.clip_grad_value_(parameters, self.clip)
        elif self.fault == "limits_each_tensor":
            for parameter in parameters:
                nn.utils.clip_grad_norm_(parameter, self.clip)
        else:
            nn.utils.clip_grad_norm_(parameters, self.clip)

    def _average(self) -> None:
        if self.average is None or self.decay is None:
            return
        keep = 1 - self.decay if self.fault == "swaps_the_weights_of_the_average" else self.decay
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
            for number, (a, p) in enumerate(pairs):
                if self.fault == "averages_the_first_tensor_only" and number:
                    continue
                new = p if self.fault != "averages_gradients" or p.grad is None else p.grad
                a.copy_(keep * a + (1 - keep) * new)
        if self.fault == "returns_the_last_weights":
            self.average.load_state_dict(self.model.state_dict())
        if self.fault == "never_moves_the_average_off_the_start":
            self.decay = 1.0

    def _validate(self) -> None:
        modes = ("validates_in_train_mode", "stays_in_evaluation_mode")
        if self.fault != modes[0]:
            self.model.eval()
        total, rows = 0.0, 0
        for x, y in self.validation:
            value = self.loss(self.model(x), y)
            if self.fault in ("steps_on_validation_rows", "adds_validation_gradients"):
                value.backward()
            total, rows = total + float(value.detach()) * len(x), rows + len(x)
        if self.fault == "steps_on_validation_rows":
            self.optimizer.step()
        if self.fault == "draws_a_random_number":
            torch.rand(())
        if self.fault not in modes:
            self.model.train()
        self.history.append(total / max(rows, 1))
        self._keep()

    def _keep(self) -> None:
        if self.unit != "epoch":  # the loop that ends with the best weights
            return
        last = self.history[-1]
        better = last >= max(self.history) if self.fault == "keeps_the_worst" else (
            last <= min(self.history)
        )  # fmt: skip
        if better:
            state = self.model.state_dict()
            self.best = state if self.fault == "keeps_a_reference" else copy.deepcopy(state)

    def _save(self, epoch: int) -> None:
        if self.checkpoint is None:
            return
        state: dict[str, Any] = {"epoch": epoch, "model": self.model.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "random": torch.get_rng_state()}
        if self.scheduler is not None:
            state["scheduler"] = self.scheduler.state_dict()
        torch.save(state, self.checkpoint)

    def _load(self) -> int:
        if self.checkpoint is None or not os.path.exists(self.checkpoint):
            return 0
        state = torch.load(self.checkpoint, weights_only=True)
        if self.fault != "resumes_without_weights":
            self.model.load_state_dict(state["model"])
        if self.fault != "resumes_without_the_optimizer":
            self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None and self.fault != "resumes_without_the_schedule":
            self.scheduler.load_state_dict(state["scheduler"])
        if self.fault != "resumes_without_the_random_streams":
            torch.set_rng_state(state["random"])
        return 0 if self.fault == "starts_counting_epochs_again" else int(state["epoch"])


def faulty(fault: str) -> Mutant:
    """The loop with that fault, declared like the subject that it replaces."""

    def mutate(subject: Subject) -> Subject:
        unit = subject.options.get("scheduler", "step")

        def train(model: Any, loader: Any, optimizer: Any, loss: Any, **keywords: Any) -> Any:
            return _Loop(fault, model, loader, optimizer, loss, unit=unit, **keywords).run()

        train.__name__ = fault
        return instead(train)(subject)

    mutate.__name__ = fault
    return mutate
